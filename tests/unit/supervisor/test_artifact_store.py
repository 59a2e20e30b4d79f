"""How a remote artifact store is watched: when an object is written, when it is only listed, how an outage is told."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fakes.engine import FakeEngine
from fakes.web import web
from fakes.worlds import SPEC
from mlflowd.config import Settings
from mlflowd.host.paths import Identity
from mlflowd.model import Image, Layer, Secrets
from mlflowd.supervisor.artifact_store import ArtifactStore
from mlflowd.supervisor.doorkeeper import Doorkeeper
from mlflowd.supervisor.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

S3 = {"uri": "s3://models", "endpoint": "http://10.1.2.3:9000"}


class World:
    """A server that keeps objects, or fails with its store."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.away = False
        self.asked: list[str] = []
        self._objects: dict[str, bytes] = {}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        where, _, query = path.partition("?")
        self.asked.append("LIST" if "path=" in query else method)
        if self.away:
            self.engine.say("mlflowd", "botocore.exceptions.EndpointConnectionError: [Errno 111] Connection refused")
            return 500, b"Internal Server Error"
        if method == "PUT":
            self._objects[where] = body
        return 200, self._objects.get(where, b"{}")

    def drain(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


@contextmanager
def watched(**store: str) -> Iterator[tuple[World, ArtifactStore]]:
    engine = FakeEngine()
    engine.add_image(Image(SPEC.image_id, (SPEC.image,), {}))
    world = World(engine)
    with web(world.answer) as address:
        engine.start(engine.create(replace(SPEC, publish=address)))
        settings = Settings.model_validate({"server": {"listen": str(address)}, "artifact_store": store})
        place = Place(engine, Path("/x"), Path("/x"), Identity(1, 1, "x"))
        yield world, ArtifactStore(settings, place, Doorkeeper(settings, place, Secrets()))


def test_object_goes_through_once_and_is_then_only_listed() -> None:
    with watched(**S3) as (world, store):
        assert store.look() == ()
        assert world.drain() == ["PUT", "GET", "DELETE"]
        assert store.look() == ()
        assert world.drain() == ["LIST"]


def test_store_that_is_away_is_named_with_the_servers_own_reason() -> None:
    with watched(**S3) as (world, store):
        store.look()
        world.away = True
        (trouble,) = store.look()
        assert trouble.message == "the artifact store: nothing listens at http://10.1.2.3:9000"
        assert (trouble.layer, trouble.restart_cures) == (Layer.ARTIFACTS, False)
        assert store.look() == (trouble,)  # the same again, so that it is told once
        world.away = False
        assert store.look() == ()


def test_object_that_failed_is_tried_again_and_not_only_listed() -> None:
    with watched(**S3) as (world, store):
        world.away = True
        assert store.look()
        world.drain()
        world.away = False
        assert store.look() == ()
        assert world.drain() == ["PUT", "GET", "DELETE"]


def test_new_start_begins_with_an_object() -> None:
    with watched(**S3) as (world, store):
        store.look()
        store.rest()
        world.drain()
        store.look()
        assert world.drain() == ["PUT", "GET", "DELETE"]


def test_outage_of_a_remote_store_is_noticed_within_a_minute_and_its_end_sooner() -> None:
    with watched(**S3) as (_, store):
        check = store.check()
        assert check.interval + 25 < 60
        assert check.again == 10


def test_local_store_is_looked_at_seldom_and_soon_again_after_trouble() -> None:
    with watched(uri="/srv/ml/artifacts") as (world, store):
        check = store.check()
        assert (check.interval, check.again) == (900, 10)
        world.away = True
        (trouble,) = check.look()
        assert trouble.message.startswith("the artifact store takes nothing: status 500")
