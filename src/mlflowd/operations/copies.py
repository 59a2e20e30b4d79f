"""Copies of the databases that can be put back: what backups, upgrades and restores have in common.

Effects: reads the databases, writes copies into a directory, and puts copies back while no server runs. SQLite's are
copied page by page (stores/sqlite.copy); a database server's by its own tools (operations/dumps.py).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflowd.config.uris import Dialect
from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files
from mlflowd.host.paths import run_as
from mlflowd.server import login
from mlflowd.stores import sqlite
from mlflowd.stores.places import SIDE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.engine.api import Progress
    from mlflowd.host.paths import Identity
    from mlflowd.model import Secrets


class Kind(StrEnum):
    """What a part is a copy of, and so its form."""

    SQLITE = "sqlite"
    """A database file."""
    POSTGRESQL = "postgresql"
    """An archive of pg_dump's custom format."""
    MYSQL = "mysql"
    """Statements, as mysqldump writes them."""


BACKEND, LOGIN = "backend", "login"
"""The stores that have a database: MLflow's own, and basic-auth's users."""


@dataclass(frozen=True, slots=True)
class Part:
    """The copy of one database."""

    store: str
    kind: Kind
    file: str
    """Its name in the copy's directory."""
    bytes: int
    sha256: str
    revision: str
    """The schema's alembic revision, "" where there is none."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of all databases; no part where there was none yet."""

    parts: tuple[Part, ...] = ()

    @property
    def bytes(self) -> int:
        """The size of all parts."""
        return sum(part.bytes for part in self.parts)

    def part(self, store: str) -> Part | None:
        """Return the part of this store."""
        return next((part for part in self.parts if part.store == store), None)

    def document(self) -> list[dict[str, Any]]:
        """Return what `parse` reads."""
        return [asdict(part) for part in self.parts]


def parse(told: list[Mapping[str, Any]]) -> Copy:
    """Return the copy that a document describes. Raises ValueError, TypeError and KeyError for another document."""
    return Copy(tuple(Part(**{**each, "kind": Kind(each["kind"])}) for each in told))


@dataclass(frozen=True, slots=True)
class Databases:
    """The databases of one configuration."""

    settings: Settings
    secrets: Secrets
    state: Path
    who: Identity

    def take(self, directory: Path, progress: Progress) -> Copy:
        """Copy every database into `directory` (made anew, for the service user alone) and return what was written.

        A server may be using them. Raises MlflowdError; RefusedError for a database that cannot be read or is damaged,
        and for one that mlflowd has no tool for.
        """
        run_as(self.who, lambda: _anew(directory))
        return Copy(tuple(self._take(directory, progress)))

    def wrong(self, copy: Copy, directory: Path) -> str:
        """Return "" where every part is there, unchanged and sound, else what is wrong, as a sentence."""
        return next(filter(None, (self._wrong(part, directory) for part in copy.parts)), "")

    def put_back(self, copy: Copy, directory: Path, progress: Progress) -> None:
        """Make the databases what they were when `copy` was taken. No server may be running.

        May be done again after it was cut short. The copy stays. Raises MlflowdError.
        """
        for part in copy.parts:
            progress(f"putting the {part.store} database back ({part.bytes / 1e6:.0f} MB)")
            if part.kind is Kind.SQLITE:
                run_as(self.who, partial(_put, directory / part.file, self._file(part.store), part.sha256))
            else:
                raise _no_tool(self.settings)

    # --- the parts ------------------------------------------------------------------------------

    def _take(self, directory: Path, progress: Progress) -> Iterator[Part]:
        backend = self.settings.backend_store
        if backend.file is None:
            raise _no_tool(self.settings)
        for store in (BACKEND, LOGIN) if self.settings.login.enabled else (BACKEND,):
            file = self._file(store)
            if sqlite.header(file) in {"missing", "empty"}:
                continue
            progress(f"copying the {store} database ({file.stat().st_size / 1e6:.0f} MB)")
            yield self._file_part(store, file, directory / f"{store}.db")

    def _file_part(self, store: str, file: Path, target: Path) -> Part:
        sqlite.copy(file, target, self.who)
        if wrong := sqlite.quick_check(target, self.who):
            raise RefusedError(f"The database {file} is damaged: {wrong}.", "sudo mlflowd backup list")
        revision = sqlite.revision(target, self.who)
        size, digest = run_as(self.who, lambda: _measure(target))
        return Part(store, Kind.SQLITE, target.name, size, digest, revision)

    def _wrong(self, part: Part, directory: Path) -> str:
        path = directory / part.file
        try:
            size, digest = run_as(self.who, lambda: _measure(path))
        except (OSError, MlflowdError) as error:
            return f"{path} cannot be read: {error}"
        if (size, digest) != (part.bytes, part.sha256):
            return f"{path} is not what was written: {size} bytes, {part.bytes} were"
        wrong = sqlite.quick_check(path, self.who) if part.kind is Kind.SQLITE else ""
        return f"{path} is damaged: {wrong}" if wrong else ""

    def _file(self, store: str) -> Path:
        backend = self.settings.backend_store.file
        if store == BACKEND and backend:
            return backend
        return self.state / login.DIRECTORY / login.DATABASE


def _no_tool(settings: Settings) -> RefusedError:
    dialect = Dialect(settings.backend_store.database.dialect)
    return RefusedError(f"mlflowd cannot copy a database of {dialect}.", "use the tools of the database server")


def _anew(directory: Path) -> None:
    if files.exists(directory):
        shutil.rmtree(directory)
    directory.mkdir(mode=0o700, parents=True)


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return path.stat().st_size, digest


def _put(source: Path, target: Path, sha256: str) -> None:
    """Exchange a database file: what SQLite keeps beside the old one goes first, the new one comes whole."""
    new = target.with_name(f".{target.name}.new")
    with source.open("rb") as old, new.open("wb") as stream:
        shutil.copyfileobj(old, stream, 1 << 20)
        os.fchmod(stream.fileno(), 0o600)
        stream.flush()
        os.fsync(stream.fileno())
    if _measure(new)[1] != sha256:
        new.unlink()
        raise RefusedError(f"{source} is not what was written, so it is not put back.", "look at the disk: sudo dmesg")
    for side in SIDE_FILES:
        target.with_name(target.name + side).unlink(missing_ok=True)
    new.replace(target)
    files.sync_directory(target.parent)
