from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from fakes import databases
from fakes.engine import FakeEngine
from mlflowd.config import Settings
from mlflowd.errors import EngineError, ExitStatus, RefusedError
from mlflowd.model import ContainerSpec, Create, Image, Phase, Replace, Secrets, Start
from mlflowd.operations.transaction import Kind, Ledger
from mlflowd.supervisor.doorkeeper import Doorkeeper
from mlflowd.supervisor.effects import Effects
from mlflowd.supervisor.place import Place
from mlflowd.supervisor.wish import Wish

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity

REFERENCE = "ghcr.io/mlflow/mlflow:v3.17.2"
REASON = "a test wants it"
SAID = {
    "wrong password": 'OperationalError: FATAL: password authentication failed for user "mlflow"',
    "database away": 'OperationalError: connection to server at "db1", port 5432 failed: Connection refused',
}
SECRET = "geheim-4711"  # noqa: S105 - what must not be told


class Hands:
    """The effects of one configuration, on a fake engine."""

    def __init__(self, ground: Path, who: Identity, **sections: Any) -> None:
        for name in ("state", "runtime"):
            (ground / name).mkdir(exist_ok=True)
        (ground / "state" / "state").mkdir(exist_ok=True)
        local: dict[str, Any] = {
            "backend_store": {"uri": f"sqlite:///{ground}/backend/mlflow.db"},
            "artifact_store": {"uri": f"{ground}/artifacts"},
            "disk": {"warn": "0", "critical": "0", "require_free": "0"},
            "server": {"listen": "127.0.0.1:47613"},
        }
        self.engine = FakeEngine()
        self.engine.add_image(Image("sha256:0", (REFERENCE,), {}))
        packages = {"mlflow": "3.17.2", "psycopg2-binary": "2.9.13", "boto3": "1.44"}
        known = {"revisions": ["1b5f0d9ad7c1", databases.REVISION], "heads": [databases.REVISION]}
        self.engine.answer = json.dumps({"python": "3.13.5", "packages": packages, "purelib": "/usr/lib", **known})
        place = Place(self.engine, ground / "state", ground / "runtime", who)
        settings = Settings.model_validate({**local, **sections})
        secrets = Secrets({"backend_store.password": SECRET})
        self.wish = wish = Wish(settings, secrets, place)
        wish.fetch(print)
        spec = wish.desired().spec
        assert spec
        self.spec: ContainerSpec = spec
        self.effects = Effects(wish, place, Doorkeeper(settings, place, secrets), secrets)
        self.engine.calls.clear()

    def answer(self, key: str) -> None:
        told = {"kind": "error", "said": SAID[key], "step": "login", "seconds": 0.1}
        self.engine.stores = json.dumps({"backend": told})

    def create(self) -> None:
        self.effects.apply(Create(Phase.ABSENT, REASON, self.spec), print)

    def replace(self) -> str:
        running = self.engine.foreign("before")
        self.engine.start(running)
        self.engine.calls.clear()
        self.effects.apply(Replace(Phase.SERVING, REASON, running, self.spec, 1.0), print)
        return running


REMOTE = {"backend_store": {"uri": "postgresql://mlflow@db1/mlflow"}}
OK = json.dumps({"backend": {"kind": "ok", "said": "", "step": "look", "seconds": 0.1}})


def test_wrong_password_is_refused_before_anything_is_touched(ground: Path, who: Identity) -> None:
    hands = Hands(ground, who, **REMOTE)
    hands.answer("wrong password")
    with pytest.raises(RefusedError, match="refuses the password of the user mlflow") as caught:
        hands.create()
    assert caught.value.exit_status is ExitStatus.REFUSED
    assert SECRET not in str(caught.value)
    assert "create" not in hands.engine.calls
    hands.engine.calls.clear()
    with pytest.raises(RefusedError):
        hands.replace()
    assert "stop" not in hands.engine.calls


def test_a_database_that_is_away_is_waited_for_and_the_old_server_goes_on(ground: Path, who: Identity) -> None:
    hands = Hands(ground, who, **REMOTE)
    hands.answer("database away")
    for attempt in (hands.create, hands.replace):
        with pytest.raises(EngineError, match="db1:5432 refuses connections") as caught:
            attempt()
        assert caught.value.exit_status is ExitStatus.FAILURE
        assert not {"create", "stop"} & {*hands.engine.calls}


def test_a_replacement_is_tried_once_and_before_the_stop(ground: Path, who: Identity) -> None:
    hands = Hands(ground, who, **REMOTE)
    hands.engine.stores = OK
    hands.replace()
    assert hands.engine.calls.count("ask") == 1
    assert hands.engine.calls.index("ask") < hands.engine.calls.index("stop") < hands.engine.calls.index("create")


def test_nothing_is_made_for_a_daemon_that_is_to_stop_while_it_tries_the_stores(ground: Path, who: Identity) -> None:
    hands = Hands(ground, who, **REMOTE)
    hands.engine.stores = OK
    hands.effects.leave()
    hands.create()
    hands.replace()
    assert "ask" in hands.engine.calls
    assert not {"create", "stop"} & {*hands.engine.calls}


def test_a_server_that_ended_is_started_without_asking(ground: Path, who: Identity) -> None:
    hands = Hands(ground, who, **REMOTE)
    hands.engine.stores = OK
    hands.create()
    container = hands.engine.inspect(hands.spec.name)
    assert container
    hands.engine.exit(container.id, 1)
    hands.engine.calls.clear()
    hands.effects.apply(Start(Phase.EXITED, REASON, container.id), print)
    assert "ask" not in hands.engine.calls


def test_stores_of_this_machine_are_not_asked(ground: Path, who: Identity) -> None:
    hands = Hands(ground, who)
    hands.create()
    assert "ask" not in hands.engine.calls


def test_an_older_schema_is_migrated_or_put_back_and_not_tried_twice(ground: Path, who: Identity) -> None:
    hands = Hands(ground, who, upgrade={"gate_timeout": "100ms"})
    path = databases.make(ground / "backend" / "mlflow.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '1b5f0d9ad7c1'")
    hands.create()  # nothing serves on this engine, so that the new server does not pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("1b5f0d9ad7c1",)
    (outcome,) = Ledger(ground / "state", who).outcomes()
    assert (outcome.ok, outcome.kind) == (False, Kind.UPGRADE)
    hands.wish.find()  # as the loop does
    hands.engine.calls.clear()
    with pytest.raises(RefusedError, match="It was undone"):
        hands.create()
    assert not {"create", "stop"} & {*hands.engine.calls}


def test_a_container_that_is_there_is_not_started_on_a_schema_that_its_mlflow_does_not_know(
    ground: Path, who: Identity
) -> None:
    hands = Hands(ground, who)
    path = databases.make(ground / "backend" / "mlflow.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    there = hands.engine.foreign("before")
    with pytest.raises(RefusedError, match=r"revision f{12}, which MLflow 3\.17\.2 does not know"):
        hands.effects.apply(Start(Phase.EXITED, REASON, there), print)
    assert "start" not in hands.engine.calls
