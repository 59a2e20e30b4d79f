"""What restic reports while it works, as sentences for people. No effects."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MINUTE: Final = 60
_HOUR: Final = 3600


def size(count: float) -> str:
    """Return a number of bytes for people: "2.1 GB"."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count:.0f} bytes"


def span(seconds: float) -> str:
    """Return a span for people: "40 s", "12 min", "3.5 h"."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} h"


def status(told: Mapping[str, Any]) -> str:
    """Return one status of restic's backup or restore: "2.1 of 5.4 GB, 812 of 2000 files, 40 s left"."""
    done, total = float(told.get("bytes_done") or told.get("bytes_restored") or 0), float(told.get("total_bytes") or 0)
    files, of = int(told.get("files_done") or told.get("files_restored") or 0), int(told.get("total_files") or 0)
    left = told.get("seconds_remaining")
    parts = [f"{size(done)} of {size(total)}", f"{files} of {of} files"]
    return ", ".join([*parts, f"{span(float(left))} left"] if left else parts)


class Listener:
    """Takes restic's lines: tells of the progress now and then, keeps its summary and the files that it left out."""

    PERIOD: Final = 0.5
    """Seconds between two sentences; whoever prints them may print fewer."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._next = time.monotonic() + self.PERIOD
        self.summary: dict[str, Any] = {}
        self.failed: dict[str, None] = {}
        """The paths that could not be read or written, in their order."""

    def __call__(self, line: str) -> bool:
        """Take a line of JSON; False for any other one, and for an error that is not about a file."""
        told = _parsed(line)
        match told.get("message_type"):
            case "status":
                self._tell(told)
            case "summary":
                self.summary = told
            case "verbose_status" | "initialized":
                pass
            case _:
                return False
        return True

    def fails(self, line: str) -> bool:
        """Note a file that could not be read or written; False where the line tells of none."""
        told = _parsed(line)
        if told.get("message_type") != "error" or not (item := str(told.get("item") or "")):
            return False
        self.failed[item] = None
        return True

    def _tell(self, told: Mapping[str, Any]) -> None:
        if (now := time.monotonic()) >= self._next and told.get("total_bytes"):
            self._next = now + self.PERIOD
            self._progress(status(told))


def _parsed(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
