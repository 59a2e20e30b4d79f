"""What is asked of an image: run on each real engine in a throw-away container, of which nothing stays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from mlflowd.errors import EngineError, ImageMissingError

if TYPE_CHECKING:
    from contract.worlds import RealWorld

pytestmark = pytest.mark.engine


def left(real: RealWorld) -> list[str]:
    """Return the names of containers of this image that `ask` left behind."""
    found = real.api.containers(all=True, filters={"ancestor": real.spec.image_id})
    return [item["Names"][0] for item in found if item["Names"][0].startswith("/mlflowd-ask-")]


def test_what_is_asked_has_no_network_no_rights_and_no_place_to_write(real: RealWorld) -> None:
    script = (
        "busybox ls /sys/class/net; busybox grep CapEff /proc/self/status; "
        "busybox touch /x 2>&1 || true; busybox touch /tmp/x && echo written"
    )
    said = real.engine.ask(real.spec.image_id, ["busybox", "sh", "-c", script], 30)
    net, capabilities, refused, written = said.splitlines()
    assert net == "lo"
    assert int(capabilities.split()[1], 16) == 0
    assert "Read-only file system" in refused
    assert written == "written"
    assert left(real) == []


def test_a_failure_is_told_with_its_words(real: RealWorld) -> None:
    with pytest.raises(EngineError, match="ended with status 3: why"):
        real.engine.ask(real.spec.image_id, ["busybox", "sh", "-c", "echo why >&2; exit 3"], 30)
    with pytest.raises(EngineError, match="nonesuch"):
        real.engine.ask(real.spec.image_id, ["nonesuch"], 30)
    assert left(real) == []


def test_what_takes_too_long_is_ended(real: RealWorld) -> None:
    started = time.monotonic()
    with pytest.raises(EngineError, match="longer than 1 s"):
        real.engine.ask(real.spec.image_id, ["busybox", "sleep", "60"], 1)
    assert time.monotonic() - started < 15
    assert left(real) == []


def test_an_image_that_is_not_there_is_named(real: RealWorld) -> None:
    with pytest.raises(ImageMissingError, match="nonesuch"):
        real.engine.ask("mlflowd-contract/nonesuch:v1", ["true"], 5)
