"""What one part of the configuration adds to the container of the server, as a value. No effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflowd.model import Mount, PrivateFile

BACKEND = "/mlflow/backend"
"""Where the directory of the SQLite file is mounted: the file alone would leave its journal in the container."""
ARTIFACTS = "/mlflow/artifacts"
LOGIN = "/mlflow/login"
"""Where the directory of basic-auth's database is mounted."""
PRIVATE = "/mlflow/private"
"""Where the private files are mounted, read-only."""
THIS_MACHINE = "host.docker.internal"
"""This machine's name inside the container."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the container's description takes from the machine."""

    uid: int
    gid: int
    """Of the service user, who owns the stores."""
    memory: int = 0
    """Bytes of the engine's host, 0 when unknown, which makes a percentage no limit."""
    state: str = "/var/lib/mlflowd"
    """The state directory, for what a server without a local store keeps on this machine."""
    private: str = "/run/mlflowd/private"
    """The directory of the private files on this machine."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """Environment, files, mounts and arguments; secrets stand in the first two alone."""

    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    files: tuple[PrivateFile, ...] = ()
    mounts: tuple[Mount, ...] = ()
    host_names: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()

    def __or__(self, other: Wiring) -> Wiring:
        """Return both together; of two equal variables the other's holds."""
        return Wiring(
            {**self.environment, **other.environment},
            self.files + other.files,
            self.mounts + other.mounts,
            self.host_names + other.host_names,
            self.arguments + other.arguments,
        )
