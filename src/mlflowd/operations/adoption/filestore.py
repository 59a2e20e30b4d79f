"""A file store (`mlruns`) becomes a SQLite database, by MLflow's own `mlflow migrate-filestore` in the old image.

Effects: a throw-away container that reads the file store and writes a database into the adoption's directory.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, RefusedError
from mlflowd.host.paths import run_as
from mlflowd.model import Mount
from mlflowd.operations.adoption import rescue

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.engine.api import Engine
    from mlflowd.host.paths import Identity
    from mlflowd.model import ContainerSpec

_LOCATION = re.compile(r"^artifact_location:\s*(\S.*?)\s*$", re.MULTILINE)


def location(home: Path) -> str:
    """Return where the artifacts of an experiment are, as its directory in a file store tells, "" where it does not."""
    try:
        found = _LOCATION.search((home / "meta.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1].strip("'\"") if found else ""


TASK = "adopt"
LIMIT = 4 * 3600.0
"""Seconds; a hundred thousand runs take some minutes on a slow disk."""
_SOURCE, _TARGET = "/mlflow/filestore/mlruns", "/mlflow/adoption"
_NONE = "No such command"


def migrate(engine: Engine, spec: ContainerSpec, source: Path, target: Path, who: Identity) -> str:
    """Make the database `target`, in a directory of `who`, of the file store `source`, which `who` may read.

    `spec`: the server's own container to be. Returns what MLflow said. Raises RefusedError where it cannot be done.
    """
    engine.end(TASK)
    run_as(who, lambda: target.unlink(missing_ok=True))
    mounts = (Mount(str(source), _SOURCE, read_only=True), Mount(str(target.parent), _TARGET))
    uri = f"sqlite:///{_TARGET}/{target.name}"
    command = ("mlflow", "migrate-filestore", "--source", _SOURCE, "--target", uri, "--no-progress")
    try:
        said = engine.ask(spec.image_id, command, LIMIT, replace(spec, mounts=mounts, files=()), TASK)
    except EngineError as error:
        if _NONE in error.message:
            message = f"{spec.image} cannot turn a file store into a database: MLflow learned it in version 3.10."
            raise RefusedError(message, "take over with a newer image: run the old deployment on it first") from error
        raise
    rescue.settle(target, who)
    return said
