"""Throw-away server containers for the measurements: start, first answer, memory, processes, end.

Runs the `docker` command line client (DOCKER_HOST is honoured), publishes on 127.0.0.1 only and writes below
the directory it is given.
"""

from __future__ import annotations

import http.client
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from configurations import PORT, Configuration

if TYPE_CHECKING:
    from types import TracebackType

START_LIMIT = 180.0
"""Seconds within which a server has to answer."""
PROBE_PAUSE = 0.02
USER = 64321
"""A uid and gid that owns nothing else."""


class BenchError(Exception):
    """A measurement could not be made; the message says which and why."""


def docker(*arguments: str, stdin: str = "", limit: float = 600.0) -> str:
    """Run one docker command and return what it printed; BenchError with its last words where it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - arguments are the bench's own
            ["docker", *arguments],  # noqa: S607 - the client that the person's PATH names
            input=stdin,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"docker {arguments[0]} took longer than {limit:.0f} s") from error
    if done.returncode:
        raise BenchError(f"docker {arguments[0]} failed: {done.stderr.strip()[-800:]}")
    return done.stdout.strip()


def ended_by_signal() -> None:
    """Let SIGTERM end this program as an exception, so that what it started is removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def healthy(port: int, limit: float = 2.0) -> bool:
    """Whether GET /health is answered with 200 within `limit` seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def first_answer(port: int, since: float, limit: float = START_LIMIT) -> float:
    """Return the seconds from `since` (of time.monotonic) to the first answer; BenchError after `limit`."""
    while time.monotonic() - since < limit:
        if healthy(port):
            return time.monotonic() - since
        time.sleep(PROBE_PAUSE)
    raise BenchError(f"no answer on port {port} within {limit:.0f} s")


@dataclass(slots=True)
class Server:
    """One running server on its own fresh directory; a context manager that removes both."""

    configuration: Configuration
    image: str
    name: str
    directory: Path
    options: tuple[str, ...] = ()
    """Further options of `docker run`."""
    port: int = field(default_factory=free_port)
    started: float = 0.0

    def __enter__(self) -> Self:
        """Make the directory and start the container."""
        shutil.rmtree(self.directory, ignore_errors=True)
        _make_stores(self.directory, self.configuration)
        self.started = time.monotonic()
        options = [*self.configuration.arguments(self.directory, f"{USER}:{USER}"), *self.options]
        publish = f"127.0.0.1:{self.port}:{PORT}"
        command = [*options, self.image, *self.configuration.command()]
        try:
            docker("run", "-d", f"--name={self.name}", "-p", publish, *command)
        except BenchError:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the container and its data."""
        self._remove()

    def _remove(self) -> None:
        docker("rm", "-f", self.name)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """Where the client reaches it."""
        return f"http://127.0.0.1:{self.port}"

    def answered(self) -> float:
        """Return the seconds from `docker run` to the first answer."""
        return first_answer(self.port, self.started)

    def start_again(self) -> float:
        """Kill and start the container; return the seconds from the start to the first answer."""
        docker("kill", self.name)
        since = time.monotonic()
        docker("start", self.name)
        return first_answer(self.port, since)

    def processes(self) -> int:
        """Return the number of processes in the container."""
        return len(docker("top", self.name, "-eo", "pid").splitlines()) - 1

    def memory(self) -> float:
        """Return MiB of anonymous and shared memory of the container, page cache left out."""
        return resident(int(docker("inspect", "-f", "{{.State.Pid}}", self.name)))


def _make_stores(directory: Path, configuration: Configuration) -> None:
    directory.mkdir(parents=True)
    if configuration.plain:
        return
    backend, artifacts = directory / "backend", directory / "artifacts"
    for path in (backend, artifacts):
        path.mkdir(mode=0o700)
    database = backend / "mlflow.db"
    if configuration.journal == "wal":
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    for path in (directory, *directory.rglob("*")):
        shutil.chown(path, USER, USER)


def resident(pid: int) -> float:
    """Return MiB of memory of the control group of `pid` without page cache (cgroup v1 or v2)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return _megabytes(Path("/sys/fs/cgroup/memory" + path), ("total_rss", "total_shmem"))
        unified = Path("/sys/fs/cgroup" + path)
        if not controllers and (unified / "memory.stat").exists():
            return _megabytes(unified, ("anon", "shmem"))
    raise BenchError("the container has no memory control group")


def _megabytes(group: Path, keys: tuple[str, ...]) -> float:
    figures = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    return sum(int(figures.get(key, 0)) for key in keys) / 2**20
