"""status.json: what `mlflowd status` reads, written atomically each time something changes.

The document (schema 1): schema, version, pid, phase, since, reason, ready, serving, address, image, mlflow, container,
engine, troubles, refusal, restarts, incidents, transaction, backup. Instants are RFC 3339 in UTC, spans are seconds.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlflowd import __version__
from mlflowd.host import files
from mlflowd.host.redaction import redacted
from mlflowd.model import Phase

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.model import Address, Container
    from mlflowd.supervisor.narrate import Scene

SCHEMA = 1
_KEPT = 20
"""Incidents that are kept."""
_UP = frozenset({Phase.SERVING, Phase.DEGRADED})


@dataclass(frozen=True, slots=True)
class Served:
    """What the document says beside the scene."""

    ready: bool
    address: Address
    image: str
    mlflow: str
    """MLflow's version, "" while unknown."""
    transaction: dict[str, Any] | None = None
    """What became of the last upgrade or restore, None where there was none: operations.transaction.Outcome."""
    backup: dict[str, Any] | None = None
    """What is known of the backups, None where none are configured: supervisor.backups.document."""


class StatusFile:
    """The status document of this daemon; goes on with the incidents that the last one left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        last = read(path) or {}
        self._incidents: list[dict[str, Any]] = list(last.get("incidents", []))[-_KEPT:]
        self._restarts = int(last.get("restarts", 0))
        self._written: dict[str, Any] = {}
        self._since = now()
        self._phase: Phase | None = None
        self._outage: tuple[float, str] | None = None

    def restarted(self) -> None:
        """Count a start that was a cure."""
        self._restarts += 1

    def interrupted(self, reason: str, clock: float) -> None:
        """Note that an action of ours takes the server away: the outage that follows has this reason."""
        if self._outage is None and self._phase in _UP:
            self._outage = (clock, reason)

    def update(self, scene: Scene, reason: str, served: Served, clock: float) -> None:
        """Write the document, if it differs from the one written last. `clock` is monotonic."""
        self._account(scene, reason, clock)
        if scene.action.phase is not self._phase:
            self._phase, self._since = scene.action.phase, now()
        document = self._document(scene, reason, served)
        if document != self._written:
            files.write_atomically(self._path, json.dumps(redacted(document), indent=1) + "\n", mode=0o644)
            self._written = document

    def _document(self, scene: Scene, reason: str, served: Served) -> dict[str, Any]:
        observed, refusal = scene.observed, scene.history.refusal
        return {
            "schema": SCHEMA,
            "version": __version__,
            "pid": os.getpid(),
            "phase": scene.action.phase,
            "since": self._since,
            "reason": reason,
            "ready": served.ready,
            "serving": observed.serving,
            "address": str(served.address),
            "image": served.image,
            "mlflow": served.mlflow,
            "container": _container(observed.container),
            "engine": observed.engine_trouble or "ok",
            "troubles": [asdict(trouble) for trouble in observed.troubles],
            "refusal": {"message": refusal.message, "remedy": refusal.remedy} if refusal else None,
            "restarts": self._restarts,
            "incidents": self._incidents,
            "transaction": served.transaction,
            "backup": served.backup,
        }

    def _account(self, scene: Scene, reason: str, clock: float) -> None:
        """Note an outage at its end: from the first look without an answer to the first one with it."""
        serving = scene.observed.serving
        if serving and self._outage is not None:
            began, why = self._outage
            incident = {"ended": now(), "seconds": round(clock - began, 2), "reason": why}
            self._incidents = [*self._incidents, incident][-_KEPT:]
            self._outage = None
        elif not serving:
            self.interrupted(reason, clock)


def read(path: Path) -> dict[str, Any] | None:
    """Return the document at `path`; None where there is none, or none that can be read."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def now() -> str:
    """Return the wall clock as the document writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _container(container: Container | None) -> dict[str, str] | None:
    if container is None:
        return None
    return {"id": container.id, "name": container.name, "status": container.status, "started_at": container.started_at}
