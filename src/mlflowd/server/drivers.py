"""Which Python packages a configuration needs in the image, by its URIs and its login. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlflowd.config import Settings


def missing(settings: Settings, packages: Collection[str]) -> tuple[str, ...]:
    """Return what has to be installed beside `packages` (names as in Abilities), as pip takes it, sorted."""
    del settings, packages
    return ()
