"""How MLflow is run: the settings and the image's abilities become the full description of a container. No effects.

Facts are of MLflow 3.17.2 and uvicorn 0.54, measured in the container that is described here.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from mlflowd.model import ContainerSpec, Mount, Secrets
from mlflowd.server import artifact_stores, backend, limits, login, names
from mlflowd.server.wiring import PRIVATE, Machine, Wiring

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Image
    from mlflowd.server.abilities import Abilities

_NONE = Secrets()

PORT = 5000
"""Where the server listens inside its container; people reach it at server.listen."""
_WORKER_HEALTHCHECK = 20
"""Seconds until uvicorn takes a silent worker for hung and replaces it.

With its own 5 s, a starved machine (5 % of a processor) loses workers before they have started; and since a stop
waits for the check of a hung worker, it is less than the default container.stop_grace."""
_WORKER_HEALTHCHECK_SINCE = (0, 37)
_OVERFLOW = "80"
"""Connections beyond the pool's five. Some requests take a second one while they hold one, and a worker has 40
threads: with MLflow's 10, 64 clients that create a run at once block each other for 30 s and fail (measured)."""


def container_spec(
    settings: Settings, image: Image, abilities: Abilities, machine: Machine, secrets: Secrets = _NONE
) -> ContainerSpec:
    """Describe the container that the settings ask for.

    The argv is the full command: the image's entrypoint is to be cleared, its own command is not used.
    """
    container, count = settings.container, workers(settings, abilities)
    wired = _wired(settings, abilities, machine, secrets)
    return ContainerSpec(
        slot=0,
        name=container.name,
        image=settings.image.reference,
        image_id=image.id,
        argv=_argv(settings, abilities, wired),
        environment=_environment(settings, wired, secrets),
        user=f"{machine.uid}:{machine.gid}",
        mounts=wired.mounts + ((Mount(machine.private, PRIVATE, read_only=True),) if wired.files else ()),
        publish=settings.server.listen,
        port=PORT,
        network=container.network,
        memory=limits.memory(settings, count, machine.memory),
        pids=limits.pids(settings, count),
        tmpfs_size=limits.size(container.tmp_size, machine.memory),
        shm_size=limits.size(container.shm_size, machine.memory),
        stop_grace=container.stop_grace,
        cpu_weight=container.cpu_weight,
        security_labels=container.selinux,
        host_names=wired.host_names,
        files=wired.files,
    )


def _wired(settings: Settings, abilities: Abilities, machine: Machine, secrets: Secrets) -> Wiring:
    return (
        backend.wiring(settings, abilities, secrets)
        | artifact_stores.wiring(settings, secrets, machine)
        | login.wiring(settings, secrets, machine)
        | names.wiring(settings)
    )


def workers(settings: Settings, abilities: Abilities) -> int:
    """Return the number of worker processes.

    With more than one, uvicorn's sockets lose TCP_NODELAY and each keep-alive request waits 44 ms
    (Kludex/uvicorn#3149); uvloop sets it itself, so without uvloop one worker is faster than two.
    """
    if settings.server.workers == "auto":
        return 2 if abilities.uvloop else 1
    return settings.server.workers


def static_prefix(settings: Settings) -> str:
    """Return the path under which the server serves everything, /health included; "" for none."""
    words = [word for argument in settings.server.extra_arguments for word in argument.split("=", 1)]
    for option, value in zip(words[-2::-1], words[:0:-1], strict=True):
        if option == "--static-prefix":
            return value
    return settings.server.environment.get("MLFLOW_STATIC_PREFIX", "")


def _argv(settings: Settings, abilities: Abilities, wired: Wiring) -> tuple[str, ...]:
    # 0.0.0.0 is inside the container: who may connect is decided by where its port is published.
    address = ("--host", "0.0.0.0", "--port", str(PORT))  # noqa: S104 - as the comment says
    count = ("--workers", str(workers(settings, abilities)))
    options = ("--uvicorn-opts", _uvicorn_options(settings, abilities))
    return ("mlflow", "server", *address, *count, *options, *wired.arguments, *settings.server.extra_arguments)


def _uvicorn_options(settings: Settings, abilities: Abilities) -> str:
    """Return uvicorn's options as one string; the last of two equal options wins, so the user's are last."""
    options = ["--timeout-graceful-shutdown", str(math.ceil(settings.server.graceful_timeout))]
    if _version(abilities.uvicorn) >= _WORKER_HEALTHCHECK_SINCE:
        options += ["--timeout-worker-healthcheck", str(_WORKER_HEALTHCHECK)]
    if not settings.log.access:
        options.append("--no-access-log")
    return " ".join(filter(None, [shlex.join(options), settings.server.uvicorn_options.strip()]))


def _environment(settings: Settings, wired: Wiring, secrets: Secrets) -> tuple[tuple[str, str], ...]:
    """Return sorted pairs; server.environment comes last (config refuses there what must not be replaced)."""
    server = settings.server
    ours = {
        "HOME": "/tmp",  # noqa: S108 - the container's own tmpfs, its only writable place beside the stores
        "MLFLOW_DISABLE_TELEMETRY": _flag(not server.telemetry),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": _flag(server.jobs),
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": _OVERFLOW,
        # The root file system is read-only: without it every import tries to write byte-code, and fails.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if not server.jobs:
        # The server computes nothing: OpenBLAS would start a thread for each processor in each process.
        ours["OPENBLAS_NUM_THREADS"] = "1"
    secret = {name: secrets.get(f"server.secrets.{name}") for name in server.secrets}
    return tuple(sorted((ours | dict(wired.environment) | dict(server.environment) | secret).items()))


def _version(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, () for an unknown one, which is less than any."""
    numbers = text.split(".")[:2]
    return tuple(int(number) for number in numbers) if all(number.isdigit() for number in numbers) else ()


def _flag(value: bool) -> str:
    return "true" if value else "false"
