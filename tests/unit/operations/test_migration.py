from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes import databases as made
from fakes.engine import FakeEngine
from mlflowd.config import Settings
from mlflowd.errors import AskedError, EngineError, EngineUnreachableError, ExitStatus
from mlflowd.host.disk import Space
from mlflowd.model import Image, Secrets
from mlflowd.operations import migration
from mlflowd.operations.copies import Databases
from mlflowd.operations.migration import MigrationError, NoRoomError, Task
from mlflowd.server import command
from mlflowd.server.abilities import Abilities
from mlflowd.server.wiring import Machine

if TYPE_CHECKING:
    from mlflowd.host.paths import Identity
    from mlflowd.model import ContainerSpec
    from mlflowd.operations.migration import Rehearsal

ABLE = Abilities("3.18.0", "3.13", True, True, frozenset())
NEXT = "e5f6a7b8c9d0"


class World:
    """A database of 3.17.2, and an image whose migration makes it revision NEXT."""

    def __init__(self, ground: Path, who: Identity) -> None:
        self.directory, self.database = ground / "rehearsal", ground / "backend" / "mlflow.db"
        (ground / "artifacts").mkdir()
        self.settings = Settings(
            backend_store={"uri": f"sqlite:///{self.database}"}, artifact_store={"uri": str(ground / "artifacts")}
        )
        self.databases = Databases(self.settings, Secrets({}), ground, who)
        self.engine = FakeEngine()
        self.engine.add_image(Image("sha256:0", (), {}))
        self.engine.work = self.migrated
        machine = Machine(who.uid, who.gid, state=str(ground), private=str(ground / "private"))
        self.spec = command.container_spec(self.settings, Image("sha256:0", (), {}), ABLE, machine)
        made.make(self.database)

    def migrated(self, like: ContainerSpec) -> str:
        (backend,) = (mount.source for mount in like.mounts if mount.target == "/mlflow/backend")
        with closing(sqlite3.connect(f"{backend}/mlflow.db")) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", [NEXT])
        return f"INFO Updating database tables\nThe schema is revision {NEXT}"

    def rehearse(self) -> Rehearsal:
        return migration.rehearse(self.databases, self.engine, self.spec, self.directory, 60, lambda _: None)


@pytest.fixture
def world(ground: Path, who: Identity) -> World:
    return World(ground, who)


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def failed(said: str = "", *, late: bool = False, out_of_memory: bool = False) -> AskedError:
    error = AskedError("python in the image sha256:0 ended with status 1.")
    error.said, error.late, error.out_of_memory = said, late, out_of_memory
    return error


# --- the migration ------------------------------------------------------------------------------


def test_the_database_of_the_server_is_migrated_as_a_task(world: World) -> None:
    assert NEXT in migration.migrate(world.engine, world.spec, 60)
    assert revision(world.database) == NEXT
    assert world.engine.tasks == ["migration-mlflowd"]
    (like,) = world.engine.liked
    assert replace(like, environment=()) == replace(world.spec, environment=())


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (failed("x.OperationalError: (sqlite3.OperationalError) near a moth"), "near a moth", ""),
        (failed("half way", late=True), "took longer than 60 s", "upgrade.migration_timeout"),
        (failed("half way", out_of_memory=True), "more memory", "container.memory"),
        (failed(), "ended with status 1", ""),
    ],
)
def test_a_migration_that_fails_says_why_and_keeps_its_words(
    world: World, error: AskedError, said: str, hint: str
) -> None:
    world.engine.fail("ask", error)
    with pytest.raises(MigrationError, match=said) as caught:
        migration.migrate(world.engine, world.spec, 60)
    assert hint in caught.value.hint
    assert caught.value.output == error.said
    assert caught.value.exit_status is ExitStatus.REFUSED
    assert "end" not in world.engine.calls, "the engine has said that it is gone"


def test_one_whose_end_is_not_known_is_ended_before_it_is_told_as_failed(world: World) -> None:
    world.engine.fail("ask", EngineError("removing the container failed"))
    with pytest.raises(MigrationError, match="removing the container failed"):
        migration.migrate(world.engine, world.spec, 60)
    assert world.engine.calls == ["ask", "end"]


def test_one_that_may_go_on_is_never_told_as_failed(world: World) -> None:
    world.engine.fail("ask", EngineUnreachableError("The engine does not answer."))
    world.engine.fail("end", EngineUnreachableError("The engine does not answer."))
    with pytest.raises(EngineUnreachableError):
        migration.migrate(world.engine, world.spec, 60)


def test_what_a_killed_mlflowd_has_left_is_ended_by_name_and_task(world: World) -> None:
    world.engine.left = ["migration-mlflowd", "migration-other", "rehearsal-mlflowd"]
    assert migration.abandon(world.engine, "mlflowd") == 1
    assert migration.abandon(world.engine, "mlflowd") == 0
    assert world.engine.left == ["migration-other", "rehearsal-mlflowd"]
    assert migration.abandon(world.engine, "mlflowd", Task.REHEARSAL) == 1


# --- the rehearsal ------------------------------------------------------------------------------


def test_a_rehearsal_migrates_a_copy_and_leaves_nothing(world: World) -> None:
    before = world.database.read_bytes()
    done = world.rehearse()
    assert (done.before, done.after, done.migrates) == (made.REVISION, NEXT, True)
    assert done.bytes == done.grown == len(before)
    assert done.needed == 3 * done.bytes
    assert f"from revision {made.REVISION} to {NEXT} succeeded on a copy" in done.sentence
    assert world.engine.tasks == ["rehearsal-mlflowd"]
    assert world.database.read_bytes() == before
    assert not world.directory.exists()


def test_a_database_of_the_image_s_own_schema_needs_none(world: World) -> None:
    with closing(sqlite3.connect(world.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [NEXT])
    done = world.rehearse()
    assert not done.migrates
    assert "nothing has to be migrated" in done.sentence


def test_an_empty_database_needs_none_and_no_container(world: World) -> None:
    world.database.unlink()
    assert "is empty" in world.rehearse().sentence
    assert world.engine.tasks == []


def test_a_rehearsal_that_fails_says_so_and_leaves_nothing(world: World) -> None:
    world.engine.fail("ask", failed("Can't locate revision identified by 'ffffffffffff'"))
    with pytest.raises(MigrationError, match="does not know the database's revision ffffffffffff"):
        world.rehearse()
    assert not world.directory.exists()
    assert revision(world.database) == made.REVISION


def test_a_migration_that_damages_the_database_does_not_pass(world: World) -> None:
    def damage(like: ContainerSpec) -> str:
        said = world.migrated(like)
        (backend,) = (mount.source for mount in like.mounts if mount.target == "/mlflow/backend")
        with (Path(backend) / "mlflow.db").open("r+b") as stream:
            stream.seek(4096 * 2)
            stream.write(b"\xff" * 4096)
        return said

    world.engine.work = damage
    with pytest.raises(MigrationError, match="damaged"):
        world.rehearse()
    assert not world.directory.exists()


def test_what_a_killed_rehearsal_has_left_goes_first(world: World) -> None:
    (world.directory / "scratch").mkdir(parents=True)
    (world.directory / "scratch" / "old").touch()
    world.engine.left = ["rehearsal-mlflowd"]
    world.rehearse()
    assert world.engine.left == []
    assert world.engine.calls[0] == "end"


@pytest.mark.parametrize(("spare", "fits"), [(1_000_000, True), (-1, False)])
def test_without_room_for_it_nothing_is_tried(
    world: World, monkeypatch: pytest.MonkeyPatch, spare: int, fits: bool
) -> None:
    size = migration.size(world.databases)
    assert size == world.database.stat().st_size
    kept = world.settings.disk.require_free.bytes
    room = Space(1, 3 * size + kept + spare, 10**12, 10**6, 10**6, read_only=False)
    monkeypatch.setattr("mlflowd.host.disk.space", lambda _: room)
    if fits:
        assert world.rehearse().migrates
        return
    with pytest.raises(NoRoomError, match=r"needs 0 MB for a while; .* disk\.require_free keeps 105 MB"):
        world.rehearse()
    assert world.engine.tasks == []
    assert not world.directory.exists()


def test_the_write_ahead_log_counts_for_the_room(world: World) -> None:
    before = migration.size(world.databases)
    world.database.with_name("mlflow.db-wal").write_bytes(b"x" * 1000)
    assert migration.size(world.databases) == before + 1000
