"""What is remembered of images survives a daemon's end, and nothing that is damaged or older is believed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mlflowd.operations.images_kept import ImagesKept, Kept, Served
from mlflowd.server.abilities import Abilities

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity

ABLE = Abilities("3.17.2", "3.13", True, False, frozenset({"mlflow", "b"}), "1", "/lib", ("r1", "r2"), "r2")


@pytest.fixture
def kept(tmp_path: Path, who: Identity) -> ImagesKept:
    return ImagesKept(tmp_path, who)


def test_all_that_was_written_is_read_again(kept: ImagesKept, tmp_path: Path, who: Identity) -> None:
    kept.know("sha256:1", ABLE)
    kept.pin("mlflow:v1", "sha256:1")
    kept.serve(Served("sha256:2", "sha256:1"))
    again = ImagesKept(tmp_path, who).read()
    assert again == Kept({"sha256:1": ABLE}, {"mlflow:v1": "sha256:1"}, (Served("sha256:2", "sha256:1"),))
    assert kept.path.stat().st_mode & 0o777 == 0o600


def test_the_latest_that_served_comes_first_and_each_once(kept: ImagesKept) -> None:
    for image in ("1", "2", "1", *map(str, range(3, 30))):
        kept.serve(Served(image, image))
    served = [one.image for one in kept.read().served]
    assert served[:2] == ["29", "28"]
    assert len(served) == len(set(served)) == 20


def test_an_image_that_is_gone_is_forgotten_but_not_what_its_name_meant(kept: ImagesKept) -> None:
    kept.know("1", ABLE)
    kept.pin("mlflow:v1", "1")
    kept.serve(Served("1", "1"))
    kept.forget({"1"})
    assert kept.read() == Kept(pins={"mlflow:v1": "1"})


def test_nothing_is_written_where_nothing_changes(kept: ImagesKept) -> None:
    kept.pin("mlflow:v1", "1")
    before = kept.path.stat().st_mtime_ns, kept.path.stat().st_ino
    kept.pin("mlflow:v1", "1")
    assert (kept.path.stat().st_mtime_ns, kept.path.stat().st_ino) == before


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(
            {"sha256:1": {"mlflow": "3.17.2", "python": "3.13", "uvloop": True, "httptools": True, "packages": []}}
        ),
        json.dumps({"schema": 2, "abilities": {"1": {"mlflow": "3"}}, "pins": {}, "served": []}),
        json.dumps({"schema": 3}),
        "[]",
        "{",
    ],
    ids=["of the first mlflowd", "without the new fields", "newer", "a list", "cut off"],
)
def test_what_is_older_or_damaged_is_asked_again(kept: ImagesKept, text: str) -> None:
    kept.path.parent.mkdir()
    kept.path.write_text(text)
    assert kept.read() == Kept()


def test_abilities_that_cannot_be_written_down_are_only_asked_again(tmp_path: Path, who: Identity) -> None:
    (tmp_path / "state").write_text("no directory")
    ImagesKept(tmp_path, who).know("1", ABLE)
