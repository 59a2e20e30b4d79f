"""A container that somebody else made, as far as taking over its job needs to know it. No effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlflowd.model.seen import ContainerStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflowd.model.wanted import Address


class MountKind(StrEnum):
    """What is mounted, in the engine's words."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One mount of a container."""

    kind: MountKind
    source: str
    """The path on this machine, of a volume too; "" for what lies in memory."""
    target: str
    read_only: bool = False
    volume: str = ""
    """The volume's name."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A TCP port inside, and where it is published."""

    port: int
    address: Address
    """Its host is 0.0.0.0 for every interface; its port 0 where the engine chooses one at each start."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A network that the container is in, and the names by which others in it reach the container."""

    network: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployed:
    """One container as it was made, whoever made it."""

    id: str
    name: str
    image: str
    """The reference that it was made from."""
    image_id: str
    entrypoint: tuple[str, ...] = field(default=(), repr=False)
    """As the command, it may hold passwords."""
    command: tuple[str, ...] = field(default=(), repr=False)
    working_dir: str = "/"
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """All of it, the image's own included."""
    image_environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """What of it the image says of itself."""
    mounts: tuple[Attachment, ...] = ()
    published: tuple[Publication, ...] = ()
    networks: tuple[Membership, ...] = ()
    network_mode: str = "default"
    """ "host", "none", "default", "container:ID", or the name of a network."""
    extra_hosts: tuple[str, ...] = ()
    """name:address"""
    restart_policy: str = "no"
    """As docker takes it: "no", "always", "unless-stopped", "on-failure" or "on-failure:5"."""
    auto_remove: bool = False
    """Its end removes it (docker run --rm)."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    status: ContainerStatus = ContainerStatus.CREATED
    exit_code: int = 0
    size_limit: int = 0
    """Bytes of memory, 0 for no limit."""

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the whole command line, which others may read."""
        return self.entrypoint + self.command

    @property
    def up(self) -> bool:
        """Whether its processes are there."""
        return self.status in {ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING}
