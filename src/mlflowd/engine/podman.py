"""What Podman 4.3 does otherwise than Docker, where that matters; docs/podman.md has the list.

Effects: `LogWatch` asks the engine about a container and shuts the stream of its log.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.engine import body
from mlflowd.errors import EngineError
from mlflowd.model import ContainerStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflowd.engine.client import Client
    from mlflowd.engine.streams import Stream
    from mlflowd.model import Container, ContainerSpec

_LOOK = 5.0
"""Seconds between two looks at a container whose log is followed."""
_UP = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)


def require_sources(spec: ContainerSpec) -> None:
    """Raise EngineError where a mount's source is missing: Podman makes it, as root, where Docker refuses."""
    for mount in spec.mounts:
        with suppress(PermissionError):  # A directory that only the engine may look into is for it to judge.
            if not Path(mount.source).exists():
                message = f"Creating the container {spec.name} failed: {mount.source} does not exist."
                raise EngineError(message, "sudo mlflowd check --fix")


def gateway(api: Client, network: str) -> str:
    """Return the address of this machine in a network: Podman 4.3 takes the word "host-gateway" for an address."""
    networks = api.inspect_network(network)["IPAM"]["Config"]
    return next((str(one["Gateway"]) for one in networks if one.get("Gateway")), body.HOST_GATEWAY)


class LogWatch(threading.Thread):
    """Ends the stream of a log some seconds after its container ended: Podman sometimes leaves it open for good."""

    def __init__(self, look: Callable[[], Container | None], stream: Stream) -> None:
        """`look` inspects the container; the watch ends with the stream."""
        super().__init__(name="log watch", daemon=True)
        self._look = look
        self._stream = stream

    def run(self) -> None:
        """Shut the stream when two looks in a row found no container of the first look's run."""
        run, missed = self._run(), 0
        while missed < 2 and not self._stream.ended.wait(_LOOK):  # noqa: PLR2004 - the last lines may be on their way
            missed = missed + 1 if run is None or self._run() != run else 0
        self._stream.close()

    def _run(self) -> str | None:
        """Return when the container's run began, None where it is none."""
        try:
            found = self._look()
        except EngineError:
            return None
        return found.started_at if found and found.status in _UP else None
