"""Copies of a real PostgreSQL's and a real MariaDB's database: taken, looked at, put back, tried out.

The data are shaped like MLflow's: keys of their own making, foreign keys, a function with a trigger, text of all kinds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlflowd.config import Settings
from mlflowd.errors import RefusedError
from mlflowd.host import dump_tools
from mlflowd.host.dump_tools import LateError
from mlflowd.host.paths import Identity
from mlflowd.model import Secrets
from mlflowd.operations import dumps
from mlflowd.operations.copies import BACKEND, Databases
from mlflowd.operations.dumps import RehearsalImpossibleError
from services.mariadb import Mariadb, running_mariadb
from services.postgres import Postgres, running_postgres
from services.process import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.operations.copies import Copy

pytestmark = pytest.mark.engine

NOBODY = Identity(65534, 65534, "nobody")
"""Who runs the tools."""
PASSWORD = "p@s:w/o%r d#+?&=;'\"\\`$(id)é"  # noqa: S105 - all that means something in a URI, a shell or a file
ROWS = 2000
REVISION = "dc11669786a5"
SCHEMA = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('dc11669786a5');
CREATE TABLE runs (run_uuid VARCHAR(32) NOT NULL PRIMARY KEY, name VARCHAR(250), {blob} model);
CREATE TABLE metrics (
    id {serial} PRIMARY KEY, run_uuid VARCHAR(32) NOT NULL REFERENCES runs (run_uuid), key_name VARCHAR(250),
    value DOUBLE PRECISION, step BIGINT
);
CREATE TABLE secrets (secret_id VARCHAR(36) NOT NULL PRIMARY KEY, secret_name VARCHAR(255));
INSERT INTO runs VALUES ('a', 'übung; -- ''quoted'' \\\\ tab	{smile}', {bytes}), ('b', '', NULL);
INSERT INTO secrets VALUES ('1', 'key');
"""
POSTGRES = """
CREATE FUNCTION immutable() RETURNS TRIGGER AS $$
BEGIN IF OLD.secret_id != NEW.secret_id THEN RAISE EXCEPTION 'immutable'; END IF; RETURN NEW; END; $$ LANGUAGE plpgsql;
CREATE TRIGGER immutable BEFORE UPDATE ON secrets FOR EACH ROW EXECUTE FUNCTION immutable();
INSERT INTO metrics (run_uuid, key_name, value, step) SELECT 'a', 'loss', 1.0 / n, n FROM generate_series(1, {rows}) n;
CREATE VIEW finished AS SELECT run_uuid FROM runs WHERE name <> '';
"""
MARIADB = """
DELIMITER //
CREATE TRIGGER immutable BEFORE UPDATE ON secrets FOR EACH ROW
BEGIN IF OLD.secret_id != NEW.secret_id THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'immutable'; END IF; END//
DELIMITER ;
INSERT INTO metrics (run_uuid, key_name, value, step) SELECT 'a', 'loss', 1.0 / seq, seq FROM seq_1_to_{rows};
CREATE VIEW finished AS SELECT run_uuid FROM runs WHERE name <> '';
"""
HALF_A_MIGRATION = """
CREATE TABLE logged_models (model_id VARCHAR(32) PRIMARY KEY, run_uuid VARCHAR(32) REFERENCES runs (run_uuid));
ALTER TABLE metrics DROP COLUMN step;
DELETE FROM metrics WHERE id > 100;
DROP VIEW finished;
UPDATE alembic_version SET version_num = 'half';
"""


class World:
    """A server, the account of MLflow on it, and what mlflowd has to say about it."""

    def __init__(self, server: Any, kind: str, place: Path) -> None:
        self.server, self.kind, self.place = server, kind, place
        self.name = f"d{os.urandom(4).hex()}"
        self.user = f"u{self.name}"
        server.make(self.user, PASSWORD, self.name)
        mine = {"serial": "SERIAL", "blob": "BYTEA", "bytes": r"'\x00ff27'"}
        if kind == "mysql":
            mine = {"serial": "BIGINT AUTO_INCREMENT", "blob": "LONGBLOB", "bytes": "X'00FF27'"}
        schema = SCHEMA.replace("{blob} model", f"model {mine['blob']}").replace("{smile}", "😀")
        self.sql(schema.replace("{serial}", mine["serial"]).replace("{bytes}", mine["bytes"]))
        self.sql((MARIADB if kind == "mysql" else POSTGRES).replace("{rows}", str(ROWS)))

    def databases(self, uri: str = "", limit: float = 30.0, password: str = PASSWORD) -> Databases:
        uri = uri or f"{self.kind}://{self.user}@{self.server.address}:{self.server.port}/{self.name}"
        if "127.0.0.1" in uri:  # what a container could not reach, and the configuration so refuses
            settings = Settings.model_validate({"backend_store": {"uri": "postgresql://x@y/z"}})
            store = settings.backend_store.model_copy(update={"uri": uri})
            settings = settings.model_copy(update={"backend_store": store})
        else:
            settings = Settings.model_validate({"backend_store": {"uri": uri}})
        return Databases(settings, Secrets({"backend_store.password": password}), self.place, NOBODY, limit)

    def sql(self, statements: str) -> str:
        """Run statements as MLflow's own user and return the values."""
        if self.kind == "postgresql":
            return str(self.server.sql(f'SET SESSION AUTHORIZATION "{self.user}";\n{statements}', self.name))
        own = subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={self.server.socket}", f"--user={self.user}", "--batch", "--raw",
             "--skip-column-names", "--default-character-set=utf8mb4", self.name],
            env={**os.environ, "MYSQL_PWD": PASSWORD}, input=statements, text=True, capture_output=True, check=False,
        )  # fmt: skip
        if own.returncode:
            raise ServiceError(own.stderr)
        return own.stdout.strip()

    def contents(self) -> str:
        """Return all that is in the database, as a tool of its own tells it, apart from what differs each time."""
        if self.kind == "postgresql":
            where = ["-h", str(self.server.socket_directory), "-p", str(self.server.port), self.name]
            tool = [str(self.server.binaries / "pg_dump"), "--restrict-key=x", *where]
            return run(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--", *tool])
        how = [
            "--no-defaults",
            f"--socket={self.server.socket}",
            "--user=root",
            "--skip-dump-date",
            "--routines",
            "--hex-blob",
        ]
        return run(["mariadb-dump", *how, self.name])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold a table, as the transaction of a server that was killed does."""
        if self.kind == "postgresql":
            where = f"host={self.server.socket_directory} port={self.server.port} user={self.user} dbname={self.name}"
            tool = ["psql", "-X", "-q", where]
        else:
            where = f"--socket={self.server.socket}"
            tool = ["mariadb", "--no-defaults", where, f"--user={self.user}", self.name]
        secret = {"MYSQL_PWD": PASSWORD, "PGPASSWORD": PASSWORD}
        with subprocess.Popen(
            tool, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, **secret}, text=True,
        ) as session:  # fmt: skip
            assert session.stdin is not None
            session.stdin.write("BEGIN; UPDATE runs SET name = 'held' WHERE run_uuid = 'b';\n")
            session.stdin.flush()
            time.sleep(0.3)
            yield
            session.kill()


def run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Mariadb]:
    with running_mariadb() as server:
        yield server


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the user that the tools run as."""
    path = Path(tempfile.mkdtemp(prefix="mlflowd-test-"))
    os.chown(path, NOBODY.uid, NOBODY.gid)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["postgresql", "mysql"])
def world(request: pytest.FixtureRequest, place: Path) -> World:
    server = request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb")
    return World(server, request.param, place)


@pytest.fixture
def of_postgres(postgres: Postgres, place: Path) -> World:
    return World(postgres, "postgresql", place)


@pytest.fixture
def of_mariadb(mariadb: Mariadb, place: Path) -> World:
    return World(mariadb, "mysql", place)


def take(world: World) -> tuple[Databases, Copy, Path]:
    databases, directory = world.databases(), world.place / "copy"
    return databases, databases.take(directory, lambda _: None), directory


def quiet(_: str) -> None:
    """Take no note of progress."""


def test_a_copy_is_what_was_there_after_half_a_migration(world: World) -> None:
    before = world.contents()
    databases, copy, directory = take(world)
    part = copy.part(BACKEND)
    assert part is not None
    assert part.revision == REVISION
    assert (directory / part.file).stat().st_uid == NOBODY.uid
    assert (directory / part.file).stat().st_mode & 0o077 == 0
    assert databases.wrong(copy, directory) == ""
    world.sql(HALF_A_MIGRATION)
    assert world.contents() != before
    databases.put_back(copy, directory, quiet)
    assert world.contents() == before
    databases.put_back(copy, directory, quiet)
    assert world.contents() == before
    with pytest.raises(ServiceError, match="immutable"):
        world.sql("UPDATE secrets SET secret_id = '2'")
    world.sql("INSERT INTO metrics (run_uuid, value) VALUES ('a', 1)")
    assert int(world.sql("SELECT max(id) FROM metrics")) > ROWS


def test_a_copy_is_of_one_moment_while_a_server_writes(world: World) -> None:
    stop = threading.Event()

    unique = "gen_random_uuid()::text" if world.kind == "postgresql" else "uuid()"
    run = f"INSERT INTO runs VALUES (replace({unique}, '-', ''), 'x', NULL)"  # noqa: S608 - the test's own words
    pair = f"BEGIN; {run}; INSERT INTO metrics (run_uuid, step) VALUES ('b', -1); COMMIT;"  # noqa: S608 - as above

    def write() -> None:
        while not stop.is_set():
            world.sql(pair)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        databases, copy, directory = take(world)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    databases.put_back(copy, directory, quiet)
    runs, pairs = world.sql("SELECT count(*) FROM runs"), world.sql("SELECT count(*) FROM metrics WHERE step < 0")
    assert int(runs) == int(pairs) + 2


def test_a_put_back_that_was_killed_can_be_done_again(world: World) -> None:
    before = world.contents()
    databases, copy, directory = take(world)
    world.sql(HALF_A_MIGRATION)
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            databases.put_back(copy, directory, quiet)
        os._exit(0)
    time.sleep(0.15)
    os.kill(child, 9)
    os.waitpid(child, 0)
    databases.put_back(copy, directory, quiet)
    assert world.contents() == before


def test_a_session_that_a_killed_server_left_holds_nothing_up(world: World) -> None:
    before = world.contents()
    databases, copy, directory = take(world)
    with world.locked():
        databases.put_back(copy, directory, quiet)
    assert world.contents() == before


def test_a_damaged_copy_is_named_and_not_put_back(world: World) -> None:
    databases, copy, directory = take(world)
    path = directory / copy.parts[0].file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    size = len(whole) * 2 // 3
    assert f"{size} bytes, {len(whole)} were" in databases.wrong(copy, directory)
    # as if it had been written so
    part = replace(copy.parts[0], bytes=size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    short = replace(copy, parts=(part,))
    assert "is damaged" in databases.wrong(short, directory)
    before = world.contents()
    with pytest.raises(RefusedError, match="not put back"):
        databases.put_back(short, directory, quiet)
    assert world.contents() == before


def test_an_empty_database_has_no_part(world: World) -> None:
    world.sql("DROP VIEW finished; DROP TABLE metrics; DROP TABLE runs; DROP TABLE secrets; DROP TABLE alembic_version")
    assert take(world)[1].parts == ()


def test_a_wrong_password_is_named_and_told_nowhere(world: World) -> None:
    databases = world.databases(password="wrong-secret")  # noqa: S106 - it is wrong
    with pytest.raises(RefusedError, match="refuses the password") as raised:
        databases.take(world.place / "copy", quiet)
    assert "wrong-secret" not in str(raised.value) + repr(databases)
    assert not (world.place / "copy").exists()


def test_no_password_stands_in_any_argument(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    real = subprocess.Popen

    def spy(command: list[str], **how: Any) -> Any:
        commands.extend(command)
        return real(command, **how)

    monkeypatch.setattr(subprocess, "Popen", spy)
    databases, copy, directory = take(world)
    databases.put_back(copy, directory, quiet)
    assert len(commands) > 20
    assert not [word for word in commands if PASSWORD in word or "p@s" in word or "p%40s" in word]


def test_a_missing_tool_is_named_with_its_package(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_tools, "_PLACES", ())
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(RefusedError, match="is not installed") as raised:
        world.databases().take(world.place / "copy", quiet)
    package = "postgresql-client" if world.kind == "postgresql" else "mariadb-client"
    assert raised.value.hint == f"sudo apt-get install {package}"


def test_the_time_limit_ends_the_tools(world: World) -> None:
    held = "pg_sleep(60)" if world.kind == "postgresql" else "sleep(60)"
    server = dumps.Server((databases := world.databases(limit=1.0)).settings, databases.secrets, NOBODY, 1.0)
    before = time.monotonic()
    with pytest.raises(LateError, match="took longer than 1 s"):
        server.tools._ask(f"SELECT {held}")  # type: ignore[attr-defined] # noqa: SLF001 - whatever takes long
    assert time.monotonic() - before < 3


def test_what_progress_raises_ends_the_tools(world: World) -> None:
    class EndedError(Exception):
        pass

    def tell() -> None:
        raise EndedError

    databases = world.databases()
    server = dumps.Server(databases.settings, databases.secrets, NOBODY, 30.0, tell)
    held = "pg_sleep(60)" if world.kind == "postgresql" else "sleep(60)"
    with pytest.raises(EndedError):
        server.tools._ask(f"SELECT {held}")  # type: ignore[attr-defined] # noqa: SLF001 - whatever takes long


def test_a_socket_leads_to_the_database(world: World) -> None:
    before = world.contents()
    option = f"host={world.server.socket_directory}&port={world.server.port}" if world.kind == "postgresql" else ""
    option = option or f"unix_socket={world.server.socket}"
    databases = world.databases(f"{world.kind}://{world.user}@/{world.name}?{option}")
    copy = databases.take(world.place / "copy", quiet)
    databases.put_back(copy, world.place / "copy", quiet)
    assert world.contents() == before


def test_this_machine_is_found_by_the_name_that_containers_have_for_it(world: World) -> None:
    uri = f"{world.kind}://{world.user}@host.docker.internal:{world.server.port}/{world.name}"
    assert world.databases(uri).take(world.place / "copy", quiet).part(BACKEND)


def test_a_server_that_is_away_is_named(world: World) -> None:
    uri = f"{world.kind}://{world.user}@host.docker.internal:1/{world.name}"
    with pytest.raises(RefusedError, match="refuses this machine's connections"):
        world.databases(uri).take(world.place / "copy", quiet)


# --- scratch databases ------------------------------------------------------------------------------


def allow(world: World) -> None:
    if world.kind == "postgresql":
        world.server.sql(f'ALTER ROLE "{world.user}" CREATEDB')
    else:
        world.server.sql(rf"GRANT ALL ON `mlflowd\_scratch\_%`.* TO '{world.user}'@'%'")


def scratches(world: World) -> list[str]:
    query = "SELECT datname FROM pg_database" if world.kind == "postgresql" else "SHOW DATABASES"
    return [name for name in world.server.sql(query).split() if name.startswith(dumps.SCRATCH)]


def test_a_scratch_database_holds_the_copy_and_is_gone_afterwards(world: World) -> None:
    allow(world)
    databases, copy, directory = take(world)
    part = copy.parts[0]
    uri = f"{world.kind}+driver://{world.user}:w%40rd@db.example:1/{world.name}?ssl_ca=/a/b&x=1"
    with dumps.scratch_database(databases, part, directory / part.file, uri) as given:
        (name,) = scratches(world)
        assert given == f"{world.kind}+driver://{world.user}:w%40rd@db.example:1/{name}?ssl_ca=/a/b&x=1"
        assert world.server.sql("SELECT count(*) FROM metrics", name) == str(ROWS)
        assert world.server.sql("SELECT count(*) FROM finished", name) == "1"
    assert scratches(world) == []


def test_a_scratch_database_is_gone_after_an_error_and_after_a_kill(world: World) -> None:
    allow(world)
    databases, copy, directory = take(world)
    scratch = (databases, copy.parts[0], directory / copy.parts[0].file, f"{world.kind}://h/n")
    with pytest.raises(KeyboardInterrupt), dumps.scratch_database(*scratch):
        raise KeyboardInterrupt
    assert scratches(world) == []
    child = os.fork()
    if child == 0:
        with dumps.scratch_database(*scratch):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    (left,) = scratches(world)
    with dumps.scratch_database(*scratch):
        assert left not in scratches(world)
    assert scratches(world) == []


def test_a_user_that_may_make_none_is_told_the_statement_that_lets_it(world: World) -> None:
    databases, copy, directory = take(world)
    with (
        pytest.raises(RehearsalImpossibleError, match="no scratch database") as raised,
        dumps.scratch_database(databases, copy.parts[0], directory / copy.parts[0].file, "x://h/n"),
    ):
        pass
    statement = raised.value.hint.partition(": ")[2]
    world.server.sql(statement)
    with dumps.scratch_database(databases, copy.parts[0], directory / copy.parts[0].file, "x://h/n"):
        assert len(scratches(world)) == 1


# --- what is PostgreSQL's alone ---------------------------------------------------------------------


def test_what_others_own_in_the_schema_stays(of_postgres: World) -> None:
    world = of_postgres
    world.server.sql("CREATE TABLE theirs (n int); INSERT INTO theirs VALUES (7)", world.name)
    databases, copy, directory = take(world)
    world.server.sql("INSERT INTO theirs VALUES (8)", world.name)
    world.sql(HALF_A_MIGRATION)
    databases.put_back(copy, directory, quiet)
    assert world.server.sql("SELECT sum(n) FROM theirs", world.name) == "15"
    assert world.sql("SELECT count(*) FROM metrics") == str(ROWS)


def test_what_others_built_upon_the_tables_is_named_and_nothing_is_changed(of_postgres: World) -> None:
    world = of_postgres
    databases, copy, directory = take(world)
    world.server.sql("CREATE SCHEMA bi; CREATE VIEW bi.report AS SELECT run_uuid FROM runs", world.name)
    world.sql("DELETE FROM metrics")
    before = world.contents()
    with pytest.raises(RefusedError, match=r"bi\.report depends on table runs"):
        databases.put_back(copy, directory, quiet)
    assert world.contents() == before


def test_rights_of_others_are_given_again_and_unknown_users_passed_over(of_postgres: World) -> None:
    world = of_postgres
    reader, gone = f"{world.user}_reader", f"{world.user}_gone"
    world.server.sql(f'CREATE ROLE "{reader}"; CREATE ROLE "{gone}"')
    world.sql(f'GRANT SELECT ON metrics TO "{reader}"; GRANT SELECT ON runs TO "{gone}"')
    databases, copy, directory = take(world)
    world.sql(f'REVOKE ALL ON runs FROM "{gone}"')
    world.server.sql(f'DROP ROLE "{gone}"')
    databases.put_back(copy, directory, quiet)
    assert world.server.sql(f"SELECT has_table_privilege('{reader}', 'metrics', 'SELECT')", world.name) == "t"


def test_tables_of_another_owner_are_refused_with_the_remedy(of_postgres: World) -> None:
    world = of_postgres
    world.server.sql(f'REASSIGN OWNED BY "{world.user}" TO postgres', world.name)
    with pytest.raises(RefusedError, match="belong to postgres") as raised:
        world.databases().take(world.place / "copy", quiet)
    assert "REASSIGN OWNED BY postgres" in raised.value.hint


def test_another_schema_is_followed_into_a_scratch_database(of_postgres: World) -> None:
    world = of_postgres
    allow(world)
    world.server.sql(f'CREATE SCHEMA "My ML" AUTHORIZATION "{world.user}"', world.name)
    world.server.sql(f'ALTER ROLE "{world.user}" IN DATABASE "{world.name}" SET search_path = "My ML"', world.name)
    tables = ("alembic_version", "runs", "metrics", "secrets")
    world.sql("".join(f'ALTER TABLE public.{name} SET SCHEMA "My ML";' for name in tables))
    world.sql('ALTER VIEW public.finished SET SCHEMA "My ML"; ALTER FUNCTION public.immutable SET SCHEMA "My ML"')
    before = world.contents()
    databases, copy, directory = take(world)
    assert copy.parts[0].revision == REVISION
    world.sql('DROP VIEW "My ML".finished; ALTER TABLE "My ML".metrics DROP COLUMN step')
    databases.put_back(copy, directory, quiet)
    assert world.contents() == before
    with dumps.scratch_database(databases, copy.parts[0], directory / copy.parts[0].file, "x://h/n"):
        (name,) = scratches(world)
        uri = f"postgresql://{world.user}@{world.server.address}:{world.server.port}/{name}"
        assert dumps.Server(world.databases(uri).settings, databases.secrets, NOBODY, 30.0).found().tables == 4


def test_a_server_that_is_newer_than_the_tool_is_named(of_postgres: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = dump_tools.found
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        old = Path(directory, "pg_dump")
        old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.4'\n")
        old.chmod(0o755)
        monkeypatch.setattr(dump_tools, "found", lambda name, p: str(old) if name == "pg_dump" else real(name, p))
        with pytest.raises(RefusedError, match=r"this machine's pg_dump is 13\.4") as raised:
            of_postgres.databases().take(of_postgres.place / "copy", quiet)
    assert "postgresql-client-15" in raised.value.hint
