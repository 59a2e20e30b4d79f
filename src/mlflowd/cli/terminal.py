"""What long commands share: progress on a terminal or in a log, and an end in order on SIGTERM.

Effects: writes to standard output; changes what SIGTERM does, for as long as a block lasts.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACE = 30.0
"""Seconds between two lines of a count where there is no terminal."""
_CLEAR = "\r\x1b[K"


class Progress:
    """Prints sentences behind the seconds since the start.

    On a terminal a count ("2.1 of 5.4 GB, …": it begins with a digit) is one line that changes; elsewhere it is a line
    now and then.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._live = sys.stdout.isatty()
        self._open = False
        """Whether the last line can still change."""
        self._next = 0.0

    def __call__(self, sentence: str) -> None:
        """Print one."""
        counted = sentence[:1].isdigit()
        if counted and not self._live and not self._due():
            return
        before = _CLEAR if self._open else ""
        line = f"[{time.monotonic() - self._began:4.0f} s] {sentence}"
        self._open = counted and self._live
        sys.stdout.write(f"{before}{line}{'' if self._open else chr(10)}")
        sys.stdout.flush()

    def end(self) -> None:
        """Leave the terminal's cursor on an empty line."""
        if self._open:
            sys.stdout.write(_CLEAR)
            sys.stdout.flush()
        self._open = False

    def _due(self) -> bool:
        if (now := time.monotonic()) < self._next:
            return False
        self._next = now + _PACE
        return True


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a progress; the last line is ended with the block."""
    shown = Progress()
    try:
        yield shown
    finally:
        shown.end()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM into the exception of Ctrl-C, so that what is temporary is removed on the way out."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
