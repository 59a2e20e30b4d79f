"""What is watched while the server serves, as Checks: the slow layers of health.

Effects: HTTP requests to the server, stat and statvfs of the stores; the fingerprint is recorded here, because a
database is worth remembering once it has answered.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, MlflowdError
from mlflowd.model import Layer, Trouble
from mlflowd.server import command, probe
from mlflowd.stores import fingerprint, places, watch
from mlflowd.supervisor.watch import Check

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflowd.config import Settings
    from mlflowd.supervisor.place import Place

_ARTIFACT_TIMEOUT = 30.0
"""Seconds for the round trip of a small object through the server; object stores take some."""


def of_server(settings: Settings, place: Place) -> tuple[Check, ...]:
    """Return the checks that ask the server itself."""
    health = settings.health
    prefix = command.static_prefix(settings)
    memory = _Memory(settings, place)

    def database() -> tuple[Trouble, ...]:
        answer = probe.database(settings.server.listen, health.database_timeout, prefix)
        if answer.ok:
            memory.keep()
        return _trouble(Layer.DATABASE, answer)

    def artifacts() -> tuple[Trouble, ...]:
        return _trouble(Layer.ARTIFACTS, probe.artifacts(settings.server.listen, _ARTIFACT_TIMEOUT, prefix))

    return (
        Check("database", health.database_interval, database, while_serving=True, rest=memory.rest),
        Check("artifacts", health.artifact_interval, artifacts, while_serving=True),
    )


def of_files(settings: Settings, place: Place) -> tuple[Check, ...]:
    """Return the checks of stores and disks."""
    served = _Served(settings)
    root = _root_of(place)

    def stores() -> tuple[Trouble, ...]:
        return watch.stores(settings, served.place(), place.who)

    return (
        Check("stores", settings.health.store_interval, stores, while_serving=True, rest=served.rest),
        Check("disk", settings.disk.interval, lambda: watch.room(settings, place.state, root())),
    )


class _Memory:
    """Records the fingerprint of the database once for each time that it comes to serve."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self._path = places.database_path(settings)
        self._place = place
        self._kept = False

    def keep(self) -> None:
        if not self._kept and self._path:
            # What cannot be recorded is the store check's to tell.
            with suppress(OSError, MlflowdError):
                fingerprint.record(self._path, self._place.state, self._place.who)
                self._kept = True

    def rest(self) -> None:
        self._kept = False


class _Served:
    """The database file as it was when serving began: what a later file is compared with."""

    def __init__(self, settings: Settings) -> None:
        self._path = places.database_path(settings)
        self._first: fingerprint.Place | None = None

    def place(self) -> fingerprint.Place | None:
        if self._path:
            self._first = self._first or fingerprint.place(self._path)
        return self._first

    def rest(self) -> None:
        self._first = None


def _root_of(place: Place) -> Callable[[], str]:
    """Return a function that tells the engine's data directory, asked of the engine once."""
    known: list[str] = []

    def root() -> str:
        if not known:
            try:
                known.append(place.engine.info().root)
            except EngineError:
                return ""
        return known[0]

    return root


def _trouble(layer: Layer, answer: probe.Answer) -> tuple[Trouble, ...]:
    if answer.ok or answer.kind is probe.Kind.REFUSED:
        return ()  # a server that is down is the loop's business
    return (Trouble(layer, answer.sentence),)
