"""Runs restic as a child that ends in order. Effects: the child.

It works at the lowest priority, on half of the processors: the server comes first. Where this process is killed, the
child dies of the pipe that it reports into (SIGPIPE); the lock that it leaves is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, cast

from mlflowd.host.restic import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_GENTLY: Final = ("nice", "-n", "19", "ionice", "-t", "-c", "3", "--")
_GRACE: Final = 15.0
"""Seconds that restic gets to remove its lock and end; within systemd's TimeoutStopSec= and fault 27's bound."""
_ASKED: Final = 30.0
"""Seconds that ssh gets to say what is wrong."""
_KEPT: Final = 200
"""Lines that are kept of what it says; it may repeat itself for hours."""
_BLOCK: Final = 1 << 16


class LateError(Exception):
    """The child was ended, because its time was over."""


@dataclass(slots=True)
class Ended:
    """What a child left behind."""

    status: int = 0
    output: bytearray = field(default_factory=bytearray)
    """Standard output, where nobody listened to its lines."""
    said: list[str] = field(default_factory=list)
    """The last lines of standard error, and those of the output that the listener did not take."""


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    deadline: float,
    listen: Callable[[str], bool] | None = None,
    complain: Callable[[str], bool] = lambda _line: False,
) -> Ended:
    """Run restic to its end. `listen` gets each line of its output and returns whether it took it.

    `complain` the same of its errors. `deadline` is monotonic. Raises LateError after it, MlflowdError where there is
    no restic. Whatever else is raised meanwhile, Ctrl-C's exception included, the child is ended first.
    """
    child = _start(arguments, environment)
    with child:
        try:
            ended = _follow(child, deadline, listen, complain)
        except BaseException:
            end(child)
            raise
    ended.status = child.returncode
    return ended


def end(child: subprocess.Popen[bytes]) -> None:
    """End restic as Ctrl-C does (0.14 knows no other signal), and kill it and its ssh where that takes too long."""
    try:
        child.send_signal(signal.SIGINT)
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def complaints(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return what this command says on standard error before it ends by itself; nothing is written to it."""
    try:
        done = subprocess.run(  # noqa: S603 - as above
            command, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_ASKED
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stderr.decode(errors="replace").splitlines()


def _start(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - a list of our own, nothing is a shell's
            [*_GENTLY, "restic", *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C comes to us alone, who end it in order
        )
    except FileNotFoundError as error:
        raise faults.missing() from error


def _follow(
    child: subprocess.Popen[bytes],
    deadline: float,
    listen: Callable[[str], bool] | None,
    complain: Callable[[str], bool],
) -> Ended:
    ended = Ended()
    out, err = cast("IO[bytes]", child.stdout), cast("IO[bytes]", child.stderr)
    rest = {out: b"", err: b""}
    with selectors.DefaultSelector() as selector:
        for stream in rest:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(_left(deadline)):
                stream = cast("IO[bytes]", key.fileobj)
                block = os.read(stream.fileno(), _BLOCK)
                if not block:
                    selector.unregister(stream)
                if stream is out and listen is None:
                    ended.output += block
                    continue
                *lines, rest[stream] = (rest[stream] + block).split(b"\n") if block else (rest[stream], b"")
                _take(lines, ended, listen if stream is out and listen else complain)
    child.wait(max(_left(deadline), 1.0))
    return ended


def _left(deadline: float) -> float:
    if (left := deadline - time.monotonic()) <= 0:
        raise LateError
    return left


def _take(lines: Sequence[bytes], ended: Ended, taken: Callable[[str], bool]) -> None:
    for raw in lines:
        line = raw.decode(errors="replace").strip()
        if line and not taken(line):
            ended.said.append(line)
    del ended.said[:-_KEPT]
