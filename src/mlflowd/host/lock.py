"""One mlflowd at a time: a lock on a file of the runtime directory.

Effects: creates <runtime directory>/lock (0600) and holds a flock(2) on it. The kernel releases it when the
process ends, however it ends; the file stays and is never removed, so two processes always lock the same one.
"""

from __future__ import annotations

import errno
import fcntl
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from mlflowd.errors import ExitStatus, LockedError, MlflowdError

if TYPE_CHECKING:
    from pathlib import Path


class Lock:
    """The lock at `path`, held from the constructor to `release`, or as a context manager.

    Raises LockedError, naming the holder, while another process has it; MlflowdError (status 77) where the file
    cannot be opened. A symbolic link is not followed.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = _open(path)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(self._descriptor)
            self.release()
            raise _refusal(path, holder) from None
        _sign(self._descriptor)

    def release(self) -> None:
        """Give the lock back; a second call is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Return the held lock."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        self.release()


def _open(path: Path) -> int:
    """Open, creating it where missing; a file that root makes goes to the directory's owner, who comes next."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    if os.geteuid() == 0:
        directory = path.parent.stat()
        os.fchown(descriptor, directory.st_uid, directory.st_gid)
    return descriptor


def _sign(descriptor: int) -> None:
    """Write the holder's pid and since when it holds, for the next one's error."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode(), 0)


def _read(descriptor: int) -> tuple[str, str]:
    """Return the holder's pid and since when; empty words while it has not written them yet."""
    pid, _, since = os.pread(descriptor, 64, 0).decode(errors="replace").strip().partition(" ")
    return pid, since


def _refusal(path: Path, holder: tuple[str, str]) -> LockedError:
    pid, since = holder
    who = f" (pid {pid}, since {since})" if pid else ""
    end = f"`systemctl stop mlflowd` or `kill {pid}`" if pid else "`systemctl stop mlflowd`"
    return LockedError(
        f"Another mlflowd{who} holds {path}; this one changed nothing.",
        hint=f"`mlflowd status` shows what it does; {end} ends it.",
    )


def _unusable(path: Path, error: OSError) -> MlflowdError:
    if error.errno == errno.ELOOP:
        message, hint = f"The lock {path} is a symbolic link.", f"`rm {path}`"
    elif error.errno == errno.ENOENT:
        message = f"The directory {path.parent} for the lock does not exist."
        hint = f"`install -d -o mlflowd -g mlflowd {path.parent}`"
    else:
        message = f"The lock {path} cannot be opened: {error.strerror}."
        hint = (
            f"`systemctl start mlflowd` runs it as the right user; `chown -R mlflowd: {path.parent}` mends the owner."
        )
    return MlflowdError(message, hint=hint, exit_status=ExitStatus.PERMISSION)
