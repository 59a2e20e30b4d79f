"""How the server is given its database: the URI with driver and password, the mount of a local file. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.model import Mount
from mlflowd.server.wiring import BACKEND, Wiring

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Secrets
    from mlflowd.server.abilities import Abilities

TURNS_PACKAGE = "mlflowd-turns"
"""On an image of `mlflowd image build`: its writers of SQLite take turns, which keeps the slowest of eight clients'
requests at 0.6 of MLflow's own p99 instead of 2.4 times it (docs/performance.md)."""
_TURNS = "?plugin=mlflowd_turns"


def wiring(settings: Settings, abilities: Abilities, secrets: Secrets) -> Wiring:
    """Return what the backend store needs."""
    del secrets
    file = settings.backend_store.file
    if file is None:
        raise NotImplementedError
    turns = _TURNS if TURNS_PACKAGE in abilities.packages else ""
    return Wiring(
        environment={"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{BACKEND}/{file.name}{turns}"},
        mounts=(Mount(str(file.parent), BACKEND),),
    )
