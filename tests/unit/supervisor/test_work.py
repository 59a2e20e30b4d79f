"""The worker: what the loop may do beside it, and what it has to wait for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fakes.worlds import SPEC
from mlflowd.model import Phase, Pull, Rehearse, Replace, Settle, Upgrade
from mlflowd.supervisor.inbox import Finished, Inbox, Reload
from mlflowd.supervisor.work import Work

if TYPE_CHECKING:
    from mlflowd.engine.api import Progress
    from mlflowd.model import Action


class Held:
    """Effects that last until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def apply(self, action: Action, progress: Progress) -> None:
        progress(action.reason)
        assert self.go.wait(10)


def test_the_old_server_is_watched_while_an_image_is_fetched_or_rehearsed() -> None:
    work = Work(Inbox())
    for action in (Pull(Phase.SERVING, "x", "image"), Rehearse(Phase.SERVING, "x", SPEC)):
        work.action = action
        assert not work.blind
    for blind in (Upgrade(Phase.SERVING, "x", SPEC), Settle(Phase.SERVING, "x")):
        work.action = blind
        assert work.blind


def test_a_reload_waits_for_the_end_of_an_upgrade() -> None:
    inbox, held = Inbox(), Held()
    work = Work(inbox)
    action = Upgrade(Phase.SERVING, "upgrading", SPEC)
    work.begin(action, held)  # type: ignore[arg-type]  # what the worker needs of Effects
    assert work.transacting
    work.defer(Reload())
    assert inbox.wait(0) == []
    held.go.set()
    (finished,) = inbox.wait(10)
    assert isinstance(finished, Finished)
    assert work.finish(finished)
    assert inbox.wait(0) == [Reload()]
    assert not work.transacting


def test_a_replacement_does_not_hold_up_a_reload() -> None:
    work = Work(Inbox())
    work.action = Replace(Phase.SERVING, "x", "c", SPEC, 1.0)
    assert work.blind
    assert not work.transacting
