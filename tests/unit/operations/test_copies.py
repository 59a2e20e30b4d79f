from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes import databases as made
from mlflowd.config import Settings
from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host.paths import run_as
from mlflowd.model import Secrets
from mlflowd.operations import aside
from mlflowd.operations.copies import BACKEND, LOGIN, Copy, DamagedError, Databases, Kind, Part, parse
from mlflowd.stores import fingerprint, sqlite
from mlflowd.stores.places import SIDE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.host.paths import Identity


class World:
    """Two SQLite databases with rows, and what copies them."""

    def __init__(self, ground: Path, who: Identity) -> None:
        self.ground = ground
        self.file = made.make(ground / "backend" / "mlflow.db", rows=600)
        self.login = made.make(ground / "state" / "login" / "basic_auth.db", rows=3)
        (ground / "state" / "state").mkdir()
        settings = Settings.model_validate(
            {
                "backend_store": {"uri": f"sqlite:///{self.file}"},
                "login": {"enabled": True, "admin_password": "file:/etc/x"},
            }
        )
        self.databases = Databases(settings, Secrets(), ground / "state", who)
        self.directory = ground / "copy"
        self.told: list[str] = []

    def take(self) -> Copy:
        return self.databases.take(self.directory, self.told.append)

    def put_back(self, copy: Copy) -> None:
        self.databases.put_back(copy, self.directory, self.told.append)

    def rows(self, where: str = "1", file: Path | None = None) -> int:
        with closing(sqlite3.connect(file or self.file)) as connection:
            query = f"SELECT count(*) FROM metrics WHERE {where}"  # noqa: S608 - the tests' own words
            return int(connection.execute(query).fetchone()[0])

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.executescript(statement)

    def damage(self, page: int = 7) -> None:
        """Make the header of a b-tree page nonsense."""
        with self.file.open("r+b") as file:
            file.seek(page * 4096)
            file.write(b"\xff" * 16)


@pytest.fixture
def world(ground: Path, who: Identity) -> World:
    return World(ground, who)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def everything(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- taking -----------------------------------------------------------------------------------------


def test_a_copy_has_every_database_with_size_hash_and_revision(world: World) -> None:
    copy = world.take()
    backend, users = copy.part(BACKEND), copy.part(LOGIN)
    assert backend is not None
    assert users is not None
    for part in (backend, users):
        path = world.directory / part.file
        assert (part.bytes, part.sha256, part.kind) == (path.stat().st_size, digest(path), Kind.SQLITE)
        assert part.revision == made.REVISION
        assert path.stat().st_mode & 0o777 == 0o600
    assert world.directory.stat().st_mode & 0o777 == 0o700
    assert copy.bytes == backend.bytes + users.bytes
    assert world.databases.wrong(copy, world.directory) == ""
    assert {path.name for path in world.directory.iterdir()} == {backend.file, users.file}


def test_a_copy_is_described_by_a_document(world: World) -> None:
    copy = world.take()
    assert parse([*copy.document()]) == copy


def test_a_database_that_is_not_there_yet_has_no_part(world: World) -> None:
    world.file.unlink()
    world.login.write_bytes(b"")
    assert world.take().parts == ()


@pytest.mark.parametrize("left", [None, b""], ids=["missing", "empty"])
def test_a_database_that_was_served_and_is_gone_is_damage_and_no_empty_copy(world: World, left: bytes | None) -> None:
    fingerprint.record(world.file, world.databases.state, world.databases.who)
    world.file.unlink()
    if left is not None:
        world.file.write_bytes(left)
    with pytest.raises(DamagedError, match="though one with data was served from there"):
        world.take()
    assert not world.directory.exists()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_copy_is_of_one_moment_while_a_server_writes(world: World, mode: str) -> None:
    sqlite.set_journal_mode(world.file, mode, world.databases.who)
    stop, written = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(world.file, timeout=20)) as connection:
            while not stop.is_set():
                with connection:  # two rows in each transaction
                    connection.execute("INSERT INTO metrics VALUES ('pair', 1, 'a', 1)")
                    connection.execute("INSERT INTO metrics VALUES ('pair', 2, 'a', 1)")
                written.set()
                time.sleep(0.005)  # SQLite's locks know no queue: who never pauses lets nobody in

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(10)
        copy = world.take()
    finally:
        stop.set()
        writer.join()
    assert world.databases.wrong(copy, world.directory) == ""
    pairs = world.rows("key = 'pair'", world.directory / "backend.db")
    assert pairs > 0
    assert pairs % 2 == 0


def test_rows_that_are_in_the_wal_alone_are_in_the_copy(world: World) -> None:
    sqlite.set_journal_mode(world.file, "wal", world.databases.who)
    with closing(sqlite3.connect(world.file)) as server:
        server.execute("INSERT INTO metrics VALUES ('late', 1, 'a', 1)")
        server.commit()
        world.take()
    assert world.rows("key = 'late'", world.directory / "backend.db") == 1


def test_a_hot_journal_is_rolled_back_in_the_copy(world: World) -> None:
    subprocess.run([sys.executable, "-c", made.KILLED_IN_TRANSACTION, world.file], check=False)
    assert world.file.with_name("mlflow.db-journal").stat().st_size > 0
    world.take()
    assert world.rows("key LIKE 'changed%'", world.directory / "backend.db") == 0


def test_a_damaged_page_is_named_and_leaves_no_copy(world: World) -> None:
    world.damage()
    with pytest.raises(DamagedError, match=rf"{world.file} is damaged: .*[Pp]age 8") as raised:
        world.take()
    assert isinstance(raised.value, RefusedError)
    assert not world.directory.exists()


@pytest.mark.parametrize("content", [os.urandom(8192), sqlite.MAGIC + os.urandom(8192)], ids=["garbage", "header"])
def test_what_is_no_database_is_damage(world: World, content: bytes) -> None:
    world.file.write_bytes(content)
    with pytest.raises(DamagedError, match=r"is damaged: (file is not a database|database disk image is malformed)"):
        world.take()


def test_a_damaged_login_database_is_named(world: World) -> None:
    world.login.write_bytes(b"x" * 5000)
    with pytest.raises(DamagedError, match=r"basic_auth\.db is damaged"):
        world.take()


def test_a_lock_is_no_damage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY", 0.0)
    monkeypatch.setattr(sqlite, "COPY_BUSY", 0.3)
    with closing(sqlite3.connect(world.file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite.BusyError):
            world.take()


def test_a_directory_that_cannot_be_written_is_named(world: World) -> None:
    world.directory = Path("/proc/mlflowd-copy")
    with pytest.raises(MlflowdError, match="/proc/mlflowd-copy"):
        world.take()


def test_what_another_copy_left_in_the_directory_is_gone(world: World) -> None:
    world.directory.mkdir()
    (world.directory / "backend.db-wal").write_bytes(b"of another one")
    world.take()
    assert not (world.directory / "backend.db-wal").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could leave files of root")
def test_root_leaves_no_files_of_its_own(ground: Path, other: Identity) -> None:
    world = World(ground, other)
    for path in (ground, *ground.rglob("*")):
        os.chown(path, other.uid, other.gid)
    copy = world.take()
    world.change("DELETE FROM metrics")
    for path in world.file.parent.iterdir():
        os.chown(path, other.uid, other.gid)
    world.put_back(copy)
    world.databases.set_aside(ground / "before")
    world.put_back(copy)
    world.databases.bring_back(ground / "before")
    assert {path.stat().st_uid for path in ground.rglob("*")} == {other.uid}
    world.damage()
    with pytest.raises(DamagedError, match=r"[Pp]age 8"):  # also where it is seen by a child process
        world.take()


# --- looking at a copy ------------------------------------------------------------------------------


def test_a_copy_that_changed_or_shrank_or_went_is_named(world: World) -> None:
    copy = world.take()
    path = world.directory / "backend.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4096])
    assert "is not what was written" in world.databases.wrong(copy, world.directory)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "is not what was written" in world.databases.wrong(copy, world.directory)
    path.unlink()
    assert "cannot be read" in world.databases.wrong(copy, world.directory)


@pytest.mark.parametrize("at", [0, 3 * 4096], ids=["the header", "a page"])
def test_damage_that_was_copied_with_the_rest_is_named(world: World, at: int) -> None:
    world.take()
    path = world.directory / "backend.db"
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 16)
    size, sha256 = path.stat().st_size, digest(path)
    copy = Copy((Part(BACKEND, Kind.SQLITE, path.name, size, sha256, ""),))
    assert "is damaged" in world.databases.wrong(copy, world.directory)


# --- putting back -----------------------------------------------------------------------------------


def test_the_databases_are_what_they_were(world: World) -> None:
    sqlite.set_journal_mode(world.file, "wal", world.databases.who)
    copy = world.take()
    world.change(
        "DROP TABLE runs; CREATE TABLE more (n); DELETE FROM metrics; UPDATE alembic_version SET version_num = 'x'"
    )
    subprocess.run([sys.executable, "-c", made.KILLED_IN_TRANSACTION, world.file], check=False)
    world.put_back(copy)
    assert {part.store: part.sha256 for part in copy.parts} == {BACKEND: digest(world.file), LOGIN: digest(world.login)}
    assert not [side for side in SIDE_FILES if world.file.with_name(world.file.name + side).exists()]
    assert world.rows() == 600
    assert world.databases.wrong(copy, world.directory) == ""


def test_putting_back_makes_directories_and_files_that_are_missing(world: World) -> None:
    copy = world.take()
    shutil.rmtree(world.file.parent)
    world.login.unlink()
    world.put_back(copy)
    assert world.rows() == 600
    assert world.file.stat().st_mode & 0o777 == 0o600


class CutError(BaseException):
    """The process ended here."""


@contextmanager
def cut(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> Iterator[None]:
    """End the work at one call of an operation on files, where there are so many."""
    real, calls = getattr(Path, name), iter(range(1, 1000))

    def step(self: Path, *args: object, **how: object) -> object:
        if next(calls) == call:
            raise CutError
        return real(self, *args, **how)

    with monkeypatch.context() as patched, suppress(CutError):
        patched.setattr(Path, name, step)
        yield


STEPS = [(name, call) for name in ("unlink", "replace", "rename") for call in range(1, 6)]


@pytest.mark.parametrize(("name", "call"), STEPS[:10])
def test_a_put_back_that_was_cut_short_can_be_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    copy = world.take()
    world.change("DELETE FROM metrics")
    with cut(monkeypatch, name, call):
        world.put_back(copy)
    world.put_back(copy)
    assert digest(world.file) == copy.parts[0].sha256
    assert digest(world.login) == copy.parts[1].sha256


def test_a_copy_that_changed_is_not_put_back(world: World) -> None:
    copy = world.take()
    before = digest(world.file)
    with (world.directory / "backend.db").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(RefusedError, match="is not what was written, so it is not put back"):
        world.put_back(copy)
    assert digest(world.file) == before
    assert [path.name for path in world.file.parent.iterdir()] == ["mlflow.db"]


def test_no_room_for_putting_back_leaves_what_is_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = world.take()
    before = digest(world.file)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(MlflowdError, match="No space left on device"):
        world.put_back(copy)
    assert digest(world.file) == before
    assert [path.name for path in world.file.parent.iterdir()] == ["mlflow.db"]


def test_a_copy_of_another_kind_of_database_is_refused(world: World, who: Identity) -> None:
    copy = world.take()
    settings = Settings.model_validate({"backend_store": {"uri": "postgresql://mlflow@db.example/mlflow"}})
    before = digest(world.login)
    with pytest.raises(RefusedError, match=r"a sqlite database, and backend_store\.uri names one of postgresql"):
        Databases(settings, Secrets(), world.databases.state, who).put_back(copy, world.directory, world.told.append)
    assert digest(world.login) == before


def test_a_database_without_a_tool_is_refused(world: World, who: Identity) -> None:
    settings = Settings.model_validate({"backend_store": {"uri": "mssql://mlflow@db.example/mlflow"}})
    with pytest.raises(RefusedError, match="cannot copy a database of mssql"):
        Databases(settings, Secrets(), world.databases.state, who).take(world.directory, world.told.append)


# --- setting aside ----------------------------------------------------------------------------------


@pytest.fixture
def broken(world: World) -> World:
    """A damaged database with a journal beside it, and a copy of what it was."""
    world.take()
    world.damage()
    world.file.with_name("mlflow.db-journal").write_bytes(b"a journal that belongs to it")
    return world


def test_damaged_databases_are_set_aside_and_brought_back_as_they_were(broken: World) -> None:
    before, users = everything(broken.file.parent), everything(broken.login.parent)
    there = broken.ground / "before"
    copy = Copy(parse_taken(broken).parts)
    broken.databases.set_aside(there)
    assert everything(broken.file.parent) == everything(broken.login.parent) == {}
    broken.put_back(copy)
    broken.file.with_name("mlflow.db-wal").write_bytes(b"of the other one")
    broken.databases.bring_back(there)
    assert (everything(broken.file.parent), everything(broken.login.parent)) == (before, users)
    broken.databases.bring_back(there)
    assert everything(broken.file.parent) == before


def parse_taken(world: World) -> Copy:
    parts = []
    for store in (BACKEND, LOGIN):
        path = world.directory / f"{store}.db"
        size, sha256 = path.stat().st_size, digest(path)
        parts.append(Part(store, Kind.SQLITE, path.name, size, sha256, ""))
    return Copy(tuple(parts))


@pytest.mark.parametrize("across", [False, True], ids=["one file system", "two file systems"])
@pytest.mark.parametrize(("name", "call"), STEPS)
def test_setting_aside_and_bringing_back_may_be_cut_short_anywhere(
    broken: World, monkeypatch: pytest.MonkeyPatch, name: str, call: int, across: bool
) -> None:
    before, users = everything(broken.file.parent), everything(broken.login.parent)
    copy, there = parse_taken(broken), broken.ground / "before"
    if across:
        apart(monkeypatch, there)
    for work in (broken.databases.set_aside, broken.databases.bring_back):
        with cut(monkeypatch, name, call):
            work(there)
        if work == broken.databases.set_aside:
            work(there)
            with cut(monkeypatch, name, call):
                broken.put_back(copy)
            broken.databases.set_aside(there)  # as a transaction does whose step is done again
            broken.put_back(copy)
            assert digest(broken.file) == copy.parts[0].sha256
        else:
            work(there)
    assert (everything(broken.file.parent), everything(broken.login.parent)) == (before, users)


def apart(monkeypatch: pytest.MonkeyPatch, there: Path) -> None:
    """Let the directory seem to be on another file system."""
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if (there in self.parents) is not (there in target.parents):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)


def test_a_database_that_was_missing_is_missing_again(world: World) -> None:
    copy = world.take()
    world.file.unlink()
    world.databases.set_aside(world.ground / "before")
    world.put_back(copy)
    world.databases.bring_back(world.ground / "before")
    assert not world.file.exists()


def test_nothing_is_brought_back_where_nothing_was_set_aside(world: World) -> None:
    before = everything(world.file.parent)
    world.databases.bring_back(world.ground / "before")
    assert everything(world.file.parent) == before


def test_no_copy_is_taken_into_a_directory_that_holds_what_was_set_aside(broken: World) -> None:
    there = broken.ground / "before"
    broken.databases.set_aside(there)
    with pytest.raises(RefusedError, match="set aside"):
        broken.databases.take(there, broken.told.append)
    assert run_as(broken.databases.who, lambda: aside.begun(there))
