"""How the server is given its artifact store: the URI, credentials and files of each kind. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.model import Mount
from mlflowd.server.wiring import ARTIFACTS, Wiring

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Secrets


def wiring(settings: Settings, secrets: Secrets) -> Wiring:
    """Return what the artifact store needs."""
    del secrets
    directory = settings.artifact_store.directory
    if directory is None:
        raise NotImplementedError
    return Wiring(
        environment={"MLFLOW_ARTIFACTS_DESTINATION": ARTIFACTS, "MLFLOW_SERVE_ARTIFACTS": "true"},
        mounts=(Mount(str(directory), ARTIFACTS),),
    )
