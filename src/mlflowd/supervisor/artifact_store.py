"""The artifact store while the server serves: an object through the server now and then, a cheap look in between.

Effects: HTTP requests to the server; where the store is away, a look into the server's log for the reason.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError
from mlflowd.model import Layer
from mlflowd.server import command, loglines, outages, probe
from mlflowd.server.probe import Kind
from mlflowd.supervisor.watch import Check

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Trouble
    from mlflowd.server.call import Login
    from mlflowd.server.probe import Answer
    from mlflowd.supervisor.doorkeeper import Doorkeeper
    from mlflowd.supervisor.place import Place

_LIMIT = 30.0
"""Seconds for the round trip of a small object through the server; object stores take some."""
_GLANCE_LIMIT = 25.0
_GLANCE_INTERVAL = 30.0
"""Seconds between two listings of a remote store: with the limit, an outage is told within 55 s.

At Amazon's prices the listings of a month cost less than half a dollar.
"""
_AGAIN = 10.0
"""Seconds between two tries after a failure."""
_TAIL = 300
"""Log lines in which the reason is looked for: boto's traceback has about 100."""


class ArtifactStore:
    """Looks at the artifact store of one configuration."""

    def __init__(self, settings: Settings, place: Place, door: Doorkeeper) -> None:
        self._settings = settings
        self._engine = place.engine
        self._door = door
        self._prefix = command.static_prefix(settings)
        self._remote = settings.artifact_store.directory is None
        self._object_due = 0.0

    def check(self) -> Check:
        """Return the look as a check; a local store, which the check of the files sees, is looked at seldom."""
        interval = self._settings.health.artifact_interval
        return Check(
            "artifacts",
            min(interval, _GLANCE_INTERVAL) if self._remote else interval,
            self.look,
            while_serving=True,
            rest=self.rest,
            again=min(interval, _AGAIN),
        )

    def rest(self) -> None:
        """Begin with an object at the next start."""
        self._object_due = 0.0

    def look(self) -> tuple[Trouble, ...]:
        """Return what is wrong with the store, as the server sees it."""
        began = time.time()
        if whole := time.monotonic() >= self._object_due:
            answer = self._door.through(self._object)
        else:
            answer = self._door.through(self._glance)
        if answer.ok or answer.kind is Kind.REFUSED:
            if whole and answer.ok:
                self._object_due = time.monotonic() + self._settings.health.artifact_interval
            return ()
        if answer.kind is Kind.REJECTED:
            return (self._door.trouble(Layer.ARTIFACTS, answer),)
        said = self._said(began) if self._remote and answer.kind is Kind.ERROR else []
        return (outages.artifacts(self._settings, answer, said),)

    def _object(self, login: Login | None) -> Answer:
        return probe.artifacts(self._settings.server.listen, _LIMIT, self._prefix, login)

    def _glance(self, login: Login | None) -> Answer:
        return probe.listing(self._settings.server.listen, _GLANCE_LIMIT, self._prefix, login)

    def _said(self, since: float) -> list[str]:
        """Return what the server logged meanwhile: MLflow's answer has the status alone."""
        try:
            container = self._engine.inspect(self._settings.container.name)
            if container is None or not container.ours:
                return []
            raw = self._engine.logs(container.id, since=since, follow=False, tail=_TAIL)
            return [loglines.plain(loglines.split(line)[1]) for line in raw]
        except EngineError:
            return []
