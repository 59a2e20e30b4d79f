"""What wakes the daemon's loop. A wake-up says "look now"; what it carries only colours the sentence."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflowd.model import Action, EngineEvent


@dataclass(frozen=True, slots=True)
class Look:
    """Something may have changed."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The engine told an event."""

    event: EngineEvent


@dataclass(frozen=True, slots=True)
class Reload:
    """SIGHUP: read the configuration anew."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """SIGTERM or SIGINT: stop the server and end."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker is through with its action."""

    action: Action
    error: Exception | None


Wake = Look | Heard | Reload | Terminate | Finished


class Inbox:
    """A queue of wake-ups.

    `put` may be called from any thread and from a signal handler: SimpleQueue.put is reentrant.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Wake] = queue.SimpleQueue()

    def put(self, wake: Wake) -> None:
        """Wake the loop."""
        self._queue.put(wake)

    def wait(self, seconds: float) -> list[Wake]:
        """Return what came: at once if something is there, after `seconds` with nothing at the latest."""
        try:
            wakes = [self._queue.get(timeout=max(seconds, 0.0))]
        except queue.Empty:
            return []
        while not self._queue.empty():
            wakes.append(self._queue.get())
        return wakes
