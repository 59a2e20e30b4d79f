"""One suite for every engine: its streams, which are the events of a container and the lines of its log."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from contract.steps import Collector, actions, killed, made, spoken, started
from mlflowd.errors import EngineError
from mlflowd.model import EngineEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contract.worlds import World


# --- events -------------------------------------------------------------------------------------


def test_events_tell_of_a_life(world: World) -> None:
    events = Collector(world.engine.events(world.spec.name))
    container_id = started(world)
    assert actions(world, events, "start") == ["create", "start"]
    world.pause(container_id)
    world.engine.unpause(container_id)
    assert actions(world, events, "unpause") == ["pause", "unpause"]
    world.kill(container_id)
    assert actions(world, events, "die") == ["kill", "die"]
    world.destroy(container_id)
    assert actions(world, events, "destroy") == ["destroy"]


def test_a_kill_by_hand_tells_its_signal_and_status(world: World) -> None:
    container_id = started(world)
    events = Collector(world.engine.events(world.spec.name))
    world.kill(container_id)
    kill, die = events.next(EngineEvent), events.next(EngineEvent)
    assert (kill.action, kill.container_id, kill.attributes["signal"]) == ("kill", container_id, "9")
    assert (die.action, die.attributes["exitCode"]) == ("die", "137")


def test_a_stop_tells_kill_die_stop(world: World) -> None:
    container_id = started(world)
    events = Collector(world.engine.events(world.spec.name))
    world.engine.stop(container_id, 10)
    # Docker 26 may tell of the stop before the die.
    assert {events.next(EngineEvent).action for _ in range(3)} == {"kill", "die", "stop"}


def test_events_of_another_container_with_a_longer_name_are_none_of_ours(world: World) -> None:
    events = Collector(world.engine.events(world.spec.name))
    made(world, replace(world.spec, name=f"{world.spec.name}-2"))
    made(world)
    assert actions(world, events, "create") == ["create"]


def test_close_ends_the_streams_without_an_exception(world: World) -> None:
    container_id = started(world, world.saying("hello"))
    events = Collector(world.engine.events(world.spec.name))
    logs = Collector(world.engine.logs(container_id, since=0, follow=True))
    assert logs.next(bytes).endswith(b" hello")
    world.engine.close()
    assert events.ended()
    assert logs.ended()


def test_a_closed_engine_refuses(world: World) -> None:
    world.engine.close()
    with pytest.raises(EngineError):
        world.engine.inspect(world.spec.name)


# --- logs ---------------------------------------------------------------------------------------


def texts(lines: Iterable[bytes]) -> list[bytes]:
    return [line.split(b" ", 1)[1] for line in lines]


def test_logs_give_timestamped_lines(world: World) -> None:
    container_id = started(world, world.saying("one", "two words"))
    lines = spoken(world, container_id, 2)
    assert texts(lines) == [b"one", b"two words"]
    assert all(line.startswith(b"20") and line.split(b" ")[0].endswith(b"Z") for line in lines)


def test_followed_logs_end_with_the_container(world: World) -> None:
    container_id = started(world, world.saying("one"))
    logs = Collector(world.engine.logs(container_id, since=0, follow=True))
    logs.next(bytes)
    world.kill(container_id)
    assert logs.ended()


def test_logs_begin_at_since_and_end_at_once_without_follow(world: World) -> None:
    container_id = started(world, world.saying("one", "two"))
    spoken(world, container_id, 2)
    assert list(world.engine.logs(container_id, since=time.time() + 1, follow=False)) == []
    assert texts(world.engine.logs(container_id, since=0, follow=False, tail=1)) == [b"two"]


def test_logs_of_an_ended_container_are_kept(world: World) -> None:
    container_id = started(world, world.saying("last words"))
    spoken(world, container_id, 1)
    killed(world, container_id)
    assert texts(world.engine.logs(container_id, since=0, follow=True)) == [b"last words"]


def test_logs_of_a_missing_container_are_an_error(world: World) -> None:
    with pytest.raises(EngineError):
        world.engine.logs("0" * 64, since=0, follow=True)
