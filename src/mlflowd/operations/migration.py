"""The migration of MLflow's database to the schema of an image, and its rehearsal on a copy, while the server goes on.

Effects: a throw-away container like the server's that changes the database; of a rehearsal a copy, in a directory that
is made for it and removed again (on a database server, a database of its own). No server may run on a database that is
migrated, nor a second migration: what an mlflowd has left that was killed is ended by `abandon`.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from mlflowd.errors import AskedError, EngineError, RefusedError
from mlflowd.host import disk
from mlflowd.host.paths import run_as
from mlflowd.operations import copies, dumps, scratch
from mlflowd.server import login, migrating
from mlflowd.stores import sqlite

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.engine.api import Engine, Progress
    from mlflowd.model import ContainerSpec
    from mlflowd.operations.copies import Databases

_TIMES: Final = 3
"""How often the database has to fit: the copy, what MLflow makes anew of it, and the log of what it changes.

Measured from 3.10.1 to 3.17.2 with 1.1 GB of runs, metrics and traces: 3.1 GB at most, 1.9 GB afterwards (SQLite keeps
the room of the tables that were there before), 0.2 GB of memory, 41 s."""

_GIGABYTES: Final = 10_000_000_000
"""From here on bytes are told in larger units."""

RehearsalImpossibleError = dumps.RehearsalImpossibleError
"""The migration cannot be tried on a copy, which says nothing of the upgrade."""


class Task(StrEnum):
    """What a migration is for: its container is found by it."""

    MIGRATION = "migration"
    REHEARSAL = "rehearsal"


class MigrationError(RefusedError):
    """The migration failed, and its container is gone; the database may be half migrated."""

    def __init__(self, message: str, hint: str = "", output: str = "") -> None:
        super().__init__(message, hint)
        self.output = output
        """The end of what the container printed, without secrets."""


class NoRoomError(RefusedError):
    """There is no room for a copy; that may pass."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of one that went well."""

    seconds: float
    """Of the migration alone."""
    bytes: int
    """Of the copy; of a database server's, of its dump."""
    before: str
    """The schema's revision, "" for a database that has none yet."""
    after: str
    copied: float = 0.0
    """Seconds that the copy took."""
    grown: int = 0
    """Bytes of the database afterwards, 0 where that is not known."""

    @property
    def migrates(self) -> bool:
        """Whether there was something to migrate."""
        return self.before != self.after

    @property
    def needed(self) -> int:
        """Bytes that the upgrade takes for a while beside the database: the copy, and what the migration adds."""
        return self.bytes * (_TIMES if self.migrates else 1)

    @property
    def sentence(self) -> str:
        """Return it for people."""
        if not self.before:
            return "The database is empty: nothing has to be migrated."
        if not self.migrates:
            return f"The database has the image's schema already, revision {self.after}: nothing has to be migrated."
        grown = f"; it has {told(self.grown)} then" if self.grown else ""
        return (
            f"The migration of the database from revision {self.before} to {self.after} succeeded on a copy, in "
            f"{self.seconds:.1f} s after {self.copied:.1f} s for the copy of {told(self.bytes)}{grown}."
        )


def migrate(engine: Engine, spec: ContainerSpec, limit: float, task: Task = Task.MIGRATION) -> str:
    """Migrate the database of `spec` to its image's schema and return what the migration said.

    It ends well only where the database has that schema then. The private files of `spec` must have been written; the
    memory is that of the server, in whose place it runs. Raises MigrationError where it fails, takes longer than
    `limit` seconds, or is ended by `abandon`: its container is gone then. After an EngineError it may go on: nobody
    may use the database before `abandon` has returned.
    """
    try:
        return engine.ask(spec.image_id, migrating.ARGV, limit, migrating.prepared(spec), _name(spec.name, task))
    except AskedError as error:
        raise _failed(error, limit) from error
    except EngineError as error:
        abandon(engine, spec.name, task)
        raise MigrationError(f"The migration of the database failed: {error.message}", error.hint) from error


def abandon(engine: Engine, name: str, task: Task = Task.MIGRATION) -> int:
    """End the migrations of the server `name` that run, and return how many: none of them runs any more then.

    For what an mlflowd has left that was killed, and, from another thread, for one that is to end early: `migrate`
    raises MigrationError there. One that is about to begin is not seen, so this is to be called again until that
    thread is through. Raises EngineError, after which it is not known whether one runs.
    """
    return engine.end(_name(name, task))


def rehearse(  # noqa: PLR0913, PLR0917 - what is tried, on what data, and where
    databases: Databases, engine: Engine, spec: ContainerSpec, directory: Path, limit: float, progress: Progress
) -> Rehearsal:
    """Migrate a copy of the databases with the image of `spec`; `directory` is made for it and is gone in the end.

    Raises MigrationError where the upgrade would fail, NoRoomError, and what else keeps it from being tried: the
    errors of copies.Databases.take and scratch.scratch, EngineError.
    """
    abandon(engine, spec.name, Task.REHEARSAL)
    clear = partial(run_as, databases.who, lambda: shutil.rmtree(directory, ignore_errors=True))
    clear()
    require_room(databases, directory)
    try:
        return _rehearse(databases, engine, spec, directory, limit, progress)
    finally:
        clear()


def require_room(databases: Databases, directory: Path) -> None:
    """Raise NoRoomError where the databases do not fit several times beside what disk.require_free keeps."""
    needed = _TIMES * size(databases)
    space = disk.space(directory)
    kept = databases.settings.disk.require_free.of(space.total)
    if space.free < needed + kept:
        message = (
            f"To migrate the database needs {told(needed)} for a while; {directory.parent} has {told(space.free)} "
            f"left, of which disk.require_free keeps {told(kept)}."
        )
        raise NoRoomError(message, f"make room: sudo du -xh -d2 {directory.parent} | sort -h")


def size(databases: Databases) -> int:
    """Return the bytes of the databases that are files of this machine. Raises MlflowdError."""
    backend, users = databases.settings.backend_store.file, databases.state / login.DIRECTORY / login.DATABASE
    tops = [path for path in (backend, users) if path is not None]
    return int(run_as(databases.who, lambda: sum(map(_bytes, tops))))


def _rehearse(  # noqa: PLR0913, PLR0917 - as above
    databases: Databases, engine: Engine, spec: ContainerSpec, directory: Path, limit: float, progress: Progress
) -> Rehearsal:
    began = time.monotonic()
    copy = databases.take(directory, progress)
    copied, part = time.monotonic() - began, copy.part(copies.BACKEND)
    if part is None or not part.revision:
        return Rehearsal(0, copy.bytes, "", "", copied)
    with scratch.scratch(databases, copy, directory, spec, keep=False) as like:
        progress(f"migrating the copy of the database ({told(part.bytes)})")
        began = time.monotonic()
        said = migrate(engine, like, limit, Task.REHEARSAL)
        seconds = time.monotonic() - began
        file = scratch.database(databases, directory)
        grown = _sound(databases, file) if file else 0
    return Rehearsal(seconds, copy.bytes, part.revision, migrating.revision(said), copied, grown)


def _sound(databases: Databases, file: Path) -> int:
    """Return the bytes of a database that was migrated. Raises MigrationError where it is damaged."""
    if wrong := sqlite.quick_check(file, databases.who):
        raise MigrationError(f"The migrated copy of the database is damaged: {wrong}.", "sudo mlflowd check")
    return int(run_as(databases.who, lambda: _bytes(file)))


def _failed(error: AskedError, limit: float) -> MigrationError:
    if error.late:
        message = f"The migration of the database took longer than {limit:g} s and was ended."
        return MigrationError(message, "raise upgrade.migration_timeout in /etc/mlflowd.toml", error.said)
    if error.out_of_memory:
        message = "The migration of the database was ended for using more memory than its container may."
        return MigrationError(message, "raise container.memory in /etc/mlflowd.toml", error.said)
    if not error.said:
        return MigrationError(f"The migration of the database failed: {error.message}", error.hint)
    return MigrationError(*migrating.explain(error.said), error.said)


def _name(name: str, task: Task) -> str:
    return f"{task}-{name}"


def _bytes(file: Path) -> int:
    """Return the bytes of a database, with what is still in its write-ahead log."""
    return sum(path.stat().st_size for path in (file, file.with_name(f"{file.name}-wal")) if path.exists())


def told(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / 1e6:.0f} MB" if count < _GIGABYTES else f"{count / 1e9:.0f} GB"
