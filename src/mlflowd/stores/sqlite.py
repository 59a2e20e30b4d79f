"""The SQLite database of the backend store: is it one, is it whole, which journal does it keep.

Effects: `quick_check` rolls a hot journal back, as every first opening does; `set_journal_mode` changes the file;
`copy` writes another one. They work as the service's user (host.paths.run_as): what SQLite leaves beside the database
(-wal, -shm, -journal) must never belong to root, or the server cannot write any more. Nothing here is for a database
of a running server but `header`, `opened`, `copy` and `revision`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from mlflowd.errors import RefusedError
from mlflowd.host.files import mount_of
from mlflowd.host.paths import Identity, run_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAGIC = b"SQLite format 3\0"
"""The first bytes of every database file; sqlite.org/fileformat2.html."""
BUSY = 2.0
"""Seconds to wait for a lock."""
COPY_BUSY = 30.0
"""Seconds that a copy waits for a lock: writers hold one for moments, and somebody's long transaction may end."""
STEPS = 100_000
"""Instructions of SQLite's machine between two questions whether to go on; some milliseconds."""


class BusyError(RefusedError):
    """Another process holds a lock on the database; that may pass."""


def header(path: Path) -> str:
    """Return "missing", "directory", "empty", "garbage" or "database", by the first bytes. Raises PermissionError."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except FileNotFoundError:
        return "missing"
    except IsADirectoryError:
        return "directory"
    if not start:
        return "empty"
    return "database" if start == MAGIC else "garbage"


@contextmanager
def opened(path: Path, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    """Open a database, by itself without a change to it, so that a server may be using it.

    `mode` is "ro", "rw" or "rwc" (make a missing file; sqlite.org/uri.html). Raises BusyError and RefusedError.
    """
    uri = f"file:{quote(str(path))}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY)) as connection:
            yield connection
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise BusyError(f"Another process has locked {path}.", f"sudo fuser -v {path}  # names it") from error
        raise RefusedError(f"SQLite cannot use {path}: {error}.") from error


def quick_check(path: Path, who: Identity, interrupted: Callable[[], bool] = lambda: False) -> str:
    """Return "" for a sound database, else what is wrong with it. A hot journal is rolled back.

    Takes about a second for 0.9 GB. `interrupted` is asked every few milliseconds whether to give up. Raises
    BusyError and RefusedError.
    """
    return str(run_as(who, lambda: _quick_check(path, interrupted)))


def journal_mode(path: Path, who: Identity) -> str:
    """Return "wal", "delete" or another of SQLite's words. Raises as `quick_check`."""
    return str(run_as(who, lambda: _pragma(path, "ro", "journal_mode")))


def set_journal_mode(path: Path, wanted: str, who: Identity) -> str:
    """Make `wanted` ("wal", "delete" or "keep") the journal mode and return the mode that holds then.

    Only while no server uses the database. A missing or empty file becomes an empty database of that mode, so that
    the first start has it as well. On a network file system "wal" turns into "delete": its shared memory would not
    be shared (sqlite.org/wal.html). Raises as `quick_check`.
    """
    mode = "delete" if wanted == "wal" and mount_of(path).network else wanted
    if mode == "keep":
        return journal_mode(path, who) if header(path) == "database" else "delete"
    return str(run_as(who, lambda: _pragma(path, "rwc", f"journal_mode={mode}")))


def copy(source: Path, target: Path, who: Identity) -> None:
    """Copy a database, whether a server is writing to it or not, to a new file, page by page as it is.

    In one step, as of one moment: beside WAL nobody waits for it; beside a rollback journal writers wait while it
    lasts. The pages keep their places, so that two copies of a database that changed little differ little. A hot
    journal is rolled back. Raises as `quick_check`, and MlflowdError where the target cannot be written.
    """
    run_as(who, lambda: _copy(source, target))


def revision(path: Path, who: Identity) -> str:
    """Return the schema's alembic revision, "" where there is none. Raises as `quick_check`."""
    return str(run_as(who, lambda: _revision(path)))


def _copy(source: Path, target: Path) -> None:
    deadline = time.monotonic() + COPY_BUSY

    def look(status: int, *_: int) -> None:
        # without it Connection.backup() would try for ever
        if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} and time.monotonic() > deadline:
            raise BusyError(f"Another process has locked {source}.", f"sudo fuser -v {source}  # names it")

    target.unlink(missing_ok=True)
    with opened(source, "rw") as connection, opened(target, "rwc") as new:
        new.execute("PRAGMA synchronous = OFF")  # of a copy that was cut short nothing is used
        connection.backup(new, progress=look)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _revision(path: Path) -> str:
    with opened(path, "rw") as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return ""
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""


def _quick_check(path: Path, interrupted: Callable[[], bool]) -> str:
    with opened(path, "rw") as connection:
        connection.set_progress_handler(interrupted, STEPS)
        # One error: where more are asked for, SQLite goes on into the damage, and Python loses what it was told before.
        rows = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    return "" if rows == ["ok"] else "; ".join(rows).replace("*** in database main ***\n", "").replace("\n", "; ")


def _pragma(path: Path, mode: str, pragma: str) -> str:
    with opened(path, mode) as connection:
        return str(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
