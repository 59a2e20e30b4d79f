"""What the check of a server's database remembers of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from fakes.engine import FakeEngine
from fakes.web import web
from fakes.worlds import SPEC
from mlflowd.config import Settings
from mlflowd.model import Image, Layer, Secrets
from mlflowd.stores import fingerprint
from mlflowd.supervisor import checks
from mlflowd.supervisor.doorkeeper import Doorkeeper
from mlflowd.supervisor.place import Place

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity
    from mlflowd.model import Address
    from mlflowd.supervisor.watch import Check

URI = "postgresql://mlflow@db1/tracking"
OLDEST = {"experiment_id": "0", "creation_time": 1763660000123}


def database_check(address: Address, state: Path, who: Identity) -> Check:
    engine = FakeEngine()
    engine.add_image(Image(SPEC.image_id, (SPEC.image,), {}))
    engine.start(engine.create(replace(SPEC, publish=address)))
    settings = Settings.model_validate({"server": {"listen": str(address)}, "backend_store": {"uri": URI}})
    (state / "state").mkdir()
    place = Place(engine, state, state, who)
    found = checks.of_server(settings, place, Doorkeeper(settings, place, Secrets()))
    return next(check for check in found if check.name == "database")


def test_server_database_that_answers_is_remembered_once_for_each_start(tmp_path: Path, who: Identity) -> None:
    asked: list[bool] = []

    def reply(_: str, __: str, body: bytes) -> tuple[int, bytes]:
        asked.append("order_by" in json.loads(body))
        return 200, json.dumps({"experiments": [OLDEST]}).encode()

    with web(reply) as address:
        check = database_check(address, tmp_path, who)
        for _ in range(3):
            assert check.look() == ()
        assert asked.count(True) == 1
        check.rest()
        check.look()
        assert asked.count(True) == 2
    found = fingerprint.load(tmp_path)
    assert found is not None
    assert (found.place.path, found.database) == (URI, "0@1763660000123")


def test_server_database_that_is_away_is_degraded_and_not_remembered(tmp_path: Path, who: Identity) -> None:
    said = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "connection to server failed: timeout expired"}
    with web(lambda *_: (503, json.dumps(said).encode())) as address:
        check = database_check(address, tmp_path, who)
        (trouble,) = check.look()
    assert (trouble.layer, trouble.restart_cures) == (Layer.DATABASE, False)
    assert trouble.message == "the database: db1:5432 does not answer the server"
    assert check.again is not None
    assert check.again < check.interval
    assert fingerprint.load(tmp_path) is None
