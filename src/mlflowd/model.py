"""Frozen values that every layer shares: what is wanted, what is seen, what is done about it.

No effects and no imports but the standard library's. Spans are seconds (float), instants are seconds of
`time.monotonic()` unless a name ends in `_at` and says otherwise, sizes are bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL_SLOT = "io.mlflowd.slot"
LABEL_SPEC = "io.mlflowd.spec"
LABEL_STANDS_FOR = "io.mlflowd.stands-for"
"""On an image that `mlflowd image build` made: the reference it is equivalent to."""


class Phase(StrEnum):
    """Where the server stands; the words of docs/design.md."""

    ABSENT = "absent"
    CREATED = "created"
    STARTING = "starting"
    SERVING = "serving"
    DEGRADED = "degraded"
    HUNG = "hung"
    PAUSED = "paused"
    EXITED = "exited"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"
    """The engine does not answer and neither does the server."""
    STOPPED = "stopped"
    """mlflowd itself was asked to stop and did."""


# --- what is wanted -----------------------------------------------------------------------------


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
    environment: tuple[tuple[str, str], ...]
    """Sorted pairs; secrets only ever stand here, never in argv."""
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

    @property
    def digest(self) -> str:
        """The spec hash: 16 hex digits over every field, carried as the label LABEL_SPEC."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))
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


# --- what is seen -------------------------------------------------------------------------------


class ContainerStatus(StrEnum):
    """The engine's own words for a container's state."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Container:
    """One container as the engine's inspect tells it."""

    id: str
    name: str
    status: ContainerStatus
    image_id: str
    labels: Mapping[str, str]
    started_at: str
    """RFC 3339 wall clock, or "" when it never started."""
    exit_code: int
    oom_killed: bool
    error: str = ""
    """What the engine says of a start that failed."""
    published: Address | None = None
    """Where it is published on the host, as it was created."""

    @property
    def run(self) -> str:
        """What tells one run of the container from the next."""
        return f"{self.id}@{self.started_at}"

    @property
    def running(self) -> bool:
        """Whether its processes are there and may run."""
        return self.status is ContainerStatus.RUNNING

    @property
    def spec_hash(self) -> str | None:
        """The spec hash it was made from; None for a container that is not ours."""
        return self.labels.get(LABEL_SPEC)

    @property
    def ours(self) -> bool:
        """Whether mlflowd made it."""
        return LABEL_SPEC in self.labels


@dataclass(frozen=True, slots=True)
class Image:
    """One local image."""

    id: str
    references: tuple[str, ...]
    labels: Mapping[str, str]
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine says of itself."""

    name: str
    """docker or podman"""
    version: str
    api_version: str
    root: str
    """Its data directory, or "" when it does not say."""
    memory: int = 0
    """Bytes of memory of the host, 0 when unknown."""


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """One event of the engine's stream: a wake-up, never believed."""

    action: str
    container_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class Layer(StrEnum):
    """The layers of health, in the order in which they build on each other."""

    RUNNING = "running"
    SERVING = "serving"
    DATABASE = "database"
    STORE = "store"
    DISK = "disk"
    ARTIFACTS = "artifacts"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A layer that is not well, with the remedy; `critical` means that the server cannot do its work."""

    layer: Layer
    message: str
    remedy: str = ""
    critical: bool = True
    restart_cures: bool = False
    lost: bool = False
    """The store itself is gone, or another one stands in its place."""


@dataclass(frozen=True, slots=True)
class KnownCause:
    """A failure recognised from the server's own words."""

    key: str
    message: str
    remedy: str
    curable: bool
    """Whether trying again may help; False stops the retries."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What one look saw."""

    engine_trouble: str
    """Why the engine cannot be asked, or "" when it answered."""
    container: Container | None
    serving: bool
    """The server answered GET /health in this look."""
    troubles: tuple[Trouble, ...] = ()
    cause: KnownCause | None = None
    """Why the container ended, where its log says so."""
    engine_remedy: str = ""
    signal: str = ""
    """The signal that somebody sent to it through the engine, past mlflowd; "" for none."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the desired state cannot be reached for now."""

    digest: str | None
    """The spec hash that was refused; another one is tried anew."""
    message: str
    remedy: str
    until: float | None
    """When to try again; None: not before a reload."""


@dataclass(frozen=True, slots=True)
class History:
    """What earlier cycles left behind."""

    run: str | None = None
    """The run of a container (its id and start) that the spans below are about."""
    ended_run: str | None = None
    """The run whose end was counted already."""
    begun: bool = False
    """We started a run that no look has seen yet: its end is a failure, however quick it was."""
    misses: int = 0
    """Looks in a row at a running server that did not answer."""
    starting_since: float | None = None
    serving_since: float | None = None
    failures: int = 0
    """Failures in a row, since the server was last stable."""
    failed_at: float = 0.0
    refusal: Refusal | None = None


# --- what is done about it ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action:
    """One effect; `reason` is the sentence for the journal and STATUS=."""

    phase: Phase
    reason: str


@dataclass(frozen=True, slots=True)
class Wait(Action):
    """Do nothing but look again after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Done(Action):
    """Nothing is left to do: the daemon may end."""


@dataclass(frozen=True, slots=True)
class Stop(Action):
    """Stop the server within `grace` seconds."""

    container_id: str
    grace: float


@dataclass(frozen=True, slots=True)
class Pull(Action):
    """Get the wanted image and learn what it can do."""

    image: str


@dataclass(frozen=True, slots=True)
class Create(Action):
    """Make the container and start it."""

    spec: ContainerSpec


@dataclass(frozen=True, slots=True)
class Start(Action):
    """Start the container that is there."""

    container_id: str


@dataclass(frozen=True, slots=True)
class Unpause(Action):
    """Let a paused container run again."""

    container_id: str


@dataclass(frozen=True, slots=True)
class Restart(Action):
    """Stop within `grace` seconds, then start."""

    container_id: str
    grace: float


@dataclass(frozen=True, slots=True)
class Replace(Action):
    """Stop and remove the container, make one from `spec`, start it."""

    container_id: str
    spec: ContainerSpec
    grace: float


# --- preflight ----------------------------------------------------------------------------------


class Level(StrEnum):
    """How bad a finding is; a warning never blocks."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class MendKind(StrEnum):
    """What `mlflowd check --fix` can do safely."""

    MAKE_DIRECTORY = "make-directory"
    OWN = "own"
    """Give a path (for a directory, all in it, links not followed) to the service user."""
    MODE = "mode"


@dataclass(frozen=True, slots=True)
class Mend:
    """A safe repair, as a value; host/files.py carries it out."""

    kind: MendKind
    path: str
    uid: int = -1
    gid: int = -1
    mode: int = 0o700


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one preflight check."""

    check: str
    """A short name such as "backend store: owner"."""
    level: Level
    message: str
    remedy: str = ""
    """The exact command that mends it, or what to change in the configuration."""
    exit_status: int = 0
    """ExitStatus for the daemon when this failure refuses a start."""
    mend: Mend | None = None
    transient: bool = False
    """May pass by itself (a port in use): the daemon waits instead of giving up."""
