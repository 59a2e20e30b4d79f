"""The stock of images, on every engine: what mlflowd made is found, removed, loaded again from an archive."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from contract.worlds import RealWorld
from fakes.archives import PACKERS, written
from mlflowd.errors import EngineError
from mlflowd.host.paths import Identity
from mlflowd.operations import archive, recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from contract.worlds import World
    from mlflowd.model import Image

LABEL = "io.mlflowd.test"


def ignore(_: str) -> None:
    pass


class Stock:
    """Makes images from the world's own, and removes them after the test."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.made: list[Image] = []

    def make(self, **labels: str) -> Image:
        text = f"ARG BASE\nFROM ${{BASE}}\nENV NUMBER={uuid.uuid4().hex}\nUSER 7:8\n"
        self.made.append(
            self.world.engine.build(
                recipe.context({"Dockerfile": text.encode()}),
                tag=f"mlflowd-contract/stock:{uuid.uuid4().hex[:12]}",
                labels={LABEL: "", **labels},
                build_args={"BASE": self.world.spec.image_id},
                progress=ignore,
            )
        )
        return self.made[-1]

    def found(self, label: str = LABEL) -> set[str]:
        return {image.id for image in self.world.engine.made(label)} & {image.id for image in self.made}

    def clean(self) -> None:
        for image in self.made:
            with suppress(EngineError):
                self.world.engine.remove_image(image.id)


@pytest.fixture
def stock(world: World) -> Iterator[Stock]:
    stock = Stock(world)
    yield stock
    stock.clean()


def test_images_are_found_by_a_label_whatever_its_value(stock: Stock) -> None:
    mark = f"{LABEL}.{uuid.uuid4().hex[:8]}"
    empty, full, _ = stock.make(**{mark: ""}), stock.make(**{mark: "x"}), stock.make()
    found = {image.id: image for image in stock.world.engine.made(mark)}
    assert set(found) == {empty.id, full.id}
    assert found[full.id].labels[mark] == "x"
    assert found[full.id].references == full.references


def test_a_removed_image_is_gone_and_a_second_time_is_fine(stock: Stock) -> None:
    image, other = stock.make(), stock.make()
    for _ in range(2):
        stock.world.engine.remove_image(image.id)
    assert stock.world.engine.image(image.id) is None
    assert stock.found() == {other.id}


def test_an_image_that_a_container_uses_is_not_removed(stock: Stock) -> None:
    image = stock.make()
    container = stock.world.engine.create(replace(stock.world.spec, image_id=image.id))
    with pytest.raises(EngineError):
        stock.world.engine.remove_image(image.id)
    stock.world.engine.remove(container)
    stock.world.engine.remove_image(image.id)


def test_what_was_saved_comes_back_with_its_name_its_labels_and_its_id(stock: Stock) -> None:
    image = stock.make(**{f"{LABEL}.kept": "yes"})
    pieces = list(stock.world.saved(image))
    stock.world.engine.remove_image(image.id)
    (loaded,) = stock.world.engine.load(iter(pieces), ignore)
    assert loaded.removeprefix("localhost/") == image.references[0].removeprefix("localhost/")
    back = stock.world.engine.image(loaded)
    assert back is not None
    assert (back.id, back.labels) == (image.id, image.labels)


@pytest.fixture
def docker_world(engine_socket: str, busybox: str, tmp_path: Path) -> Iterator[RealWorld]:
    world = RealWorld(engine_socket, busybox, tmp_path)
    yield world
    world.clean()


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.zst"])
def test_an_archive_of_a_real_docker_is_understood_and_loaded(
    docker_world: RealWorld, tmp_path: Path, kind: str
) -> None:
    stock = Stock(docker_world)
    image = stock.make(**{f"{LABEL}.kept": "yes"})
    content = PACKERS[kind](b"".join(docker_world.saved(image)))
    path = written(tmp_path / f"mlflow.{kind}", content, sworn=True)
    docker_world.engine.remove_image(image.id)
    said: list[str] = []
    who = Identity(os.geteuid(), os.getegid(), "me")
    loaded = archive.load(docker_world.engine, path, image.references[0], who, said.append)
    assert (loaded.image, loaded.fresh) == (image, True)
    assert any(one.startswith(f"loading {path}: ") for one in said)
    stock.clean()


@pytest.mark.engine
def test_what_is_no_archive_is_refused_in_the_engines_words(docker_world: RealWorld) -> None:
    with pytest.raises(EngineError):
        docker_world.engine.load(iter([b"no archive"]), ignore)
