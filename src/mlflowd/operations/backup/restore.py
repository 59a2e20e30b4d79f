"""A backup made ready to take the place of what is there: checked, written beside today's data, and verified.

Effects: writes <state>/transactions/<id>/staged (databases, and what else the backup holds) and
<artifact directory>/.mlflowd-restore-<id>, then the transaction at its step READY; the daemon does the rest
(supervisor/changeover.py). Nothing live is touched here, and nothing stays where it does not come to READY.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files
from mlflowd.host.restic import DamagedRepositoryError
from mlflowd.model import Secrets
from mlflowd.operations import artifact_swap
from mlflowd.operations.backup import fitting
from mlflowd.operations.backup.fitting import Need
from mlflowd.operations.backup.unpack import ANOTHER, manifest_of, name, take
from mlflowd.operations.copies import Databases
from mlflowd.operations.transaction import Kind, Ledger, Transaction, new

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.engine.api import Progress
    from mlflowd.host.paths import Identity
    from mlflowd.host.restic import Restic
    from mlflowd.operations.backup.repository import Backup
    from mlflowd.operations.copies import Copy
    from mlflowd.server.abilities import Abilities

STAGED = "staged"
"""In the transaction's directory: what the daemon puts in place."""


class Restore:
    """The restore of one configuration's stores. As the service user."""

    def __init__(self, settings: Settings, state: Path, who: Identity, able: Abilities | None) -> None:
        """`able`: what the image can do that is to serve the backup, None where that is not known."""
        self._settings = settings
        self._state = state
        self._who = who
        self._able = able
        self.ledger = Ledger(state, who)

    def check(self, backup: Backup) -> None:
        """Raise RefusedError where the backup cannot take the place of what is there."""
        if pending := self.ledger.pending():
            raise RefusedError(f"The {pending.kind} {pending.id} is not finished.", "mlflowd status")
        fitting.parts(backup, self._settings)
        fitting.check_artifacts(backup, self._settings, self._who)
        fitting.check_schema(backup, self._able)

    def stage(self, door: Restic, backup: Backup, progress: Progress) -> Transaction:
        """Bring the backup beside today's data and write the transaction down; it is the daemon's from then on.

        To be called with the data occupied. Raises MlflowdError and OSError; whatever is raised, Ctrl-C's exception
        included, nothing stays.
        """
        self.check(backup)
        self.sweep()
        artifacts = fitting.check_artifacts(backup, self._settings, self._who)
        self._check_room(door, backup, artifacts)
        transaction = replace(new(Kind.RESTORE), snapshot=backup.snapshot.short)
        try:
            transaction = self._written(door, backup, transaction, artifacts, progress)
            self.ledger.begin(transaction)
        except BaseException:
            self._drop(transaction, artifacts)
            raise
        return transaction

    def kept(self, transaction: Transaction) -> list[Path]:
        """Return where the data of before are, once the backup is in place."""
        found = [self.ledger.directory(transaction.id)]
        if transaction.staged_artifacts and (artifacts := self._settings.artifact_store.directory):
            found.append(artifact_swap.aside_in(artifacts, transaction.id))
        return found

    def settled(self, transaction: Transaction) -> None:
        """Remove what is of no more use once the transaction has come to its end. Raises OSError."""
        if transaction.staged_artifacts and (artifacts := self._settings.artifact_store.directory):
            artifact_swap.clear(artifact_swap.staged_in(artifacts, transaction.id))
        shutil.rmtree(self.ledger.directory(transaction.id) / STAGED, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what restores have left that were killed; none may be under way. Raises OSError."""
        for staged in _below(self._state / "transactions", f"*Z/{STAGED}*"):
            shutil.rmtree(staged)
            with suppress(OSError):
                staged.parent.rmdir()  # one that has more in it is of a restore that was done
        if artifacts := self._settings.artifact_store.directory:
            for left in _below(artifacts, f"{artifact_swap.OWN}restore-*"):
                shutil.rmtree(left)

    # --- the parts ------------------------------------------------------------------------------

    def _written(
        self, door: Restic, backup: Backup, transaction: Transaction, artifacts: Path | None, progress: Progress
    ) -> Transaction:
        copy = fitting.parts(backup, self._settings)
        directory = self.ledger.directory(transaction.id)
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700)
        progress("restoring the databases")
        take(door, backup, backup.staging, directory / STAGED)
        self._verify(backup, copy, directory / STAGED)
        staged = ""
        if artifacts:
            progress("restoring the artifacts")
            at = artifact_swap.staged_in(artifacts, transaction.id)
            take(door, backup, manifest_of(backup).artifacts, at)
            files.sync_directory(artifacts)
            staged = str(at)
        return replace(transaction, staged=copy, staged_artifacts=staged)

    def _verify(self, backup: Backup, copy: Copy, directory: Path) -> None:
        """Raise DamagedRepositoryError where the databases are not what was backed up."""
        databases = Databases(self._settings, Secrets({}), self._state, self._who)
        if wrong := databases.wrong(copy, directory):
            message = f"The backup {name(backup)} is damaged: {wrong}."
            raise DamagedRepositoryError(message, ANOTHER)

    def _check_room(self, door: Restic, backup: Backup, artifacts: Path | None) -> None:
        copy = fitting.parts(backup, self._settings)
        file = self._settings.backend_store.file
        now = file.stat().st_size if file and files.exists(file) else 0
        # The staged ones, those of today, and the new ones in their place: all three are there at the same time.
        needs = [Need(self._state, copy.bytes + now), Need(file.parent if file else self._state, copy.bytes)]
        if artifacts:
            needs.append(Need(artifacts, max(door.size(backup.snapshot.id) - manifest_of(backup).copy.bytes, 0)))
        fitting.check_room(needs, "The restore")

    def _drop(self, transaction: Transaction, artifacts: Path | None) -> None:
        pending = None
        with suppress(MlflowdError):
            pending = self.ledger.pending()
        if pending is not None and pending.id == transaction.id:
            return  # it came to READY: the daemon may be at it already
        shutil.rmtree(self.ledger.directory(transaction.id), ignore_errors=True)
        if artifacts:
            with suppress(OSError):
                artifact_swap.clear(artifact_swap.staged_in(artifacts, transaction.id))


def _below(directory: Path, pattern: str) -> list[Path]:
    return sorted(directory.glob(pattern)) if directory.is_dir() else []
