"""MLflow's basic-auth: its configuration file, its database's place, its command line. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.server.wiring import Machine, Wiring

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Secrets


def wiring(settings: Settings, secrets: Secrets, machine: Machine) -> Wiring:
    """Return what the login needs; nothing where it is off."""
    del secrets, machine
    if settings.login.enabled:
        raise NotImplementedError
    return Wiring()
