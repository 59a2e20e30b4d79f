"""What we know of MLflow, held against a real MLflow in the container that mlflowd describes.

MLFLOWD_TEST_IMAGE names the image (with MLflow 3.17, uvloop, and no database drivers).
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlflowd.config import Settings
from mlflowd.errors import MlflowdError
from mlflowd.model import Address, ContainerSpec, ContainerStatus, Image
from mlflowd.server import abilities, active_runs, causes, command, gate, loglines, probe
from mlflowd.server.call import Call
from mlflowd.server.probe import Kind
from mlflowd.server.wiring import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.engine.docker import DockerEngine
    from mlflowd.model import Container, KnownCause
    from mlflowd.server.abilities import Abilities

pytestmark = pytest.mark.engine

UID = 1234
"""An ordinary user's: the server must do without any privilege."""
START_LIMIT = 120.0


@dataclass
class Server:
    """One container of the server, and where its stores lie."""

    engine: DockerEngine
    spec: ContainerSpec
    container_id: str = ""

    @property
    def address(self) -> Address:
        return self.spec.publish

    @property
    def database(self) -> Path:
        return Path(self.spec.mounts[0].source) / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        return Path(self.spec.mounts[1].source)

    def start(self) -> None:
        self.container_id = self.engine.create(self.spec)
        self.engine.start(self.container_id)

    def look(self) -> Container:
        container = self.engine.inspect(self.container_id)
        assert container is not None
        return container

    def serve(self) -> None:
        """Wait for the first answer."""
        end = time.monotonic() + START_LIMIT
        while not probe.health(self.address, 1).ok:
            assert self.look().status is ContainerStatus.RUNNING, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)

    def ended(self) -> Container:
        """Wait for the end."""
        end = time.monotonic() + START_LIMIT
        while (container := self.look()).status is not ContainerStatus.EXITED:
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)
        return container

    def log(self) -> list[loglines.Line]:
        return list(loglines.read_all(self.engine.logs(self.container_id, since=0, follow=False)))

    def cause(self) -> KnownCause | None:
        end = self.ended()
        lines = [line.text for line in self.log()]
        return causes.recognise(lines, end.exit_code, end.oom_killed, self.spec)


@dataclass(frozen=True)
class Host:
    """What every server of these tests runs on."""

    engine: DockerEngine
    image: Image
    able: Abilities
    network: str

    @contextmanager
    def server(self, place: Path, **sections: Any) -> Iterator[Server]:
        """Describe a server whose stores lie under `place`; what the test starts is removed in the end."""
        for store in ("backend", "artifacts"):
            (place / store).mkdir(exist_ok=True)
            os.chown(place / store, UID, UID)
        settings = Settings(
            backend_store={"uri": f"sqlite:///{place}/backend/mlflow.db"},
            artifact_store={"uri": str(place / "artifacts")},
            container={"name": f"mlflowd-test-{uuid.uuid4().hex[:8]}", "network": self.network, "memory": "4G"},
            server={"listen": f"127.0.0.1:{free_port()}", **sections.pop("server", {})},
            **sections,
        )
        server = Server(self.engine, command.container_spec(settings, self.image, self.able, Machine(UID, UID)))
        try:
            yield server
        finally:
            if server.container_id:
                self.engine.stop(server.container_id, 0)
                self.engine.remove(server.container_id)


@pytest.fixture(scope="module")
def host(engine: DockerEngine, image: Image, able: Abilities, network: str) -> Host:
    return Host(engine, image, able, network)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def serving(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers, with its access log on; its database is the model for those of the other tests.

    One worker: of two, the one that has not yet opened the database answers a locked one in another way.
    """
    place = tmp_path_factory.mktemp("serving")
    with host.server(place, server={"workers": 1}, log={"access": True}) as server:
        server.start()
        server.serve()
        yield server


@pytest.fixture
def stopped(serving: Server, host: Host, tmp_path: Path) -> Iterator[Server]:
    """A server that was not started yet, on a database of the current schema."""
    with host.server(tmp_path) as server:
        with closing(sqlite3.connect(serving.database)) as source, closing(sqlite3.connect(server.database)) as copy:
            source.backup(copy)
        os.chown(server.database, UID, UID)
        yield server


def with_environment(server: Server, **variables: str) -> None:
    values = dict(server.spec.environment) | variables
    server.spec = replace(server.spec, environment=tuple(sorted(values.items())))


# --- what serves --------------------------------------------------------------------------------


def test_the_image_tells_what_it_can_do(able: Abilities) -> None:
    assert able.mlflow.startswith("3.")
    assert able.uvloop
    assert {"mlflow", "sqlalchemy", "fastapi"} <= able.packages


def test_an_image_without_mlflow_says_so(engine: DockerEngine, image: Image) -> None:
    hidden = [*abilities.QUESTION[:2], f"import sys; sys.path = sys.path[:4]; {abilities.QUESTION[2]}"]
    with pytest.raises(MlflowdError, match="has no MLflow"):
        abilities.parse(engine.ask(image.id, hidden, 60), "img")


def test_a_server_in_the_described_container_passes_every_probe(serving: Server) -> None:
    assert probe.health(serving.address, 3).kind is Kind.OK
    assert probe.database(serving.address, 25).kind is Kind.OK
    assert probe.artifacts(serving.address, 25).kind is Kind.OK
    assert list((serving.artifacts / probe.PROBE_DIRECTORY).iterdir()) == []


def test_our_probes_leave_no_line_in_the_log(serving: Server) -> None:
    raw = list(serving.engine.logs(serving.container_id, since=0, follow=False))
    assert any(b"probe=mlflowd" in line for line in raw)
    assert not any("probe=mlflowd" in line.text for line in serving.log())
    assert any(line.text == "Application startup complete." for line in serving.log())


def test_every_file_of_the_database_lies_in_the_mounted_directory(serving: Server) -> None:
    assert serving.database.is_file()
    assert serving.database.stat().st_uid == UID


def test_an_artifact_store_that_may_not_be_written_to_is_seen(serving: Server) -> None:
    os.chown(serving.artifacts / probe.PROBE_DIRECTORY, 0, 0)
    try:
        answer = probe.artifacts(serving.address, 25)
    finally:
        os.chown(serving.artifacts / probe.PROBE_DIRECTORY, UID, UID)
    assert answer.kind is Kind.ERROR
    assert "takes nothing" in answer.sentence


def test_a_locked_database_is_busy_then_locked_and_health_says_nothing(serving: Server) -> None:
    assert probe.database(serving.address, 25).ok
    with closing(sqlite3.connect(serving.database, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        assert probe.health(serving.address, 3).ok
        assert probe.database(serving.address, 1).kind is Kind.TIMEOUT
        assert probe.database(serving.address, 45).kind is Kind.LOCKED
    assert probe.database(serving.address, 45).ok


# --- what is new has to pass the gate -----------------------------------------------------------


def asked(server: Server, path: str, message: dict[str, Any]) -> dict[str, Any]:
    """POST to the server's API."""
    status, body = Call(server.address, 60).send("POST", f"/api/2.0/mlflow/{path}", json.dumps(message).encode())
    assert status == 200, body
    told: dict[str, Any] = json.loads(body)
    return told


def gate_tags(server: Server) -> int:
    with closing(sqlite3.connect(server.database)) as database:
        (count,) = database.execute("SELECT count(*) FROM experiment_tags WHERE key = ?", [gate.TAG]).fetchone()
    return int(count)


def test_a_server_that_reads_and_writes_passes_the_gate_and_nothing_of_it_stays(serving: Server) -> None:
    answer = gate.try_out(serving.address, 60)
    assert (answer.kind, answer.sentence.partition(";")[0]) == (Kind.OK, "the database is read and written")
    assert gate_tags(serving) == 0
    assert list((serving.artifacts / probe.PROBE_DIRECTORY).iterdir()) == []


def test_a_server_whose_database_takes_no_changes_reads_and_does_not_pass(serving: Server) -> None:
    # The server's connections are those of before: SQLite looks at the file's mode when it opens the journal.
    os.chown(serving.database.parent, 0, 0)
    try:
        assert probe.health(serving.address, 3).ok
        assert probe.database(serving.address, 25).ok
        answer = gate.try_out(serving.address, 60)
    finally:
        os.chown(serving.database.parent, UID, UID)
    assert not answer.ok
    assert "tag of an experiment cannot be set" in answer.sentence
    assert gate.try_out(serving.address, 60).ok


def test_a_server_whose_database_is_locked_does_not_pass(serving: Server) -> None:
    with closing(sqlite3.connect(serving.database, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")  # reading goes on
        assert gate.try_out(serving.address, 2).kind is Kind.TIMEOUT
    # The server goes on with the request that was given up: the same tag twice at once is an error of MLflow's.
    assert any(gate.try_out(serving.address, 60).ok for _ in range(3))


def test_a_server_that_keeps_no_artifact_does_not_pass(serving: Server) -> None:
    os.chown(serving.artifacts / probe.PROBE_DIRECTORY, 0, 0)
    try:
        answer = gate.try_out(serving.address, 60)
        assert gate.try_out(serving.address, 60, proxied=False).ok
    finally:
        os.chown(serving.artifacts / probe.PROBE_DIRECTORY, UID, UID)
    assert (answer.kind, "takes nothing" in answer.sentence) == (Kind.ERROR, True)


def test_a_run_is_active_while_it_is_running_and_its_metrics_are_young(serving: Server) -> None:
    now = int(time.time() * 1000)
    runs = {}
    for name, metric, status in (("young", now, ""), ("old", now - 3_600_000, ""), ("over", now, "FINISHED")):
        wanted = {"experiment_id": "0", "run_name": name, "start_time": 1}
        runs[name] = asked(serving, "runs/create", wanted)["run"]["info"]["run_id"]
        asked(serving, "runs/log-metric", {"run_id": runs[name], "key": "loss", "value": 1, "timestamp": metric})
        if status:
            asked(serving, "runs/update", {"run_id": runs[name], "status": status})
    assert active_runs.active(serving.address, 60, 300) == (f"young ({runs['young']}) in Default",)
    assert len(active_runs.active(serving.address, 60, 7200)) == 2


# --- what ends ----------------------------------------------------------------------------------


def test_a_stop_is_graceful(stopped: Server) -> None:
    stopped.start()
    stopped.serve()
    began = time.monotonic()
    stopped.engine.stop(stopped.container_id, 20)
    assert time.monotonic() - began < 10
    assert stopped.look().exit_code == 0


def test_a_stop_in_the_first_moment_does_not_wait_for_the_grace(stopped: Server) -> None:
    stopped.start()
    began = time.monotonic()
    stopped.engine.stop(stopped.container_id, 20)
    assert time.monotonic() - began < 10


def test_the_schema_of_another_version_is_recognised(stopped: Server) -> None:
    with closing(sqlite3.connect(stopped.database)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'abcdef012345'")
    stopped.start()
    cause = stopped.cause()
    assert cause is not None
    assert cause.key == "schema-out-of-date"
    assert "revision abcdef012345" in cause.message
    assert not cause.curable


def test_garbage_instead_of_a_database_is_recognised(stopped: Server) -> None:
    stopped.database.write_bytes(os.urandom(1 << 16))
    stopped.start()
    cause = stopped.cause()
    assert cause is not None
    assert cause.key == "database-malformed"


@pytest.mark.parametrize("argument", ["--bogus", "bogus"])
def test_an_argument_that_mlflow_refuses_is_recognised_and_tried_again(stopped: Server, argument: str) -> None:
    stopped.spec = replace(stopped.spec, argv=(*stopped.spec.argv, argument))
    stopped.start()
    cause = stopped.cause()
    assert cause is not None
    assert (cause.key, cause.curable) == ("bad-argument", True)
    assert "bogus" in cause.message


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("postgresql+psycopg2://user:geheim@127.0.0.1/x", "driver-missing"),
        ("/mlflow/backend/mlruns", "file-store"),
    ],
)
def test_a_store_that_cannot_work_is_recognised(stopped: Server, uri: str, key: str) -> None:
    with_environment(stopped, MLFLOW_BACKEND_STORE_URI=uri)
    stopped.start()
    cause = stopped.cause()
    assert cause is not None
    assert cause.key == key
    assert "geheim" not in cause.message + cause.remedy


def test_too_little_memory_is_recognised(stopped: Server) -> None:
    stopped.spec = replace(stopped.spec, memory=100 * 2**20)
    stopped.start()
    cause = stopped.cause()
    assert cause is not None
    assert cause.key == "out-of-memory"
