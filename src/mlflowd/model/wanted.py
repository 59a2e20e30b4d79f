"""What is wanted: the full description of a container, and the spans that `decide` goes by. No effects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflowd.model.secrets import PrivateFile

LABEL_SLOT = "io.mlflowd.slot"
LABEL_SPEC = "io.mlflowd.spec"
LABEL_STANDS_FOR = "io.mlflowd.stands-for"
"""On an image that `mlflowd image build` made: the reference it is equivalent to.

Labels are inherited: a derived image empties this one, so that it stands in for nothing (engine.stand_in)."""
LABEL_NAME = "io.mlflowd.name"
"""On the same image: the name it was built with. What somebody makes from it inherits both, but has another name."""
LABEL_DERIVED = "io.mlflowd.derived-from"
"""On an image that mlflowd made from another one by adding packages: the id of that other one, its base."""
LABEL_ADDED = "io.mlflowd.added"
"""On an image with LABEL_DERIVED: the requirements that were added, sorted, separated by blanks."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A host directory seen inside the container."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address (or name) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return host:port, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Full description of one container: equal specs make equal containers."""

    slot: int
    name: str
    image: str
    """The reference that the configuration names, for people."""
    image_id: str
    """The content id that the reference resolved to (sha256:…)."""
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = field(repr=False)
    """Sorted pairs; secrets only ever stand here and in `files`, never in argv."""
    user: str
    """uid:gid"""
    mounts: tuple[Mount, ...]
    publish: Address
    """Where people reach the server, on the host."""
    port: int
    """Where the server listens, inside the container."""
    network: str
    memory: int | None
    """Bytes, or None for no limit."""
    pids: int
    tmpfs_size: int
    """Bytes of the container's /tmp."""
    shm_size: int
    stop_grace: float
    cpu_weight: int = 1024
    """The share of a busy processor beside other containers, which have 1024."""
    security_labels: tuple[str, ...] = ()
    """SELinux labels such as "type:container_t", or "disable"."""
    host_names: tuple[str, ...] = ()
    """Names by which the container reaches this machine."""
    files: tuple[PrivateFile, ...] = ()
    """What lies in the read-only mount of the private directory; written before each start."""

    @property
    def digest(self) -> str:
        """The spec hash: 16 hex digits over every field, carried as the label LABEL_SPEC."""
        counted = dataclasses.asdict(self) | {"files": [each.identity for each in self.files]}
        text = json.dumps(counted, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Timing:
    """The spans that `decide` goes by."""

    interval: float
    """Between two looks while all is well."""
    retry_interval: float
    """Between two looks after a missed probe."""
    starting_interval: float
    """Between two looks while the server starts."""
    misses: int
    """Missed probes in a row that make a server hung."""
    start_deadline: float
    """From start to the first answer."""
    kill_grace: float
    """What a hung server gets before SIGKILL."""
    backoff_first: float
    backoff_max: float
    stable_after: float
    """Healthy seconds that clear the backoff."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What the configuration asks for."""

    name: str
    image: str
    spec: ContainerSpec | None
    """None until the image is known, because the spec depends on what the image can do."""
    timing: Timing
    stop_grace: float
    stop_by: float | None = None
    """The server is to be stopped, and by this instant the daemon ends whether it did or not; None: it is to run."""
    served: str = ""
    """The id of the image that served last, "" for none: another one is an upgrade."""
    rehearsed: bool = False
    """Whether the upgrade to the wanted image has passed its rehearsal."""
    held: str = ""
    """What the upgrade waits for, as a sentence; "" for nothing."""
