"""A thread that brings the server's own log lines to the journal, each once, as far as a crash allows.

The place reached is kept in the runtime directory, so that the next daemon goes on where this one ended.
"""

from __future__ import annotations

import json
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError
from mlflowd.host import files, journal
from mlflowd.server import loglines

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.engine.api import Engine

_TICK = 1e-6
"""Seconds added to the last line's time, so that the engine does not send that line again."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the log of a container was read: the wall-clock time of its last line."""

    container_id: str
    at: float


class Forwarder(threading.Thread):
    """Follows the log of the container that it was last told of."""

    def __init__(self, engine: Engine, keep: Path) -> None:
        super().__init__(name="forwarder", daemon=True)
        self._engine = engine
        self._keep = keep
        self._mark = _read(keep)
        self._kept = self._mark
        self._following: str | None = None
        self._wanted: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()

    def follow(self, run: str, container_id: str, since: float) -> None:
        """Follow this run from `since` (wall clock), or from the place reached; nothing if it does already."""
        if run != self._following:
            self._following = run
            mark = self._mark
            if mark is not None and mark.container_id == container_id:
                since = max(since, mark.at + _TICK)
            self._wanted.put((container_id, since))

    def save(self) -> None:
        """Keep the place reached, where it moved."""
        mark = self._mark
        if mark is not None and mark != self._kept:
            files.write_atomically(self._keep, json.dumps([mark.container_id, mark.at]))
            self._kept = mark

    def run(self) -> None:
        """Forward run after run, until the process ends."""
        while True:
            container_id, since = self._wanted.get()
            with suppress(EngineError):  # an outage is a state; the cycle says so
                self._forward(container_id, since)
            self._following = None

    def _forward(self, container_id: str, since: float) -> None:
        reader = loglines.Reader()
        for raw in self._engine.logs(container_id, since=since, follow=True):
            line = reader.read(raw)
            if line is None:
                continue
            self._mark = Mark(container_id, line.at)
            journal.forward(line.text, line.priority)


def _read(keep: Path) -> Mark | None:
    try:
        container_id, at = json.loads(keep.read_text())
        return Mark(str(container_id), float(at))
    except (OSError, ValueError, TypeError):
        return None
