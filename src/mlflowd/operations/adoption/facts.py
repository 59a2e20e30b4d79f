"""What has to be known beside a container itself to understand it, as a value. No effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflowd.model.deployed import Deployed
    from mlflowd.server.abilities import Abilities


@dataclass(frozen=True, slots=True)
class Facts:
    """The world around one container."""

    able: Abilities | None = None
    """What its image can do; None where the image has no MLflow, or does not say."""
    reference: str = ""
    """A name of the image by which mlflowd finds the very same one: the tag, or the id where the tag has moved."""
    others: tuple[Deployed, ...] = ()
    """All other containers."""
    fixed_policy: bool = False
    """Whether the engine cannot change a container's restart policy: Podman 4.3."""
    gone: frozenset[str] = frozenset()
    """Sources of its mounts that are not on this machine any more."""
    holding: frozenset[str] = frozenset()
    """Of the paths inside it that MLflow would choose for itself: those that hold something."""
    files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """Small files inside it that its variables name, by their paths there; secrets among them."""
