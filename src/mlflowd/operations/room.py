"""Whether there is room for an image. Effects: one engine call, statvfs(3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.errors import RefusedError
from mlflowd.host.disk import space

if TYPE_CHECKING:
    from mlflowd.engine.api import Engine


def require(engine: Engine, what: str, needed: int, *places: str) -> None:
    """Raise RefusedError where the engine's file system, or that of one of `places`, has fewer than `needed` bytes."""
    for place in (engine.info().root, *places):
        if place and (free := space(Path(place)).free) < needed:
            raise RefusedError(
                f"{what} needs {needed / 1e9:.0f} GB for a while; {place} has {free / 1e9:.1f} GB left.",
                "make room, for example with: sudo docker image prune",
            )
