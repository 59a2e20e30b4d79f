"""Threads that look at what the server needs while it serves: database, artifacts, files, disk.

Each check may be slow (a locked database, a hung NFS mount), so none of them runs in the loop; the loop takes
their latest findings.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.events import Event
from mlflowd.host import journal
from mlflowd.supervisor.inbox import Inbox, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflowd.model import Trouble

    Findings = tuple[Trouble, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at."""

    name: str
    interval: float
    """Seconds from the end of one look to the next."""
    look: Callable[[], Findings]
    while_serving: bool = False
    """Whether it makes sense only while the server answers."""
    again: float | None = None
    """Seconds to the next look after one that found trouble, so that its end is noticed soon; None: the interval."""
    rest: Callable[[], None] = lambda: None
    """Called while the server does not answer: what was remembered of the last run is to be forgotten."""


class Watch(threading.Thread):
    """Runs its checks one after the other, each at its own interval."""

    def __init__(self, name: str, checks: Sequence[Check], inbox: Inbox) -> None:
        super().__init__(name=name, daemon=True)
        self._checks = checks
        self._inbox = inbox
        self._findings: dict[str, Findings] = {}
        self._due = {check.name: 0.0 for check in checks}
        self._wake = threading.Event()
        self._serving = False
        self._ended = False
        self._era = 0
        """Counts the calls of `rest`: what was looked at before one is not true after it."""
        self._rested = dict.fromkeys(self._due, 0)

    @property
    def findings(self) -> Findings:
        """What the latest looks found."""
        # One read of each value: the thread replaces values, it never changes them.
        return tuple(trouble for check in self._checks for trouble in self._findings.get(check.name, ()))

    def serving(self, answers: bool) -> None:
        """Say whether the server answers; the checks that ask it rest while it does not."""
        came, self._serving = answers and not self._serving, answers
        if came:
            self._due |= {check.name: 0.0 for check in self._checks if check.while_serving}
            self._wake.set()

    def rest(self) -> None:
        """Forget what was found and remembered: what is looked at has been exchanged, and by ourselves."""
        self._era += 1
        self._findings = {}
        self._due = dict.fromkeys(self._due, 0.0)
        self._wake.set()

    def end(self) -> None:
        """Let the thread end after the look that it is at."""
        self._ended = True
        self._wake.set()

    def run(self) -> None:
        """Look, wait, look again."""
        while not self._ended:
            for check in self._checks:
                self._visit(check)
            self._wake.wait(max(0.05, min(self._due.values()) - time.monotonic()))
            self._wake.clear()

    def _visit(self, check: Check) -> None:
        era = self._era
        if self._rested[check.name] != era:
            self._rested[check.name] = era
            check.rest()
        if check.while_serving and not self._serving:
            check.rest()
            self._note(check, ())
            self._due[check.name] = time.monotonic() + check.interval
        elif self._due[check.name] <= time.monotonic():
            found = self._look(check)
            if era != self._era:
                return
            self._note(check, found)
            wait = check.interval if check.again is None or not found else check.again
            self._due[check.name] = time.monotonic() + wait

    def _look(self, check: Check) -> Findings:
        try:
            return check.look()
        except Exception as error:  # noqa: BLE001 - a defect in one check must not end the others
            journal.report(Event.INTERNAL_ERROR, f"the check {check.name} failed: {error!r}", exc_info=error)
            return ()

    def _note(self, check: Check, found: Findings) -> None:
        if found != self._findings.get(check.name, ()):
            self._findings[check.name] = found
            self._inbox.put(Look())
