"""The backups as the daemon sees them: how old the newest good one is, and whether the last attempts went well.

Effects: reads what the commands have recorded (operations/backup/record.py); notes there since when a repository is
configured, so that a first backup that never comes is missed. restic itself is never asked: that may take hours.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlflowd.config.units import format_span
from mlflowd.errors import MlflowdError
from mlflowd.model import Layer, Trouble
from mlflowd.operations.backup.record import RecordFile
from mlflowd.supervisor.watch import Check

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.operations.backup.record import Record
    from mlflowd.supervisor.place import Place

_INTERVAL = 20.0
_AGAIN = 10.0
"""Seconds after a look that found trouble: its end is noticed soon."""
_RETRY = "sudo systemctl start mlflowd-backup; journalctl -u mlflowd-backup -n 30"


class BackupWatch:
    """Looks at the record of one configuration."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self._settings = settings.backup
        self._file = RecordFile(place.state, place.who)
        self.document: dict[str, Any] | None = None
        """What the status document says of the backups; None where none are configured. Replaced, never changed."""

    def check(self) -> Check:
        """Return the check for a watch."""
        return Check("backups", _INTERVAL, self.look, again=_AGAIN)

    def look(self) -> tuple[Trouble, ...]:
        """Return what is wrong with the backups."""
        if not self._settings.repository:
            return ()
        now = time.time()
        try:
            record = self._file.begin(self._settings.repository, now)
        except (OSError, MlflowdError):
            return ()  # a state directory that cannot be written is the store check's to tell
        self.document = document(record)
        return troubles(record, self._settings.stale_after, now)


def troubles(record: Record, stale_after: float, now: float) -> tuple[Trouble, ...]:
    """Return what is wrong: damage first, then the last failure, then the age. Sentences stay the same while it lasts.

    None is critical: the server serves, and its restart would cure nothing.
    """
    found: list[Trouble] = []
    failing = record.failing
    if record.bad:
        message = f"{len(record.bad)} backups in {record.repository} are damaged"
        found.append(_trouble(message, "sudo mlflowd backup list; docs/backup.md says how to go on", damaged=True))
    if failing is not None and not (record.bad and failing.what == "check"):
        message = f"the last {failing.what} of the backups failed: {failing.message}"
        if failing.what == "backup":
            message = f"the last backup failed: {failing.message}"
        found.append(_trouble(message, failing.remedy or _RETRY, damaged=failing.damaged))
    newest = record.last_success.at if record.last_success else record.since
    if newest and now - newest > stale_after:
        since = f"since {_instant(newest)}"
        message = f"no backup has succeeded {since}: longer than backup.stale_after ({format_span(stale_after)})"
        found.append(Trouble(Layer.BACKUP, message, _RETRY, critical=False))
    return tuple(found)


def document(record: Record) -> dict[str, Any]:
    """Return what the status document says of the backups; instants are RFC 3339, None for never."""
    last, verified, checked = record.last_success, record.last_verify, record.last_check
    return {
        "repository": record.repository,
        "last": _instant(last.at) if last else None,
        "snapshot": last.snapshot[:8] if last else None,
        "verified": _instant(verified.at) if verified else None,
        "verified_snapshot": verified.snapshot[:8] if verified else None,
        "checked": _instant(checked.at) if checked else None,
        "damaged": len(record.bad),
    }


def _trouble(message: str, remedy: str, *, damaged: bool) -> Trouble:
    # `lost` tells damage from what a later attempt mends: narrate makes another event of it
    return Trouble(Layer.BACKUP, message.rstrip("."), remedy, critical=False, lost=damaged)


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
