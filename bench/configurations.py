"""The servers that are compared: each a value, turned into the argument list of `docker run`.

No effects. Every configuration but MLflow's own defaults runs with the container hardening of mlflowd.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

DATABASE = "sqlite:////mlflow/backend/mlflow.db"
TURNS = Path(__file__).parents[1] / "src/mlflowd/operations/turns"
OVERFLOW = ("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "80")
"""A request may need two connections at once, and a worker has 40 threads for requests."""
PORT = 5000
"""Where the server listens inside its container."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to run the server."""

    name: str
    fast: bool = True
    """On the image with uvloop and httptools; else on the one without, which is how MLflow installs."""
    workers: int = 2
    jobs: bool = False
    journal: str = "wal"
    uvicorn: str = "--timeout-graceful-shutdown 10 --timeout-worker-healthcheck 20 --no-access-log"
    environment: tuple[tuple[str, str], ...] = (OVERFLOW,)
    turns: bool = True
    """Writers of SQLite take turns (src/mlflowd/operations/turns)."""
    plain: bool = False
    """MLflow's own defaults: no option but the address, no hardening."""

    def arguments(self, directory: Path, user: str) -> list[str]:
        """Return the options of `docker run` for data under `directory` and a server as `user` (uid:gid)."""
        if self.plain:
            return ["-v", f"{directory}:/data", "-w", "/data", "-e", "MLFLOW_DISABLE_TELEMETRY=true"]
        pairs = [f"--env={key}={value}" for key, value in self._variables().items()]
        plugin = ["-v", f"{TURNS}:/turns:ro", "--env=PYTHONPATH=/turns"] if self.turns else []
        return [*_hardening(user), "-v", f"{directory}:/mlflow", *plugin, *pairs]

    def command(self) -> list[str]:
        """Return what runs inside the container."""
        command = ["mlflow", "server", "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - the container's own network
        return command if self.plain else [*command, "--workers", str(self.workers)]

    def _variables(self) -> dict[str, str]:
        own = {
            "HOME": "/tmp",  # noqa: S108 - the container's own tmpfs
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MLFLOW_BACKEND_STORE_URI": DATABASE + ("?plugin=mlflowd_turns" if self.turns else ""),
            "MLFLOW_ARTIFACTS_DESTINATION": "/mlflow/artifacts",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": str(self.jobs).lower(),
        }
        return own | ({"MLFLOW_UVICORN_OPTS": self.uvicorn} if self.uvicorn else {}) | dict(self.environment)


def _hardening(user: str) -> list[str]:
    return [
        "--init", f"--user={user}", "--read-only", "--tmpfs=/tmp:size=2g", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", "--pids-limit=1024", "--shm-size=256m",
    ]  # fmt: skip


DEFAULTS = Configuration(
    "mlflow-defaults", fast=False, workers=4, jobs=True, journal="keep", uvicorn="", environment=(), plain=True
)
SHIPPED = Configuration("shipped")
NO_TURNS = replace(SHIPPED, name="no-turns", turns=False)
NO_UVLOOP = Configuration("shipped-no-uvloop", fast=False, workers=1)


def _with(name: str, *variables: tuple[str, str]) -> Configuration:
    return replace(SHIPPED, name=name, environment=(OVERFLOW, *variables))


CANDIDATES = (
    DEFAULTS,
    SHIPPED,
    NO_TURNS,
    NO_UVLOOP,
    replace(SHIPPED, name="workers-1", workers=1),
    replace(SHIPPED, name="workers-3", workers=3),
    replace(SHIPPED, name="workers-4", workers=4),
    replace(SHIPPED, name="jobs", jobs=True),
    replace(SHIPPED, name="journal-delete", journal="delete"),
    replace(SHIPPED, name="access-log", uvicorn=SHIPPED.uvicorn.replace("--no-access-log", "")),
    replace(SHIPPED, name="uvicorn-limits", uvicorn="--no-access-log"),
    replace(SHIPPED, name="loop-asyncio", uvicorn=f"{SHIPPED.uvicorn} --loop asyncio"),
    replace(SHIPPED, name="http-h11", uvicorn=f"{SHIPPED.uvicorn} --http h11"),
    replace(SHIPPED, name="asyncio-h11", uvicorn=f"{SHIPPED.uvicorn} --loop asyncio --http h11"),
    replace(NO_UVLOOP, name="no-uvloop-2", workers=2),
    _with("arenas-2", ("MALLOC_ARENA_MAX", "2")),
    _with("python-malloc", ("PYTHONMALLOC", "malloc")),
    _with("blas-threads", ("OPENBLAS_NUM_THREADS", "2")),
    replace(SHIPPED, name="null-pool", environment=(("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool"),)),
    replace(SHIPPED, name="pool-of-mlflow", environment=()),
    replace(SHIPPED, name="no-turns-1", turns=False, workers=1),
)
"""Everything that was tried; `server.py --list` prints the names."""
