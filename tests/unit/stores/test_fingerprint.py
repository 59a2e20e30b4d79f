from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fakes import databases
from mlflowd.config import uris
from mlflowd.errors import MlflowdError
from mlflowd.host.paths import fingerprint_file
from mlflowd.stores import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity


def test_what_was_recorded_is_loaded(tmp_path: Path, who: Identity) -> None:
    path = databases.make(tmp_path / "mlflow.db")
    assert fingerprint.load(tmp_path) is None
    recorded = fingerprint.record(path, tmp_path, who)
    assert recorded is not None
    assert fingerprint.load(tmp_path) == recorded
    assert (recorded.revision, recorded.database) == (databases.REVISION, "0@1700000000000")
    assert recorded.place == fingerprint.place(path)
    assert fingerprint_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_identity_survives_a_restored_copy_and_not_an_exchange(tmp_path: Path, who: Identity) -> None:
    first = fingerprint.read(databases.make(tmp_path / "mlflow.db"), who)
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "copy.db")
    copy = fingerprint.read(tmp_path / "copy.db", who)
    twin = fingerprint.read(databases.make(tmp_path / "twin.db", created=1_800_000_000_000), who)
    assert first
    assert copy
    assert twin
    assert first.database == copy.database != twin.database
    assert first.place.inode != copy.place.inode


def test_schema_from_before_creation_times_has_no_identity(tmp_path: Path, who: Identity) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT)")
    found = fingerprint.read(tmp_path / "old.db", who)
    assert found
    assert (found.revision, found.database, found.tables) == ("", "", 1)


def test_database_of_a_running_server_is_read_beside_it(tmp_path: Path, who: Identity) -> None:
    path = databases.make(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as server:
        server.execute("PRAGMA journal_mode=WAL")
        server.execute("BEGIN IMMEDIATE")
        server.execute("INSERT INTO metrics VALUES ('m', 1, 'r', 1)")
        assert fingerprint.read(path, who) is not None
        server.execute("COMMIT")


def test_empty_database_never_takes_the_place_of_what_is_remembered(tmp_path: Path, who: Identity) -> None:
    path = databases.make(tmp_path / "mlflow.db")
    recorded = fingerprint.record(path, tmp_path, who)
    path.unlink()
    assert fingerprint.record(path, tmp_path, who) is None
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert fingerprint.record(path, tmp_path, who) is None
    assert fingerprint.load(tmp_path) == recorded


def test_only_a_database_without_anybody_s_work_is_untouched(tmp_path: Path, who: Identity) -> None:
    assert fingerprint.untouched(databases.make(tmp_path / "fresh.db", rows=0), who)
    assert not fingerprint.untouched(databases.make(tmp_path / "used.db"), who)
    assert not fingerprint.untouched(tmp_path / "missing.db", who)
    (tmp_path / "garbage.db").write_bytes(b"not a database, at all" * 100)
    assert not fingerprint.untouched(tmp_path / "garbage.db", who)
    named = databases.make(tmp_path / "named.db", rows=0)
    with closing(sqlite3.connect(named)) as connection, connection:
        connection.execute("INSERT INTO experiments VALUES (1, 'mine', '', 'active', 1, 1)")
    assert not fingerprint.untouched(named, who)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"place": []}', '{"place": {"path": "/x"}}'])
def test_unreadable_record_is_said(tmp_path: Path, text: str) -> None:
    fingerprint_file(tmp_path).parent.mkdir()
    fingerprint_file(tmp_path).write_text(text)
    with pytest.raises(MlflowdError, match="cannot be read"):
        fingerprint.load(tmp_path)


def test_what_is_forgotten_is_gone(tmp_path: Path, who: Identity) -> None:
    fingerprint.forget(tmp_path)
    fingerprint.record(databases.make(tmp_path / "mlflow.db"), tmp_path, who)
    fingerprint.forget(tmp_path)
    assert fingerprint.load(tmp_path) is None


def test_server_database_is_known_by_its_uri_without_secrets(tmp_path: Path, who: Identity) -> None:
    uri = "postgresql+psycopg2://mlflow:hunter22@db1:5433/tracking?sslpassword=hunter33&sslmode=require"
    found = fingerprint.remote(uris.database(uri), "0@1763660000123")
    assert found.place == fingerprint.Place("postgresql://mlflow@db1:5433/tracking", 0, 0)
    assert (found.database, found.tables) == ("0@1763660000123", 1)
    (tmp_path / "state").mkdir()
    fingerprint.keep(found, tmp_path, who)
    assert fingerprint.load(tmp_path) == found
    assert "hunter" not in fingerprint_file(tmp_path).read_text()
