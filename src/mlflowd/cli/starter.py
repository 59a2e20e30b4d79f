"""Starts the daemon for a command that has given up root: a forked child stays root, and can do that one thing.

Effects: forks; where it is asked to, `systemctl start mlflowd`.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from mlflowd.errors import MlflowdError
from mlflowd.host.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = "sudo systemctl start mlflowd"


@contextmanager
def ready() -> Iterator[Callable[[], bool]]:
    """Yield what starts the daemon and returns whether it could try; to be made before root is given up."""
    if os.geteuid() != 0 or not Service().there:
        yield lambda: False
        return
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        _child(reader, writer)
    os.close(reader)
    try:
        yield lambda: os.write(writer, b"!") == 1
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def _child(reader: int, writer: int) -> NoReturn:
    """Wait for the word, or for the parent's end."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the parent's end is ours
        os.close(writer)
        if os.read(reader, 1):
            with suppress(MlflowdError, OSError):  # the parent sees that no daemon comes
                Service().restart()
    finally:
        os._exit(0)
