"""What a transaction needs of the supervisor's effects, which in turn carry transactions out. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlflowd.engine.api import Progress
    from mlflowd.model import ContainerSpec


class Hands(Protocol):
    """What a transaction needs of the supervisor's effects."""

    leaving: bool

    def check(self, spec: ContainerSpec, *, running: bool, progress: Progress | None = None) -> bool:
        """Look at all that the container needs. Raises MlflowdError where something is wrong."""
        ...

    def make(self, spec: ContainerSpec) -> None:
        """Make the container and start it."""
        ...
