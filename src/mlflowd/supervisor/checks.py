"""What is watched while the server serves, as Checks: the slow layers of health.

Effects: HTTP requests to the server, stat and statvfs of the stores; the fingerprint is recorded here, because a
database is worth remembering once it has answered.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, MlflowdError
from mlflowd.model import Layer
from mlflowd.server import command, identity, outages, probe
from mlflowd.stores import fingerprint, mounts, places, watch
from mlflowd.supervisor.watch import Check

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflowd.config import Settings
    from mlflowd.model import Trouble
    from mlflowd.supervisor.doorkeeper import Doorkeeper
    from mlflowd.supervisor.place import Place


_AGAIN = 3.0
"""Seconds between two looks at a database that is in trouble: its end is noticed soon."""


def of_server(settings: Settings, place: Place, door: Doorkeeper) -> tuple[Check, ...]:
    """Return the checks that ask the server itself, but for the artifact store, which may hold up the others."""
    health, address = settings.health, settings.server.listen
    prefix = command.static_prefix(settings)
    memory = _Memory(settings, place, door)

    def database() -> tuple[Trouble, ...]:
        answer = door.through(lambda login: probe.database(address, health.database_timeout, prefix, login))
        if answer.ok:
            memory.keep()
        return _trouble(settings, answer, door)

    return (
        Check("database", health.database_interval, database, while_serving=True, rest=memory.rest, again=_AGAIN),
        Check("login", health.artifact_interval, door.look, while_serving=True, rest=door.rest),
    )


def of_files(settings: Settings, place: Place) -> tuple[Check, ...]:
    """Return the checks of stores and disks."""
    served = _Served(settings)
    root = _root_of(place)

    def stores() -> tuple[Trouble, ...]:
        found = watch.stores(settings, served.place(), place.who)
        if not found:
            mounts.remember(settings, place.state, place.who)
        return found

    return (
        Check("stores", settings.health.store_interval, stores, while_serving=True, rest=served.rest),
        Check("disk", settings.disk.interval, lambda: watch.room(settings, place.state, root())),
    )


class _Memory:
    """Records the fingerprint of the database once for each time that it comes to serve."""

    def __init__(self, settings: Settings, place: Place, door: Doorkeeper) -> None:
        self._settings = settings
        self._door = door
        self._path = places.database_path(settings)
        self._place = place
        self._kept = False

    def keep(self) -> None:
        if self._kept:
            return
        # What cannot be recorded is the store check's to tell.
        with suppress(OSError, MlflowdError):
            if self._path:
                fingerprint.record(self._path, self._place.state, self._place.who)
            elif not self._ask():
                return
            self._kept = True

    def _ask(self) -> bool:
        """Record a server's database by its oldest experiment; False where the admin's login is not known yet."""
        settings, login = self._settings, self._door.admin()
        if settings.login.enabled and login is None:
            return False  # the probes' own user sees no experiment
        timeout, prefix = settings.health.database_timeout, command.static_prefix(settings)
        if found := identity.oldest(settings.server.listen, timeout, prefix, login):
            known = fingerprint.remote(settings.backend_store.database, found)
            fingerprint.keep(known, self._place.state, self._place.who)
        return True

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


def _trouble(settings: Settings, answer: probe.Answer, door: Doorkeeper) -> tuple[Trouble, ...]:
    if answer.ok or answer.kind is probe.Kind.REFUSED:
        return ()  # a server that is down is the loop's business
    if answer.kind is probe.Kind.REJECTED:
        return (door.trouble(Layer.DATABASE, answer),)
    return (outages.database(settings, answer),)
