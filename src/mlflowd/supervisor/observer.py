"""One look at the world: the engine's container, the server's answer, the findings of the watches.

Effects: one engine call and one HTTP request a look; after an end, and now and then during a long start, one
more call for the last log lines.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError
from mlflowd.model import Observed
from mlflowd.server import causes, loglines

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflowd.engine.api import Engine
    from mlflowd.model import Container, Desired, EngineEvent, KnownCause, Trouble

_EARLY = 5.0
"""Seconds that a server starts in peace; from then on its log is asked at this interval why it takes so long."""
_TAIL = 200
"""Log lines in which the cause of an end is looked for: a traceback through SQLAlchemy has about 120."""


class Observer:
    """Looks, and remembers only what one look cannot see: who sent a signal, why a run ended."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._signal: tuple[str, str] | None = None
        self._cause: tuple[str, KnownCause | None] | None = None
        self._read_at = 0.0
        self._since = time.time()
        self._served = ""
        self._ended = ""

    def note(self, event: EngineEvent) -> None:
        """Keep who ended the container; the event is not believed for more."""
        if event.action == "kill":
            self._signal = (event.container_id, event.attributes.get("signal", "?"))
        elif event.action == "start":
            self._signal = None

    def forget(self) -> None:
        """Take back what was noted: the signal was our own."""
        self._signal = None

    def look(
        self, desired: Desired, serves: Callable[[Container | None], bool], troubles: tuple[Trouble, ...]
    ) -> Observed:
        """Return what is there now; an engine that cannot be asked is part of it, not an error.

        `serves` probes the server; it is given the container, None where the engine does not tell of one.
        """
        try:
            container = self._engine.inspect(desired.name)
        except EngineError as error:
            return Observed(error.message, None, serves(None), troubles, engine_remedy=error.hint)
        if container is None or not container.ours:
            return Observed("", container, serving=False)
        if container.running:
            serving = serves(container)
            cause = None if serving else self._hindrance(container, desired)
            self._served = container.run if serving else self._served
            return Observed("", container, serving, troubles, cause=cause)
        return Observed("", container, serving=False, cause=self._why(container, desired), signal=self._sent(container))

    def _sent(self, container: Container) -> str:
        return self._signal[1] if self._signal and self._signal[0] == container.id else ""

    def _hindrance(self, container: Container, desired: Desired) -> KnownCause | None:
        """Return why a server does not come to serve: MLflow tries for minutes, and uvicorn's workers for ever."""
        # A run that is older than this daemon may have served: what it logged then explains nothing.
        if container.run == self._served or loglines.instant(container.started_at) < self._since:
            return None
        if self._cause is None or self._cause[0] != container.run:
            self._cause, self._read_at = (container.run, None), time.monotonic()
        if self._cause[1] is None and time.monotonic() - self._read_at >= _EARLY:
            self._cause, self._read_at = (container.run, self._read(container, desired)), time.monotonic()
        return self._cause[1]

    def _why(self, container: Container, desired: Desired) -> KnownCause | None:
        if self._ended != container.run:
            self._ended, self._cause = container.run, (container.run, self._read(container, desired))
        return self._cause[1] if self._cause else None

    def _read(self, container: Container, desired: Desired) -> KnownCause | None:
        if not container.started_at:
            return None
        try:
            since = loglines.instant(container.started_at)
            raw = self._engine.logs(container.id, since=since, follow=False, tail=_TAIL)
            lines = [loglines.plain(loglines.split(line)[1]) for line in raw]
        except EngineError:
            lines = []
        served = container.run == self._served
        return causes.recognise(lines, container.exit_code, container.oom_killed, desired.spec, served=served)
