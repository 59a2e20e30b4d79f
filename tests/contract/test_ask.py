"""What is asked of an image: run on each real engine in a throw-away container, of which nothing stays."""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from mlflowd.errors import AskedError, EngineError, ImageMissingError

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


def test_a_task_is_ended_by_its_name_and_no_other_is(real: RealWorld) -> None:
    task, other = f"task-{uuid.uuid4().hex[:8]}", f"task-{uuid.uuid4().hex[:8]}"
    caught: list[AskedError] = []

    def work() -> None:
        try:
            real.engine.ask(real.spec.image_id, ["busybox", "sleep", "60"], 60, real.spec, task)
        except AskedError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 15
    while not (running := real.api.containers(filters={"label": [f"io.mlflowd.asked={task}"]})):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    memory = real.api.inspect_container(running[0]["Id"])["HostConfig"]["Memory"]
    assert memory == real.spec.memory, "a task has the size of the server"
    assert real.engine.end(other) == 0
    assert real.engine.end(task) == 1
    assert real.api.containers(all=True, filters={"label": [f"io.mlflowd.asked={task}"]}) == []
    thread.join(15)
    assert not thread.is_alive()
    assert len(caught) == 1
    assert left(real) == []


def test_what_a_failure_said_is_kept_whole(real: RealWorld) -> None:
    script = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; echo why >&2; exit 3"
    with pytest.raises(AskedError) as caught:
        real.engine.ask(real.spec.image_id, ["busybox", "sh", "-c", script], 30)
    assert "line 0\n" in caught.value.said
    assert "why" in caught.value.said
    assert len(caught.value.message) < 2_500


def test_an_image_that_is_not_there_is_named(real: RealWorld) -> None:
    with pytest.raises(ImageMissingError, match="nonesuch"):
        real.engine.ask("mlflowd-contract/nonesuch:v1", ["true"], 5)
