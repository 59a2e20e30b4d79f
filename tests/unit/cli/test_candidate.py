"""`mlflowd check` looks at the image that the daemon would run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fakes.engine import FakeEngine
from mlflowd.cli import candidate
from mlflowd.config import Settings
from mlflowd.errors import ExitStatus
from mlflowd.model import Image, Level
from mlflowd.operations.images_kept import ImagesKept

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity

SETTINGS = Settings()
REFERENCE = SETTINGS.image.reference


@pytest.fixture
def engine() -> FakeEngine:
    """An engine on which the tag names another image than the one that served."""
    engine = FakeEngine()
    engine.answer = json.dumps({"python": "3.13.5", "packages": {"mlflow": "3.17.2"}, "purelib": "/usr/lib"})
    engine.add_image(Image("sha256:moved", (REFERENCE,), {}))
    return engine


@pytest.fixture
def state(ground: Path, who: Identity) -> Path:
    (ground / "state").mkdir()
    ImagesKept(ground, who).pin(REFERENCE, "sha256:served")
    return ground


def test_the_image_that_served_is_the_candidate_wherever_its_tag_has_moved(
    engine: FakeEngine, state: Path, who: Identity
) -> None:
    engine.add_image(Image("sha256:served", (), {}))
    found = candidate.find(SETTINGS, engine, state, who)
    assert found.spec is not None
    assert found.spec.image_id == "sha256:served"


def test_a_tag_that_moved_from_an_image_that_is_gone_fails_as_the_start_does(
    engine: FakeEngine, state: Path, who: Identity
) -> None:
    found = candidate.find(SETTINGS, engine, state, who)
    assert found.spec is None
    (finding,) = found.findings
    assert (finding.level, finding.exit_status) == (Level.FAILURE, ExitStatus.REFUSED)
    assert "mlflowd image accept" in finding.remedy
