"""What the journal is told, and what it is not told twice."""

from __future__ import annotations

from dataclasses import replace

from fakes.worlds import SPEC, container, desired, observed
from mlflowd.events import Event
from mlflowd.model import (
    Action,
    ContainerStatus,
    Create,
    Done,
    History,
    KnownCause,
    Layer,
    Observed,
    Phase,
    Refusal,
    Start,
    Stop,
    Trouble,
    Wait,
)
from mlflowd.supervisor.history import learn
from mlflowd.supervisor.narrate import Scene, Told, narrate
from mlflowd.supervisor.policy import decide

SERVING = Wait(Phase.SERVING, "the server answers", 6)
SERVED = History(run=container().run, serving_since=0)


def scene(seen: Observed | None = None, action: Action = SERVING, history: History = SERVED) -> Scene:
    return Scene(seen or observed(), history, action)


def events(before: Scene | None, after: Scene) -> list[Event]:
    return [told.event for told in narrate(before, after)]


def test_a_server_that_already_serves_is_adopted() -> None:
    assert events(None, scene()) == [Event.SERVER_ADOPTED]


def test_a_server_that_comes_to_serve_is_told_once() -> None:
    starting = scene(observed(serving=False), Wait(Phase.STARTING, "the server is starting", 0.1))
    assert events(starting, scene()) == [Event.SERVER_SERVING]
    assert events(scene(), scene()) == []


def test_an_end_is_told_with_its_cause_and_the_remedy() -> None:
    cause = KnownCause("disk-full", "the disk is full", "make room", curable=True)
    ended = observed(container=container(ContainerStatus.EXITED, exit_code=0), serving=False, cause=cause)
    history = learn(SERVED, ended, desired().timing, 50)
    told = list(narrate(scene(), scene(ended, decide(ended, desired(), history, 50), history)))
    assert [one.event for one in told] == [Event.SERVER_EXITED, Event.KNOWN_CAUSE, Event.SERVER_STARTING]
    assert "exit status 0" in told[0].message
    assert (told[1].message, told[1].fields["remedy"]) == ("the disk is full", "make room")


def test_out_of_memory_and_a_stop_by_hand_are_named() -> None:
    for changes, event in (
        ({"container": container(ContainerStatus.EXITED, oom_killed=True)}, Event.SERVER_OUT_OF_MEMORY),
        ({"container": container(ContainerStatus.EXITED), "signal": "15"}, Event.SERVER_STOPPED_BY_HAND),
    ):
        ended = observed(serving=False, **changes)
        history = learn(SERVED, ended, desired().timing, 50)
        assert events(scene(), scene(ended, decide(ended, desired(), history, 50), history))[0] is event


def test_a_removed_container_is_told() -> None:
    gone = scene(observed(container=None, serving=False), Create(Phase.ABSENT, "one is made", SPEC), History())
    assert events(scene(), gone) == [Event.SERVER_REMOVED, Event.SERVER_STARTING]


def test_the_engine_going_and_coming_is_told() -> None:
    out = scene(
        observed(engine_trouble="no engine", container=None), Wait(Phase.DEGRADED, "no engine; it goes on answering", 1)
    )
    assert events(scene(), out) == [Event.ENGINE_UNREACHABLE]
    assert events(out, scene())[0] is Event.ENGINE_BACK


def test_trouble_and_its_end_are_told() -> None:
    locked = Trouble(Layer.DATABASE, "the database is locked", "find who holds it")
    bad = scene(observed(troubles=(locked,)), Wait(Phase.DEGRADED, "the database is locked", 6))
    assert list(narrate(scene(), bad)) == [
        Told(Event.DEGRADED, "the database is locked", {"layer": "database", "remedy": "find who holds it"})
    ]
    assert events(bad, scene()) == [Event.RECOVERED]


def test_a_refusal_is_told_with_its_remedy() -> None:
    history = replace(SERVED, refusal=Refusal(SPEC.digest, "the database is missing", "restore it", None))
    blocked = scene(observed(container=None, serving=False), Wait(Phase.BLOCKED, "the database is missing", 6), history)
    (told,) = narrate(scene(blocked.observed, history=history), blocked)
    assert (told.event, told.message) == (Event.BLOCKED, "the database is missing")
    assert told.fields["remedy"] == "restore it"


def test_a_foreign_container_is_named() -> None:
    foreign = container(labels={})
    seen = observed(container=foreign, serving=False)
    assert events(None, scene(seen, decide(seen, desired(), History(), 0), History())) == [Event.FOREIGN_CONTAINER]


def test_a_stop_and_its_end_are_told() -> None:
    stopping = scene(action=Stop(Phase.STOPPED, "stopping", "c", 30))
    assert events(scene(), stopping) == [Event.SERVER_STOPPING]
    assert events(stopping, scene(action=Done(Phase.STOPPED, "stopped"))) == [Event.SERVER_STOPPED]


def test_the_first_start_is_not_a_retry() -> None:
    ready = observed(container=container(ContainerStatus.EXITED), serving=False)
    assert events(None, scene(ready, Start(Phase.EXITED, "the server is started", "c"), History())) == [
        Event.SERVER_STARTING
    ]


def test_a_disk_that_fills_is_told_by_its_urgency() -> None:
    for critical, event in ((False, Event.DISK_WARNING), (True, Event.DISK_CRITICAL)):
        full = Trouble(Layer.DISK, "2 % free", "make room", critical=critical)
        seen = observed(troubles=(full,))
        assert events(scene(), scene(seen, decide(seen, desired(), SERVED, 1))) == [event]
