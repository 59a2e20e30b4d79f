"""Only what mlflowd made and nobody needs is removed."""

from __future__ import annotations

import pytest

from fakes.engine import FakeEngine
from mlflowd.model import LABEL_DERIVED, LABEL_STANDS_FOR, Image
from mlflowd.operations.images_kept import Kept, Served
from mlflowd.operations.pruning import prune
from mlflowd.server.abilities import Abilities

OURS = "mlflowd/mlflow"
KNOWN = ("try", "used", "named", "theirs", "official")
ABLE = Abilities("3.17.2", "3.13", False, False, frozenset())


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def base(engine: FakeEngine, name: str, **labels: str) -> None:
    engine.add_image(Image(name, (f"{OURS}:{name}",), {LABEL_STANDS_FOR: "r", **labels}))


def derive(engine: FakeEngine, name: str, of: str, *names: str) -> None:
    labels = {LABEL_STANDS_FOR: "", LABEL_DERIVED: of}
    engine.add_image(Image(name, (f"{OURS}:{name}", *names), labels))


def left(engine: FakeEngine, wanted: Served, *before: Served) -> list[str]:
    prune(engine, wanted, Kept(dict.fromkeys(KNOWN, ABLE), {}, (wanted, *before)))
    return sorted(engine.images)


def test_the_last_two_that_served_stay_and_what_they_are_made_from(engine: FakeEngine) -> None:
    for number in "123":
        base(engine, f"b{number}")
        derive(engine, f"d{number}", f"b{number}")
    served = [Served(f"d{number}", f"b{number}") for number in "321"]
    assert left(engine, *served) == ["b2", "b3", "d2", "d3"]


def test_a_derived_one_that_never_served_goes(engine: FakeEngine) -> None:
    base(engine, "b1")
    derive(engine, "d1", "b1")
    derive(engine, "try", "b1")
    assert left(engine, Served("d1", "b1")) == ["b1", "d1"]


def test_a_derived_one_of_another_mlflowd_stays(engine: FakeEngine) -> None:
    base(engine, "b1")
    derive(engine, "another", "b1")
    assert left(engine, Served("b1", "b1")) == ["another", "b1"]


def test_a_stand_in_that_never_served_waits_for_its_day(engine: FakeEngine) -> None:
    base(engine, "b1")
    base(engine, "next")
    assert left(engine, Served("b1", "b1")) == ["b1", "next"]


def test_images_of_others_stay(engine: FakeEngine) -> None:
    base(engine, "b1")
    engine.add_image(Image("official", ("ghcr.io/mlflow/mlflow:v1",), {}))
    engine.add_image(Image("theirs", ("company/mlflow:1",), {LABEL_DERIVED: "b1"}))
    derive(engine, "named", "b1", "company/mlflow:2")
    before = [Served(name, name) for name in ("x", "official", "theirs", "named")]
    assert left(engine, Served("b1", "b1"), *before) == ["b1", "named", "official", "theirs"]


def test_what_the_engine_keeps_is_no_error(engine: FakeEngine) -> None:
    base(engine, "b1")
    derive(engine, "used", "b1")
    engine._add("another", "used", {}, None)  # noqa: SLF001 - a container of somebody else
    assert left(engine, Served("b1", "b1")) == ["b1", "used"]
    engine.unreachable = True
    with pytest.raises(Exception, match="not running"):
        prune(engine, Served("b1", "b1"), Kept({"try": ABLE}))


def test_it_tells_what_went(engine: FakeEngine) -> None:
    base(engine, "b1")
    derive(engine, "try", "b1")
    (gone,) = prune(engine, Served("b1", "b1"), Kept({"try": ABLE}))
    assert gone.id == "try"
