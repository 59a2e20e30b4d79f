from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fakes import databases
from fakes.engine import FakeEngine
from mlflowd.config import Settings
from mlflowd.errors import EngineError
from mlflowd.model import ContainerSpec, Finding, Image, Level, PrivateFile, Secrets
from mlflowd.operations import remote
from mlflowd.server import command
from mlflowd.server.abilities import Abilities
from mlflowd.server.wiring import Machine
from mlflowd.stores import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflowd.host.paths import Identity

PACKAGES = frozenset({"psycopg2-binary", "boto3"})
ABLE = Abilities("3.17.2", "3.13", True, True, PACKAGES, revisions=("a1", "b2"), head="b2")
BOTH = {"backend_store": {"uri": "postgresql://mlflow@db1/m"}, "artifact_store": {"uri": "s3://models"}}
SECRETS = Secrets({"backend_store.password": "geheim-4711"})
OK = {"kind": "ok", "said": "", "step": "look", "seconds": 0.1}


class Watching(FakeEngine):
    """Remembers which private files lay there while something was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.place: Path | None = None
        self.files: dict[str, str] = {}

    def ask(
        self, image_id: str, argv: Sequence[str], limit: float, like: ContainerSpec | None = None, task: str = ""
    ) -> str:
        if self.place and self.place.exists():
            self.files = {path.name: path.read_text() for path in self.place.rglob("*") if path.is_file()}
        return super().ask(image_id, argv, limit, like, task)


@pytest.fixture
def engine() -> Watching:
    engine = Watching()
    engine.add_image(Image("sha256:0", (), {}))
    return engine


def ask(engine: FakeEngine, ground: Path, who: Identity, more: Any = None, **sections: Any) -> list[Finding]:
    settings = Settings.model_validate(sections)
    machine = Machine(who.uid, who.gid, private=str(ground / "private"))
    spec = command.container_spec(settings, Image("sha256:0", (), {}), ABLE, machine, SECRETS)
    spec = more(spec) if more else spec
    return remote.check(settings, engine, ground, who, spec, ABLE, ground / "trial")


def test_stores_of_this_machine_are_not_asked(engine: Watching, ground: Path, who: Identity) -> None:
    assert ask(engine, ground, who) == []
    assert engine.calls == []


def test_both_stores_are_asked_once(engine: Watching, ground: Path, who: Identity) -> None:
    engine.stores = json.dumps({"backend": OK, "artifacts": OK})
    found = ask(engine, ground, who, **BOTH)
    assert {each.level for each in found} == {Level.OK}
    assert {each.check for each in found} == {"backend store", "database: fingerprint", "artifact store"}
    assert engine.calls == ["ask"]


@pytest.mark.parametrize(("rows", "refused"), [(0, False), (1, True)])
def test_an_empty_database_follows_sqlite_only_where_nobody_has_used_that(
    engine: Watching, ground: Path, who: Identity, rows: int, refused: bool
) -> None:
    fingerprint.record(databases.make(ground / "mlflow.db", rows=rows), ground, who)
    engine.stores = json.dumps({"backend": OK, "artifacts": OK})
    found = [each for each in ask(engine, ground, who, **BOTH) if each.level is Level.FAILURE]
    assert [each.check for each in found] == (["database: fingerprint"] if refused else [])


def test_the_private_files_lie_apart_from_the_running_server_s_and_go(
    engine: Watching, ground: Path, who: Identity
) -> None:
    engine.stores = json.dumps({"backend": OK, "artifacts": OK})
    (ground / "private").mkdir()
    (ground / "private" / "key").write_text("of the server that runs")
    engine.place = ground / "trial"

    def with_a_file(spec: ContainerSpec) -> ContainerSpec:
        return replace(spec, files=(*spec.files, PrivateFile("key", "new")))

    assert {each.level for each in ask(engine, ground, who, with_a_file, **BOTH)} == {Level.OK}
    assert engine.files["key"] == "new"
    assert (ground / "private" / "key").read_text() == "of the server that runs"
    assert not (ground / "trial").exists()
    (like,) = engine.liked
    assert {mount.source for mount in like.mounts if mount.target == "/mlflow/private"} == {str(ground / "trial")}


def test_data_of_this_machine_is_not_mounted(engine: Watching, ground: Path, who: Identity) -> None:
    engine.stores = json.dumps({"artifacts": OK})
    ask(engine, ground, who, artifact_store={"uri": "s3://models"})
    (like,) = engine.liked
    assert "/mlflow/backend" not in {mount.target for mount in like.mounts}


def test_what_cannot_be_asked_blocks_nothing_and_leaves_nothing(engine: Watching, ground: Path, who: Identity) -> None:
    engine.fail("ask", EngineError("python in the image ended with status 137: ."))
    (found,) = ask(engine, ground, who, **BOTH)
    assert (found.level, found.check) == (Level.WARNING, "stores")
    assert found.remedy
    engine.stores = "no answer"
    assert ask(engine, ground, who, **BOTH)[0].level is Level.WARNING
    assert not (ground / "trial").exists()


def test_an_image_that_is_gone_is_left_to_the_one_who_makes_the_container(
    engine: Watching, ground: Path, who: Identity
) -> None:
    engine.images.clear()
    assert ask(engine, ground, who, **BOTH) == []
