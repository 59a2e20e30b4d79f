"""The daemon's way to its transactions, which most daemons never have: what carries them out is loaded when needed.

Effects: those of supervisor/changeover.py; `hurry` ends a migration's container.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError
from mlflowd.model import Rehearse, Settle, Upgrade

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflowd.engine.api import Progress
    from mlflowd.model import ContainerSpec, Secrets
    from mlflowd.supervisor.changeover import Changeover
    from mlflowd.supervisor.doorkeeper import Doorkeeper
    from mlflowd.supervisor.hands import Hands
    from mlflowd.supervisor.place import Place
    from mlflowd.supervisor.wish import Wish

_HURRY = 0.5
"""Seconds between two looks for a migration that is to end."""


class Transactions:
    """The transactions of one configuration, one at a time."""

    def __init__(self, wish: Wish, place: Place, hands: Hands, door: Doorkeeper, secrets: Secrets) -> None:
        self._wish = wish
        self._place = place
        self._hands = hands
        self._door = door
        self._secrets = secrets
        self._busy = False

    def apply(self, action: Rehearse | Upgrade | Settle, progress: Progress) -> None:
        """Do what the policy asks for. Raises MlflowdError."""
        match action:
            case Rehearse(spec=spec):
                self._do(lambda changeover: changeover.rehearse(spec, progress))
            case Upgrade(spec=spec):
                migrates = self._hands.check(spec, running=self._runs(), progress=progress)
                self.upgrade(spec, progress, migrates=migrates)
            case Settle():
                self._do(lambda changeover: changeover.settle(progress))

    def upgrade(self, spec: ContainerSpec, progress: Progress, *, migrates: bool = True) -> None:
        """Change to this container's image and schema, after `check`. Raises MlflowdError."""
        self._do(lambda changeover: changeover.upgrade(spec, progress, migrates=migrates))

    def hurry(self) -> None:
        """End what migrates: the daemon is to stop. Returns at once."""
        if self._busy:
            threading.Thread(target=self._hurry, name="hurry", daemon=True).start()

    def _do(self, work: Callable[[Changeover], None]) -> None:
        from mlflowd.supervisor.changeover import Changeover  # noqa: PLC0415 - as the module says

        self._busy = True
        try:
            work(Changeover(self._wish, self._place, self._hands, self._door, self._secrets))
        finally:
            self._busy = False

    def _runs(self) -> bool:
        container = self._place.engine.inspect(self._wish.settings.container.name)
        return container is not None and container.running

    def _hurry(self) -> None:
        """Look again and again until the transaction is through: a migration that is about to begin is not seen."""
        from mlflowd.operations import migration  # noqa: PLC0415 - as above

        while self._busy:
            with suppress(EngineError):
                for task in migration.Task:
                    migration.abandon(self._place.engine, self._wish.settings.container.name, task)
            time.sleep(_HURRY)
