"""What is seen, and what earlier looks left behind. No effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from mlflowd.model.wanted import LABEL_SPEC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflowd.model.wanted import Address


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
    user: str = ""
    """Whom it runs as unless told otherwise, "" for root; not told in a list of images."""


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

    IMAGE = "image"
    RUNNING = "running"
    SERVING = "serving"
    DATABASE = "database"
    STORE = "store"
    DISK = "disk"
    ARTIFACTS = "artifacts"
    BACKUP = "backup"


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
    unfinished: str = ""
    """The transaction that is to be finished or reverted first, as a sentence; "" for none."""
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
    why: str = ""
    """What the last failure was, where an effect failed with a sentence: a mount that is awaited, an engine error."""
    refusal: Refusal | None = None
