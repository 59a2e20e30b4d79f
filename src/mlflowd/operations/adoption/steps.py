"""The steps of an adoption, in their order, each with what it does and how it is undone, as sentences. No effects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mlflowd.operations.adoption.deployment import Place, Where
from mlflowd.server import login

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path, PurePath

    from mlflowd.operations.adoption.counts import Counts, Prefix
    from mlflowd.operations.adoption.deployment import Deployment
    from mlflowd.operations.adoption.extents import Extent

PROXY = "mlflow-artifacts:"


class Choice(StrEnum):
    """What becomes of data on this machine."""

    MOVE = "move"
    """It goes to mlflowd's own directories."""
    REFERENCE = "reference"
    """It stays where it is, and the configuration names that place."""


class Do(StrEnum):
    """The kinds of steps, in the order in which they are done; a plan has those that it needs."""

    STOP = "stop"
    """Stop the container."""
    RETIRE = "retire"
    """Rename the container and take its restart policy away."""
    SAVE = "save"
    """Copy a database server's database before it is rewritten; SQLite's originals are never written to."""
    DATABASE = "database"
    """Bring the SQLite file to its place, with its journal or WAL, wherever those lie; roll back; check."""
    FILE_STORE = "file-store"
    """Turn a file store into a SQLite database."""
    LOGIN = "login"
    """Bring the database of users to its place."""
    ARTIFACTS = "artifacts"
    """Bring a directory of artifacts into the destination."""
    REWRITE = "rewrite"
    """Rewrite server paths in the database."""
    OWN = "own"
    """Give the stores to the service user, and close them to others."""
    CONFIGURE = "configure"
    """Write the secrets and /etc/mlflowd.toml."""
    START = "start"
    """Start mlflowd and wait until its server proves healthy."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where the data will be."""

    choice: Choice
    database: Path | None
    artifacts: Path | None
    state: Path


@dataclass(frozen=True, slots=True)
class Step:
    """One step, with a sentence for what it does and one for how it is undone."""

    do: Do
    sentence: str
    undo: str
    source: Place | None = None
    """Of DATABASE, FILE_STORE, LOGIN and ARTIFACTS: what is brought."""
    target: Path | None = None
    """Of the same: where to. Equal to the source's host path where it stays."""
    experiments: bool = False
    """Of ARTIFACTS: whether only directories of experiments are brought, whose names are numbers."""
    prefixes: tuple[tuple[str, str], ...] = ()
    """Of REWRITE: what URIs begin with now, the longest first, and what takes its place."""
    paths: tuple[Path, ...] = ()
    """Of OWN: files and directories, all in them included."""


def steps(deployment: Deployment, counts: Counts, goal: Goal, *, rewrite: bool) -> Iterator[Step]:
    """Yield the steps."""
    name = deployment.container.name
    yield Step(Do.STOP, f"Stop the container {name}; clients try again meanwhile.", f"Start {name} again.")
    yield Step(Do.RETIRE, f"Rename {name} to {name}-before-mlflowd and take its restart policy away.",
               f"Give it its name and its restart policy ({deployment.container.restart_policy}) back.")  # fmt: skip
    if goal.database is None and rewrite and counts.prefixes:
        yield Step(Do.SAVE, "Save a copy of the database, by its server's own tools.", "Nothing: a copy does no harm.")
    yield from _databases(deployment, counts, goal)
    moved = list(_artifacts(deployment, counts, goal, rewrite=rewrite))
    yield from moved
    if rewrite and counts.prefixes:
        columns = ", ".join(f"{column} {count}" for column, count in counts.columns)
        yield Step(Do.REWRITE, f"Rewrite {counts.paths} artifact locations to the proxy ({columns}).",
                   "Put the former values back.", prefixes=_prefixes(deployment, counts, goal))  # fmt: skip
    yield from _own(counts, goal)
    secrets = f" and {len(deployment.secrets)} private files in /etc/mlflowd" if deployment.secrets else ""
    yield Step(Do.CONFIGURE, f"Write /etc/mlflowd.toml{secrets}.", "Put the file of before back.")
    listen = deployment.settings.get("server", {}).get("listen", "")
    yield Step(Do.START, f"Start mlflowd and wait until its server at {listen} serves, reads, writes and hands on an "
               "artifact.", "Stop mlflowd.")  # fmt: skip


def size(extent: Extent) -> str:
    """Return how much it is, for people."""
    return f"{extent.files} files, {extent.bytes / 1e6:.1f} MB"


def _databases(deployment: Deployment, counts: Counts, goal: Goal) -> Iterator[Step]:
    target = goal.database
    if deployment.file_store and target:
        yield Step(Do.FILE_STORE, f"Turn the file store {deployment.file_store} ({counts.experiments} experiments, "
                   f"{counts.runs} runs) into {target}, by MLflow's own tool.",
                   f"Remove {target}; the file store stays as it is.", deployment.file_store, target)  # fmt: skip
    elif deployment.database and target:
        yield _database(deployment.database, counts, target)
    if deployment.login:
        users = goal.state / login.DIRECTORY / login.DATABASE
        yield Step(Do.LOGIN, f"Bring the users' database {deployment.login} to {users}.", f"Remove {users}.",
                   deployment.login, users)  # fmt: skip


def _database(source: Place, counts: Counts, target: Path) -> Step:
    if counts.journal:
        rest = f", with {' and '.join(counts.journal)}: what was not finished is rolled back"
    elif source.alone or source.where is Where.INSIDE:
        rest = ", with the journal that may be inside the container by then"
    else:
        rest = ""
    how, undo = f"Keep the database {source} where it is", "Put the file of before back."
    if source.host != target:
        how, undo = f"Bring the database {source} to {target}", f"Remove {target}; the file of before stays as it is."
    held = f"{counts.database.bytes / 1e6:.1f} MB, {counts.experiments} experiments, {counts.runs} runs"
    return Step(Do.DATABASE, f"{how}{rest} ({held}).", undo, source, target)


def _artifacts(deployment: Deployment, counts: Counts, goal: Goal, *, rewrite: bool) -> Iterator[Step]:
    """Yield the moves into the destination: what the proxy has, then what lies below server paths, where rewritten."""
    if goal.artifacts is None:
        return
    moves: dict[tuple[Path, Path], Step] = {}
    if deployment.artifacts and deployment.artifacts.host and counts.artifacts.there:
        _add(moves, _bring(deployment.artifacts, goal.artifacts, counts.artifacts, experiments=False))
    for each in counts.prefixes if rewrite else ():  # the longest first: a place inside another one leaves it first
        if each.place.host and each.extent.there and _below(each, deployment, goal) is None:
            # Nothing else that lies there goes along: that is the database itself, in many a deployment.
            target = goal.artifacts / each.experiment if each.experiment else goal.artifacts
            _add(moves, _bring(each.place, target, each.extent, experiments=not each.experiment))
    yield from moves.values()


def _add(moves: dict[tuple[Path, Path], Step], step: Step) -> None:
    """Add a move; the same directory reached by two spellings is brought once."""
    if step.source and step.source.host and step.target and step.source.host != step.target:
        moves.setdefault((step.source.host, step.target), step)


def _bring(source: Place, target: Path, extent: Extent, *, experiments: bool) -> Step:
    what = f"the directories of experiments in {source}" if experiments else f"the artifacts in {source}"
    sentence = f"Bring {what} to {target}, their layout kept (in all {size(extent)})."
    return Step(Do.ARTIFACTS, sentence, f"Bring them back to {source}.", source, target, experiments)


def _prefixes(deployment: Deployment, counts: Counts, goal: Goal) -> tuple[tuple[str, str], ...]:
    """Return what locations begin with, and what takes its place: where the files will be, as the proxy sees it."""
    found = []
    for each in counts.prefixes:
        below = _below(each, deployment, goal)
        path = each.experiment if below is None else str(below).removeprefix(".")
        found.append((each.path, f"{PROXY}/{path}" if path else PROXY))
    return tuple(found)


def _below(prefix: Prefix, deployment: Deployment, goal: Goal) -> PurePath | None:
    """Return the way from the destination to what lies in it already, or gets there as a whole; None for others."""
    host = prefix.place.host
    proxied = deployment.artifacts.host if deployment.artifacts else None
    tops = [top for top in (proxied, goal.artifacts) if top and host and host.is_relative_to(top)]
    return host.relative_to(tops[0]) if host and tops else None


def _own(counts: Counts, goal: Goal) -> Iterator[Step]:
    paths = tuple(
        path for path in (goal.database.parent if goal.database else None, goal.artifacts) if path is not None
    )
    if not paths:
        return
    loose = counts.database.loose + counts.artifacts.loose + sum(each.extent.loose for each in counts.prefixes)
    more = f" {loose} of them can be written by others now." if loose else ""
    told = " and ".join(map(str, paths))
    yield Step(Do.OWN, f"Give {told} to the service user, with all in them, and close them to others.{more}",
               "Give them their owners and modes back.", paths=paths)  # fmt: skip
