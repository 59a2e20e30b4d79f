"""What a check before a start found, and the repair that it knows. No effects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is; a warning never blocks."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class MendKind(StrEnum):
    """What `mlflowd check --fix` can do safely."""

    MAKE_DIRECTORY = "make-directory"
    OWN = "own"
    """Give a path (for a directory, all in it, links not followed) to the service user."""
    MODE = "mode"


@dataclass(frozen=True, slots=True)
class Mend:
    """A safe repair, as a value; host/files.py carries it out."""

    kind: MendKind
    path: str
    uid: int = -1
    gid: int = -1
    mode: int = 0o700


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one preflight check."""

    check: str
    """A short name such as "backend store: owner"."""
    level: Level
    message: str
    remedy: str = ""
    """The exact command that mends it, or what to change in the configuration."""
    exit_status: int = 0
    """ExitStatus for the daemon when this failure refuses a start."""
    mend: Mend | None = None
    transient: bool = False
    """May pass by itself (a port in use): the daemon waits instead of giving up."""
    migrates: bool = False
    """The start would have to migrate the database: a transaction, with a way back."""
