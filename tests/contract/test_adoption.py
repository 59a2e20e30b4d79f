"""Adopting held against a real Docker and a real MLflow: a hot journal inside a stopped container, server paths, files.

Each test has containers and a directory of its own; mlflowd itself does not run, the test stands in for its unit.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import time
import uuid
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

from contract.test_server import free_port
from e2e.client_environment import client_python
from mlflowd.config import Settings
from mlflowd.host.paths import Identity
from mlflowd.model import Address, Secrets
from mlflowd.operations.adoption import carry_out, counts, deployed, filestore, proof, relocate, rescue
from mlflowd.operations.adoption.deployment import Where
from mlflowd.operations.adoption.mounts import place
from mlflowd.operations.adoption.plan import Choice, plan
from mlflowd.operations.adoption.understand import understand
from mlflowd.operations.adoption.undo import Tools, undo
from mlflowd.server import abilities, command, probe
from mlflowd.server.wiring import Machine
from services.postgres import running_postgres
from unit.operations.adoption_ground import ROOT, FakeService, build, look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.engine.docker import DockerEngine
    from mlflowd.model import ContainerSpec, Image
    from mlflowd.operations.adoption.plan import Plan

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
WHO = Identity(61234, 61234, "61234")
PROGRAM = Path(__file__).parent.parent / "e2e" / "deployed_client.py"
SERVE = 120.0
_WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect("/mlflow/mlflow.db", isolation_level=None)
connection.execute("CREATE TABLE kept AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) "
                   "SELECT i, hex(randomblob(50)) AS text FROM n")
print("committed", flush=True)
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE kept SET text = 'torn'")
connection.execute("CREATE TABLE more AS SELECT * FROM kept")
print("hot", flush=True)
time.sleep(600)
"""


@dataclass
class Team:
    """A machine of somebody's, before mlflowd: one container, its directories, and what mlflowd will have."""

    api: docker.APIClient
    engine: DockerEngine
    image: Image
    top: Path
    name: str
    port: int

    def deploy(self, argv: list[str], mounts: dict[str, str], *, user: str = "0:0", **environment: str) -> str:
        """Make and start a container as `docker run -d --restart=always` does; return its id."""
        host = self.api.create_host_config(
            binds=[f"{self.top / source}:{target}" for source, target in mounts.items()],
            restart_policy={"Name": "always"},
            port_bindings={5000: ("127.0.0.1", self.port)},
        )
        made = self.api.create_container(
            self.image.id, argv, name=self.name, user=user, entrypoint=[], environment=environment, ports=[5000],
            host_config=host, working_dir="/mlflow",
        )  # fmt: skip
        self.api.start(made["Id"])
        return str(made["Id"])

    def says(self, word: str) -> None:
        """Wait until the container says it."""
        end = time.monotonic() + SERVE
        while word.encode() not in self.api.logs(self.name):
            assert time.monotonic() < end, self.api.logs(self.name).decode()
            time.sleep(0.1)

    def serves(self) -> None:
        address = Address("127.0.0.1", self.port)
        end = time.monotonic() + SERVE
        while not probe.health(address, 2).ok:
            assert time.monotonic() < end, self.api.logs(self.name).decode()[-3000:]
            time.sleep(0.2)

    def inside(self, *words: str) -> dict[str, Any]:
        """Run deployed_client.py in the container, where server paths mean the server's files."""
        (self.top / "client.py").write_bytes(PROGRAM.read_bytes())
        with closing(_packed(self.top / "client.py")) as archive:
            self.api.put_archive(self.name, "/tmp", archive)  # noqa: S108 - inside
        variables = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", "HOME": "/tmp"}  # noqa: S108
        made = self.api.exec_create(self.name, ["python", "/tmp/client.py", *words], environment=variables)  # noqa: S108
        said = self.api.exec_start(made["Id"]).decode()
        assert self.api.exec_inspect(made["Id"])["ExitCode"] == 0, said[-4000:]
        return dict(json.loads(said.splitlines()[-1]))

    def outside(self, *words: str) -> dict[str, Any]:
        """Run it as a client with a disk of its own."""
        home = self.top / "client"
        home.mkdir(exist_ok=True)
        around = {"PATH": os.environ["PATH"], "HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
        around |= {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.port}", "GIT_PYTHON_REFRESH": "quiet"}
        argv = [str(client_python()), str(PROGRAM), *words]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=home, env=around, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def team(engine: DockerEngine, engine_socket: str, image: Image) -> Iterator[Team]:
    top = Path(tempfile.mkdtemp(prefix="mlflowd-test-adopt-"))
    top.chmod(0o755)
    name = f"mlflowd-test-adopt-{uuid.uuid4().hex[:8]}"
    with closing(docker.APIClient(f"unix://{engine_socket}", version="1.41")) as api:
        yield Team(api, engine, image, top, name, free_port())
        for each in (name, f"{name}-before-mlflowd", f"{name}-new"):
            with suppress(docker.errors.NotFound):
                api.remove_container(each, force=True, v=True)
        with suppress(docker.errors.NotFound):
            api.remove_network(name)
    shutil.rmtree(top)


# --- the hot journal ------------------------------------------------------------------------------


def test_a_journal_inside_a_killed_container_saves_the_database(team: Team) -> None:
    database = team.top / "mlflow.db"
    database.touch(0o666)
    container = team.deploy(["python", "-c", _WRITER], {"mlflow.db": "/mlflow/mlflow.db"})
    team.says("hot")
    team.api.kill(container)
    original = database.read_bytes()
    naive = team.top / "naive.db"
    naive.write_bytes(original)
    assert lost(naive)  # the premise: without the journal there is damage
    found = team.engine.deployed(container)
    assert found is not None
    source = place("/mlflow/mlflow.db", "/", found.mounts)
    assert source.alone
    os.chown(team.top, WHO.uid, WHO.gid)
    said: list[str] = []
    rescued = rescue.rescue(team.engine, found, source, team.top / "whole" / "mlflow.db", WHO, said.append)
    assert rescued.beside == ("-journal (inside the container)",)
    assert not lost(rescued.path)
    assert database.read_bytes() == original
    assert rescued.path.stat().st_uid == WHO.uid


def test_a_database_that_lies_in_the_container_alone_comes_out_whole(team: Team) -> None:
    container = team.deploy(["python", "-c", _WRITER], {"data": "/data"})
    team.says("hot")
    team.api.kill(container)
    found = team.engine.deployed(container)
    assert found is not None
    source = place("/mlflow/mlflow.db", "/", found.mounts)
    assert source.where is Where.INSIDE
    os.chown(team.top, WHO.uid, WHO.gid)
    rescued = rescue.rescue(team.engine, found, source, team.top / "whole" / "x.db", WHO, lambda _: None)
    assert not lost(rescued.path)


def lost(path: Path) -> bool:
    """Whether what was committed is not there, or more than that."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            count = connection.execute("SELECT count(*), sum(text = 'torn') FROM kept").fetchone()
            return not sound or count != (5000, 0)
    except sqlite3.Error:
        return True


# --- server paths ---------------------------------------------------------------------------------


class Unit(FakeService):
    """Stands in for mlflowd's unit: starts the container that the daemon would make."""

    def __init__(self, engine: DockerEngine, made: ContainerSpec) -> None:
        super().__init__(engine)
        self.made = made

    def start(self) -> None:
        self.runs = self.boots = True
        self.engine.start(self.engine.create(self.made))


@dataclass
class Adopting:
    """What `mlflowd adopt` has in its hands."""

    team: Team
    plan: Plan
    settings: Settings
    work: carry_out.Work
    unit: Unit

    def run(self) -> None:
        carry_out.begin(self.work)
        carry_out.carry_out(self.work)
        carry_out.start(self.work, self.settings.container.name)
        proof.await_serving(self.settings, SERVE, lambda: "", lambda _: None)


def adopting(team: Team, choice: Choice = Choice.MOVE) -> Adopting:
    state = team.top / "state"
    state.mkdir()
    (state / "state").mkdir()
    for each in (state, state / "state"):
        os.chown(each, WHO.uid, WHO.gid)
    found = deployed.find(team.engine, team.name)
    deployment = understand(found, deployed.facts(team.engine, found))
    made = plan(deployment, counts.count(deployment, team.engine), choice, rewrite=True, state=state)
    local = {"container": {"name": f"{team.name}-new", "network": team.name, "memory": "2G"}}
    settings = Settings.layered({**made.settings, **local})
    able = abilities.parse(team.engine.ask(team.image.id, abilities.QUESTION, 60), "the test's image")
    spec = command.container_spec(settings, team.image, able, Machine(WHO.uid, WHO.gid), Secrets())
    unit = Unit(team.engine, spec)
    tools = Tools(team.engine, state, WHO, unit, lambda _: None, lambda: spec)
    work = carry_out.Work("20261120T210000Z", made, team.top / "mlflowd.toml", tools, lambda _: None)
    return Adopting(team, made, settings, work, unit)


def plain(team: Team) -> None:
    """What most guides show."""
    (team.top / "mlflow.db").touch()
    (team.top / "mlflow.db").chmod(0o666)
    (team.top / "mlruns").mkdir()
    (team.top / "mlruns").chmod(0o777)
    server = ["mlflow", "server", "--backend-store-uri", "sqlite:////mlflow/mlflow.db", "--host", "0.0.0.0"]  # noqa: S104
    team.deploy(
        [*server, "--default-artifact-root", "/mlflow/mlruns", "--workers", "1"],
        {"mlflow.db": "/mlflow/mlflow.db", "mlruns": "/mlflow/mlruns"},
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )
    team.serves()


def test_what_lay_at_server_paths_reaches_every_client(team: Team) -> None:
    plain(team)
    team.inside("fill", "/mlflow/mlruns")
    before = team.inside("tell")
    it = adopting(team)
    it.run()
    seen = proof.prove(it.settings, Secrets(), it.plan.counts, lambda _: None)
    assert (seen.experiments, seen.runs) == (len(before["experiments"]), len(before["runs"]))
    assert seen.sampled > 0
    after = team.outside("tell")
    for kind, told in before.items():
        if kind != "locations":
            assert after[kind] == told, kind
    everywhere = [each for kind in after["locations"].values() for each in kind]
    assert [each for each in everywhere if not each.startswith("mlflow-artifacts:/")] == []
    written = team.outside("more", "forecasts", "brand new")
    assert all(each["artifact"] and each["model"] for each in written.values())


def test_a_new_server_that_fails_its_proof_leaves_the_old_one_as_it_was(team: Team) -> None:
    plain(team)
    team.inside("fill", "/mlflow/mlruns")
    before = team.inside("tell")
    it = adopting(team)
    files = tree(team.top)
    it.run()
    undo(it.work.tools)
    assert tree(team.top) == files
    team.serves()
    assert team.inside("tell") == before
    assert team.engine.deployed(f"{team.name}-new") is None


def tree(top: Path) -> dict[str, object]:
    """Return owners, modes and checksums of all that the team has."""
    names = [each for each in sorted(top.rglob("*")) if each.relative_to(top).parts[0] in {"mlflow.db", "mlruns"}]
    return {str(each): look(each) for each in names}


def test_rows_are_rewritten_inside_the_image_and_back_again(team: Team) -> None:
    """As it is done to a database server: by SQLAlchemy, the former values on the disk before the transaction ends."""
    backend, rows = team.top / "backend", team.top / "rows"
    for each in (backend, rows):
        each.mkdir()
        each.chmod(0o777)  # the engine's idea of a user's id may be another
    build(backend / "mlflow.db")
    for each in (backend, rows, backend / "mlflow.db"):
        os.chown(each, WHO.uid, WHO.gid)
    able = abilities.parse(team.engine.ask(team.image.id, abilities.QUESTION, 60), "the test's image")
    settings = Settings.layered(
        {"backend_store": {"uri": f"sqlite:///{backend}/mlflow.db"}, "container": {"network": team.name}}
    )
    spec = command.container_spec(settings, team.image, able, Machine(WHO.uid, WHO.gid), Secrets())
    spec = replace(spec, mounts=tuple(each for each in spec.mounts if each.source == str(backend)))
    before = dump(backend / "mlflow.db")
    counted = relocate.of_server(team.engine, spec, ((ROOT, "mlflow-artifacts:"),), rows, WHO)
    assert sum(counted.values()) == 8
    assert [line for line in dump(backend / "mlflow.db") if ROOT in line and "'note'" not in line] == []
    assert relocate.back(team.engine, spec, rows, WHO) == counted
    assert dump(backend / "mlflow.db") == before


_TABLES = (
    "CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, artifact_location TEXT)",
    f"INSERT INTO experiments VALUES (0, '{ROOT}/0'), (1, '{ROOT}/1'), (2, 'mlflow-artifacts:/2')",  # noqa: S608 - constants of this file
    "CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, artifact_uri TEXT)",
    f"INSERT INTO runs VALUES ('aa', '{ROOT}/1/aa/artifacts'), ('bb', 'file://{ROOT}/1/bb/artifacts')",  # noqa: S608 - constants of this file
    'CREATE TABLE trace_tags (request_id TEXT, "key" TEXT, "value" TEXT, PRIMARY KEY (request_id, "key"))',
    f"INSERT INTO trace_tags VALUES ('t', 'mlflow.artifactLocation', '{ROOT}/1/traces/t'), ('t', 'note', '{ROOT}/1')",  # noqa: S608 - constants of this file
)


def test_rows_of_postgresql_are_rewritten_and_back_again(team: Team, image_with: Any) -> None:
    image = image_with("PyMySQL[rsa]", "psycopg2-binary")
    rows = team.top / "rows"
    rows.mkdir()
    os.chown(rows, WHO.uid, WHO.gid)
    here = str(team.api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"])
    with running_postgres((here,)) as server:
        for statement in (*_TABLES, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {server.user}"):
            server.sql(statement, server.database)

        def told() -> list[str]:
            ordered = ("experiments ORDER BY 1", "runs ORDER BY 1", "trace_tags ORDER BY 2")
            return [server.sql(f"SELECT * FROM {each}", server.database) for each in ordered]  # noqa: S608 - constants of this file

        settings = Settings.layered(
            {"backend_store": {"uri": server.uri_without_password}, "container": {"network": team.name}}
        )
        able = abilities.parse(team.engine.ask(image.id, abilities.QUESTION, 60), "the test's image")
        secrets = Secrets({"backend_store.password": server.password})
        machine = Machine(WHO.uid, WHO.gid, private=str(team.top / "private"))
        spec = replace(command.container_spec(settings, image, able, machine, secrets), mounts=())
        before = told()
        counted = relocate.of_server(team.engine, spec, ((ROOT, "mlflow-artifacts:"),), rows, WHO)
        assert counted == {"experiments.artifact_location": 2, "runs.artifact_uri": 2, "trace_tags.value": 1}
        assert told()[1].splitlines() == ["aa|mlflow-artifacts:/1/aa/artifacts", "bb|mlflow-artifacts:/1/bb/artifacts"]
        assert relocate.back(team.engine, spec, rows, WHO) == counted
        assert told() == before


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


# --- the file store -------------------------------------------------------------------------------

_FILES = """
import mlflow
client = mlflow.MlflowClient()
number = client.create_experiment("old")
for index in range(3):
    run = client.create_run(number)
    client.log_metric(run.info.run_id, "loss", index)
    client.log_text(run.info.run_id, f"run {index}", "note.txt")
    client.set_terminated(run.info.run_id)
print("written", flush=True)
"""


def test_a_file_store_becomes_a_database(team: Team) -> None:
    (team.top / "mlruns").mkdir(mode=0o700)
    team.deploy(
        ["sh", "-c", 'python -c "$FILES" && exec sleep 600'],
        {"mlruns": "/mlflow/mlruns"},
        MLFLOW_TRACKING_URI="file:///mlflow/mlruns",
        MLFLOW_ALLOW_FILE_STORE="true",
        FILES=_FILES,
    )
    team.says("written")
    home = next(each for each in (team.top / "mlruns").iterdir() if filestore.location(each) and each.name != "0")
    assert filestore.location(home) == f"file:///mlflow/mlruns/{home.name}"
    for path in [team.top, team.top / "mlruns", *(team.top / "mlruns").rglob("*")]:
        os.chown(path, WHO.uid, WHO.gid)
    able = abilities.parse(team.engine.ask(team.image.id, abilities.QUESTION, 60), "the test's image")
    (team.top / "new").mkdir()
    os.chown(team.top / "new", WHO.uid, WHO.gid)
    target = team.top / "new" / "mlflow.db"
    settings = Settings.layered({"container": {"network": team.name}})
    spec = command.container_spec(settings, team.image, able, Machine(WHO.uid, WHO.gid), Secrets())
    filestore.migrate(team.engine, spec, team.top / "mlruns", target, WHO)
    relocated = relocate.of_file(target, (("/mlflow/mlruns", "mlflow-artifacts:"),), WHO)
    assert relocated["runs.artifact_uri"] == 3
    with closing(sqlite3.connect(target)) as connection:
        rows = connection.execute("SELECT artifact_uri FROM runs").fetchall()
        assert connection.execute("SELECT count(*) FROM metrics").fetchone() == (3,)
    assert all(row[0].startswith(f"mlflow-artifacts:/{home.name}/") for row in rows)


def _packed(path: Path) -> Any:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(path, path.name)
    archive.seek(0)
    return archive
