"""Which image the server runs from: found, fetched, pinned; and what goes once the next one has served."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from fakes.archives import description, identifier, saved, written
from fakes.engine import FakeEngine
from fakes.worlds import SPEC
from mlflowd.config import Settings
from mlflowd.errors import ExitStatus, ImageMissingError, RefusedError
from mlflowd.host import journal
from mlflowd.model import LABEL_DERIVED, LABEL_STANDS_FOR, Image, Secrets
from mlflowd.operations import room
from mlflowd.operations.images_kept import ImagesKept, Served
from mlflowd.supervisor import serving_image
from mlflowd.supervisor.images import Images
from mlflowd.supervisor.place import Place
from mlflowd.supervisor.wish import Wish

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflowd.engine.api import Progress
    from mlflowd.host.paths import Identity
    from mlflowd.supervisor.images import Chosen
    from mlflowd.supervisor.watch import Check

REFERENCE = "ghcr.io/mlflow/mlflow:v3.17.2"
OLD = Image("sha256:" + "01" * 32, (REFERENCE,), {})
NEW = Image("sha256:" + "02" * 32, (REFERENCE,), {})
STAND_IN = Image("sha256:" + "03" * 32, ("mlflowd/mlflow:v3.17.2",), {LABEL_STANDS_FOR: REFERENCE})


class Engine(FakeEngine):
    """A fake engine whose builds make images with what they add."""

    def build(
        self, context: bytes, *, tag: str, labels: Mapping[str, str], build_args: Mapping[str, str], progress: Progress
    ) -> Image:
        self.answer = says("pymysql", "boto3", "paramiko")
        return super().build(context, tag=tag, labels=labels, build_args=build_args, progress=progress)


def says(*packages: str, mlflow: str = "3.17.2") -> str:
    versions = dict.fromkeys(packages, "1") | {"mlflow": mlflow}
    return json.dumps({"python": "3.13", "packages": versions, "purelib": "/lib"})


@dataclass
class Desk:
    """A choice of images on a fake engine, with what it told the journal."""

    directory: Path
    who: Identity
    engine: Engine = field(default_factory=Engine)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine.answer = says()
        self.kept = ImagesKept(self.directory, self.who)

    def settings(self, **image: Any) -> Settings:
        uri = f"sqlite:///{self.directory}/backend/mlflow.db"
        return Settings.layered({"image": {"reference": REFERENCE, **image}, "backend_store": {"uri": uri}})

    def images(self, **image: Any) -> Images:
        return Images(self.settings(**image), self.engine, self.kept, self.who)

    def fetch(self, **image: Any) -> Chosen:
        return self.images(**image).fetch(lambda _: None)


@pytest.fixture
def desk(tmp_path: Path, who: Identity, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path, who)
    monkeypatch.setattr(room, "space", lambda _: type("", (), {"free": 10**12})())

    def report(event: object, message: str, **fields: Any) -> None:
        del event
        desk.told.append(f"{message} {fields.get('remedy')}")

    monkeypatch.setattr(journal, "report", report)
    return desk


# --- find and fetch -----------------------------------------------------------------------------


def test_a_known_image_is_found_without_a_container(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    fetched = desk.fetch()
    desk.engine.calls.clear()
    assert desk.images().find() == fetched
    assert desk.engine.calls == ["stand_in", "image"]


def test_an_unknown_or_missing_image_is_not_found(desk: Desk) -> None:
    assert desk.images().find() is None
    desk.engine.add_image(OLD)
    assert desk.images().find() is None


def test_what_the_image_lacks_is_added_once(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    first = desk.fetch(packages=["PyMySQL"])
    assert first.base == OLD
    assert first.image.labels[LABEL_DERIVED] == OLD.id
    assert "pymysql" in first.able.packages
    desk.engine.calls.clear()
    assert desk.images(packages=["PyMySQL"]).find() == first
    assert desk.fetch(packages=["PyMySQL"]) == first
    assert not {"build", "ask"} & set(desk.engine.calls)


def test_a_derived_image_that_a_person_built_needs_no_leave(desk: Desk) -> None:
    desk.engine.add_image(STAND_IN)
    desk.images(packages=["PyMySQL"]).derive(lambda _: None)
    desk.engine.answer = says()
    found = desk.engine.made(LABEL_DERIVED)
    desk.engine.answer = says()
    chosen = desk.fetch(packages=["PyMySQL"], build=False)
    assert chosen.image == found[0]
    assert chosen.base == STAND_IN


def test_a_forbidden_build_is_refused_with_the_packages_and_nothing_is_built(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    with pytest.raises(RefusedError, match=r"lacks PyMySQL and boto3, and image\.build = false forbids"):
        desk.fetch(packages=["PyMySQL", "boto3"], build=False)
    assert "build" not in desk.engine.calls


def test_a_build_by_hand_says_where_nothing_is_lacking(desk: Desk) -> None:
    said: list[str] = []
    with pytest.raises(ImageMissingError):
        desk.images().derive(said.append)
    desk.engine.add_image(OLD)
    desk.images().derive(said.append)
    assert said[-1] == f"{REFERENCE} has what the configuration needs"


# --- pins ---------------------------------------------------------------------------------------


def test_a_tag_that_moved_is_told_and_not_followed(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    before = desk.fetch()
    desk.kept.pin(REFERENCE, OLD.id)
    desk.engine.add_image(NEW)
    images = desk.images()
    assert images.find() == replace(before, base=desk.engine.images[OLD.id], image=desk.engine.images[OLD.id])
    images.find()
    (told,) = desk.told
    assert NEW.id[:19] in told
    assert OLD.id[:19] in told
    assert "sudo mlflowd image accept" in told


def test_a_tag_that_moved_is_refused_where_the_old_image_is_gone(desk: Desk) -> None:
    desk.kept.pin(REFERENCE, OLD.id)
    desk.engine.registry[REFERENCE] = NEW
    for _ in range(2):
        with pytest.raises(RefusedError, match="has moved") as caught:
            desk.fetch()
        assert desk.images().find() is None
    assert caught.value.exit_status == ExitStatus.REFUSED
    assert "sudo mlflowd image accept" in caught.value.hint
    assert desk.engine.calls.count("pull") == 1


def test_an_accepted_image_is_the_right_one(desk: Desk) -> None:
    desk.kept.pin(REFERENCE, OLD.id)
    desk.engine.add_image(NEW)
    desk.images().accept(NEW)
    assert desk.fetch().base == NEW


def test_a_pinned_image_that_lost_its_name_goes_on(desk: Desk) -> None:
    desk.engine.add_image(replace(OLD, references=()))
    desk.kept.pin(REFERENCE, OLD.id)
    assert desk.fetch().base.id == OLD.id
    assert "pull" not in desk.engine.calls


def test_a_stand_in_is_followed_whatever_served_before(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    desk.kept.pin(REFERENCE, OLD.id)
    for number in ("04", "05"):
        desk.engine.add_image(replace(STAND_IN, id=f"sha256:{number * 32}"))
        assert desk.fetch().base.id == f"sha256:{number * 32}"
    desk.images().accept(STAND_IN)
    assert desk.kept.read().pins == {REFERENCE: OLD.id}
    assert desk.told == []


# --- archives -----------------------------------------------------------------------------------


def archived(desk: Desk, *names: str, config: bytes) -> str:
    desk.engine.archived = (Image(identifier(config), names, {}),)
    return str(written(desk.directory / "mlflow.tar", saved(*names, config=config), sworn=True))


def test_a_missing_image_comes_from_the_archive_in_place_of_the_registry(desk: Desk) -> None:
    config = description()
    archive = archived(desk, REFERENCE, config=config)
    assert desk.fetch(archive=archive).base.id == identifier(config)
    desk.engine.calls.clear()
    desk.fetch(archive=archive)
    assert not {"pull", "load"} & set(desk.engine.calls)


def test_an_archive_with_another_version_is_refused(desk: Desk) -> None:
    archive = archived(desk, REFERENCE, config=description())
    desk.engine.answer = says(mlflow="3.10.1")
    with pytest.raises(RefusedError, match=r"holds MLflow 3\.10\.1"):
        desk.fetch(archive=archive)
    assert not desk.engine.images


def test_a_digest_that_the_engine_forgets_is_found_again_by_the_id(desk: Desk) -> None:
    archive = archived(desk, REFERENCE, config=description())
    pinned = {"archive": archive, "reference": f"{REFERENCE}@sha256:{'0' * 64}"}
    chosen = desk.fetch(**pinned)
    desk.engine.calls.clear()
    assert desk.images(**pinned).find() == chosen
    assert desk.fetch(**pinned) == chosen
    assert "load" not in desk.engine.calls


# --- what serves --------------------------------------------------------------------------------


def serve(desk: Desk, image_id: str, **image: Any) -> tuple[Wish, Check]:
    """Return a wish whose container runs from this image, and the check of it."""
    place = Place(desk.engine, desk.directory, desk.directory / "run", desk.who)
    wish = Wish(desk.settings(**image), Secrets(), place)
    wish.fetch(lambda _: None)
    if old := desk.engine.inspect("mlflowd"):
        desk.engine.destroy(old.id)
    desk.engine.start(desk.engine.create(replace(SPEC, image_id=image_id)))
    return wish, serving_image.check(wish, place)


def test_what_serves_first_under_a_name_is_what_the_name_means(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    _, check = serve(desk, OLD.id)
    check.look()
    assert desk.kept.read().pins == {REFERENCE: OLD.id}
    assert desk.kept.read().served == (Served(OLD.id, OLD.id),)
    desk.engine.calls.clear()
    check.look()
    assert desk.engine.calls == [], "what is noted is not asked for again"


def test_the_container_before_a_refused_wish_is_not_taken_for_it(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    desk.engine.add_image(replace(NEW, references=("other:1",)))
    _, check = serve(desk, NEW.id)
    check.look()
    assert desk.kept.read().served == ()


def test_what_was_accepted_meanwhile_is_not_taken_back(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    _, check = serve(desk, OLD.id)
    desk.kept.pin(REFERENCE, NEW.id)
    check.look()
    assert desk.kept.read().pins == {REFERENCE: NEW.id}


def test_the_derived_images_before_the_last_two_go_once_the_next_one_serves(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    made: list[str] = []
    for package in ("PyMySQL", "boto3", "paramiko"):
        desk.engine.answer = says()
        chosen = desk.fetch(packages=[package])
        made.append(chosen.image.id)
        _, check = serve(desk, chosen.image.id, packages=[package])
        check.look()
    assert set(desk.engine.images) == {OLD.id, *made[1:]}
    assert made[0] not in desk.kept.read().abilities


def test_an_engine_that_does_not_answer_is_asked_again(desk: Desk) -> None:
    desk.engine.add_image(OLD)
    _, check = serve(desk, OLD.id)
    desk.engine.unreachable = True
    check.look()
    assert desk.kept.read().served == ()
    desk.engine.unreachable = False
    check.look()
    assert desk.kept.read().served == (Served(OLD.id, OLD.id),)
