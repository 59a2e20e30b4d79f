"""Carries out one action. Runs in a worker thread; raises what went wrong, and changes nothing it was not told to.

A store is checked before the server that would write to it is made, and nothing running is stopped for a wish
that the machine refuses.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, ExitStatus, ImageMissingError, MlflowdError, PortTakenError, RefusedError
from mlflowd.events import Event
from mlflowd.host import journal, ports
from mlflowd.model import Create, Level, Pull, Replace, Restart, Start, Stop, Unpause
from mlflowd.operations import preflight

if TYPE_CHECKING:
    from mlflowd.engine.api import Progress
    from mlflowd.model import Action, ContainerSpec, Finding
    from mlflowd.supervisor.place import Place
    from mlflowd.supervisor.wish import Wish


_TOLD_EVERY = 10.0
"""Seconds between two lines of progress in the journal."""


class Effects:
    """The hands of the supervisor, for one configuration."""

    def __init__(self, wish: Wish, place: Place) -> None:
        self._engine = place.engine
        self._wish = wish
        self._state = place.state
        self._who = place.who

    def apply(self, action: Action, progress: Progress) -> None:
        """Do it. Raises MlflowdError; RefusedError (or one with a permanent exit status) where a person is needed."""
        match action:
            case Pull(image=image):
                self._fetch(image, progress)
            case Create(spec=spec):
                self._check(running=False)
                self._make(spec)
            case Start(container_id=container_id):
                self._guard()
                self._start(container_id)
            case Unpause(container_id=container_id):
                self._engine.unpause(container_id)
            case Restart(container_id=container_id, grace=grace):
                self._engine.stop(container_id, grace)
                self._guard()
                self._start(container_id)
            case Replace(container_id=container_id, spec=spec, grace=grace):
                self._replace(container_id, spec, grace)
            case Stop(container_id=container_id, grace=grace):
                self._engine.stop(container_id, grace)

    def _fetch(self, image: str, progress: Progress) -> None:
        """Get the image; STATUS= follows every step, the journal one in ten seconds."""
        told = time.monotonic()

        def tell(sentence: str) -> None:
            nonlocal told
            progress(sentence)
            if time.monotonic() - told >= _TOLD_EVERY:
                told = time.monotonic()
                journal.report(Event.IMAGE_PULLING, sentence, image=image)

        self._wish.fetch(tell)
        journal.report(Event.IMAGE_READY, f"the image {image} is there", image=image)

    def _replace(self, container_id: str, spec: ContainerSpec, grace: float) -> None:
        self._check(running=True)
        self._engine.stop(container_id, grace)
        self._check(running=False)
        self._engine.remove(container_id)
        self._make(spec)

    def _make(self, spec: ContainerSpec) -> None:
        preflight.settle(self._wish.settings, self._who)
        try:
            container_id = self._engine.create(spec)
        except ImageMissingError:
            self._wish.forget()
            raise
        self._start(container_id)

    def _start(self, container_id: str) -> None:
        try:
            self._engine.start(container_id)
        except PortTakenError as error:
            address = self._wish.settings.server.listen
            holder = ports.holder(address) or "another process"
            message = f"{address} is taken by {holder}"
            hint = "stop it, or change server.listen in /etc/mlflowd.toml"
            raise PortTakenError(message, hint) from error

    def _check(self, *, running: bool) -> None:
        settings = self._wish.settings
        self._judge(preflight.preflight(settings, self._engine, state=self._state, who=self._who, running=running))

    def _guard(self) -> None:
        """Look at the store again, briefly: MLflow would make an empty database in the place of a missing one."""
        self._judge(preflight.guard(self._wish.settings, state=self._state, who=self._who))

    def _judge(self, findings: list[Finding]) -> None:
        failures = [finding for finding in findings if finding.level is Level.FAILURE]
        for finding in findings:
            if finding.level is Level.WARNING:
                journal.report(
                    Event.PREFLIGHT_WARNING, finding.message, check=finding.check, remedy=finding.remedy or None
                )
        for finding in failures:
            journal.report(Event.PREFLIGHT_FAILED, finding.message, check=finding.check, remedy=finding.remedy or None)
        if failures:
            raise _error(failures)


def _error(failures: list[Finding]) -> MlflowdError:
    """Return the error for these failures; one that may pass by itself does only where all may."""
    permanent = [finding for finding in failures if not finding.transient]
    worst = (permanent or failures)[0]
    if not permanent:
        return EngineError(worst.message, worst.remedy)
    return RefusedError(worst.message, worst.remedy, ExitStatus(worst.exit_status or ExitStatus.REFUSED))
