"""The database servers' own tools (pg_dump, psql, mariadb-dump, …): found, run as the service user, ended in time.

Effects: runs them. What they print goes to files without a name, so that this process reads no dump into its memory;
what holds a password is given by the environment or by a file that exists in memory alone, never by arguments. Where a
caller is interrupted, or the time limit is over, every tool that was started is killed; the kernel ends them too where
this process is killed itself (setpriv --pdeathsig).
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Final, Self

from mlflowd.errors import MlflowdError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlflowd.host.paths import Identity

PRIVATE: Final = "{private}"
"""Stands for the private file's path in arguments and in the environment."""
_PLACES: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
"""Where PostgreSQL's tools lie by their versions: Debian's /usr/bin/pg_dump is a program that chooses among them by the
clusters of this machine, which have nothing to do with MLflow's database."""
_BRIDGES: Final = ("docker0", "podman0", "cni-podman0")
_GET_ADDRESS: Final = 0x8915
"""SIOCGIFADDR of netdevice(7)."""
_LOOK_EVERY: Final = 0.05
_TELL_EVERY: Final = 1.0
_MOST: Final = 1 << 20
"""Bytes that are taken from what a tool prints."""
_SEALED: Final = 0x0008
"""MFD_NOEXEC_SEAL of memfd_create(2), which Linux has since 6.3 and hardened ones insist on."""


class ToolError(MlflowdError):
    """A tool failed; `said` is what it printed, which may be many lines."""

    def __init__(self, tool: str, status: int, said: str) -> None:
        super().__init__(f"{tool} ended with {status}: {said[-500:].strip() or 'it said nothing'}")
        self.tool, self.said = tool, said


class LateError(RefusedError):
    """The tools took longer than they were given, and were ended."""


@dataclass(frozen=True, slots=True)
class Session:
    """As whom the tools run, what they are told, and until when."""

    who: Identity
    limit: float
    """Seconds for each call."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    private: str = field(default="", repr=False)
    """The text of the private file."""
    tell: Callable[[], None] = lambda: None
    """Called every second while tools run; what it raises ends them."""

    def ask(self, *command: str, text: str = "") -> str:
        """Return what a tool prints, `text` being what it reads. Raises ToolError and LateError."""
        with _Run(self) as run:
            output = run.file()
            run.start(command, run.file(text), output)
            run.wait()
            return _start_of(output)

    def feed(self, stages: Sequence[Sequence[str]], sink: Sequence[str], head: str, tail: str) -> None:
        """Let `sink` read `head`, what comes out of the stages, which are piped, and `tail` if all of them succeed.

        So a sink that is to end with COMMIT never sees one where what came before was cut short. Raises as `ask`.
        """
        with _Run(self) as run:
            out = run.pipe_into(sink)
            run.write(out, head)
            run.chain(stages, out)
            run.wait(of=1)
            run.write(out, tail)
            os.close(run.opened.pop())
            run.wait()


class _Run:
    """The tools of one call; whatever happens, none of them is left behind."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._deadline = time.monotonic() + session.limit
        self._stack = ExitStack()
        self._running: list[tuple[subprocess.Popen[bytes], str, IO[bytes]]] = []
        self._private = self._stack.enter_context(os.fdopen(_in_memory(session), "rb"))
        self.opened: list[int] = []
        """Descriptors of pipes that are still ours to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process, _name, _errors in self._running:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
        for descriptor in self.opened:
            os.close(descriptor)
        self._stack.close()

    def file(self, text: str = "") -> IO[bytes]:
        """Return a file without a name."""
        file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack does
        if os.geteuid() == 0:
            os.fchown(file.fileno(), self._session.who.uid, self._session.who.gid)  # /dev/stdin is opened anew
        file.write(text.encode())
        file.seek(0)
        return file

    def start(self, command: Sequence[str], stdin: IO[bytes] | int, stdout: IO[bytes] | int) -> None:
        """Start a tool as the service user, with nothing of this process's own environment."""
        errors, private = self.file(), f"/proc/self/fd/{self._private.fileno()}"
        identity = self._session.who
        rights: dict[str, Any] = {}
        if os.geteuid() == 0 and identity.uid != 0:
            rights = {"user": identity.uid, "group": identity.gid, "extra_groups": ()}
        given = {name: value.replace(PRIVATE, private) for name, value in self._session.environment.items()}
        process = subprocess.Popen(  # noqa: S603 - our own command lines
            [*_ended_with_us(), *(word.replace(PRIVATE, private) for word in command)],
            stdin=stdin, stdout=stdout, stderr=errors, cwd="/", pass_fds=[self._private.fileno()],
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **given},
            **rights,
        )  # fmt: skip
        self._running.append((process, Path(command[0]).name, errors))

    def pipe_into(self, sink: Sequence[str]) -> int:
        """Start a tool that reads from a pipe, and return our end of it."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self.opened.append(writer)
        try:
            self.start(sink, reader, subprocess.DEVNULL)
        finally:
            os.close(reader)
        return writer

    def chain(self, stages: Sequence[Sequence[str]], out: int) -> None:
        """Start tools that are piped into each other, the last one into `out`."""
        came: int = subprocess.DEVNULL
        for index, stage in enumerate(stages):
            last = index == len(stages) - 1
            reader, writer = (-1, out) if last else os.pipe2(os.O_CLOEXEC)
            try:
                self.start(stage, came, writer)
            finally:
                _closed(came, -1 if last else writer)
            came = reader

    def write(self, out: int, text: str) -> None:
        """Write into a pipe; a reader that is stuck is not waited for beyond the time limit."""
        room, data = select.poll(), text.encode()
        room.register(out, select.POLLOUT)
        for start in range(0, len(data), select.PIPE_BUF):
            while not room.poll(_LOOK_EVERY * 1000):
                self._look()
            with suppress(BrokenPipeError):  # where the reader has ended, its own words tell more
                os.write(out, data[start : start + select.PIPE_BUF])

    def wait(self, of: int = 0) -> None:
        """Wait until all tools from number `of` on have succeeded; the first one that did not is named."""
        told = time.monotonic()
        while any(process.poll() is None for process, _, _ in self._running[of:]):
            self._look()
            if (now := time.monotonic()) > told + _TELL_EVERY:
                self._session.tell()
                told = now
            time.sleep(_LOOK_EVERY)
        self._look()

    def _look(self) -> None:
        if any(process.poll() for process, _, _ in self._running):
            with suppress(subprocess.TimeoutExpired):
                self._running[0][0].wait(_TELL_EVERY)  # a sink that failed takes those with it that write to it
        for process, name, errors in self._running:
            if status := process.poll():
                raise ToolError(name, status, _start_of(errors))
        if time.monotonic() > self._deadline:
            names = ", ".join(name for process, name, _ in self._running if process.poll() is None)
            message = f"{names or 'The tools'} took longer than {self._session.limit:.0f} s and was ended."
            raise LateError(message, "see what keeps the database busy, or give it more time in /etc/mlflowd.toml")


def found(name: str, package: str) -> str:
    """Return the newest tool of this name. Raises RefusedError, which names the package of Debian that has it."""
    versions = (tool for place in _PLACES for tool in Path("/").glob(f"{place[1:]}/{name}"))
    newest = max(versions, key=lambda tool: _numbers(str(tool)), default=None)
    if tool := str(newest) if newest else shutil.which(name):
        return tool
    message = f"{name} is not installed: this database is copied and put back by its own tools."
    raise RefusedError(message, f"sudo apt-get install {package}")


def this_machine() -> tuple[str, ...]:
    """Return the addresses that host.docker.internal may mean, the likeliest first.

    It is the bridge's own address, at which a server has to listen that containers reach; engines without a bridge
    hand connections on to the loopback.
    """
    return (*dict.fromkeys(_bridges()), "127.0.0.1")


def _bridges() -> Iterator[str]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        for name in _BRIDGES:
            with suppress(OSError):
                answer = fcntl.ioctl(asked, _GET_ADDRESS, struct.pack("256s", name.encode()))
                yield socket.inet_ntoa(answer[20:24])


def _numbers(path: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path))


def _ended_with_us() -> tuple[str, ...]:
    tool = shutil.which("setpriv")
    return (tool, "--pdeathsig", "KILL", "--") if tool else ()


def _in_memory(session: Session) -> int:
    """Return a file that has no name and no place on a disk, for the service user alone."""
    try:
        descriptor = os.memfd_create("mlflowd", os.MFD_CLOEXEC | _SEALED)
    except OSError:
        descriptor = os.memfd_create("mlflowd", os.MFD_CLOEXEC)
    os.fchmod(descriptor, 0o600)  # MariaDB's tools ignore what others could write to
    os.write(descriptor, session.private.encode())
    if os.geteuid() == 0:
        os.fchown(descriptor, session.who.uid, session.who.gid)
    return descriptor


def _closed(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def _start_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MOST).decode(errors="replace")
