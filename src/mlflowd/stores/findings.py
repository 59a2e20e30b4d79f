"""How the checks of the stores say what they found. No effects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflowd.errors import ExitStatus
from mlflowd.model import Finding, Level, Mend

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity
    from mlflowd.server.schema import Verdict

SCHEMA = "database: schema"
FIX = "sudo mlflowd check --fix"


def fine(check: str, message: str) -> Finding:
    """Return that a check passed."""
    return Finding(check, Level.OK, message)


def warning(check: str, message: str, remedy: str = "", mend: Mend | None = None) -> Finding:
    """Return what a person should know, though it does not keep the server from starting."""
    return Finding(check, Level.WARNING, message, _with_fix(remedy, mend), mend=mend)


def failure(check: str, message: str, remedy: str, status: ExitStatus, mend: Mend | None = None) -> Finding:
    """Return what keeps the server from starting."""
    return Finding(check, Level.FAILURE, message, _with_fix(remedy, mend), status, mend)


def permission(check: str, message: str, remedy: str, mend: Mend | None = None) -> Finding:
    """Return that a user may not use a file or directory."""
    return failure(check, message, remedy, ExitStatus.PERMISSION, mend)


def refused(check: str, message: str, remedy: str) -> Finding:
    """Return that a store cannot be served."""
    return failure(check, message, remedy, ExitStatus.REFUSED)


def misplaced(check: str, message: str, remedy: str) -> Finding:
    """Return that the configuration names a place that will not do."""
    return failure(check, message, remedy, ExitStatus.CONFIGURATION)


def of_schema(verdict: Verdict) -> list[Finding]:
    """Return what is to be said of the database's schema; nothing where the server works with it."""
    if verdict.migrates:
        return [replace(warning(SCHEMA, verdict.sentence, verdict.remedy), migrates=True)]
    return [] if verdict.fits else [refused(SCHEMA, verdict.sentence, verdict.remedy)]


def chown(path: Path, who: Identity, *, whole: bool = False) -> str:
    """Return the command that gives `path`, or the whole tree, to `who`."""
    return f"sudo chown {'-R ' if whole else ''}{who.owner} {path}"


def _with_fix(remedy: str, mend: Mend | None) -> str:
    return f"{remedy}  (or: {FIX})" if mend else remedy
