"""The probes' way past the server's login: their user is made when it is missing, and what cannot be made is said.

Effects: HTTP requests to the server; with the admin's password only where the engine says that our own container is
published there.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError
from mlflowd.model import Layer, Trouble
from mlflowd.server import accounts, command, login
from mlflowd.server.accounts import Counter, Verdict
from mlflowd.server.call import Login
from mlflowd.server.probe import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflowd.config import Settings
    from mlflowd.model import Secrets
    from mlflowd.server.probe import Answer
    from mlflowd.supervisor.place import Place

_PATIENCE = 60.0
"""Seconds between two tries to mend what could not be mended: a wrong password costs the server a hash."""
_CHANGED = "docs/login.md says how to change the admin's password, there and here"


class Doorkeeper:
    """Lets the probes of one configuration through."""

    def __init__(self, settings: Settings, place: Place, secrets: Secrets) -> None:
        self._settings = settings
        self._engine = place.engine
        self._enabled = settings.login.enabled
        self._admin = Login(login.ADMIN, secrets.get(login.ADMIN_PASSWORD))
        self._probe = Login(login.PROBE, secrets.get(login.PROBE_PASSWORD))
        self._turn = threading.Lock()
        """The probes look from threads of their own; one mends at a time."""
        self._next_try = 0.0
        self._obstacle = ""
        self._recognised = False

    def through(self, look: Callable[[Login | None], Answer]) -> Answer:
        """Return what a probe sees; where its login is rejected, its user is mended and it looks again."""
        answer = look(self._probe if self._enabled else None)
        if answer.kind is not Kind.REJECTED:
            return answer
        return look(self._probe) if self._mended() else answer

    def trouble(self, layer: Layer, answer: Answer) -> Trouble:
        """Return what is to be said of a probe that was rejected nevertheless."""
        reason = f" and is not mended: {self._obstacle}" if self._obstacle else ""
        return Trouble(layer, f"{answer.sentence}{reason}", _CHANGED)

    def look(self) -> tuple[Trouble, ...]:
        """Return whether the configuration knows the admin's password: asked once for each time that it serves.

        MLflow uses the configured one when it makes the user, and never again.
        """
        counter = None if self._recognised or not self._enabled else self._counter()
        if counter is None:
            return ()
        outcome = accounts.recognised(counter)
        self._recognised = outcome.verdict is Verdict.DONE
        if outcome.verdict is not Verdict.WRONG_PASSWORD:
            return ()
        message = f"{outcome.sentence}: it counts when the user is made, not when it changes later"
        return (Trouble(Layer.SERVING, message, _CHANGED, critical=False),)

    def admin(self) -> Login | None:
        """Return the admin's login where our own server has taken it, for what the probes' user may not see."""
        counter = self._counter() if self._enabled and self._recognised else None
        return counter.admin if counter else None

    def rest(self) -> None:
        """Forget what was found: another server may come."""
        self._recognised, self._next_try, self._obstacle = False, 0.0, ""

    def _mended(self) -> bool:
        """Mend the user; what another probe has just tried holds for this one as well."""
        with self._turn:
            if time.monotonic() < self._next_try:
                return not self._obstacle
            if (counter := self._counter()) is None:
                return False
            outcome = accounts.settle(counter, self._probe)
            self._obstacle = "" if outcome.verdict is Verdict.DONE else outcome.sentence
            self._next_try = time.monotonic() + _PATIENCE
            return not self._obstacle

    def _counter(self) -> Counter | None:
        """Return where the admin's password may be sent: the published address of our own container, if it is up."""
        settings = self._settings
        try:
            container = self._engine.inspect(settings.container.name)
        except EngineError:
            return None
        listen = settings.server.listen
        if container is None or not (container.ours and container.running and container.published == listen):
            return None
        return Counter(listen, self._admin, settings.health.database_timeout, command.static_prefix(settings))
