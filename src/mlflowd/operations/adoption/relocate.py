"""Artifact locations that are paths of the old server become the proxy's, in every column that holds one.

Effects: one transaction on a database that no server uses. SQLite's is rewritten here, as the service user; a database
server's inside the image, with the driver and the secrets that the server will have. What is done to both is
relocate_script.py.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host.paths import run_as
from mlflowd.model import Mount
from mlflowd.operations import private_files
from mlflowd.operations.adoption import relocate_script

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflowd.engine.api import Engine
    from mlflowd.host.paths import Identity
    from mlflowd.model import ContainerSpec

Prefixes = tuple[tuple[str, str], ...]
LIMIT = 1800.0
"""Seconds for a database server; a million rows take some minutes."""
_INSIDE = relocate_script.BEFORE.rpartition("/")[0]


def of_file(path: Path, prefixes: Prefixes, who: Identity) -> dict[str, int]:
    """Rewrite a SQLite database and return the number of values by table.column. Raises RefusedError."""
    return dict(run_as(who, lambda: _of_file(path, prefixes)))


def of_server(
    engine: Engine, spec: ContainerSpec, prefixes: Prefixes, directory: Path, who: Identity
) -> dict[str, int]:
    """Rewrite the database of a database server, and return the same.

    `spec`: the server's own container to be. The former values go to `directory`, which the service user owns, before
    anything is changed. Raises MlflowdError.
    """
    return _counts(_ask(engine, spec, directory, who, {"prefixes": prefixes}))


def back(engine: Engine, spec: ContainerSpec, directory: Path, who: Identity) -> dict[str, int]:
    """Put the former values back that `of_server` left in `directory`; may be done again. Raises MlflowdError."""
    return _counts(_ask(engine, spec, directory, who, {"back": True}))


def table(counts: Mapping[str, int]) -> str:
    """Return the counts for people."""
    told = ", ".join(f"{count} in {column}" for column, count in sorted(counts.items()))
    return f"rewrote {sum(counts.values())} artifact locations: {told}" if told else "no artifact location to rewrite"


def _ask(
    engine: Engine, spec: ContainerSpec, directory: Path, who: Identity, what: Mapping[str, Any]
) -> dict[str, Any]:
    source = resources.files("mlflowd.operations.adoption").joinpath("relocate_script.py").read_text(encoding="utf-8")
    with private_files.written(spec, who, directory / "private") as own:
        like = replace(own, mounts=(*own.mounts, Mount(str(directory), _INSIDE)))
        said = engine.ask(spec.image_id, ("python", "-c", source, json.dumps(what)), LIMIT, like)
    try:
        return dict(json.loads(said.strip().rpartition("\n")[2]))
    except (ValueError, TypeError) as error:
        message = "The image did not say how many artifact locations it rewrote: its answer is no JSON."
        raise MlflowdError(message) from error


def _counts(told: Mapping[str, Any]) -> dict[str, int]:
    return {str(column): int(count) for column, count in told["counts"].items()}


def _of_file(path: Path, prefixes: Sequence[Sequence[str]]) -> dict[str, int]:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as connection, connection:

            def run(statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
                return connection.execute(statement, dict(values)).fetchall()

            names = [str(row[0]) for row in run("SELECT name FROM sqlite_master WHERE type = 'table'", {})]
            schema = {name: [str(row[1]) for row in run(f'PRAGMA table_info("{name}")', {})] for name in names}
            return relocate_script.change(run, list(relocate_script.find(run, schema, prefixes)))
    except sqlite3.Error as error:
        raise RefusedError(f"The artifact locations in {path} cannot be rewritten: {error}.") from error
