"""The one worker: long effects run beside the loop, one at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mlflowd.model import Pull, Rehearse, Settle, Upgrade
from mlflowd.supervisor.inbox import Finished, Inbox

if TYPE_CHECKING:
    from mlflowd.model import Action
    from mlflowd.supervisor.effects import Effects
    from mlflowd.supervisor.inbox import Wake


class Work:
    """What the worker is at. Its end comes through the inbox."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.action: Action | None = None
        self.progress = ""
        self._deferred: tuple[Wake, ...] = ()

    @property
    def blind(self) -> bool:
        """Whether the container is in the worker's hands, so that a look would see it half way."""
        return self.action is not None and not isinstance(self.action, Pull | Rehearse)

    @property
    def transacting(self) -> bool:
        """Whether an upgrade or a restore is under way."""
        return isinstance(self.action, Upgrade | Settle)

    def begin(self, action: Action, effects: Effects) -> None:
        """Start on an action."""
        self.action, self.progress = action, ""
        threading.Thread(target=self._do, args=(action, effects), name="worker", daemon=True).start()

    def abandon(self) -> None:
        """Let a pull be: the engine drops what nobody waits for, and its end is not awaited."""
        self.action = None

    def finish(self, wake: Finished) -> bool:
        """Take note of an end; False where the action was abandoned before."""
        mine = wake.action is self.action
        if mine:
            self.action = None
            for deferred in self._deferred:
                self._inbox.put(deferred)
            self._deferred = ()
        return mine

    def defer(self, wake: Wake) -> None:
        """Let this wake-up come when the action has ended."""
        self._deferred = (wake,)

    def _do(self, action: Action, effects: Effects) -> None:
        error: Exception | None = None
        try:
            effects.apply(action, self._tell)
        except Exception as caught:  # noqa: BLE001 - the loop judges every error, a defect included
            error = caught
        self._inbox.put(Finished(action, error))

    def _tell(self, sentence: str) -> None:
        self.progress = sentence
