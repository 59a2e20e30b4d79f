"""What a backup holds, in its own words: manifest.json beside the copies of the databases.

Effects: `counts` reads the copied database files.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mlflowd.errors import RefusedError
from mlflowd.operations import copies
from mlflowd.stores import sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflowd.operations.copies import Copy

NAME = "manifest.json"
CONFIGURATION = "mlflowd.toml"
"""The configuration as it was, beside the manifest."""
KEYS = "keys"
"""The directory beside the manifest with the secrets that mlflowd made itself (login)."""
_SCHEMA = 1
_TABLES = {
    "experiments": "experiments",
    "runs": "runs",
    "logged_models": "logged_models",
    "registered_models": "registered_models",
    "model_versions": "model_versions",
}
"""What is counted, and the table of MLflow's."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup."""

    created: str
    """RFC 3339, in UTC."""
    hostname: str
    mlflowd: str
    """mlflowd's version."""
    mlflow: str
    """MLflow's version, "" where no image had served yet."""
    reference: str
    """The image that the configuration named."""
    image: str
    """The id of the image that served."""
    copy: Copy
    artifacts: str
    """The local artifact directory, "" where the artifacts lie elsewhere."""
    counts: Mapping[str, int] | None = field(default=None)
    """Rows of the backend database by kind, None where nobody could count them."""

    def text(self) -> str:
        """Return what `parse` reads."""
        return json.dumps({"schema": _SCHEMA, **asdict(self), "copy": self.copy.document()}, indent=1) + "\n"


def parse(text: str | bytes) -> Manifest:
    """Return the manifest of this text. Raises RefusedError for another text."""
    try:
        told: dict[str, Any] = json.loads(text)
        if told.pop("schema") != _SCHEMA:
            raise RefusedError("This backup was made by a newer mlflowd.", "install that version, then try again")
        return Manifest(**{**told, "copy": copies.parse(told["copy"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RefusedError("The backup's manifest cannot be read.", "sudo mlflowd backup list") from error


def counts(copy: Copy, directory: Path) -> dict[str, int] | None:
    """Return how much the copied backend database holds; None where it is no file that SQLite reads."""
    part = copy.part(copies.BACKEND)
    if part is None or part.kind is not copies.Kind.SQLITE:
        return None
    with suppress(RefusedError), sqlite.opened(directory / part.file) as connection:
        there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            kind: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - names of ours
            for kind, table in _TABLES.items()
            if table in there
        }
    return None
