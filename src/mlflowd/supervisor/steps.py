"""The steps of a transaction, each by itself: forward, and the way back. Which one follows which: changeover.py.

Effects: the server's container is stopped, made and removed; databases are copied, migrated and put back; artifacts are
renamed; a new server is tried, which writes to its stores and takes that away again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, MlflowdError, RefusedError
from mlflowd.host import files, redaction
from mlflowd.host import secrets as private
from mlflowd.operations import artifact_swap, migration
from mlflowd.operations.copies import BACKEND, Copy, Databases
from mlflowd.operations.transaction import Kind, Ledger, Step, Transaction, advance
from mlflowd.server import causes, command, gate, loglines, probe
from mlflowd.stores import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.engine.api import Progress
    from mlflowd.model import Container, ContainerSpec, Secrets
    from mlflowd.server.call import Login
    from mlflowd.supervisor.doorkeeper import Doorkeeper
    from mlflowd.supervisor.hands import Hands
    from mlflowd.supervisor.place import Place
    from mlflowd.supervisor.wish import Wish

_UNTOUCHED = frozenset({Step.READY, Step.STOP, Step.COPY})
"""Steps that change no data."""
_LOOK_EVERY = 0.2
"""Seconds between two looks at a new server that does not serve yet."""
_LOG_LINES = 2000
"""Lines of a failed server's log that are kept."""


class InterruptedTransactionError(MlflowdError):
    """The daemon is to stop: the transaction is taken back, and begins anew at the next start."""


class Steps:
    """What each step does, for one configuration."""

    def __init__(self, wish: Wish, place: Place, hands: Hands, door: Doorkeeper, secrets: Secrets) -> None:
        self._wish = wish
        self._engine = place.engine
        self._place = place
        self._hands = hands
        self._door = door
        self.ledger = Ledger(place.state, place.who)
        self.databases = Databases(wish.settings, secrets, place.state, place.who)

    # --- forward --------------------------------------------------------------------------------

    def stop(self, transaction: Transaction, progress: Progress) -> Transaction:
        """Let the server finish its requests, and stop it."""
        progress("stopping the server")
        if container := self._container():
            self._engine.stop(container.id, self._wish.settings.container.stop_grace)
        return transaction

    def copy(self, transaction: Transaction, progress: Progress) -> Transaction:
        """Copy the databases, so that they can be put back; of a restore also those that are damaged, as they are."""
        self.persist()
        if transaction.kind is Kind.UPGRADE and not transaction.migrates:
            return advance(transaction, transaction.step, before=Copy())
        before = self._before(transaction)
        try:
            return advance(transaction, transaction.step, before=self.databases.take(before, progress))
        except RefusedError:
            if transaction.kind is Kind.UPGRADE:
                raise
        # Whatever is wrong with the database, a restore is the cure: its files are kept as they are.
        self.ledger.write(advance(transaction, transaction.step, set_aside=True))
        self.databases.set_aside(before)
        return advance(transaction, transaction.step, set_aside=True)

    def change(self, transaction: Transaction, progress: Progress) -> Transaction:
        """Set today's artifacts aside."""
        if transaction.staged_artifacts and (artifacts := self._artifacts()):
            progress("setting today's artifacts aside")
            artifact_swap.set_aside(artifacts, self._aside(transaction))
        return transaction

    def place(self, transaction: Transaction, progress: Progress) -> Transaction:
        """Put the backup's artifacts and databases in their place."""
        if transaction.staged_artifacts and (artifacts := self._artifacts()):
            progress("putting the backup's artifacts in their place")
            artifact_swap.place(artifacts / transaction.staged_artifacts, artifacts)
        if transaction.staged is not None:
            self.databases.put_back(transaction.staged, self.ledger.directory(transaction.id) / "staged", progress)
            self._remember()
        return transaction

    def migrate(self, transaction: Transaction, progress: Progress) -> Transaction:
        """Bring the database to the schema of the image that is to serve."""
        spec = self._spec()
        source = transaction.staged if transaction.kind is Kind.RESTORE else transaction.before
        part = source.part(BACKEND) if source else None
        if part is None or not part.revision or not self._older(part.revision):
            return transaction
        progress("migrating the database")
        private.write(self._place.runtime / "private", spec.files, self._place.who)
        output = migration.migrate(self._engine, spec, self._wish.settings.upgrade.migration_timeout)
        self._keep(transaction, "migration.log", output)
        return transaction

    def start(self, transaction: Transaction, progress: Progress) -> Transaction:
        """Make the new server and start it."""
        spec, container = self._spec(), self._container()
        if container and container.running and container.spec_hash == spec.digest:
            return transaction  # by a daemon that ended after this
        progress("starting the new server")
        if container:
            self._engine.stop(container.id, self._wish.settings.container.stop_grace)
            self._engine.remove(container.id)
        self._hands.make(spec)
        return transaction

    def gate(self, transaction: Transaction, progress: Progress) -> Transaction:
        """Wait until the new server serves, then have it read and write. Raises RefusedError where it does not."""
        progress("waiting until the new server serves")
        deadline = time.monotonic() + self._wish.settings.upgrade.gate_timeout
        while not self._serves():
            self.persist()
            self._look_at_it(deadline)
            time.sleep(_LOOK_EVERY)
        progress("trying the new server: a read, a write, an artifact")
        answer = self._tried(max(deadline - time.monotonic(), self._wish.settings.health.database_timeout))
        if not answer.ok:
            raise RefusedError(f"It serves, but {answer.sentence}.")
        return transaction

    # --- back -----------------------------------------------------------------------------------

    def take_away(self, transaction: Transaction) -> None:
        """Stop and remove the server that did not pass, keeping its log, and whatever still migrates."""
        migration.abandon(self._engine, self._wish.settings.container.name)
        reached = Step(transaction.reached)
        container = self._container()
        if container is None or reached not in {Step.START, Step.GATE, Step.COMMIT}:
            return  # the server of before, which was stopped and stands as it was
        with suppress(EngineError, OSError, MlflowdError):
            self._keep(transaction, "server.log", self._log(container))
        self._engine.stop(container.id, self._wish.settings.restart.kill_grace)
        self._engine.remove(container.id)

    def put_back(self, transaction: Transaction, progress: Progress) -> None:
        """Make artifacts and databases what they were; may be done again after it was cut short."""
        reached = Step(transaction.reached)
        artifacts = self._artifacts()
        if transaction.staged_artifacts and artifacts and reached not in _UNTOUCHED:
            if reached is not Step.CHANGE:
                artifact_swap.undo_place(artifacts, artifacts / transaction.staged_artifacts)
            artifact_swap.undo_aside(self._aside(transaction), artifacts)
        if transaction.set_aside:
            self.databases.bring_back(self._before(transaction))
        elif transaction.before is not None and reached not in _UNTOUCHED:
            self.databases.put_back(transaction.before, self._before(transaction), progress)

    def tidy(self, transaction: Transaction) -> None:
        """Remove what a restore had staged, whichever way it went; what cannot be removed costs room alone."""
        artifacts = self._artifacts()
        with suppress(OSError, MlflowdError):
            self.ledger.unstage(transaction.id)
            if transaction.staged_artifacts and artifacts:
                artifact_swap.clear(artifacts / transaction.staged_artifacts)

    def may_migrate(self, transaction: Transaction) -> bool:
        """Whether the new image may write to the database what the old one does not read."""
        known = self._wish.kept.read().abilities
        before, after = known.get(transaction.before_image), known.get(transaction.image)
        if before is None or after is None:
            return True
        return (before.mlflow, before.head) != (after.mlflow, after.head)

    def persist(self) -> None:
        """Raise InterruptedTransactionError where the daemon is to stop."""
        if self._hands.leaving:
            raise InterruptedTransactionError("mlflowd was to stop in the middle of it.")

    # --- what they need -------------------------------------------------------------------------

    def _container(self) -> Container | None:
        container = self._engine.inspect(self._wish.settings.container.name)
        return container if container and container.ours else None

    def _spec(self) -> ContainerSpec:
        spec = self._wish.desired().spec
        if spec is None:
            raise EngineError(f"The image {self._wish.reference} is not known yet.")
        return spec

    def _older(self, revision: str) -> bool:
        able = self._wish.chosen.able if self._wish.chosen else None
        return able is None or not able.head or revision != able.head

    def _artifacts(self) -> Path | None:
        return self._wish.settings.artifact_store.directory

    def _aside(self, transaction: Transaction) -> Path:
        artifacts = self._artifacts()
        if artifacts is None:
            raise RefusedError("There is no artifact directory on this machine.")
        return artifact_swap.aside_in(artifacts, transaction.id)

    def _before(self, transaction: Transaction) -> Path:
        return self.ledger.directory(transaction.id) / "before"

    def _remember(self) -> None:
        """Take the restored database as the one served last: from now on an empty one in its place is a loss."""
        if path := self._wish.settings.backend_store.file:
            fingerprint.record(path, self._place.state, self._place.who)

    def _serves(self) -> bool:
        settings = self._wish.settings
        return probe.health(settings.server.listen, settings.health.timeout, command.static_prefix(settings)).ok

    def _look_at_it(self, deadline: float) -> None:
        container = self._container()
        if container is None:
            raise RefusedError("Its container was removed before it served.")
        if not container.running:
            cause = causes.recognise(self._log(container).splitlines(), container.exit_code, container.oom_killed, None)
            why = f": {cause.message}" if cause else f" (exit status {container.exit_code})."
            raise RefusedError(f"It ended before it served{why}", cause.remedy if cause else "")
        if time.monotonic() > deadline:
            limit = self._wish.settings.upgrade.gate_timeout
            raise RefusedError(f"It did not serve within {limit:g} s (upgrade.gate_timeout).")

    def _tried(self, limit: float) -> probe.Answer:
        settings = self._wish.settings
        self._door.look()
        admin = self._door.admin()

        def look(login: Login | None) -> probe.Answer:
            return gate.try_out(
                settings.server.listen,
                limit,
                prefix=command.static_prefix(settings),
                login=admin or login,
                proxied=settings.artifact_store.proxied,
            )

        return self._door.through(look)

    def _log(self, container: Container) -> str:
        lines = self._engine.logs(container.id, since=0, follow=False, tail=_LOG_LINES)
        return "\n".join(loglines.plain(loglines.split(line)[1]) for line in lines)

    def _keep(self, transaction: Transaction, name: str, text: str) -> None:
        """Keep a log in the transaction's directory."""
        keep_log(self.ledger.directory(transaction.id) / name, text)


def keep_log(path: Path, text: str) -> None:
    """Write a log for the service user alone, secrets masked. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_atomically(path, redaction.redact(text) + "\n")
