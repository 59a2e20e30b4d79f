"""A database of MLflow 3.10.1 with data, migrated by the image of 3.17.2: on a copy, in earnest, and in vain."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import docker
import pytest

from contract import olden
from contract.test_server import UID
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import RefusedError
from mlflowd.operations import migration
from mlflowd.operations.migration import MigrationError, Task
from mlflowd.server import active_runs, gate
from services.mariadb import running_mariadb
from services.postgres import running_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from contract.conftest import ImageWith
    from contract.olden import Stores
    from mlflowd.model import ContainerSpec, Image
    from mlflowd.operations.migration import Rehearsal
    from mlflowd.server.abilities import Abilities
    from mlflowd.server.probe import Answer

pytestmark = pytest.mark.engine

LIMIT = 120.0
DRIVERS = ("psycopg2-binary", "PyMySQL[rsa]")


@dataclass(frozen=True)
class Before:
    """What a server of 3.10.1 had and said, and what a rehearsal beside it came to."""

    database: Path
    """A copy of its database, from after its end."""
    content: list[tuple[object, ...]]
    passed: Answer
    rehearsal: Rehearsal
    left: list[Path]
    """What the rehearsal left in its directory's parent."""
    served: bool
    """Whether the server wrote and read while the migration ran on the copy."""


@pytest.fixture(scope="module")
def before(
    engine: DockerEngine,
    old_mlflow_image: Image,
    image: Image,
    network: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Before]:
    """Data of an older server, and a rehearsal while it serves."""
    with olden.stores(engine, network) as stores:
        with stores.serving(old_mlflow_image) as server:
            olden.fill(server)
            tried = gate.try_out(server.address, 60)
            after, answers, over = stores.server(image).spec, [], threading.Event()

            def write() -> None:
                while not over.wait(0.2):
                    answers.append(gate.try_out(server.address, 60, proxied=False).ok)

            writer = threading.Thread(target=write)
            writer.start()
            try:
                done = migration.rehearse(
                    stores.databases, engine, after, stores.place / "rehearsal", LIMIT, lambda _: None
                )
            finally:
                over.set()
                writer.join()
            content = olden.content(server)
        left = sorted(stores.place.iterdir())
        kept = tmp_path_factory.mktemp("before") / "mlflow.db"
        shutil.copyfile(stores.database, kept)
        yield Before(kept, content, tried, done, left, len(answers) > 5 and all(answers))


@pytest.fixture
def stores(engine: DockerEngine, network: str, before: Before) -> Iterator[Stores]:
    """The stores of before, with the server stopped."""
    with olden.stores(engine, network, like=before.database) as stores:
        yield stores


@pytest.fixture
def spec(stores: Stores, image: Image) -> ContainerSpec:
    """The server of 3.17.2 that is to serve them."""
    return stores.server(image).spec


def revision(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def running(socket: str, task: str) -> list[str]:
    """Return the ids of the containers of a task."""
    api = docker.APIClient(f"unix://{socket}", version="1.41")
    with closing(api):
        return [each["Id"] for each in api.containers(all=True, filters={"label": [f"io.mlflowd.asked={task}"]})]


def until_it_runs(socket: str, task: str) -> None:
    end = time.monotonic() + 30
    while not running(socket, task):
        assert time.monotonic() < end
        time.sleep(0.1)


# --- what goes well -----------------------------------------------------------------------------


def test_a_rehearsal_beside_a_server_that_writes_migrates_the_copy_alone(before: Before, able: Abilities) -> None:
    done = before.rehearsal
    assert done.after == able.head
    assert done.before == revision(before.database) != able.head
    assert 0 < done.seconds < LIMIT
    assert done.bytes > 100_000
    assert done.grown > done.bytes
    assert [path.name for path in before.left] == ["artifacts", "backend", "state"]
    assert before.served


def test_the_migrated_database_holds_what_the_old_server_had(
    stores: Stores, spec: ContainerSpec, before: Before, image: Image, able: Abilities
) -> None:
    said = migration.migrate(stores.engine, spec, LIMIT)
    assert said.endswith(f"The schema is revision {able.head}")
    assert revision(stores.database) == able.head
    assert {path.name for path in stores.database.parent.iterdir()} == {"mlflow.db"}
    assert stores.database.stat().st_uid == UID
    with stores.serving(image) as server:
        assert olden.content(server) == before.content
        assert gate.try_out(server.address, 60).sentence == before.passed.sentence
        (active,) = active_runs.active(server.address, 60, 3600)
        assert active.startswith("running (")
    assert migration.migrate(stores.engine, spec, LIMIT).endswith(able.head), "may be done again"


PASSWORD = "p@s:w/o%r d#+?&=;'\"\\`$(id)"  # noqa: S105 - all that means something in a URI or a shell


@pytest.fixture(scope="module")
def bridge(engine_socket: str) -> str:
    """The address of this machine that host.docker.internal means."""
    with closing(docker.APIClient(f"unix://{engine_socket}", version="1.41")) as api:
        return str(api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"])


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest, bridge: str) -> Iterator[tuple[str, Callable[[str], str]]]:
    """A database server: the URI of an empty database, and what reads a value from that database."""
    if request.param == "postgresql":
        with running_postgres((bridge,), password=PASSWORD) as postgres:
            postgres.sql(f"ALTER ROLE {postgres.user} CREATEDB")
            uri = f"postgresql://{postgres.user}@host.docker.internal:{postgres.port}/{postgres.database}"
            yield uri, lambda query: postgres.sql(query, postgres.database)
        return
    with running_mariadb(bridge, password=PASSWORD) as mariadb:
        mariadb.sql(rf"GRANT ALL ON `mlflowd\_scratch\_%`.* TO '{mariadb.user}'@'%'")
        uri = f"mysql://{mariadb.user}@{bridge}:{mariadb.port}/{mariadb.database}"
        yield uri, lambda query: mariadb.sql(query.replace(" FROM ", f" FROM {mariadb.database}."))


def test_the_database_of_a_server_is_rehearsed_beside_itself_and_migrated(  # noqa: PLR0913, PLR0917 - fixtures
    server: tuple[str, Callable[[str], str]],
    engine: DockerEngine,
    network: str,
    image_with: ImageWith,
    old_mlflow_image: Image,
    able: Abilities,
) -> None:
    uri, sql = server
    old, new = image_with(*DRIVERS, base=old_mlflow_image), image_with(*DRIVERS)
    with olden.stores(engine, network, uri=uri, password=PASSWORD) as stores:
        with stores.serving(old) as serving:
            olden.fill(serving)
            held, spec = olden.content(serving), stores.server(new).spec
            done = migration.rehearse(stores.databases, engine, spec, stores.place / "rehearsal", LIMIT, print)
            assert olden.content(serving) == held
        assert (done.before, done.after) == (sql("SELECT version_num FROM alembic_version"), able.head)
        assert migration.migrate(engine, spec, LIMIT).endswith(able.head)
        assert sql("SELECT version_num FROM alembic_version") == able.head
        with stores.serving(new) as serving:
            assert olden.content(serving) == held
            assert gate.try_out(serving.address, 60).ok


# --- what does not ------------------------------------------------------------------------------


def test_a_database_of_a_newer_release_is_named(stores: Stores, spec: ContainerSpec) -> None:
    with closing(sqlite3.connect(stores.database)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(MigrationError, match="does not know the database's revision ffffffffffff") as caught:
        migration.migrate(stores.engine, spec, LIMIT)
    assert "Traceback" in caught.value.output


def test_a_migration_that_meets_what_it_does_not_expect_says_what(stores: Stores, spec: ContainerSpec) -> None:
    with closing(sqlite3.connect(stores.database)) as database, database:
        database.execute("CREATE TABLE issues (x INTEGER)")
    with pytest.raises(MigrationError, match="table issues already exists"):
        migration.migrate(stores.engine, spec, LIMIT)


def test_no_password_is_told(stores: Stores, spec: ContainerSpec, engine_socket: str) -> None:
    environment = dict(spec.environment) | {"MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://m:geheim-4711@db/m"}
    with pytest.raises(MigrationError, match="No module named 'psycopg2'") as caught:
        migration.migrate(stores.engine, replace(spec, environment=tuple(sorted(environment.items()))), LIMIT)
    assert "geheim" not in f"{caught.value} {caught.value.output} {caught.value.__cause__}"
    assert running(engine_socket, f"migration-{spec.name}") == []


def test_too_little_memory_is_told(stores: Stores, spec: ContainerSpec) -> None:
    with pytest.raises(MigrationError, match="more memory") as caught:
        migration.migrate(stores.engine, replace(spec, memory=64 << 20), LIMIT)
    assert "container.memory" in caught.value.hint


def test_a_full_disk_is_told(stores: Stores, spec: ContainerSpec) -> None:
    place = stores.database.parent
    kept = stores.database.rename(stores.place / "kept.db")
    options = f"size={kept.stat().st_size + 200_000},uid={UID},gid={UID}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "test", str(place)], check=True)
    try:
        shutil.copyfile(kept, stores.database)
        os.chown(stores.database, UID, UID)
        with pytest.raises(MigrationError, match="database or disk is full") as caught:
            migration.migrate(stores.engine, spec, LIMIT)
        assert "make room" in caught.value.hint
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_the_limit_ends_it_and_its_container_is_gone(stores: Stores, spec: ContainerSpec, engine_socket: str) -> None:
    with pytest.raises(MigrationError, match="longer than 1 s"):
        migration.migrate(stores.engine, spec, 1)
    assert running(engine_socket, f"migration-{spec.name}") == []


def test_one_that_runs_is_ended_from_another_thread(stores: Stores, spec: ContainerSpec, engine_socket: str) -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            migration.migrate(stores.engine, spec, LIMIT)
        except MigrationError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until_it_runs(engine_socket, f"migration-{spec.name}")
    began = time.monotonic()
    while thread.is_alive():
        migration.abandon(stores.engine, spec.name)
        thread.join(0.1)
    assert time.monotonic() - began < 15
    assert isinstance(caught[0], RefusedError)
    assert running(engine_socket, f"migration-{spec.name}") == []


def test_what_a_killed_mlflowd_has_left_is_ended(stores: Stores, spec: ContainerSpec, engine_socket: str) -> None:
    task = f"migration-{spec.name}"

    def work() -> None:
        migration.migrate(DockerEngine(engine_socket, 30.0), spec, LIMIT)

    with closing(sqlite3.connect(stores.database, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")  # it waits, so that it does not end by itself meanwhile
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        until_it_runs(engine_socket, task)
        child.kill()
        child.join()
        assert len(running(engine_socket, task)) == 1, "it goes on without its mlflowd"
        assert migration.abandon(stores.engine, spec.name, Task.REHEARSAL) == 0, "another task"
        assert migration.abandon(stores.engine, spec.name) == 1
    assert running(engine_socket, task) == []
    assert revision(stores.database) == "1b5f0d9ad7c1"
