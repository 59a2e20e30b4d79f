"""An upgrade or a restore as a transaction: it is finished, or everything is as it was before.

Effects: those of supervisor/steps.py; the Ledger is written ahead of each step, so that a daemon that finds a
transaction knows what may be half done. Runs in the worker's thread, while the loop answers systemd.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.events import Event
from mlflowd.host import journal
from mlflowd.host.occupation import occupied
from mlflowd.operations import artifact_swap, migration
from mlflowd.operations.transaction import Kind, Ledger, Rejection, Step, Transaction, advance, new, outcome
from mlflowd.supervisor import active_runs
from mlflowd.supervisor.steps import Steps, keep_log
from mlflowd.supervisor.way_back import last_served, reference_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflowd.engine.api import Progress
    from mlflowd.model import ContainerSpec, Secrets
    from mlflowd.supervisor.doorkeeper import Doorkeeper
    from mlflowd.supervisor.hands import Hands
    from mlflowd.supervisor.place import Place
    from mlflowd.supervisor.wish import Wish

    Work = Callable[[Transaction, Progress], Transaction]

_AGAIN = {
    Kind.UPGRADE: "mend the cause, then: sudo systemctl reload mlflowd",
    Kind.RESTORE: "mend the cause, then once more: sudo mlflowd restore",
}
_BEGUN = {Kind.UPGRADE: Event.UPGRADE_STARTED, Kind.RESTORE: Event.RESTORE_STARTED}
_DONE = {Kind.UPGRADE: Event.UPGRADE_DONE, Kind.RESTORE: Event.RESTORE_DONE}
_UNDONE = {Kind.UPGRADE: Event.UPGRADE_UNDONE, Kind.RESTORE: Event.RESTORE_UNDONE}
_FORWARD = frozenset({Step.START, Step.GATE, Step.COMMIT})
"""Steps after which the data are complete: one that was cut short there goes on."""


class Changeover:
    """The transactions of one configuration."""

    def __init__(self, wish: Wish, place: Place, hands: Hands, door: Doorkeeper, secrets: Secrets) -> None:
        self._wish = wish
        self._place = place
        self._door = door
        self._hands = hands
        self._steps = Steps(wish, place, hands, door, secrets)
        self._ledger: Ledger = self._steps.ledger

    # --- what the policy asks for ---------------------------------------------------------------

    def rehearse(self, spec: ContainerSpec, progress: Progress) -> None:
        """Try the migration on a copy; an image that does not pass is rejected, and the server stays as it is.

        The same MLflow (with a driver more, as another store needs it) migrates nothing, and no copy is needed.
        """
        self._refuse_rejected(spec)
        if self._wish.settings.upgrade.rehearse and self._steps.may_migrate(self._described(spec)):
            try:
                self._rehearse(spec, progress)
            except migration.MigrationError as error:
                if not self._hands.leaving:  # else it was ended for that, which says nothing of the image
                    self._reject(spec, error)
                return
        self._wish.rehearsed()

    def upgrade(self, spec: ContainerSpec, progress: Progress, *, migrates: bool) -> None:
        """Change to this image. Raises what keeps it from beginning; what fails later is taken back and told.

        `migrates`: the database has an older schema, whatever the images say.
        """
        self._refuse_rejected(spec)
        transaction = self._described(spec)
        transaction = replace(transaction, migrates=migrates or self._steps.may_migrate(transaction))
        if transaction.migrates:
            migration.require_room(self._steps.databases, self._place.state / "rehearsal")
        if runs := self._wish.runs.look(self._door):
            active_runs.warn(runs, f"the upgrade to {spec.image} interrupts them")
        with occupied(self._place.state, "an upgrade"):
            # What a restore has set aside is a person's to remove; the copy from before the last upgrade makes room.
            self._ledger.clear(*(past.id for past in self._ledger.outcomes() if past.kind is Kind.RESTORE))
            self._ledger.begin(transaction)
            self._forward(transaction, progress)

    def settle(self, progress: Progress) -> None:
        """Finish the transaction that is written down, or take it back."""
        if (transaction := self._ledger.pending()) is None:
            return
        with occupied(self._place.state, f"a {transaction.kind}"):
            migration.abandon(self._place.engine, self._wish.settings.container.name)
            fresh = transaction.step is Step.READY and transaction.kind is Kind.RESTORE
            if fresh or (transaction.step in _FORWARD and self._target_stands(transaction)):
                self._forward(transaction, progress)
            elif transaction.step is Step.REVERT:
                self._back(transaction, progress)
            else:
                why = f"mlflowd ended in the middle of it (at the step {transaction.step!s})."
                self._revert(transaction, RefusedError(why), progress)

    # --- forward --------------------------------------------------------------------------------

    def _forward(self, transaction: Transaction, progress: Progress) -> None:
        progress(f"{transaction.kind}: {transaction.target}")
        if transaction.step is Step.READY:
            _tell(_BEGUN, transaction, f"the {transaction.kind} to {transaction.target} begins")
        try:
            for step, work in self._remaining(transaction):
                if step not in _FORWARD:
                    self._steps.persist()
                transaction = self._at(transaction, step)
                transaction = work(transaction, progress)
        except Exception as error:  # noqa: BLE001 - whatever it is, a defect included, the way back is the same
            self._revert(transaction, error, progress)
            return
        self._commit(self._at(transaction, Step.COMMIT))

    def _remaining(self, transaction: Transaction) -> list[tuple[Step, Work]]:
        """Return the steps that are left; one that was cut short after START begins there, with a new container."""
        steps = self._steps
        restore: list[tuple[Step, Work]] = [(Step.CHANGE, steps.change), (Step.PLACE, steps.place)]
        last: list[tuple[Step, Work]] = [(Step.START, steps.start), (Step.GATE, steps.gate)]
        if transaction.step in _FORWARD:
            return last
        middle = restore if transaction.kind is Kind.RESTORE else []
        return [(Step.STOP, steps.stop), (Step.COPY, steps.copy), *middle, (Step.MIGRATE, steps.migrate), *last]

    def _at(self, transaction: Transaction, step: Step) -> Transaction:
        """Write down that this step begins."""
        stopped_at = time.time() if step is Step.STOP else transaction.stopped_at
        transaction = advance(transaction, step, stopped_at=stopped_at)
        self._ledger.write(transaction)
        return transaction

    def _commit(self, transaction: Transaction) -> None:
        chosen, reference = self._wish.chosen, self._wish.settings.image.reference
        if chosen is not None and self._wish.rejection is None:
            self._wish.kept.serve(chosen.served)
            if chosen.pinned and reference not in self._wish.kept.read().pins:
                self._wish.kept.pin(reference, chosen.base.id)
        downtime = time.time() - transaction.stopped_at
        sentence = f"{self._success(transaction)}; clients could not be served for {downtime:.1f} s."
        self._ledger.end(outcome(transaction, sentence, ok=True))
        self._steps.tidy(transaction)
        _tell(_DONE, transaction, sentence, downtime=f"{downtime:.1f}")
        self._wish.forget()

    def _success(self, transaction: Transaction) -> str:
        kept = self._ledger.directory(transaction.id) / "before"
        if transaction.kind is Kind.UPGRADE:
            return f"MLflow {self._wish.mlflow_version} serves from {transaction.reference}"
        artifacts = self._wish.settings.artifact_store.directory
        moved = transaction.staged_artifacts and artifacts
        aside = f" and {artifact_swap.aside_in(artifacts, transaction.id)}" if moved and artifacts else ""
        return f"the backup {transaction.snapshot} is in place, and the data of before are in {kept}{aside}"

    # --- back -----------------------------------------------------------------------------------

    def _revert(self, transaction: Transaction, error: Exception, progress: Progress) -> None:
        """Write down why, then take everything back."""
        if not isinstance(error, MlflowdError):
            journal.report(Event.INTERNAL_ERROR, f"mlflowd has a defect: {error!r}", exc_info=error)
        if isinstance(error, migration.MigrationError):
            keep_log(self._ledger.directory(transaction.id) / "migration.log", error.output)
        why = error.message if isinstance(error, MlflowdError) else f"mlflowd has a defect: {error!r}"
        remedy = error.hint if isinstance(error, MlflowdError) else ""
        if self._hands.leaving:  # the migration was ended for it, or whatever else was not awaited
            why, remedy = "mlflowd was to stop in the middle of it.", ""
        else:
            remedy = remedy or _AGAIN[transaction.kind]
        transaction = advance(transaction, Step.REVERT, reached=str(transaction.step), why=why, remedy=remedy)
        self._ledger.write(transaction)
        self._back(transaction, progress)

    def _back(self, transaction: Transaction, progress: Progress) -> None:
        progress(f"taking the {transaction.kind} back: {transaction.why}")
        self._steps.take_away(transaction)
        self._steps.put_back(transaction, progress)
        sentence = self._failure(transaction)
        rejection = self._rejection(transaction, sentence)
        self._ledger.end(outcome(transaction, sentence, ok=False), rejection)
        self._steps.tidy(transaction)
        _tell(_UNDONE, transaction, sentence, remedy=transaction.remedy or None)
        self._wish.forget()

    def _failure(self, transaction: Transaction) -> str:
        logs = self._ledger.directory(transaction.id)
        named = [str(path) for path in (logs / "migration.log", logs / "server.log") if path.exists()]
        log = f" Its log: {' and '.join(named)}." if named else ""
        image = f" ({transaction.before_reference})" if transaction.before_reference else ""
        after = f"image{image} and database are those of before"
        if transaction.kind is Kind.RESTORE:
            after = "the data are those of before"
        return f"The {transaction.kind} to {transaction.target} failed: {transaction.why} It was undone: {after}.{log}"

    def _rejection(self, transaction: Transaction, sentence: str) -> Rejection | None:
        """Return what keeps the image from being tried again; nothing where only the daemon was to stop."""
        if transaction.kind is not Kind.UPGRADE or not transaction.remedy:
            return None
        return Rejection(
            transaction.image, transaction.reference, transaction.before_reference, sentence, transaction.remedy
        )

    # --- what they need -------------------------------------------------------------------------

    def _rehearse(self, spec: ContainerSpec, progress: Progress) -> None:
        directory = self._place.state / "rehearsal"
        try:
            with occupied(self._place.state, "a rehearsal"):
                limit = self._wish.settings.upgrade.migration_timeout
                done = migration.rehearse(self._steps.databases, self._place.engine, spec, directory, limit, progress)
        except migration.RehearsalImpossibleError as error:
            journal.report(Event.PREFLIGHT_WARNING, error.message, check="rehearsal", remedy=error.hint or None)
            return
        seconds = f"{done.seconds:.1f}"
        journal.report(Event.UPGRADE_REHEARSED, done.sentence, image=spec.image, seconds=seconds)

    def _described(self, spec: ContainerSpec) -> Transaction:
        before = last_served(self._place, self._wish.kept)
        known = self._wish.kept.read()
        return replace(
            new(Kind.UPGRADE),
            reference=spec.image,
            image=spec.image_id,
            before_image=before.image.id if before else "",
            before_reference=reference_of(before.base, known) if before else "",
        )

    def _target_stands(self, transaction: Transaction) -> bool:
        """Whether what is wanted is still what the transaction led to."""
        spec = self._wish.desired().spec
        return spec is not None and transaction.image in {"", spec.image_id}

    def _reject(self, spec: ContainerSpec, error: migration.MigrationError) -> None:
        log = self._ledger.directory("rehearsal") / "migration.log"
        keep_log(log, error.output)
        failed = f"The upgrade to {spec.image} did not pass its rehearsal: {error.message}"
        sentence = f"{failed} Nothing was touched. Its log: {log}."
        before = self._described(spec).before_reference
        remedy = error.hint or _AGAIN[Kind.UPGRADE]
        self._ledger.reject(Rejection(spec.image_id, spec.image, before, sentence, remedy))
        journal.report(Event.UPGRADE_UNDONE, sentence, image=spec.image, remedy=remedy)
        self._wish.forget()

    def _refuse_rejected(self, spec: ContainerSpec) -> None:
        """Raise RefusedError for an image that was tried, where there is no other one to go on with."""
        if rejection := self._ledger.rejected().get(spec.image_id):
            raise RefusedError(rejection.sentence, rejection.remedy)


def _tell(events: Mapping[Kind, Event], transaction: Transaction, sentence: str, **more: str | None) -> None:
    journal.report(
        events[transaction.kind],
        sentence,
        image=transaction.reference or None,
        snapshot=transaction.snapshot or None,
        **more,  # type: ignore[arg-type]  # fields of the event; none of them is the priority
    )
