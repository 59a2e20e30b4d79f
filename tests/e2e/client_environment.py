"""An environment with a real MLflow client for the end-to-end tests, and client.py run in it beside a guest.

The environment is that of requirements/client.txt (services/environment.py). The client runs on the outer machine,
with its own disk, in the guest's network: to the server it is a program on the same host. Effects: processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.environment import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.guest import Guest

PROGRAM = Path(__file__).with_name("client.py")
ADDRESS = "http://127.0.0.1:5000"
LIMIT = 400.0
"""Seconds for one run of client.py: MLflow's own retries may take four minutes of them before it gives up."""


class ClientError(Exception):
    """client.py failed; the text holds what it printed."""


def client_python() -> Path:
    """Return the interpreter of the environment, made where it is not in the cache yet."""
    return environment("client") / "bin" / "python"


@dataclass(frozen=True)
class Client:
    """Runs client.py in the network of a running guest; each run is a process of its own."""

    host: Guest
    python: Path
    directory: Path
    """Its home and working directory: all that it may leave on its own disk."""
    login: tuple[str, str] | None = None
    """A name and a password for the server; without it the client has no credentials of any kind."""

    def run(self, verb: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run it to its end and return its document; raises ClientError, TimeoutExpired."""
        text = json.dumps(document) if document else ""
        done = subprocess.run(
            self.command(verb),
            check=False, input=text, capture_output=True, text=True, timeout=LIMIT, cwd=self.directory,
        )  # fmt: skip
        if done.returncode != 0:
            raise ClientError(f"client.py {verb} ended with {done.returncode}:\n{done.stderr[-6000:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    @contextlib.contextmanager
    def stream(self) -> Iterator[Stream]:
        """Run `client.py stream` for the time of the block."""
        log = self.directory / "stream.log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                self.command("stream"),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=self.directory,
            ) as process,
        ):  # fmt: skip
            try:
                yield Stream(process, log)
            finally:
                process.kill()

    def command(self, verb: str) -> list[str]:
        pairs = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory),
            "LANG": "C.UTF-8",
            "MLFLOW_TRACKING_URI": ADDRESS,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
        }
        if self.login:
            pairs["MLFLOW_TRACKING_USERNAME"], pairs["MLFLOW_TRACKING_PASSWORD"] = self.login
        enter = ["nsenter", "-t", str(self.host.leader), "-n", "--", "env", "-i"]
        return [*enter, *(f"{name}={value}" for name, value in pairs.items()), str(self.python), str(PROGRAM), verb]


@dataclass(frozen=True)
class Stream:
    """A running `client.py stream`."""

    process: subprocess.Popen[str]
    log: Path

    def acknowledged(self, count: int) -> list[int]:
        """Wait for the next `count` steps that the server acknowledged and return them."""
        return [int(self._line()) for _ in range(count)]

    def end(self) -> tuple[list[int], list[int]]:
        """End it; return the steps acknowledged since the last look, and all the steps that the server has.

        Raises ClientError when the client gave up on one of them.
        """
        if self.process.stdin is not None:
            self.process.stdin.close()
        *later, found = list(iter(self._line, "")) or [""]
        if self.process.wait(LIMIT) != 0:
            raise ClientError(f"client.py stream failed:\n{self.log.read_text()[-6000:]}")
        return [int(step) for step in later], list(json.loads(found))

    def _line(self) -> str:
        return self.process.stdout.readline() if self.process.stdout is not None else ""
