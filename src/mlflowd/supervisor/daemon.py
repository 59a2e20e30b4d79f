"""The loop: look, learn, decide, act, report; wake-ups in between.

Effects: those of the layers below. The loop itself waits for nothing long: effects run in the worker, slow checks
in the watches, and a look is bounded by the time limits of one engine call and one probe.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflowd import __version__
from mlflowd.errors import EngineError, ExitStatus, MlflowdError
from mlflowd.events import Event
from mlflowd.host import journal
from mlflowd.model import (
    Create,
    Done,
    History,
    Phase,
    Pull,
    Refusal,
    Replace,
    Restart,
    Settle,
    Start,
    Stop,
    Unpause,
    Upgrade,
    Wait,
)
from mlflowd.server import command, loglines, probe
from mlflowd.supervisor import half_done, history, policy
from mlflowd.supervisor.forward import Forwarder
from mlflowd.supervisor.inbox import Finished, Heard, Inbox, Reload, Terminate, Wake
from mlflowd.supervisor.listen import Listener
from mlflowd.supervisor.narrate import Scene, narrate
from mlflowd.supervisor.observer import Observer
from mlflowd.supervisor.outfit import Outfit, require_changeable
from mlflowd.supervisor.status import StatusFile
from mlflowd.supervisor.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflowd.config import Settings
    from mlflowd.host.notify import Notifier
    from mlflowd.model import Action, Container, Desired, Observed
    from mlflowd.supervisor.place import Place

_PERMANENT = frozenset({ExitStatus.REFUSED, ExitStatus.PERMISSION, ExitStatus.CONFIGURATION})
_EXTENSION = 60.0
"""Seconds asked of systemd in each cycle of a start or a stop that goes on; a loop that hangs ends by them."""
_STOP_MARGIN = 15.0
"""Seconds beyond the grace until an engine that does not stop the server holds up our own end no longer."""


class Daemon:
    """Supervises one server until it is told to stop."""

    def __init__(self, settings: Settings, load: Callable[[], Settings], place: Place, notifier: Notifier) -> None:
        self.inbox = Inbox()
        """Where signal handlers put their wake-ups."""
        self._load = load
        self._place = place
        self._notifier = notifier
        self._outfit = Outfit(settings, place, self.inbox)
        self._observer = Observer(place.engine)
        self._work = Work(self.inbox)
        self._status = StatusFile(place.runtime / "status.json")
        self._forwarder = Forwarder(place.engine, place.runtime / "log-place.json")
        self._listener = Listener(place.engine, settings.container.name, self.inbox)
        self._history = History()
        self._transaction = half_done.last(place)
        self._scene: Scene | None = None
        self._ready = False
        self._stop_by: float | None = None
        self._exit: ExitStatus | None = None

    def run(self) -> ExitStatus:
        """Cycle until the server is stopped, or the first start is refused; return the exit status."""
        self._begin()
        try:
            while True:
                action = self._cycle()
                if self._exit is not None:
                    return self._exit
                if isinstance(action, Done):
                    return ExitStatus.OK
                for wake in self.inbox.wait(action.seconds if isinstance(action, Wait) else 0.0):
                    self._take(wake)
        finally:
            self._end()

    def _begin(self) -> None:
        journal.report(Event.DAEMON_STARTED, f"mlflowd {__version__} started", version=__version__)
        self._listener.start()
        self._forwarder.start()
        self._outfit.begin()

    def _end(self) -> None:
        self._listener.end()
        self._outfit.end()
        with suppress(OSError):
            self._forwarder.save()
        journal.report(Event.DAEMON_STOPPED, "mlflowd ended")

    # --- one cycle ------------------------------------------------------------------------------

    def _cycle(self) -> Action:
        now = time.monotonic()
        if self._work.blind:
            return self._linger()
        observed = self._look()
        self._history = history.learn(self._history, observed, self._desired.timing, now)
        action = policy.decide(observed, self._desired, self._history, now)
        self._tell(Scene(observed, self._history, action))
        if self._work.action is not None and not isinstance(action, Stop | Done):
            return self._linger(action.phase)
        return self._act(action)

    def _look(self) -> Observed:
        if not self._outfit.wish.known:
            self._find()
        observed = self._observer.look(self._desired, self._serves, self._outfit.troubles)
        observed = replace(observed, unfinished=half_done.sentence(self._place))
        self._outfit.serving(observed.serving)
        self._follow(observed)
        return observed

    def _find(self) -> None:
        try:
            self._outfit.wish.find()
        except EngineError:
            return  # the look says why

    def _act(self, action: Action) -> Action:
        if isinstance(action, Wait):
            return action
        if isinstance(action, Stop | Done):
            self._work.abandon()
        if self._stop_by is not None:
            self._notifier.stopping(action.reason)
        if isinstance(action, Done):
            return action
        self._observer.forget()
        if (self._history.failures and isinstance(action, Create | Start)) or isinstance(action, Restart | Unpause):
            self._status.restarted()
        if isinstance(action, Restart | Replace | Upgrade | Settle):
            self._status.interrupted(action.reason, time.monotonic())
        self._work.begin(action, self._outfit.effects)
        return self._linger(action.phase)

    def _linger(self, phase: Phase | None = None) -> Wait:
        """Wait for the worker, alive to signals and to systemd."""
        action = self._work.action
        reason = self._work.progress or (action.reason if action else "")
        self._pulse(reason)
        return Wait(phase or (action.phase if action else Phase.UNKNOWN), reason, 1.0)

    # --- wake-ups -------------------------------------------------------------------------------

    def _take(self, wake: Wake) -> None:
        match wake:
            case Heard(event=event):
                if not self._work.blind:
                    self._observer.note(event)
            case Terminate():
                self._terminate()
            case Reload() if self._work.transacting:
                self._work.defer(wake)  # an upgrade ends as it began, and only then is another configuration begun
            case Reload():
                self._reload()
            case Finished():
                self._finish(wake)

    def _terminate(self) -> None:
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._settings.container.stop_grace + _STOP_MARGIN
            self._outfit.effects.leave()

    def _finish(self, wake: Finished) -> None:
        if not self._work.finish(wake):
            return
        if isinstance(wake.action, Upgrade | Settle):
            self._transaction = half_done.last(self._place)
            self._outfit.rest()
        if isinstance(wake.action, Restart):
            self._history = history.failed(self._history, time.monotonic())
        if isinstance(wake.action, Stop | Upgrade | Settle):
            self._history = history.stopped(self._history)
        if wake.error is not None:
            self._fail(wake.action, wake.error)
        elif isinstance(wake.action, Create | Start | Restart | Replace):
            self._history = history.begun(self._history)

    def _fail(self, action: Action, error: Exception) -> None:
        if not isinstance(error, MlflowdError):
            journal.report(Event.INTERNAL_ERROR, f"mlflowd has a defect: {error!r}", exc_info=error)
        elif error.exit_status in _PERMANENT:
            self._refuse(error)
            return
        else:
            event = Event.IMAGE_FAILED if isinstance(action, Pull) else Event.RETRY_LATER
            journal.report(event, error.message, remedy=error.hint or None, **self._attempt())
        why = error.message if isinstance(error, MlflowdError) else ""
        self._history = history.failed(self._history, time.monotonic(), why)

    def _attempt(self) -> dict[str, Any]:
        """Return the fields of a failed attempt: which one it was, and how long the next one waits."""
        after = history.failed(self._history, time.monotonic())
        wait = policy.backoff(after, self._desired.timing)
        return {"attempt": after.failures, "wait": f"{wait:g} s", "image": self._desired.image}

    def _refuse(self, error: MlflowdError) -> None:
        """Give up where nothing serves yet; later on, say so and go on looking."""
        spec = self._desired.spec
        until = time.monotonic() + self._settings.restart.backoff_max
        refusal = Refusal(spec.digest if spec else None, error.message, error.hint, until)
        self._history = history.refused(self._history, refusal)
        if not self._ready and self._stop_by is None:
            self._exit = error.exit_status

    def _reload(self) -> None:
        if self._ready:
            self._notifier.reloading()
        try:
            settings = self._load()
            self._change(settings)
        except MlflowdError as error:
            message = f"the old configuration stays: {error.message}"
            journal.report(Event.RELOAD_REFUSED, message, remedy=error.hint or None)
        if self._ready:
            self._notifier.ready(self._scene.action.reason if self._scene else "reloaded")

    def _change(self, settings: Settings) -> None:
        require_changeable(self._settings, settings)
        half_done.forgive(self._place)
        outfit = Outfit(settings, self._place, self.inbox)
        self._outfit.end()
        self._outfit = outfit
        self._outfit.begin()
        self._history = history.wished(self._history)
        journal.configure(settings.log.level)
        journal.report(Event.RELOADED, "the new configuration is in effect")

    # --- reporting ------------------------------------------------------------------------------

    def _tell(self, scene: Scene) -> None:
        for told in narrate(self._scene, scene):
            journal.report(told.event, told.message, **{key: value for key, value in told.fields.items() if value})
        self._scene = scene
        if scene.observed.serving and not self._ready:
            self._ready = True
            self._notifier.ready(scene.action.reason)
        self._give_up(scene)
        served = self._outfit.served(self._ready, scene.observed.container, self._transaction)
        with suppress(OSError):  # a full /run costs the status, not the supervision
            self._status.update(scene, scene.action.reason, served, time.monotonic())
            self._forwarder.save()
        self._pulse(scene.action.reason)

    def _give_up(self, scene: Scene) -> None:
        """End where the first start met what no retry cures, so that `systemctl start` says so."""
        refusal = scene.history.refusal
        blocked = isinstance(scene.action, Wait) and scene.action.phase is Phase.BLOCKED
        incurable = refusal is not None and refusal.until is None and blocked
        if refusal and incurable and not self._ready and self._stop_by is None:
            self._exit = ExitStatus.REFUSED

    def _pulse(self, reason: str) -> None:
        self._notifier.status(reason)
        self._notifier.watchdog()
        if not self._ready or self._stop_by is not None:
            self._notifier.extend(_EXTENSION)

    def _follow(self, observed: Observed) -> None:
        container = observed.container
        if container is not None and container.ours and container.running and self._settings.log.forward:
            # A run that this daemon did not start is followed from now on, unless the last daemon left its place.
            since = loglines.instant(container.started_at) if self._scene else time.time()
            self._forwarder.follow(container.run, container.id, since)

    @property
    def _settings(self) -> Settings:
        return self._outfit.settings

    @property
    def _desired(self) -> Desired:
        return self._outfit.wish.desired(self._stop_by)

    def _serves(self, container: Container | None) -> bool:
        """Probe where the container publishes: after a refused wish that is not where the settings say."""
        settings = self._settings
        address = container.published if container and container.published else settings.server.listen
        return probe.health(address, settings.health.timeout, command.static_prefix(settings)).ok
