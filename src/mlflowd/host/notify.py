"""What systemd is told: sd_notify(3) by the sdnotify library, imported here alone.

Effects: datagrams to the socket that NOTIFY_SOCKET names; nothing where it is not set. No call blocks or raises.
What systemd does not take at once (its queue is full, or it is stopped) is owed, and goes out with the next call;
the daemon calls `watchdog` all the time, so a READY=1 is never lost.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from sdnotify import SystemdNotifier  # type: ignore[import-untyped]  # it has no types

from mlflowd.host.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """The service's side of the notify protocol."""

    def __init__(self) -> None:
        self.watchdog_interval = _watchdog_interval(os.environ)
        """Seconds between two calls of `watchdog`: half of what systemd allows. None: no watchdog."""
        self._door = _open()
        self._owed: dict[str, str] = {}

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is complete."""
        self._tell(state="READY=1", status=_status(status))

    def status(self, text: str) -> None:
        """Set the sentence that `systemctl status` shows."""
        self._tell(status=_status(text))

    def watchdog(self) -> None:
        """Say that the daemon is well."""
        self._tell(watchdog="WATCHDOG=1")

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it. systemd wants the instant in the same datagram."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(state=f"RELOADING=1\nMONOTONIC_USEC={microseconds}")

    def stopping(self, status: str) -> None:
        """Say that the stop has begun."""
        self._tell(state="STOPPING=1", status=_status(status))

    def extend(self, seconds: float) -> None:
        """Ask for at least `seconds` more, from now, for the start or the stop that is under way."""
        self._tell(extend=f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def close(self) -> None:
        """Give the socket back; later calls do nothing."""
        if self._door is not None:
            self._door.socket.close()
        self._door = None

    def _tell(self, **assignments: str) -> None:
        """Send what is new and what is owed in one datagram; a later value replaces an owed one."""
        if self._door is None:
            return
        self._owed |= assignments
        # sdnotify encodes as Latin-1 and drops what does not fit; this way UTF-8 passes unchanged.
        text = "\n".join(self._owed.values()).encode(errors="replace").decode("latin-1")
        try:
            self._door.notify(text)
        except OSError:
            return
        self._owed.clear()


def _open() -> SystemdNotifier | None:
    """Connect to the socket that NOTIFY_SOCKET names, as sdnotify reads it; None where that leads nowhere."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return None
    door = SystemdNotifier()
    if door.socket is None:
        return None
    door.debug = True  # else it would swallow the errors that tell what is owed
    # Its socket blocks while the receiver's queue is full: a stopped systemd would stop the daemon.
    door.socket.setblocking(False)
    return door


def _status(text: str) -> str:
    """Return the assignment; a line end would begin another one."""
    return f"STATUS={redact(' '.join(text.split()))}"


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Read WATCHDOG_USEC where it is meant for this process, as sd_watchdog_enabled(3) does."""
    allowed, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not allowed.isdecimal() or int(allowed) == 0 or pid not in {"", str(os.getpid())}:
        return None
    return int(allowed) / 2_000_000
