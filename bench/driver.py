"""The host's end of client.py: one client container for a whole run of the bench, spoken to line by line.

Runs `docker run -i` on the host network; the container ends with the run.
"""

from __future__ import annotations

import json
import selectors
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

from containers import BenchError, docker

if TYPE_CHECKING:
    from types import TracebackType

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "HOME": "/tmp",  # noqa: S108 - the container's own tmpfs
}


class Client:
    """The client container, a context manager; `ask` runs one task in it."""

    def __init__(self, image: str, name: str, options: tuple[str, ...] = ()) -> None:
        self.name = name
        variables = [f"--env={key}={value}" for key, value in ENVIRONMENT.items()]
        script = Path(__file__).with_name("client.py")
        command = [
            "docker", "run", "-i", "--rm", f"--name={name}", "--network=host", "--read-only", "--tmpfs=/tmp:size=2g",
            "--user=64322:64322", *variables, *options, "-v", f"{script}:/client.py:ro", image, "python", "/client.py",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - the bench's own arguments

    def __enter__(self) -> Self:
        """Wait until it has imported MLflow."""
        self._line(120)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the container."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            docker("rm", "-f", self.name)
            self.process.wait(10)

    def ask(self, task: str, url: str, amount: float, clients: int = 1) -> dict[str, float]:
        """Run one task (`amount`: seconds, for the artifact MiB) and return its figures."""
        if self.process.stdin is None:
            raise BenchError("the client has no stdin")
        self.process.stdin.write(json.dumps({"task": task, "url": url, "amount": amount, "clients": clients}) + "\n")
        self.process.stdin.flush()
        return self._line(180)

    def _line(self, limit: float) -> dict[str, float]:
        if self.process.stdout is None:
            raise BenchError("the client has no stdout")
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(limit):
                raise BenchError(f"the client said nothing for {limit:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise BenchError("the client ended; its last words stand above")
        found: dict[str, float] = json.loads(line)
        return found
