"""What is done about it: one effect, as a value. No effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflowd.model.seen import Phase
    from mlflowd.model.wanted import ContainerSpec


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
class Rehearse(Action):
    """Try the migration to another image on a copy of the database; the server goes on."""

    spec: ContainerSpec


@dataclass(frozen=True, slots=True)
class Upgrade(Action):
    """Change to another image, and the database with it, or take everything back."""

    spec: ContainerSpec


@dataclass(frozen=True, slots=True)
class Settle(Action):
    """Finish or revert the transaction that is written down."""


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
