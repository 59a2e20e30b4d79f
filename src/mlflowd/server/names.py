"""Which Host headers and which web pages the server takes: what a person adds to MLflow's own lists. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.server.wiring import Wiring

if TYPE_CHECKING:
    from mlflowd.config import Settings


def wiring(settings: Settings) -> Wiring:
    """Return the variables of MLflow's security middleware; none where nothing is added."""
    if settings.server.allowed_hosts or settings.server.cors_origins:
        raise NotImplementedError
    return Wiring()
