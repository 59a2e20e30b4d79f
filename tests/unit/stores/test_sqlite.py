from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fakes import databases
from mlflowd.errors import RefusedError
from mlflowd.host.files import MountPoint
from mlflowd.stores import sqlite
from mlflowd.stores.sqlite import BusyError

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity


def test_first_bytes_tell_what_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "garbage").write_bytes(os.urandom(8192))
    (tmp_path / "directory").mkdir()
    databases.make(tmp_path / "database")
    for kind in ("missing", "empty", "garbage", "directory", "database"):
        assert sqlite.header(tmp_path / kind) == kind


def test_sound_database_passes(tmp_path: Path, who: Identity) -> None:
    assert sqlite.quick_check(databases.make(tmp_path / "a b#?.db"), who) == ""


def test_damaged_page_is_found(tmp_path: Path, who: Identity) -> None:
    path = databases.make(tmp_path / "mlflow.db", rows=2000)
    with path.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\xff" * 4096)
    try:
        wrong = sqlite.quick_check(path, who)
    except RefusedError as error:
        wrong = error.message
    assert wrong


def test_hot_journal_is_rolled_back(tmp_path: Path, who: Identity) -> None:
    path = databases.make(tmp_path / "mlflow.db", rows=5000)
    subprocess.run([sys.executable, "-c", databases.KILLED_IN_TRANSACTION, path], check=False)
    assert (tmp_path / "mlflow.db-journal").stat().st_size > 0
    assert sqlite.quick_check(path, who) == ""
    assert not (tmp_path / "mlflow.db-journal").exists()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM metrics WHERE key LIKE 'changed%'").fetchone() == (0,)


def test_lock_of_another_process_is_named_and_not_taken_for_damage(
    tmp_path: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY", 0.0)
    path = databases.make(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BusyError, match="Another process has locked"):
            sqlite.quick_check(path, who)


def test_long_check_can_be_interrupted(tmp_path: Path, who: Identity) -> None:
    path = databases.make(tmp_path / "mlflow.db", rows=50_000)
    if os.geteuid() == who.uid:
        with pytest.raises(RefusedError, match="interrupted"):
            sqlite.quick_check(path, who, interrupted=lambda: True)


def test_journal_mode_stays_with_the_database(tmp_path: Path, who: Identity) -> None:
    path = databases.make(tmp_path / "mlflow.db")
    assert sqlite.journal_mode(path, who) == "delete"
    assert sqlite.set_journal_mode(path, "wal", who) == "wal"
    assert sqlite.set_journal_mode(path, "keep", who) == "wal"
    assert sqlite.set_journal_mode(path, "delete", who) == "delete"


def test_missing_database_gets_its_journal_mode_before_the_first_start(tmp_path: Path, who: Identity) -> None:
    path = tmp_path / "mlflow.db"
    assert sqlite.set_journal_mode(path, "keep", who) == "delete"
    assert not path.exists()
    assert sqlite.set_journal_mode(path, "wal", who) == "wal"
    assert sqlite.header(path) == "database"


def test_wal_is_not_used_on_a_network_file_system(
    tmp_path: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "mount_of", lambda _: MountPoint("/srv", "nfs4", read_only=False))
    assert sqlite.set_journal_mode(databases.make(tmp_path / "mlflow.db"), "wal", who) == "delete"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could leave files of root")
def test_root_leaves_no_files_of_its_own(ground: Path, other: Identity) -> None:
    path = databases.make(ground / "backend" / "mlflow.db")
    os.chown(path, other.uid, other.gid)
    os.chown(path.parent, other.uid, other.gid)
    sqlite.set_journal_mode(path, "wal", other)
    with sqlite.opened(path, "rw") as connection:  # a server that runs
        connection.execute("SELECT count(*) FROM metrics").fetchone()
        for side in ("-wal", "-shm"):
            os.chown(f"{path}{side}", other.uid, other.gid)
        assert sqlite.quick_check(path, other) == ""
    assert {entry.stat().st_uid for entry in path.parent.iterdir()} == {other.uid}
