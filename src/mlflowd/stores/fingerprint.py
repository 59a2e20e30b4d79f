"""Which database was served last, so that an empty or missing twin is refused.

Effects: `record` writes <state>/state/fingerprint.json; `forget` removes it.

The identity of a database is its oldest experiment and the time of its creation: a restored backup has the same,
another database has not. `mlflow gc` may remove that experiment, so another identity is only worth a warning; it is
an empty or missing database where there was one that is refused.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError
from mlflowd.host.files import write_atomically
from mlflowd.host.paths import Identity, fingerprint_file, run_as
from mlflowd.stores import sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflowd.config.uris import DatabaseUri


_CONTENTS = ("runs", "registered_models", "logged_models", "trace_info", "datasets")
"""MLflow's tables that somebody's work fills (mlflow/store/tracking/dbmodels/models.py and model_registry's)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file by its device and inode numbers, which survive writing but not an exchange."""

    path: str
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What identifies a database."""

    place: Place
    revision: str
    """The schema's alembic revision, "" where there is none."""
    database: str
    """The oldest experiment as "id@milliseconds", "" where there is none."""
    tables: int


def place(path: Path) -> Place | None:
    """Return where the file lies, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Place(str(path), status.st_dev, status.st_ino)


def read(path: Path, who: Identity, mode: str = "ro") -> Fingerprint | None:
    """Return the fingerprint of this database as it is now, None where the file is missing or empty.

    With `mode` "ro" it may be used beside a running server; a hot journal that a stopped one left needs "rw".
    Raises RefusedError (BusyError where it is locked).
    """
    at = place(path)
    if at is None or path.stat().st_size == 0:
        return None
    return Fingerprint(at, *run_as(who, lambda: _facts(path, mode)))


def load(state: Path) -> Fingerprint | None:
    """Return what was recorded last, None where nothing was. Raises MlflowdError where it cannot be read."""
    file = fingerprint_file(state)
    try:
        return _parse(json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MlflowdError(
            f"The record of the database served last, {file}, cannot be read ({type(error).__name__}).",
            "it is written anew at the next start",
        ) from error


def record(path: Path, state: Path, who: Identity) -> Fingerprint | None:
    """Remember the database as it is now; one without tables never takes the place of what is remembered.

    Raises OSError and MlflowdError.
    """
    found = read(path, who)
    if found is None or not found.tables:
        return None
    keep(found, state, who)
    return found


def untouched(path: Path, who: Identity) -> bool:
    """Whether a SQLite database is there and holds nothing but what MLflow makes by itself: the Default experiment.

    May be used beside a running server. One that cannot be read may hold something.
    """
    try:
        return place(path) is not None and bool(run_as(who, lambda: _holds_nothing(path)))
    except MlflowdError:
        return False


def remote(database: DatabaseUri, oldest: str) -> Fingerprint:
    """Return the fingerprint of a server's database, by its URI without secrets and its oldest experiment."""
    return Fingerprint(Place(replace(database, driver="", password="", query="").written(), 0, 0), "", oldest, 1)


def keep(found: Fingerprint, state: Path, who: Identity) -> None:
    """Remember this database. Raises OSError and MlflowdError."""
    text = json.dumps(asdict(found), indent=2) + "\n"
    run_as(who, lambda: write_atomically(fingerprint_file(state), text))


def forget(state: Path) -> None:
    """Remember no database, so that the next one is taken as it is."""
    fingerprint_file(state).unlink(missing_ok=True)


def _facts(path: Path, mode: str) -> tuple[str, str, int]:
    with sqlite.opened(path, mode) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
        revision = _first(connection, "SELECT version_num FROM alembic_version")
        oldest = "SELECT experiment_id || '@' || creation_time FROM experiments ORDER BY creation_time, experiment_id"
        return revision, _first(connection, oldest), int(tables)


def _holds_nothing(path: Path) -> bool:
    with sqlite.opened(path, "ro") as connection:
        used = any(_first(connection, f"SELECT 1 FROM {table}") for table in _CONTENTS)  # noqa: S608 - names of ours
        return not used and _first(connection, "SELECT count(*) FROM experiments") in {"1", "0"}


def _first(connection: sqlite3.Connection, query: str) -> str:
    try:
        row = connection.execute(f"{query} LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return ""  # no such table, or no such column in a schema from before MLflow 1.29
    return str(row[0]) if row and row[0] is not None else ""


def _parse(told: Mapping[str, object]) -> Fingerprint:
    at = told["place"]
    if not isinstance(at, dict):
        raise TypeError(at)
    return Fingerprint(
        Place(str(at["path"]), int(at["device"]), int(at["inode"])),
        str(told["revision"]),
        str(told["database"]),
        int(str(told["tables"])),
    )
