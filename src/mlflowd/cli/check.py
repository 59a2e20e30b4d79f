"""`mlflowd check`: every preflight check, a line each, and under it the remedy.

Effects: none by itself but the rollback of a hot journal of a stopped server's database, and a small object that is
written to a remote artifact store and deleted; `--fix` carries out the safe repairs, `--accept-database` forgets which
database was served last.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlflowd.cli import candidate
from mlflowd.config import load
from mlflowd.config.masking import mask
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import EngineError, ExitStatus, MlflowdError
from mlflowd.host import files, ports
from mlflowd.host.paths import fingerprint_file, identity, state_directory
from mlflowd.host.redaction import redact, redacted
from mlflowd.model import ContainerStatus, Level
from mlflowd.operations import plain_secrets
from mlflowd.operations.preflight import preflight
from mlflowd.stores import fingerprint

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine
    from mlflowd.host.paths import Identity
    from mlflowd.model import Finding, Mend

    Look = Callable[[], list[Finding]]

_WORDS = {Level.OK: "ok", Level.WARNING: "warning", Level.FAILURE: "FAIL"}
_WORST_FIRST = (ExitStatus.CONFIGURATION, ExitStatus.REFUSED, ExitStatus.PERMISSION)
_ROUNDS = 4
"""A repair may lay open the next fault: a directory that was given back may have a wrong mode as well."""
_LOOK_THROUGH = 500_000
"""Entries of each store; some seconds."""
_UP = (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "check",
        help="check configuration, stores, disks, engine and port",
        description="Exit status: 0 nothing failed (warnings aside), 69 a store is refused, 77 permission, "
        "78 configuration, 1 another failure.",
    )
    parser.add_argument("--fix", action="store_true", help="carry out the safe repairs, then check again (as root)")
    parser.add_argument("--json", action="store_true", help="print one document (schema 1)")
    parser.add_argument(
        "--accept-database", action="store_true", help="take the database that is there, or a new one, as the right one"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, print, return the exit status of the worst failure."""
    loaded = load(args.config, os.environ)
    settings = loaded.settings
    state, who = state_directory(), identity()
    _require_rights(state, fix=args.fix)
    done = [_accept(settings, state)] if args.accept_database else []
    engine = DockerEngine(settings.engine.socket, settings.engine.timeout)
    try:
        look = _looker(settings, engine, state, who)
        findings = look()
        if args.fix:
            done += repair(findings, look)
            findings = look()
    finally:
        engine.close()
    findings = [*plain_secrets.check(loaded), *findings]
    status = exit_status(findings)
    sys.stdout.write(document(findings, done, status) if args.json else text(findings, done))
    return status


def exit_status(findings: Sequence[Finding]) -> int:
    """Return the status of the worst failure, 0 where there is none."""
    statuses = {finding.exit_status for finding in findings if finding.level is Level.FAILURE}
    worst = next((status for status in _WORST_FIRST if status in statuses), ExitStatus.FAILURE)
    return int(worst) if statuses else ExitStatus.OK


def repair(findings: Sequence[Finding], look: Look) -> list[str]:
    """Carry out the repairs of the findings, and those that the next look has; return what was done."""
    done: list[str] = []
    tried: set[Mend] = set()
    for _ in range(_ROUNDS):
        mends = [mend for finding in findings if (mend := finding.mend) and mend not in tried]
        if not mends:
            break
        tried.update(mends)
        done += [_mend(mend) for mend in dict.fromkeys(mends)]
        findings = look()
    return done


def text(findings: Sequence[Finding], done: Sequence[str]) -> str:
    """Return a line for each repair and each finding, and the remedy under it."""
    lines = [f"{'fixed':8} {what}" for what in done]
    for finding in findings:
        lines.append(f"{_WORDS[finding.level]:8} {finding.check}: {finding.message}")
        lines += [f"{'':8}   remedy: {finding.remedy}"] if finding.remedy else []
    return redact("\n".join(lines) + "\n")


def document(findings: Sequence[Finding], done: Sequence[str], status: int) -> str:
    """Return the same as JSON."""
    told = {"schema": 1, "exit_status": status, "fixed": [*done], "findings": [asdict(each) for each in findings]}
    return json.dumps(redacted(told), indent=2) + "\n"


def _looker(settings: Settings, engine: Engine, state: Path, who: Identity) -> Look:
    def look() -> list[Finding]:
        running = _running(settings, engine)
        would = candidate.find(settings, engine, state, who)
        with candidate.trial(who) as trial:
            found = preflight(
                settings,
                engine,
                state=state,
                who=who,
                running=running,
                make=False,
                limit=_LOOK_THROUGH,
                spec=would.spec,
                able=would.able,
                trial=trial,
            )
        return [*found, *would.findings]

    return look


def _running(settings: Settings, engine: Engine) -> bool:
    """Whether our server may be using its database; behind an engine that does not answer, the port tells."""
    try:
        container = engine.inspect(settings.container.name)
    except EngineError:
        return not ports.free(settings.server.listen)
    return container is not None and container.ours and container.status in _UP


def _mend(mend: Mend) -> str:
    try:
        return files.mend(mend)
    except (OSError, MlflowdError) as error:
        return f"nothing at {mend.path}: {error}"


def _accept(settings: Settings, state: Path) -> str:
    try:
        fingerprint.forget(state)
    except OSError as error:
        message = f"{fingerprint_file(state)} cannot be removed: {error.strerror}."
        raise MlflowdError(message, "sudo mlflowd check --accept-database", ExitStatus.PERMISSION) from error
    return f"the next start takes {mask(settings.backend_store.uri)} as it is"


def _require_rights(state: Path, *, fix: bool) -> None:
    uid = os.geteuid()
    if uid == 0:
        return
    if fix:
        raise MlflowdError("Repairs need root.", "sudo mlflowd check --fix", ExitStatus.PERMISSION)
    if files.exists(state) and state.stat().st_uid != uid:
        message = f"{state} belongs to another user, so this user cannot see what the server sees."
        raise MlflowdError(message, "sudo mlflowd check", ExitStatus.PERMISSION)
