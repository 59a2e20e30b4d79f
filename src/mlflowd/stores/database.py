"""The checks of the database file: ours, a database, the one that was served last, whole.

Effects: those of stores.sqlite.quick_check; nothing is opened while a server runs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError
from mlflowd.host.files import exists, mount_of, obstacle
from mlflowd.model import Finding, Level
from mlflowd.stores import fingerprint, sqlite
from mlflowd.stores.directories import unusable
from mlflowd.stores.findings import fine, misplaced, refused, warning
from mlflowd.stores.places import SIDE_FILES, database_path

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.host.paths import Identity
    from mlflowd.stores.fingerprint import Fingerprint

ACCEPT = "sudo mlflowd check --accept-database"


def guard(settings: Settings, state: Path, who: Identity) -> list[Finding]:
    """Return what is to be said of SQLite's database of a stopped server before each start, in a few milliseconds."""
    path = database_path(settings)
    if path is None:
        return []
    found = [*_start(path), *_files(path, who)]
    if _nothing(path) or not _failed(found):
        found.insert(0, _same(path, settings, state, who))
    return found


def check(settings: Settings, state: Path, who: Identity, *, running: bool) -> list[Finding]:
    """Return what is to be said of SQLite's database; of a running server's only what needs no opening."""
    path = database_path(settings)
    if path is None:
        return []
    found = [*_start(path), *_files(path, who), *_network(path, settings.backend_store.journal_mode)]
    if running:
        return [_under_server(path), *found]
    if not _failed(found):
        found += _whole(path, who)
    if _nothing(path) or not _failed(found):
        found.insert(0, _same(path, settings, state, who))
    return found


def _failed(found: list[Finding]) -> bool:
    return any(finding.level is Level.FAILURE for finding in found)


def _nothing(path: Path) -> bool:
    return not exists(path) or (path.is_file() and path.stat().st_size == 0)


def _files(path: Path, who: Identity) -> list[Finding]:
    found = []
    for file in (path, *(path.with_name(path.name + side) for side in SIDE_FILES)):
        if file.is_symlink():
            message = f"{file} is a symbolic link to {file.readlink()}; links are not followed."
            found.append(misplaced("database: files", message, "name the real file in backend_store.uri"))
        elif exists(file) and file.is_file() and (trouble := obstacle(file, who, os.R_OK | os.W_OK)):
            found.append(unusable("database: files", trouble, who))
    return found


def _start(path: Path) -> list[Finding]:
    try:
        kind = sqlite.header(path)
    except PermissionError:
        return []  # told by _files
    if kind == "directory":
        message = f"{path} is a directory: the engine makes one where a missing file alone is mounted."
        return [refused("database", message, f"sudo rmdir {path}")]
    if kind == "garbage":
        message = f"{path} is not a SQLite database: it does not begin like one."
        return [refused("database", message, f"sudo mv {path} {path}.broken, then restore a backup, or: {ACCEPT}")]
    return []


def _network(path: Path, journal_mode: str) -> list[Finding]:
    mount = mount_of(path)
    if not mount.network:
        return []
    used = " The rollback journal is used in place of WAL." if journal_mode == "wal" else ""
    message = f"{path} lies on {mount.kind} ({mount.path}), where the locks of SQLite are not dependable.{used}"
    return [warning("database: mount", message, "keep the database on a local file system")]


def _under_server(path: Path) -> Finding:
    if not _nothing(path):
        return fine("database", f"{path} is in use; its contents are checked when the server is stopped")
    message = f"The database {path} is missing or empty, though its server runs."
    return refused("database", message, f"sudo systemctl stop mlflowd, put it back at {path}, start again")


def _whole(path: Path, who: Identity) -> list[Finding]:
    if sqlite.header(path) != "database":
        return []
    try:
        wrong = sqlite.quick_check(path, who)
    except sqlite.BusyError as error:
        return [replace(refused("database: quick_check", error.message, error.hint), transient=True)]
    except MlflowdError as error:
        return [refused("database: quick_check", error.message, _salvage(path))]
    if wrong:
        return [refused("database: quick_check", f"{path} is damaged: {wrong}.", _salvage(path))]
    return [fine("database: quick_check", f"{path} is sound")]


def _salvage(path: Path) -> str:
    return f"restore a backup, or save what can be read: sqlite3 {path} .recover | sqlite3 {path}.recovered"


def _same(path: Path, settings: Settings, state: Path, who: Identity) -> Finding:
    try:
        found = fingerprint.read(path, who, mode="rw")
    except MlflowdError as error:
        return refused("database: fingerprint", error.message, error.hint or _salvage(path))
    try:
        served = fingerprint.load(state)
    except MlflowdError as error:
        return warning("database: fingerprint", error.message, error.hint)
    if served and served.place.path != str(path) and fingerprint.untouched(Path(served.place.path), who):
        served = None  # another place is named, and nobody has put anything into the last one yet
    return compare(path, found, served, create=settings.backend_store.create)


def compare(path: Path, found: Fingerprint | None, served: Fingerprint | None, *, create: bool) -> Finding:
    """Return whether the database that is there may stand where the one served last was."""
    name = "database: fingerprint"
    has = "missing" if not exists(path) else "empty"
    if found is None or not found.tables:
        if served is not None and served.tables:
            return refused(name, _lost(path, has, served.place.path), _way_out(path))
        if not create and has == "missing":
            return refused(name, f"{path} is missing, and backend_store.create is false.", f"put it at {path}")
        return fine(name, f"{path} is {has}; the server fills it at its first start")
    if served is None:
        return fine(name, f"{path} was not served before")
    if served.database and found.database != served.database:
        message = f"{path} is another database than the one served last: its oldest experiment differs."
        return warning(name, message, f"nothing to do where that is wanted; else put {served.place.path} back")
    return fine(name, f"{path} is the database served last")


def _lost(path: Path, has: str, before: str) -> str:
    where = "one with data was served from there before" if str(path) == before else f"the one served last is {before}"
    return f"The database {path} is {has}, but {where}: an empty one would hide the loss."


def _way_out(path: Path) -> str:
    return (
        f"put it back at {path} (sudo mv, or restore a backup), or start anew with an empty one: {ACCEPT}; "
        "then: sudo systemctl restart mlflowd"
    )
