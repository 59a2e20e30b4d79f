"""A backup restored into a directory of its own, to look at or to take along: nothing else is touched.

Effects: writes DIR/database, DIR/artifacts, DIR/keys, DIR/manifest.json and DIR/mlflowd.toml; while it is at it all
that is there lies in DIR/incomplete. Nothing stays where it fails.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mlflowd.errors import ExitStatus, MlflowdError, RefusedError
from mlflowd.host import files
from mlflowd.host.restic import DamagedRepositoryError
from mlflowd.operations import copies
from mlflowd.operations.backup import fitting, manifest
from mlflowd.operations.backup.fitting import Need
from mlflowd.operations.backup.unpack import ANOTHER, manifest_of, name, take
from mlflowd.stores.places import SIDE_FILES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflowd.engine.api import Progress
    from mlflowd.host.restic import Restic
    from mlflowd.operations.backup.repository import Backup
    from mlflowd.operations.copies import Copy

INCOMPLETE: Final = "incomplete"
_DATABASE, _ARTIFACTS = "database", "artifacts"


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What is in the directory."""

    counts: Mapping[str, int] | None
    """Of the restored database, None where it is no file that can be counted in."""
    expected: Mapping[str, int] | None
    files: int
    """Artifacts."""
    bytes: int

    @property
    def differing(self) -> tuple[str, ...]:
        """What is not as the manifest says."""
        now, then = self.counts or {}, self.expected or {}
        return tuple(kind for kind in now if kind in then and now[kind] != then[kind])


def rehearse(door: Restic, backup: Backup, directory: Path, progress: Progress) -> Rehearsed:
    """Restore into `directory`, which is empty or missing. Raises MlflowdError and OSError; then nothing stays."""
    told, made = manifest_of(backup), not files.exists(directory)
    _begin(directory)
    try:
        fitting.check_room([Need(directory, door.size(backup.snapshot.id))], f"The backup {name(backup)}")
        progress(f"restoring the backup {name(backup)} into {directory}")
        take(door, backup, backup.staging, directory / INCOMPLETE / _DATABASE)
        progress("checking the databases")
        _check(backup, told.copy, directory / INCOMPLETE / _DATABASE)
        if told.artifacts:
            progress("restoring the artifacts")
            take(door, backup, told.artifacts, directory / INCOMPLETE / _ARTIFACTS)
        _lay_out(directory)
    except BaseException:
        shutil.rmtree(directory if made else directory / INCOMPLETE, ignore_errors=True)
        raise
    return Rehearsed(_counts(told.copy, directory / _DATABASE), told.counts, *_measure(directory / _ARTIFACTS))


def _begin(directory: Path) -> None:
    """Make the directory. Raises RefusedError for one that holds something, and MlflowdError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise RefusedError(f"{directory} is not empty.", "name a directory that is empty, or not there yet")
        (directory / INCOMPLETE).mkdir(mode=0o700)
    except OSError as error:
        message = f"{directory} cannot be written: {error.strerror}."
        raise MlflowdError(message, f"ls -ld {directory.parent}", ExitStatus.PERMISSION) from error


def _check(backup: Backup, copy: Copy, directory: Path) -> None:
    """Raise DamagedRepositoryError where a database is not what was written, or not sound throughout."""
    for part in copy.parts:
        wrong = _wrong(directory / part.file, part)
        if wrong:
            message = f"The backup {name(backup)} is damaged: its {part.store} database {wrong}."
            raise DamagedRepositoryError(message, ANOTHER)


def _wrong(path: Path, part: copies.Part) -> str:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if digest != part.sha256:
        return "is not what was written"
    return sound(path) if part.kind is copies.Kind.SQLITE else ""


def sound(path: Path) -> str:
    """Return "" for a database whose pages, indexes and references are all as they ought to be, else what is wrong."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
            lost = connection.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.Error as error:
        return f"cannot be used: {error}"
    if rows != ["ok"]:
        return f"is damaged: {'; '.join(rows)}"
    return f"has rows of {lost[0]} that belong to rows of {lost[2]} which are not there" if lost else ""


def _lay_out(directory: Path) -> None:
    """Move all to its place, the last sign of an incomplete restore with it."""
    source = directory / INCOMPLETE
    for beside in (manifest.NAME, manifest.CONFIGURATION, manifest.KEYS):
        if files.exists(source / _DATABASE / beside):
            (source / _DATABASE / beside).rename(directory / beside)
    for each in (_DATABASE, _ARTIFACTS):
        if files.exists(source / each):
            (source / each).rename(directory / each)
    source.rmdir()


def _counts(copy: Copy, directory: Path) -> dict[str, int] | None:
    found = manifest.counts(copy, directory)
    for part in copy.parts:
        for side in SIDE_FILES:  # a database in WAL's mode gets them by a look at it
            (directory / f"{part.file}{side}").unlink(missing_ok=True)
    return found


def _measure(directory: Path) -> tuple[int, int]:
    found = [path.stat().st_size for path in directory.rglob("*") if path.is_file()] if directory.is_dir() else []
    return len(found), sum(found)
