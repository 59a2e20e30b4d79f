"""One operation on the data at a time: backup, restore, verification, upgrade, gc.

Effects: creates <state>/state/operation.lock and holds a flock(2) on it; the kernel releases it with the process,
however that ends. Who finds it held is told by whom, so that a backup and a `gc` never meet.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflowd.errors import ExitStatus, MlflowdError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class OccupiedError(MlflowdError):
    """Another operation is at work on the data; that passes."""

    exit_status = ExitStatus.LOCKED


@contextmanager
def occupied(state: Path, what: str) -> Iterator[None]:
    """Hold the data for `what` ("a backup"). As the service user, so that the file is never root's.

    Raises OccupiedError, naming the other operation, and MlflowdError where the file cannot be opened.
    """
    path = state / "state" / "operation.lock"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise MlflowdError(f"{path} cannot be opened: {error.strerror}.", "sudo mlflowd check --fix") from error
    try:
        _lock(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{what} (pid {os.getpid()})".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another operation"
        message = f"{holder} is at work on the data ({path})."
        raise OccupiedError(message, "wait until it is through; mlflowd status shows the daemon's own") from None
