"""Upgrades that are cut short at every point: whatever was half done is finished or reverted, and nothing is lost.

`_Cut` counts what a transaction does to the world (each call of the engine, each word in the ledger, each file that is
put in its place) and ends the daemon before or after one of them, as SIGKILL would: no handler of Exception sees it.
Then a new daemon comes, knowing nothing but the files and the engine.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from fakes import databases
from fakes.engine import FakeEngine
from fakes.web import web
from mlflowd.config import Settings
from mlflowd.errors import EngineError
from mlflowd.model import ContainerSpec, Image, Phase, Rehearse, Secrets, Settle, Upgrade
from mlflowd.operations import aside
from mlflowd.operations.copies import Databases
from mlflowd.operations.images_kept import ImagesKept, Served
from mlflowd.operations.transaction import Ledger
from mlflowd.server.abilities import Abilities
from mlflowd.supervisor import steps
from mlflowd.supervisor.doorkeeper import Doorkeeper
from mlflowd.supervisor.effects import Effects
from mlflowd.supervisor.place import Place
from mlflowd.supervisor.wish import Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflowd.host.paths import Identity
    from mlflowd.model import Address

OLD, NEW = "registry/mlflow:v3.10.1", "registry/mlflow:v3.17.2"
OLD_ID, NEW_ID = "sha256:" + "1" * 64, "sha256:" + "2" * 64
OLD_REVISION, NEW_REVISION = "1b5f0d9ad7c1", databases.REVISION
NAME = "mlflowd"
_WATCHED = ("stop", "remove", "create", "start", "ask", "end")
_TO = "UPDATE alembic_version SET version_num = '{}'"
_MOST = 200
"""Points at which an upgrade is cut short, at most: a test that never ends has a fault of its own."""


class _KilledError(BaseException):
    """The daemon is gone."""


class _Cut:
    """Ends the daemon at the point of this number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = -1
        self.seen = 0
        for target, name in ((Ledger, "write"), (Ledger, "end"), (Databases, "take"), (aside, "put")):
            monkeypatch.setattr(target, name, self.around(getattr(target, name)))

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            self._point()
            result = call(*args, **named)
            self._point()
            return result

        return counted

    def after(self, points: int) -> None:
        """Let this many points pass from here, and end the daemon at the next; -1 for never."""
        self.seen, self.at = 0, points

    def _point(self) -> None:
        self.seen += 1
        if self.seen == self.at + 1:
            raise _KilledError


class _World:
    """A machine: one database, one engine, the daemons that come one after another."""

    def __init__(self, ground: Path, who: Identity, cut: _Cut) -> None:
        self.cut = cut
        self.ground = ground
        self.who = who
        for name in ("state/state", "runtime", "artifacts"):
            (ground / name).mkdir(parents=True)
        self.database = databases.make(ground / "backend" / "mlflow.db", rows=20)
        self._sql(_TO.format(OLD_REVISION))
        self.engine = FakeEngine()
        self.engine.work = self.migrate
        self.kept = ImagesKept(ground / "state", who)
        for image_id, name, revisions in (
            (OLD_ID, OLD, (OLD_REVISION,)),
            (NEW_ID, NEW, (OLD_REVISION, NEW_REVISION)),
        ):
            self.engine.add_image(Image(image_id, (name,), {}))
            version = name.rpartition("v")[2]
            able = Abilities(
                version, "3.13.5", True, True, frozenset({"mlflow"}), "0.54", "/x", revisions, revisions[-1]
            )
            self.kept.know(image_id, able)
        self.dies_in_migration = self.exits = self.refuses_writes = False
        self.tags: dict[str, str] = {}
        self.listen: Address | None = None

    # --- what the images do ---------------------------------------------------------------------

    def migrate(self, _spec: ContainerSpec) -> str:
        self._sql("DELETE FROM metrics WHERE step < 5", "CREATE TABLE later (id INTEGER)")
        if self.dies_in_migration:
            raise EngineError("The container of the migration ended with status 137.")
        self._sql(_TO.format(NEW_REVISION))
        return f"The schema is revision {NEW_REVISION}\n"

    def reply(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        container = self.engine.inspect(NAME)
        if container is None or not container.running:
            return 503, b""
        if path.startswith("/health"):
            return 200, b"OK"
        if method in {"PUT", "DELETE"} or path.startswith("/api/2.0/mlflow-artifacts"):
            self.tags["artifact"] = body.decode() if method == "PUT" else self.tags.get("artifact", "")
            return 200, self.tags["artifact"].encode()
        if "set-experiment-tag" in path:
            if self.refuses_writes and container.image_id == NEW_ID:
                return 500, b"{}"
            self.tags["gate"] = json.loads(body)["value"]
        answers = {"experiments/search": {"experiments": [{"experiment_id": "0"}]}, "experiments/get": self.tags}
        return 200, json.dumps(next((told for key, told in answers.items() if key in path), {})).encode()

    # --- daemons --------------------------------------------------------------------------------

    def daemon(self, reference: str) -> tuple[Effects, Wish]:
        """Return the hands of a new daemon."""
        settings = Settings.model_validate(
            {
                "backend_store": {"uri": f"sqlite:///{self.database}"},
                "artifact_store": {"uri": f"{self.ground}/artifacts"},
                "disk": {"warn": "0", "critical": "0", "require_free": "0"},
                "server": {"listen": str(self.listen)},
                "image": {"reference": reference},
                "upgrade": {"gate_timeout": "2s"},
            }
        )
        place = Place(self.engine, self.ground / "state", self.ground / "runtime", self.who)
        wish = Wish(settings, Secrets(), place)
        wish.fetch(_silent)
        return Effects(wish, place, Doorkeeper(settings, place, Secrets()), Secrets()), wish

    def serve_old(self) -> None:
        effects, wish = self.daemon(OLD)
        spec = wish.desired().spec
        assert spec
        effects.make(spec)
        self.kept.serve(Served(OLD_ID, OLD_ID))
        if self.exits:
            self.engine.start = partial(self._start_and_exit, self.engine.start)  # type: ignore[method-assign]  # the image does it
        for name in _WATCHED:
            setattr(self.engine, name, self.cut.around(getattr(self.engine, name)))

    def _start_and_exit(self, start: Callable[[str], None], container_id: str) -> None:
        start(container_id)
        container = self.engine.inspect(container_id)
        if container and container.image_id == NEW_ID:
            self.engine.exit(container_id, 1)

    def upgrade(self) -> bool:
        """Let a daemon upgrade; return whether it lived to the end."""
        effects, wish = self.daemon(NEW)
        spec = wish.desired().spec
        assert spec
        return self._lives(lambda: effects.apply(Upgrade(Phase.SERVING, "a test wants it", spec), _silent))

    def settle(self) -> bool:
        """Let another daemon finish or revert what it finds."""
        effects, _ = self.daemon(NEW)
        return self._lives(lambda: effects.apply(Settle(Phase.UNKNOWN, "a test wants it"), _silent))

    def _lives(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except _KilledError:
            return False
        return True

    # --- what is seen ---------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.ground / "state", self.who)

    def dump(self) -> list[str]:
        with closing(sqlite3.connect(self.database)) as connection:
            return list(connection.iterdump())

    def _sql(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            for statement in statements:
                connection.execute(statement)


def _silent(_: str) -> None:
    pass


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> _Cut:
    monkeypatch.setattr(steps, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a process dies here, no machine
    return _Cut(monkeypatch)


@pytest.fixture
def make(ground: Path, who: Identity, cut: _Cut) -> Iterator[Callable[..., _World]]:
    """Return a world, made anew with each call, whose new image has these faults."""
    held: list[_World] = []

    def reply(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        return held[-1].reply(method, path, body)

    with web(reply) as listen:

        def made(**faults: bool) -> _World:
            cut.after(-1)
            if held:
                shutil.rmtree(held.pop().ground)
            world = _World(ground / "world", who, cut)
            held.append(world)
            world.listen = listen
            vars(world).update(faults)
            world.serve_old()
            return world

        yield made


def _assert_done(world: _World) -> None:
    (last, *_) = world.ledger.outcomes()
    container = world.engine.inspect(NAME)
    assert last.ok, last.sentence
    assert container
    assert container.running
    assert container.image_id == NEW_ID
    assert world.kept.read().served[:2] == (Served(NEW_ID, NEW_ID), Served(OLD_ID, OLD_ID))
    assert any(NEW_REVISION in line for line in world.dump())


def _assert_undone(world: _World, before: list[str]) -> None:
    (last, *_) = world.ledger.outcomes()
    container = world.engine.inspect(NAME)
    assert not last.ok
    assert world.dump() == before
    assert container is None or container.image_id == OLD_ID
    assert world.kept.read().served[0] == Served(OLD_ID, OLD_ID)


def _assert_settled(world: _World, before: list[str], *, passes: bool) -> None:
    """One of the two ends, and nothing between."""
    assert world.ledger.pending() is None
    outcomes = world.ledger.outcomes()
    if outcomes and outcomes[0].ok:
        assert passes, outcomes[0].sentence
        _assert_done(world)
    elif outcomes:
        _assert_undone(world, before)
    else:
        assert world.dump() == before, "it was cut short before it began"


FAULTS: tuple[dict[str, bool], ...] = ({}, {"dies_in_migration": True}, {"exits": True}, {"refuses_writes": True})


@pytest.mark.parametrize("faults", FAULTS, ids=lambda faults: next(iter(faults), "passes"))
def test_an_upgrade_is_finished_or_undone(make: Callable[..., _World], faults: dict[str, bool]) -> None:
    world = make(**faults)
    before = world.dump()
    assert world.upgrade()
    if faults:
        _assert_undone(world, before)
        assert NEW_ID in world.ledger.rejected()
    else:
        _assert_done(world)


@pytest.mark.parametrize("faults", FAULTS, ids=lambda faults: next(iter(faults), "passes"))
def test_an_upgrade_cut_short_at_any_point_is_finished_or_undone(
    make: Callable[..., _World], faults: dict[str, bool]
) -> None:
    for point in itertools.count():
        world = make(**faults)
        before = world.dump()
        world.cut.after(point)
        lived = world.upgrade()
        world.cut.after(-1)
        assert world.settle()
        _assert_settled(world, before, passes=not faults)
        if lived:
            assert world.ledger.outcomes()[0].ok is not bool(faults)
            break
        assert point < _MOST
    assert point > 20, "it was cut short at many points"


@pytest.mark.parametrize("faults", FAULTS[::2], ids=lambda faults: next(iter(faults), "passes"))
def test_one_cut_short_twice_is_finished_or_undone(make: Callable[..., _World], faults: dict[str, bool]) -> None:
    """The second daemon dies as well, at a point of its own work."""
    for point in itertools.count(start=1, step=3):
        world = make(**faults)
        before = world.dump()
        world.cut.after(point)
        lived = world.upgrade()
        for second in (point % 7, point % 3):
            world.cut.after(second)
            world.settle()
        world.cut.after(-1)
        assert world.settle()
        _assert_settled(world, before, passes=not faults)
        if lived:
            break
        assert point < _MOST


@pytest.mark.parametrize("leaving", [False, True])
def test_only_a_rehearsal_that_failed_by_itself_rejects_the_image(make: Callable[..., _World], leaving: bool) -> None:
    world = make()
    effects, wish = world.daemon(NEW)
    spec = wish.desired().spec
    assert spec

    def ends(_: ContainerSpec) -> str:
        if leaving:
            effects.leave()  # SIGTERM, which ends what migrates
        raise EngineError("The container of the migration ended with status 137.")

    world.engine.work = ends
    effects.apply(Rehearse(Phase.SERVING, "a test wants it", spec), _silent)
    assert set(world.ledger.rejected()) == (set() if leaving else {NEW_ID})
    assert not wish.desired().rehearsed
