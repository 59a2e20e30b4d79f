"""A server as a process of this machine: started, awaited by asking the server itself, ended by its process id.

Effects: one process with its children, its log file; both are gone, or at an end, when the block is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

START_LIMIT = 60.0
STOP_LIMIT = 20.0


class ServiceError(Exception):
    """A server of the tests could not be made or does not work; the text holds the end of its log."""


@contextlib.contextmanager
def workplace(service: str, owner: str | None = None) -> Iterator[Path]:
    """Yield a new directory that others may enter (a socket may be in it); it is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix=f"mlflowd-test-{service}-"))
    try:
        directory.chmod(0o755)
        if owner is not None:
            shutil.chown(directory, owner, owner)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port(address: str) -> int:
    """Return a port that nobody listens on at this address."""
    with socket.create_server((address, 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    stop: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server until the block ends; the block begins when `ready` says so. Raises ServiceError."""
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True,
            env={**os.environ, **(environment or {})},
        ) as process,
    ):  # fmt: skip
        try:
            _await(process, ready, log)
            yield process
        finally:
            _end(process, stop)


def as_user(user: str, command: Sequence[str]) -> list[str]:
    """Return the command line that drops root for this user and becomes the command."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *command]


def _await(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    """Ask 20 times a second: a server that is not ours tells nobody else when it is ready."""
    deadline = time.monotonic() + START_LIMIT
    while not ready():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            what = f"ended with {process.returncode}" if ended else f"is not ready after {START_LIMIT:.0f} s"
            raise ServiceError(f"{process.args!r} {what}:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    """End it in order, then its whole session (its id is ours: the process was started as a leader)."""
    if process.poll() is None:
        process.send_signal(stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def answers(address: str, port: int) -> bool:
    """Return whether something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


def run(command: Sequence[str], *, stdin: str = "", limit: float = 60) -> str:
    """Run a program to its end and return what it printed; raises ServiceError with it where it fails."""
    done = subprocess.run(command, check=False, input=stdin, capture_output=True, text=True, timeout=limit, cwd="/")
    if done.returncode != 0:
        raise ServiceError(f"{command[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
