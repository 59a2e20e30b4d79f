"""How much data a deployment has, and in what state they are: figures for the plan.

Effects: none that lasts. A SQLite file that a server is using is read as it is; one with a journal, or whose journal is
inside the container, is copied to a temporary directory and rolled back there. A database server is asked by a
throw-away container of the deployment's own image.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlflowd.config import Settings
from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host.paths import Identity
from mlflowd.model import Image, Secrets
from mlflowd.operations.adoption import count_script, file_store, relocate_script, rescue
from mlflowd.operations.adoption.extents import NOTHING, Extent, extent, file_extent
from mlflowd.operations.adoption.mounts import place
from mlflowd.server import command
from mlflowd.server.wiring import Machine
from mlflowd.stores import sqlite as sqlite_files
from mlflowd.stores.places import SIDE_FILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflowd.engine.api import Engine
    from mlflowd.operations.adoption.deployment import Deployment, Place

_ROOT = Identity(0, 0, "root")
_NOBODY = Machine(65534, 65534)
_LIMIT = 120.0
"""Seconds for a database server."""
_TRIES = 3
"""Copies of a database that is being written to may be torn."""
_HEADER = 100


@dataclass(frozen=True, slots=True)
class Prefix:
    """What artifact locations begin with that are paths of the server."""

    path: str
    """Without "file:"."""
    place: Place
    experiment: str
    """The id of the one experiment whose place it is, "" for a root with a directory for each experiment."""
    values: int
    """How many locations begin with it, in all columns."""
    used: int
    """How many of them are of runs, models and traces, whose files can be expected there."""
    extent: Extent


@dataclass(frozen=True, slots=True)
class Counts:
    """All of it; `known` is False where the database could not be read, and its figures are 0."""

    known: bool = False
    experiments: int = 0
    runs: int = 0
    models: int = 0
    columns: tuple[tuple[str, int], ...] = ()
    """Columns such as "runs.artifact_uri", and how many of their values are paths of the server under a prefix."""
    prefixes: tuple[Prefix, ...] = ()
    """The longest first."""
    others: int = 0
    """Locations that are paths of some machine, but under no prefix: what users gave as a model's source."""
    database: Extent = NOTHING
    journal: tuple[str, ...] = ()
    """What SQLite left beside the database that has to be rolled back or taken in."""
    damaged: str = ""
    beside: tuple[str, ...] = ()
    """What else lies in the database's directory on this machine."""
    artifacts: Extent = NOTHING
    notes: tuple[str, ...] = ()

    @property
    def paths(self) -> int:
        """Return how many locations are paths of the server that mlflowd can rewrite."""
        return sum(count for _, count in self.columns)


def count(deployment: Deployment, engine: Engine) -> Counts:
    """Look at the data of a deployment, whether it runs or not; as root."""
    found = _of_database(deployment, engine)
    artifacts = extent(deployment.artifacts, engine, deployment.container.id)
    return replace(found, artifacts=artifacts)


# --- the database -------------------------------------------------------------------------------


def _of_database(deployment: Deployment, engine: Engine) -> Counts:
    if deployment.file_store:
        return _of_files(deployment, deployment.file_store, engine)
    if deployment.database is None:
        return _of_server(deployment, engine)
    at = deployment.database
    base = Counts(database=file_extent(at), beside=_beside(at))
    for attempt in range(_TRIES):
        try:
            return _read(deployment, engine, base)
        except MlflowdError as error:
            if not deployment.container.up or attempt == _TRIES - 1:
                return replace(base, damaged=error.message)
    return base


def _read(deployment: Deployment, engine: Engine, base: Counts) -> Counts:
    """Count by the file itself where that needs no change to it, else by a copy."""
    at, up = deployment.database, deployment.container.up
    if at is None:
        return base
    if at.host is not None and (kind := sqlite_files.header(at.host)) != "database":
        raise RefusedError(f"{at.host} is no SQLite database ({kind}).")
    if at.host is not None and not at.alone and (up or not _sides(at.host)):
        return _told(
            base, _of_file(at.host, "mode=ro" if up and not _idle(at.host) else "immutable=1"), deployment, engine
        )
    with tempfile.TemporaryDirectory(prefix="mlflowd-adopt-", dir="/var/tmp") as scratch:
        copy = Path(scratch) / "copy" / at.path.name
        rescued = rescue.rescue(engine, deployment.container, at, copy, _ROOT, lambda _: None)
        told = _of_file(copy, "mode=ro")
        size = Extent(1, copy.stat().st_size, base.database.loose)
        return _told(replace(base, database=size, journal=rescued.beside), told, deployment, engine)


def _of_file(path: Path, how: str) -> dict[str, Any]:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, timeout=10)) as connection:

            def run(statement: str) -> Sequence[Sequence[Any]]:
                return connection.execute(statement).fetchall()

            names = [str(row[0]) for row in run("SELECT name FROM sqlite_master WHERE type = 'table'")]
            schema = {name: [str(row[1]) for row in run(f'PRAGMA table_info("{name}")')] for name in names}
            return count_script.look(run, schema, relocate_script.COLUMNS)
    except sqlite3.Error as error:
        raise RefusedError(f"The database {path} cannot be read: {error}.") from error


def _of_server(deployment: Deployment, engine: Engine) -> Counts:
    """Count what a database server holds; a note where that cannot be done."""
    secrets = Secrets({each.key: each.content for each in deployment.secrets})
    container = deployment.container
    image = Image(container.image_id, (container.image,), {})
    try:
        settings = Settings.layered({name: dict(keys) for name, keys in deployment.settings.items()})
        spec = command.container_spec(settings, image, deployment.able, _NOBODY, secrets)
        like = replace(spec, mounts=(), files=())
        source = resources.files("mlflowd.operations.adoption").joinpath("count_script.py").read_text(encoding="utf-8")
        argv = ("python", "-c", source, json.dumps(relocate_script.COLUMNS))
        told = json.loads(engine.ask(image.id, argv, _LIMIT, like).strip().rpartition("\n")[2])
    except (MlflowdError, ValueError) as error:
        why = error.message if isinstance(error, MlflowdError) else "its answer makes no sense"
        return Counts(notes=(f"The database could not be counted: {why}",))
    return replace(
        _told(Counts(), told, deployment, engine),
        artifacts=extent(deployment.artifacts, engine, deployment.container.id),
    )


def _told(base: Counts, told: Mapping[str, Any], deployment: Deployment, engine: Engine) -> Counts:
    container, working_dir = deployment.container, deployment.working_dir
    values, used = Counter[str](), Counter[str]()
    for column, found in told["columns"].items():
        values.update(found)
        used.update({} if column.startswith("experiments.") else found)
    prefixes = []
    for path, entry in told["prefixes"].items():
        at = place(path, working_dir, container.mounts)
        size = extent(at, engine, container.id)
        prefixes.append(Prefix(path, at, entry["experiment"], values[path], used[path], size))
    return replace(
        base,
        known=True,
        experiments=told["experiments"],
        runs=told["runs"],
        models=told["models"],
        columns=tuple(sorted((name, sum(found.values())) for name, found in told["columns"].items())),
        prefixes=tuple(sorted(prefixes, key=lambda each: -len(each.path))),
        others=told["others"],
    )


# --- files --------------------------------------------------------------------------------------


def _of_files(deployment: Deployment, at: Place, engine: Engine) -> Counts:
    """Count what a file store holds, which has to be on this machine."""
    base = Counts(database=extent(at, engine, deployment.container.id))
    if at.host is None or not at.host.is_dir():
        return replace(base, notes=("The file store is not on this machine, and was not counted.",))
    return _told(base, file_store.look(at.host), deployment, engine)


def _sides(path: Path) -> list[Path]:
    """Return what is beside a database that has to be rolled back or taken in."""
    sides = (path.with_name(path.name + side) for side in rescue.NEEDED)
    return [side for side in sides if side.exists() and side.stat().st_size]


def _idle(path: Path) -> bool:
    """Whether a database of the mode WAL is open nowhere: a reader would make its side files, and leave them."""
    with path.open("rb") as stream:
        wal = stream.read(_HEADER)[18:20] == b"\x02\x02"  # sqlite.org/fileformat2.html: the file format's versions
    return wal and not any(path.with_name(path.name + side).exists() for side in SIDE_FILES)


def _beside(at: Place) -> tuple[str, ...]:
    if at.host is None or not at.host.parent.is_dir():
        return ()
    own = {at.host.name, *(at.host.name + side for side in SIDE_FILES)}
    return tuple(sorted(each.name for each in at.host.parent.iterdir() if each.name not in own))
