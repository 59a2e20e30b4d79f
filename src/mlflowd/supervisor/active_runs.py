"""Runs that clients are writing to, which an upgrade would interrupt: it waits for them where that is configured.

Effects: requests to the server, from a watch's thread, while an upgrade waits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlflowd.events import Event
from mlflowd.host import journal
from mlflowd.server import command
from mlflowd.supervisor.watch import Check

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Trouble
    from mlflowd.supervisor.doorkeeper import Doorkeeper

_INTERVAL = 5.0
"""Seconds between two looks while an upgrade waits."""
_NAMED = 3
"""Runs that a sentence names."""


class ActiveRuns:
    """What is known of them, for one configuration."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._until = 0.0
        self._found: tuple[str, ...] | None = None

    def begin(self) -> None:
        """Begin to wait: the upgrade could go on now."""
        self._until, self._found = time.monotonic() + self._settings.upgrade.wait_for_runs, None

    @property
    def held(self) -> str:
        """Return what the upgrade waits for, "" where it may go on."""
        left = self._until - time.monotonic()
        if left <= 0 or self._found == ():
            return ""
        if self._found is None:
            return "the upgrade looks for active runs"
        return f"the upgrade waits for {told(self._found)}, {left / 60:.0f} min at most"

    def look(self, door: Doorkeeper) -> tuple[str, ...]:
        """Return the runs that are active now; () also where the server does not say."""
        from mlflowd.server import active_runs  # noqa: PLC0415 - only an upgrade asks

        settings = self._settings
        door.look()
        login = door.admin()
        if settings.login.enabled and login is None:
            return ()  # the probes' own user sees no run
        prefix, within = command.static_prefix(settings), settings.upgrade.active_within
        return active_runs.active(
            settings.server.listen, settings.health.database_timeout, within, prefix=prefix, login=login
        )

    def check(self, door: Doorkeeper) -> Check:
        """Return the check that looks while the upgrade waits; it has no findings."""

        def look() -> tuple[Trouble, ...]:
            if self.held:
                found = self.look(door)
                if found and not self._found:
                    warn(found, "the upgrade waits for them")
                self._found = found
            return ()

        def rest() -> None:
            self._found = ()  # nobody writes to a server that does not answer

        return Check("runs", _INTERVAL, look, while_serving=True, rest=rest)


def told(runs: tuple[str, ...]) -> str:
    """Return the runs for people."""
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return f"{len(runs)} active run{'s' if len(runs) > 1 else ''} ({', '.join(runs[:_NAMED])}{more})"


def warn(runs: tuple[str, ...], what: str) -> None:
    """Tell that runs are active, and what that means for the upgrade."""
    remedy = 'set upgrade.wait_for_runs in /etc/mlflowd.toml to have upgrades wait, such as "2h"'
    journal.report(Event.ACTIVE_RUNS, f"{told(runs)}: {what}", runs=str(len(runs)), remedy=remedy)
