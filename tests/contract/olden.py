"""Servers of two releases on the same stores, for the tests of upgrades: the data are made by the older one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.test_server import UID, Server, free_port
from mlflowd.config import Settings
from mlflowd.host.paths import Identity
from mlflowd.model import Secrets
from mlflowd.operations.copies import Databases
from mlflowd.server import abilities, command
from mlflowd.server.call import Call
from mlflowd.server.wiring import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.engine.docker import DockerEngine
    from mlflowd.model import Image

_API = "/api/2.0/mlflow"
WHO = Identity(UID, UID, "mlflowd-test")


@dataclass(frozen=True)
class Stores:
    """A backend store and an artifact store, and servers on them."""

    engine: DockerEngine
    place: Path
    settings: Settings
    secrets: Secrets

    @property
    def database(self) -> Path:
        return self.place / "backend" / "mlflow.db"

    @property
    def databases(self) -> Databases:
        return Databases(self.settings, self.secrets, self.place, WHO)

    def server(self, image: Image) -> Server:
        """Describe a server of this image; it is not made yet."""
        able = abilities.parse(self.engine.ask(image.id, abilities.QUESTION, 60.0), image.references[0])
        machine = Machine(UID, UID, state=str(self.place), private=str(self.place / "private"))
        return Server(self.engine, command.container_spec(self.settings, image, able, machine, self.secrets))

    @contextmanager
    def serving(self, image: Image) -> Iterator[Server]:
        server = self.server(image)
        try:
            server.start()
            server.serve()
            yield server
        finally:
            if server.container_id:
                self.engine.stop(server.container_id, 10)
                self.engine.remove(server.container_id)


@contextmanager
def stores(
    engine: DockerEngine, network: str, like: Path | None = None, uri: str = "", password: str = ""
) -> Iterator[Stores]:
    """Make empty stores, or with the database of `like`; removed in the end. `uri`, `password`: of a database server.

    WHO may not pass pytest's directory.
    """
    place = Path(tempfile.mkdtemp(prefix="mlflowd-test-"))
    for directory in (place, *(place / name for name in ("backend", "artifacts", "state"))):
        directory.mkdir(exist_ok=True)
        os.chown(directory, UID, UID)
    if like is not None:
        shutil.copyfile(like, place / "backend" / "mlflow.db")
        os.chown(place / "backend" / "mlflow.db", UID, UID)
    server = {"uri": uri, "password": "env:TEST"}
    settings = Settings(
        backend_store=server if uri else {"uri": f"sqlite:///{place}/backend/mlflow.db"},
        artifact_store={"uri": str(place / "artifacts")},
        container={"name": f"mlflowd-test-{uuid.uuid4().hex[:8]}", "network": network, "memory": "4G"},
        server={"listen": f"127.0.0.1:{free_port()}", "workers": 1},
    )
    try:
        yield Stores(engine, place, settings, Secrets({"backend_store.password": password} if uri else {}))
    finally:
        shutil.rmtree(place)


def ask(server: Server, path: str, message: dict[str, Any]) -> dict[str, Any]:
    """POST to the server's API and return its answer."""
    return _told(Call(server.address, 60).send("POST", f"{_API}/{path}", json.dumps(message).encode(), limit=1 << 24))


def fill(server: Server) -> None:
    """Log two runs in an experiment of their own, one of them RUNNING, and register a model."""
    experiment = ask(server, "experiments/create", {"name": "before"})["experiment_id"]
    now = int(time.time() * 1000)
    for name, steps in (("finished", 50), ("running", 10)):
        run = ask(server, "runs/create", {"experiment_id": experiment, "run_name": name, "start_time": 1})
        run_id = run["run"]["info"]["run_id"]
        metrics = [{"key": "loss", "value": 1 / (step + 1), "timestamp": now, "step": step} for step in range(steps)]
        params = [{"key": "rate", "value": "0.1"}]
        ask(server, "runs/log-batch", {"run_id": run_id, "metrics": metrics, "params": params})
        if name == "finished":
            ask(server, "runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": now})
    ask(server, "registered-models/create", {"name": "model"})


def content(server: Server) -> list[tuple[Any, ...]]:
    """Return what was logged, in an order of its own."""
    experiments = ask(server, "experiments/search", {"max_results": 100})["experiments"]
    ids = [each["experiment_id"] for each in experiments]
    runs = ask(server, "runs/search", {"experiment_ids": ids, "max_results": 100})["runs"]
    told = [
        (run["info"]["run_name"], run["info"]["status"], run["data"]["metrics"], run["data"]["params"]) for run in runs
    ]
    listed = Call(server.address, 60).send("GET", f"{_API}/registered-models/search")
    models = [(model["name"],) for model in _told(listed)["registered_models"]]
    return [*sorted(told, key=lambda each: str(each[0])), *models]


def _told(answer: tuple[int, bytes]) -> dict[str, Any]:
    status, body = answer
    assert status == HTTPStatus.OK, body
    told: dict[str, Any] = json.loads(body)
    return told
