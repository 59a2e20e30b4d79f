"""What an adoption has done so far, written down ahead of each step, so that whoever finds it can take it back.

Effects: <state>/state/adoption.json, root's own, which holds the adoption that is under way; it is gone when that is
complete or taken back. Root carries out what the file says, so one that is not root's own is refused.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SCHEMA = 1
_LARGEST = 64 << 20
"""Bytes; a step names the top-level entries of a directory of artifacts."""


class Kind(StrEnum):
    """What a step changes; undo.py has the way back of each."""

    CONTAINER = "container"
    """The old server is stopped, and no longer restarted by the engine."""
    NAME = "name"
    """The old container is renamed."""
    DAEMON = "daemon"
    """mlflowd's own unit is stopped, or started."""
    DIRECTORY = "directory"
    """A directory of the adoption's own is made, with what is in it."""
    MADE = "made"
    """A directory that stays is made; only an empty one is removed again."""
    ASIDE = "aside"
    """A database file is renamed in its directory, with what SQLite keeps beside it."""
    PLACED = "placed"
    """A database file is put where the configuration names it."""
    MOVED = "moved"
    """Entries of a directory are renamed into another one."""
    COPIED = "copied"
    """Entries of a directory are copied into another one."""
    OWNERS = "owners"
    """Owners and modes are changed; the former ones stand in a file."""
    FILE = "file"
    """A file of the configuration is written."""
    ROWS = "rows"
    """Artifact locations in a database server are rewritten; the former ones stand in a file."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change: its kind, and what the way back needs to know."""

    kind: Kind
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Adoption:
    """The one that is under way."""

    id: str
    """Its beginning, in UTC: 20261120T210000Z."""
    name: str
    """The container that is taken over, by its own name."""
    config: str
    """The configuration file that it writes."""
    steps: tuple[Step, ...] = field(default=())


class Book:
    """The file; each call reads it anew."""

    def __init__(self, state: Path) -> None:
        self.path = state / "state" / "adoption.json"

    def begin(self, adoption: Adoption) -> None:
        """Write down a new one. Raises RefusedError where another one is under way."""
        if other := self.pending():
            message = f"The adoption of {other.name} that began at {other.id} is not finished."
            raise RefusedError(message, "sudo mlflowd adopt --undo")
        self._write(adoption)

    def ahead(self, kind: Kind, **told: object) -> None:
        """Write down a step that is about to be taken. Raises MlflowdError where it cannot be: then it must not be."""
        adoption = self.pending()
        if adoption is None:
            raise MlflowdError(f"{self.path} is gone, so nothing more is changed.", "sudo mlflowd adopt --undo")
        self._write(replace(adoption, steps=(*adoption.steps, Step(kind, told))))

    def taken_back(self) -> None:
        """Strike out the last step. Raises MlflowdError."""
        adoption = self.pending()
        if adoption and adoption.steps:
            self._write(replace(adoption, steps=adoption.steps[:-1]))

    def pending(self) -> Adoption | None:
        """Return the one that is under way. Raises RefusedError where what is written down cannot be read."""
        try:
            return _parse(json.loads(_own(self.path)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"{self.path} cannot be read ({type(error).__name__}), so it is not known what is half done."
            hint = "docker ps -a shows the old container, stopped; look at the file before it is removed"
            raise RefusedError(message, hint) from error

    def close(self) -> None:
        """Write down that none is under way: complete, or taken back. Raises OSError."""
        self.path.unlink(missing_ok=True)
        files.sync_directory(self.path.parent)

    def _write(self, adoption: Adoption) -> None:
        try:
            _put(self.path, json.dumps({"schema": _SCHEMA, **asdict(adoption)}))
        except OSError as error:
            raise MlflowdError(
                f"{self.path} cannot be written: {error.strerror}.", "look at the disk: df -h"
            ) from error


def _own(path: Path) -> str:
    """Return the text of a file that nobody but this user, root, could have written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, encoding="utf-8") as stream:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077 or not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is not this user's own")
        return stream.read(_LARGEST)


def _put(path: Path, text: str) -> None:
    """Put `text` at `path`, whole or not at all; the directory is the service user's, so nothing there is trusted."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
    new.replace(path)
    files.sync_directory(path.parent)


def _parse(told: Mapping[str, Any]) -> Adoption:
    if told["schema"] != _SCHEMA:
        raise ValueError(told["schema"])
    steps = tuple(Step(Kind(each["kind"]), dict(each["told"])) for each in told["steps"])
    return Adoption(str(told["id"]), str(told["name"]), str(told["config"]), steps)
