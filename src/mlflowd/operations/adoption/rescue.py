"""A SQLite database is brought out of a stopped deployment, together with what SQLite needs to make it whole.

Where the file alone was mounted, its `-journal` or `-wal` lie in the container's own layer: without them a database
that was killed in mid-transaction is malformed. Effects: reads the original and the container, writes copies into a
directory of the adoption's own; there, and only there, the journal is rolled back. The original is never opened by
SQLite.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files
from mlflowd.host.paths import run_as
from mlflowd.operations.adoption import transfer
from mlflowd.operations.adoption.deployment import Where
from mlflowd.stores import sqlite
from mlflowd.stores.places import SIDE_FILES

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.engine.api import Engine, Progress
    from mlflowd.host.paths import Identity
    from mlflowd.model.deployed import Deployed
    from mlflowd.operations.adoption.deployment import Place

NEEDED = ("-journal", "-wal")
"""Of the side files: -shm is an index of the WAL, and made anew."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """A database that is whole, in the adoption's own directory."""

    path: Path
    beside: tuple[str, ...]
    """Which side files were there: those in the container's layer as "-journal (inside the container)"."""
    sha256: str
    """Of the original file, as it was before the roll-back."""


def rescue(  # noqa: PLR0913, PLR0917 - a door, two places, whose and what is told
    engine: Engine, container: Deployed, source: Place, target: Path, who: Identity, progress: Progress
) -> Rescued:
    """Copy the database of a stopped container to `target`, in a new directory of `who`; roll it back and check it.

    Raises RefusedError for what is no whole database, and MlflowdError.
    """
    run_as(who, lambda: target.parent.mkdir(mode=0o700, exist_ok=True))
    sha256 = _bring(engine, container, source, target, "", who)
    if not sha256:
        raise RefusedError(f"There is no database at {source}.", "is it mounted where it was?")
    beside = tuple(filter(None, (_beside(engine, container, source, target, side, who) for side in NEEDED)))
    for what in beside:
        progress(f"copied {source.path.name}{what}")
    settle(target, who)
    return Rescued(target, beside, sha256)


def settle(path: Path, who: Identity) -> None:
    """Roll a hot journal back, take a WAL in, and check every page. Raises RefusedError for a damaged database."""
    if (found := sqlite.header(path)) != "database":
        raise RefusedError(f"What was copied to {path} is no SQLite database ({found}).", "is it the right file?")
    remedy = "nothing was written to it; restore it from a copy of yours, and try again"
    try:
        wrong = str(run_as(who, lambda: _integrity(path)))
    except RefusedError as error:
        raise RefusedError(f"The database is damaged: {error.message}", remedy) from error
    if wrong:
        raise RefusedError(f"The database is damaged: {wrong}.", remedy)


def with_sides(path: Path) -> tuple[Path, ...]:
    """Return a database file and what SQLite has beside it, as far as they are there, the file itself last."""
    sides = (path.with_name(path.name + side) for side in SIDE_FILES)
    return (*(side for side in sides if files.exists(side)), path)


def _beside(  # noqa: PLR0913, PLR0917 - as `rescue`
    engine: Engine, container: Deployed, source: Place, target: Path, side: str, who: Identity
) -> str:
    """Bring one side file; return what to call it, "" where there is none."""
    outside = source.host.with_name(source.host.name + side) if source.host else None
    copy = target.with_name(target.name + side)
    if source.where is Where.HOST and not source.alone:
        if outside is None or not files.exists(outside):
            return ""
        transfer.copy_file(outside, copy, who)
        return side
    if not _bring(engine, container, source, copy, side, who, inside=True):
        return ""
    if outside and outside.exists() and outside.stat().st_size:
        message = f"Both {outside} and {source.path}{side} inside the container are there, and only one can be right."
        raise RefusedError(message, f"find out who else opened the database, and remove {outside} if it is not needed")
    return f"{side} (inside the container)"


def _bring(  # noqa: PLR0913, PLR0917 - as `rescue`
    engine: Engine,
    container: Deployed,
    source: Place,
    target: Path,
    side: str,
    who: Identity,
    *,
    inside: bool = False,
) -> str:
    """Copy one file and return its SHA-256, "" where it is not there."""
    if source.host is not None and not inside:
        return transfer.copy_file(source.host, target, who) if files.exists(source.host) else ""
    if source.where is Where.MEMORY:
        raise MlflowdError(f"{source.path} lay in memory, and is gone with the stop.")
    return _out(engine, container.id, f"{source.path}{side}", target, who)


def _out(engine: Engine, container_id: str, path: str, target: Path, who: Identity) -> str:
    """Copy a regular file out of a container and return its SHA-256, "" where there is none."""
    archive = engine.copy_out(container_id, path)
    if archive is None:
        return ""
    with tempfile.TemporaryFile() as spool:
        spool.writelines(archive)
        spool.seek(0)
        with tarfile.open(fileobj=spool) as packed:
            member = packed.next()
            inside = packed.extractfile(member) if member is not None and member.isreg() else None
            if inside is None:
                raise RefusedError(
                    f"{path} inside the container is no regular file.", "docker inspect shows its mounts"
                )
            with tempfile.TemporaryFile() as plain:
                shutil.copyfileobj(inside, plain, 1 << 20)
                plain.seek(0)
                return transfer.copy_open(plain.fileno(), target, who)


def _integrity(path: Path) -> str:
    with sqlite.opened(path, "rw") as connection:
        rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    return "" if rows == ["ok"] else "; ".join(rows).replace("*** in database main ***\n", "").replace("\n", "; ")
