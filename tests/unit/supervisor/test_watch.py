"""The threads of the slow checks: when they look again."""

from __future__ import annotations

import threading

from mlflowd.model import Layer, Trouble
from mlflowd.supervisor.inbox import Inbox
from mlflowd.supervisor.watch import Check, Watch

GONE = Trouble(Layer.ARTIFACTS, "the store is away")


def test_trouble_is_looked_at_again_sooner_and_its_end_wakes_the_loop() -> None:
    answers = iter([(GONE,), ()])
    both = threading.Event()

    def look() -> tuple[Trouble, ...]:
        found = next(answers)
        if not found:
            both.set()
        return found

    inbox = Inbox()
    watch = Watch("test", (Check("artifacts", 3600, look, again=0.05),), inbox)
    watch.start()
    assert both.wait(10)
    assert len(inbox.wait(10)) >= 1
    watch.end()
    watch.join(10)
    assert watch.findings == ()


def test_without_trouble_the_interval_holds() -> None:
    looks: list[int] = []
    first = threading.Event()

    def look() -> tuple[Trouble, ...]:
        looks.append(1)
        first.set()
        return ()

    watch = Watch("test", (Check("artifacts", 3600, look, again=0.0),), Inbox())
    watch.start()
    assert first.wait(10)
    watch.serving(answers=True)  # a wake-up that is no reason for this check
    watch.end()
    watch.join(10)
    assert looks == [1]


def test_a_look_from_before_a_rest_is_not_believed_after_it() -> None:
    looking, go_on, looked_again = threading.Event(), threading.Event(), threading.Event()
    rested: list[bool] = []

    def look() -> tuple[Trouble, ...]:
        if rested:
            looked_again.set()
            return ()
        looking.set()
        assert go_on.wait(10)
        return (GONE,)

    inbox = Inbox()
    watch = Watch("test", (Check("stores", 3600, look, rest=lambda: rested.append(True)),), inbox)
    watch.start()
    assert looking.wait(10)
    watch.rest()
    go_on.set()
    assert looked_again.wait(10)
    watch.end()
    watch.join(10)
    assert watch.findings == ()
    assert inbox.wait(0) == []
