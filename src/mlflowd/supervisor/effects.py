"""Carries out one action. Runs in a worker thread; raises what went wrong, and changes nothing it was not told to.

A store is checked before the server that would write to it is made, and nothing running is stopped for a wish
that the machine refuses.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, ExitStatus, ImageMissingError, MlflowdError, PortTakenError, RefusedError
from mlflowd.events import Event
from mlflowd.host import journal, ports, secrets
from mlflowd.model import Create, Level, Pull, Rehearse, Replace, Restart, Settle, Start, Stop, Unpause, Upgrade
from mlflowd.operations import preflight, remote
from mlflowd.supervisor.transactions import Transactions

if TYPE_CHECKING:
    from mlflowd.engine.api import Progress
    from mlflowd.model import Action, ContainerSpec, Finding, Secrets
    from mlflowd.supervisor.doorkeeper import Doorkeeper
    from mlflowd.supervisor.place import Place
    from mlflowd.supervisor.wish import Wish


_TOLD_EVERY = 10.0
"""Seconds between two lines of progress in the journal."""


class Effects:
    """The hands of the supervisor, for one configuration."""

    def __init__(self, wish: Wish, place: Place, door: Doorkeeper, secrets: Secrets) -> None:
        self._engine = place.engine
        self._wish = wish
        self._state = place.state
        self._who = place.who
        self._private = place.runtime / "private"
        self._trial = place.runtime / "trial"
        self._told: tuple[Finding, ...] = ()
        self._transactions = Transactions(wish, place, self, door, secrets)
        self.leaving = False
        """Whether the daemon is to stop."""

    def leave(self) -> None:
        """Make no further server: the daemon is to stop, and the check before a start may take half a minute.

        A migration, which may take that long and more, is ended.
        """
        self.leaving = True
        self._transactions.hurry()

    def apply(self, action: Action, progress: Progress) -> None:
        """Do it. Raises MlflowdError; RefusedError (or one with a permanent exit status) where a person is needed."""
        match action:
            case Pull(image=image):
                self._fetch(image, progress)
            case Rehearse() | Upgrade() | Settle():
                self._transactions.apply(action, progress)
            case Create(spec=spec):
                self._create(spec, progress)
            case Start(container_id=container_id):
                self._again(container_id, progress)
            case Unpause(container_id=container_id):
                self._engine.unpause(container_id)
            case Restart(container_id=container_id, grace=grace):
                self._engine.stop(container_id, grace)
                self._again(container_id, progress)
            case Replace(container_id=container_id, spec=spec, grace=grace):
                self._replace(container_id, spec, grace, progress)
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

    def _again(self, container_id: str, progress: Progress) -> None:
        """Start the container that is there; where a database of an older schema is there by now, as an upgrade."""
        self._judge(preflight.guard(self._wish.settings, state=self._state, who=self._who))
        spec, chosen = self._wish.desired().spec, self._wish.chosen
        schema = remote.schema_of_file(self._wish.settings, self._who, chosen.able, spec) if spec and chosen else []
        self._judge(schema)
        if spec and any(finding.migrates for finding in schema):
            self._transactions.upgrade(spec, progress)
            return
        preflight.settle(self._wish.settings, self._who)
        self._restore(container_id)
        self._start(container_id)

    def _create(self, spec: ContainerSpec, progress: Progress) -> None:
        if self.check(spec, running=False, progress=progress):
            self._transactions.upgrade(spec, progress)
        else:
            self.make(spec)

    def _replace(self, container_id: str, spec: ContainerSpec, grace: float, progress: Progress) -> None:
        if self.check(spec, running=True, progress=progress):
            self._transactions.upgrade(spec, progress)
            return
        if self.leaving:
            return
        self._engine.stop(container_id, grace)
        self.check(spec, running=False)
        self._engine.remove(container_id)
        self.make(spec)

    def make(self, spec: ContainerSpec) -> None:
        """Make the container and start it, unless the daemon is to stop. Raises MlflowdError."""
        if self.leaving:
            return
        preflight.settle(self._wish.settings, self._who)
        secrets.write(self._private, spec.files, self._who)
        try:
            container_id = self._engine.create(spec)
        except ImageMissingError:
            self._wish.forget()
            raise
        self._start(container_id)

    def _restore(self, container_id: str) -> None:
        """Write the private files of a container that is there: a reboot empties /run.

        One that another wish has made keeps what it has: after a refused reload the old server is the one to start.
        """
        settings = self._wish.settings
        spec, container = self._wish.desired().spec, self._engine.inspect(settings.container.name)
        if spec and container and container.id == container_id and container.spec_hash == spec.digest:
            secrets.write(self._private, spec.files, self._who)

    def _start(self, container_id: str) -> None:
        try:
            self._engine.start(container_id)
        except PortTakenError as error:
            address = self._wish.settings.server.listen
            holder = ports.holder(address) or "another process"
            message = f"{address} is taken by {holder}"
            hint = "stop it, or change server.listen in /etc/mlflowd.toml"
            raise PortTakenError(message, hint) from error

    def check(self, spec: ContainerSpec, *, running: bool, progress: Progress | None = None) -> bool:
        """Look at all that the container needs; with `progress` its image tries the stores that are elsewhere.

        Return whether the start would have to migrate the database. Raises MlflowdError where something is wrong.
        """
        settings, chosen = self._wish.settings, self._wish.chosen
        if progress and remote.any_remote(settings):
            progress("trying the stores as the server will")
        found = preflight.preflight(
            settings,
            self._engine,
            state=self._state,
            who=self._who,
            running=running,
            spec=spec,
            able=chosen.able if chosen else None,
            trial=self._trial if progress else None,
        )
        self._judge(found)
        return any(finding.migrates for finding in found)

    def _judge(self, findings: list[Finding]) -> None:
        """Tell what the last checks did not say already: a mount that is waited for would fill the journal."""
        failures = [finding for finding in findings if finding.level is Level.FAILURE]
        warnings = [finding for finding in findings if finding.level is Level.WARNING]
        for finding in [*warnings, *failures]:
            if finding not in self._told:
                event = Event.PREFLIGHT_FAILED if finding in failures else Event.PREFLIGHT_WARNING
                journal.report(event, finding.message, check=finding.check, remedy=finding.remedy or None)
        self._told = (*warnings, *failures)
        if failures:
            raise _error(failures)


def _error(failures: list[Finding]) -> MlflowdError:
    """Return the error for these failures; one that may pass by itself does only where all may."""
    permanent = [finding for finding in failures if not finding.transient]
    worst = (permanent or failures)[0]
    if not permanent:
        return EngineError(worst.message, worst.remedy)
    return RefusedError(worst.message, worst.remedy, ExitStatus(worst.exit_status or ExitStatus.REFUSED))
