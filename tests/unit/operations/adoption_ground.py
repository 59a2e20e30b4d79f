"""A deployment as most guides show it, on temp directories and the fake engine, and what it looks like from outside."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fakes.engine import FakeEngine
from mlflowd.host.service import Service
from mlflowd.model import Address, ContainerSpec, Image
from mlflowd.model.deployed import Attachment, Deployed, MountKind, Publication
from mlflowd.operations.adoption import carry_out
from mlflowd.operations.adoption.counts import Counts
from mlflowd.operations.adoption.deployment import Deployment, NewSecret, Place, Where
from mlflowd.operations.adoption.plan import Choice, Do, Plan, Step
from mlflowd.operations.adoption.undo import Tools
from mlflowd.server.abilities import Abilities

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflowd.engine.api import Engine
    from mlflowd.host.paths import Identity

INSIDE = "/mlflow/mlflow.db"
ROOT = "/mlflow/mlruns"
IMAGE = "sha256:" + "ab" * 32
SETTINGS = {"server": {"listen": "127.0.0.1:5000"}, "image": {"reference": "example/mlflow:v1"}}


ABLE = Abilities("3.17.2", "3.13", uvloop=True, httptools=True, packages=frozenset({"mlflow"}))
SPEC = ContainerSpec(
    *(0, "mlflowd", "example/mlflow:v1", IMAGE, ("mlflow", "server"), (), "1:1", ()),
    *(Address("127.0.0.1", 5000), 5000, "mlflowd", None, 256, 1 << 20, 1 << 20, 30.0),
)


class FakeService(Service):
    """A unit in memory."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.runs = False
        self.boots = False
        self.done: list[str] = []

    @property
    def there(self) -> bool:
        return True

    @property
    def active(self) -> bool:
        return self.runs

    @property
    def failed(self) -> bool:
        return not self.runs

    @property
    def enabled(self) -> bool:
        return self.boots

    def served(self, container_id: str) -> bool:
        del container_id
        return True

    def start(self) -> None:
        """Start what mlflowd would: a container of its own."""
        self.done.append("start")
        self.runs = self.boots = True
        self.engine.start(self.engine.create(SPEC))

    def restart(self) -> None:
        self.done.append("restart")
        self.runs = True

    def stop(self) -> None:
        self.done.append("stop")
        self.runs = False

    def disable(self) -> None:
        self.boots = False


@dataclass
class Ground:
    """One machine."""

    top: Path
    who: Identity
    engine: FakeEngine = field(default_factory=FakeEngine)
    said: list[str] = field(default_factory=list)
    container: str = ""

    def __post_init__(self) -> None:
        self.service = FakeService(self.engine)

    @property
    def project(self) -> Path:
        return self.top / "project"

    @property
    def state(self) -> Path:
        return self.top / "state"

    @property
    def etc(self) -> Path:
        return self.top / "etc"

    @property
    def config(self) -> Path:
        return self.etc / "mlflowd.toml"

    def tools(self) -> Tools:
        return Tools(self.engine, self.state, self.who, self.service, self.said.append, self.spec)

    def spec(self) -> ContainerSpec:
        raise AssertionError("not asked for")

    def deployed(self) -> Deployed:
        found = self.engine.deployed(self.container)
        assert found is not None
        return found

    def work(self, plan: Plan) -> carry_out.Work:
        return carry_out.Work("20261120T210000Z", plan, self.config, self.tools(), lambda _: None)

    def plan(self, *, reference: bool = False, rewrite: bool = True) -> Plan:
        """Return a plan as plan.py makes them for this deployment."""
        artifacts = self.project / "mlruns" if reference else self.state / "artifacts"
        database = self.project / "data" / "mlflow.db" if reference else self.state / "backend" / "mlflow.db"
        mount = Attachment(MountKind.BIND, str(self.project / "mlflow.db"), INSIDE)
        source = Place(PurePosixPath(INSIDE), Where.HOST, self.project / "mlflow.db", mount)
        if reference:
            mount = Attachment(MountKind.BIND, str(database.parent), "/mlflow/data")
            source = Place(PurePosixPath("/mlflow/data/mlflow.db"), Where.HOST, database, mount)
        runs = Place(PurePosixPath(ROOT), Where.HOST, self.project / "mlruns")
        secret = NewSecret("server.secrets.TOKEN", self.etc / "mlflowd" / "token", "s3cret")
        deployment = Deployment(self.deployed(), ABLE, SETTINGS, (secret,), database=source, root=runs)
        steps = [
            Step(Do.STOP, "stop the container", "start it"),
            Step(Do.RETIRE, "rename the container", "rename it back"),
            Step(Do.SAVE, "save the database", "nothing"),
            Step(Do.DATABASE, "bring the database", "remove the copy", source, database),
            Step(Do.ARTIFACTS, "bring the artifacts", "bring them back", runs, artifacts),
            Step(Do.REWRITE, "rewrite", "drop the copy", prefixes=((ROOT, "mlflow-artifacts:"),)),
            Step(Do.OWN, "give", "give back", paths=(database.parent, artifacts)),
            Step(Do.CONFIGURE, "configure", "put the old file back"),
            Step(Do.START, "start mlflowd", "stop it"),
        ]
        steps = [step for step in steps if rewrite or step.do is not Do.REWRITE]
        choice = Choice.REFERENCE if reference else Choice.MOVE
        return Plan(deployment, Counts(), choice, rewrite, SETTINGS, database, artifacts, tuple(steps), ())

    def looks(self) -> Mapping[str, object]:
        """Return all that must be as it was after an undo: files, owners, modes, links, containers, unit."""
        tree = {str(path): look(path) for path in sorted([self.top, *self.top.rglob("*")])}
        names = self.engine.deployments()
        old = self.deployed()
        return {
            **{path: look for path, look in tree.items() if not path.endswith("/state/state")},
            "containers": names,
            "old": (old.name, old.restart_policy, old.up),
            "service": (self.service.runs, self.service.boots),
        }


def ground(top: Path, who: Identity) -> Ground:
    """Make the deployment: the database file mounted alone, a hot journal inside, modes 666 and 777, a server path."""
    made = Ground(top, who)
    for each in (made.project, made.state, made.etc, made.state / "state"):
        each.mkdir()
        each.chmod(0o755)
    for each in (made.state, made.state / "state"):
        os.chown(each, who.uid, who.gid)
    made.config.write_text("# the former one\n")
    database = made.project / "mlflow.db"
    build(database)
    artifacts(made.project / "mlruns")
    made.engine.add_image(Image(IMAGE, ("example/mlflow:v1",), {}))
    made.container = made.engine.deploy(_container(made))
    made.engine.start(made.container)
    journal = heat(database)
    made.engine.inside[made.container, f"{INSIDE}-journal"] = journal
    data = made.project / "data"
    data.mkdir()
    shutil.copy(database, data / "mlflow.db")
    (data / "mlflow.db-journal").write_bytes(journal)
    for path in (database, data / "mlflow.db"):
        path.chmod(0o666)
    for path in (made.project / "mlruns", data):
        path.chmod(0o777)
    return made


def build(path: Path) -> None:
    """Make a database as MLflow has it, as far as adopting looks at it."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            f"""
            CREATE TABLE alembic_version (version_num TEXT);
            INSERT INTO alembic_version VALUES ('dc11669786a5');
            CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT, artifact_location TEXT,
                                      lifecycle_stage TEXT, creation_time INTEGER);
            INSERT INTO experiments VALUES (0, 'Default', '{ROOT}/0', 'active', 1), (1, 'one', '{ROOT}/1', 'active', 2),
                                           (2, 'new', 'mlflow-artifacts:/2', 'active', 3);
            CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, artifact_uri TEXT, experiment_id INTEGER, status TEXT);
            INSERT INTO runs VALUES ('aa', '{ROOT}/1/aa/artifacts', 1, 'FINISHED'),
                                    ('bb', 'file://{ROOT}/1/bb/artifacts', 1, 'FINISHED'),
                                    ('cc', 'mlflow-artifacts:/2/cc/artifacts', 2, 'FINISHED');
            CREATE TABLE logged_models (model_id TEXT PRIMARY KEY, artifact_location TEXT);
            INSERT INTO logged_models VALUES ('m-1', '{ROOT}/1/models/m-1/artifacts');
            CREATE TABLE model_versions (name TEXT, version INTEGER, source TEXT, storage_location TEXT,
                                         PRIMARY KEY (name, version));
            INSERT INTO model_versions VALUES ('m', 1, 'models:/m-1', '{ROOT}/1/models/m-1/artifacts'),
                                              ('m', 2, 'file:{ROOT}/1/aa/artifacts/model', NULL);
            CREATE TABLE trace_tags (request_id TEXT, key TEXT, value TEXT, PRIMARY KEY (request_id, key));
            INSERT INTO trace_tags VALUES ('tr-1', 'mlflow.artifactLocation', '{ROOT}/1/traces/tr-1/artifacts'),
                                          ('tr-1', 'note', '{ROOT}/1 is where it was');
            CREATE TABLE filler (id INTEGER PRIMARY KEY, text TEXT);
            """  # noqa: S608 - constants of this file
        )
        connection.executemany("INSERT INTO filler (text) VALUES (?)", [("x" * 500,) for _ in range(400)])
    connection.close()


def heat(path: Path) -> bytes:
    """Let a writer die in mid-transaction: the file keeps half of it. Return the journal, taken from beside it."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("PRAGMA cache_spill = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE filler SET text = 'torn' || text")
        connection.execute("UPDATE experiments SET name = 'torn'")
        os.write(writer, b"x")
        os.kill(os.getpid(), 9)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    os.waitpid(child, 0)
    beside = path.with_name(path.name + "-journal")
    journal = beside.read_bytes()
    assert len(journal) > 512
    beside.unlink()
    return journal


def artifacts(top: Path) -> None:
    """Make artifacts of runs and models, with a link and a file of two names among them."""
    for name, content in {
        "1/aa/artifacts/plot.png": b"\x89PNG" * 100,
        "1/aa/artifacts/model/MLmodel": b"artifact_path: model",
        "1/bb/artifacts/data.bin": os.urandom(5000),
        "1/models/m-1/artifacts/MLmodel": b"model: 1",
        ".trash/9/gone": b"deleted",
    }.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    (top / "1/aa/artifacts/latest").symlink_to("plot.png")
    os.link(top / "1/aa/artifacts/plot.png", top / "1/aa/artifacts/same.png")
    os.chown(top / "1/bb", 1234, 1234)


def _container(made: Ground) -> Deployed:
    return Deployed(
        "",
        "tracking",
        "example/mlflow:v1",
        IMAGE,
        command=("mlflow", "server", "--default-artifact-root", ROOT),
        mounts=(
            Attachment(MountKind.BIND, str(made.project / "mlflow.db"), INSIDE),
            Attachment(MountKind.BIND, str(made.project / "mlruns"), ROOT),
        ),
        published=(Publication(5000, Address("127.0.0.1", 5000)),),
        restart_policy="always",
    )


def look(path: Path) -> tuple[object, ...]:
    """Return what a file is, its mode and owner, and its content's checksum."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        what: object = str(path.readlink())
    elif stat.S_ISREG(status.st_mode):
        what = hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        what = ""
    return (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, what)
