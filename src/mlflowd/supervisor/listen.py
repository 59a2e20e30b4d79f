"""A thread that hears the engine's events and wakes the loop; it resubscribes whenever the stream ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError
from mlflowd.supervisor.inbox import Heard, Inbox, Look

if TYPE_CHECKING:
    from mlflowd.engine.api import Engine

_RETRY = 0.5
"""Seconds between two tries to subscribe: an engine that comes back is noticed within a second."""


class Listener(threading.Thread):
    """Puts a wake-up into the inbox for each event of our container, until the process ends."""

    def __init__(self, engine: Engine, name: str, inbox: Inbox) -> None:
        super().__init__(name="listener", daemon=True)
        self._engine = engine
        self._container = name
        self._inbox = inbox
        self._ended = threading.Event()

    def run(self) -> None:
        """Subscribe again and again."""
        while not self._ended.is_set():
            self._hear()
            self._inbox.put(Look())  # events may have been lost while nobody listened
            self._ended.wait(_RETRY)

    def end(self) -> None:
        """Subscribe no more."""
        self._ended.set()

    def _hear(self) -> None:
        try:
            for event in self._engine.events(self._container):
                self._inbox.put(Heard(event))
        except EngineError:
            return  # an outage is a state; the cycle says so
