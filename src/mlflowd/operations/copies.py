"""Copies of the databases that can be put back: what backups, upgrades and restores have in common.

Effects: reads the databases, writes copies into a directory, and puts copies back while no server runs. SQLite's are
copied page by page (stores/sqlite.copy); a database server's by its own tools (operations/dumps.py).
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mlflowd.config.uris import Dialect
from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files
from mlflowd.host.paths import run_as
from mlflowd.operations import aside, dumps
from mlflowd.server import login
from mlflowd.stores import fingerprint, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.engine.api import Progress
    from mlflowd.host.paths import Identity
    from mlflowd.model import Secrets


class Kind(StrEnum):
    """What a part is a copy of, and so its form; the names are config.uris.Dialect's."""

    SQLITE = "sqlite"
    """A database file."""
    POSTGRESQL = "postgresql"
    """An archive of pg_dump's custom format."""
    MYSQL = "mysql"
    """Statements, as mysqldump writes them."""


BACKEND, LOGIN = "backend", "login"
"""The stores that have a database: MLflow's own, and basic-auth's users."""
_DAMAGE: Final = re.compile(r"malformed|not a database|disk I/O error")
"""What SQLite says of a file that it cannot use as a database at all."""


_SERVER, _LIST = "server", "copy.json"
"""Where `set_aside` has the copy of a database server's database, and what describes it when it is complete."""


class DamagedError(RefusedError):
    """A database is damaged, or gone though one was served: there is nothing whole to copy."""


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
    limit: float | None = None
    """Seconds for each tool of a database server; None: as long as a backup may take (backup.time_limit)."""

    @property
    def time_limit(self) -> float:
        """The same, with the configuration's in place of None."""
        return self.settings.backup.time_limit if self.limit is None else self.limit

    def take(self, directory: Path, progress: Progress) -> Copy:
        """Copy every database into `directory` (made anew, for the service user alone) and return what was written.

        A server may be using them. Raises MlflowdError: DamagedError for a database that is damaged or gone,
        RefusedError for one that cannot be read, or that mlflowd has no tool for.
        """
        if aside.begun(directory):
            raise RefusedError(f"{directory} holds databases that were set aside.", "it is mlflowd's own to go on with")
        with _translated(directory):
            run_as(self.who, lambda: _anew(directory))
            try:
                return Copy(tuple(self._take(directory, progress)))
            except BaseException:
                run_as(self.who, lambda: shutil.rmtree(directory))  # half a copy is none
                raise

    def wrong(self, copy: Copy, directory: Path) -> str:
        """Return "" where every part is there, unchanged and sound, else what is wrong, as a sentence.

        Raises RefusedError where this machine lacks the tool to look at a part.
        """
        return next(filter(None, (self._wrong(part, directory) for part in copy.parts)), "")

    def put_back(self, copy: Copy, directory: Path, progress: Progress) -> None:
        """Make the databases what they were when `copy` was taken. No server may be running.

        May be done again after it was cut short. The copy stays. Raises MlflowdError.
        """
        for part in copy.parts:
            told = f"putting the {part.store} database back ({part.bytes / 1e6:.0f} MB)"
            progress(told)
            file, source = self._place(part), directory / part.file
            with _translated(file or source):
                if file is not None:
                    run_as(self.who, partial(aside.put, source, file, part.sha256))
                    continue
                if wrong := self._wrong(part, directory):
                    raise RefusedError(f"{wrong}, so it is not put back.", "look at the disk: sudo dmesg")
                self._server(partial(progress, told)).restore(source)

    def set_aside(self, directory: Path) -> None:
        """Move today's databases into `directory`, as they are, so that others can take their places.

        What `take` refuses: files that are damaged go with all that SQLite keeps beside them. A database server's is
        copied there. No server may be running; may be done again after it was cut short. Raises MlflowdError.
        """
        with _translated(directory):
            server = directory / _SERVER
            if self.settings.backend_store.file is None and not files.exists(server / _LIST):
                run_as(self.who, lambda: _anew(server))
                parts = Copy(tuple(self._server_part(server, lambda _: None)))
                run_as(self.who, lambda: files.write_atomically(server / _LIST, json.dumps(parts.document())))
            run_as(self.who, lambda: aside.move(self._files(), directory))

    def bring_back(self, directory: Path) -> None:
        """Undo `set_aside`, whatever has taken the databases' places. Nothing happens where it was not begun."""
        with _translated(directory):
            server = directory / _SERVER
            if files.exists(server / _LIST):
                parts = parse(json.loads((server / _LIST).read_text(encoding="utf-8")))
                self.put_back(parts, server, lambda _: None)
            run_as(self.who, lambda: aside.back(directory))

    # --- the parts ------------------------------------------------------------------------------

    def _take(self, directory: Path, progress: Progress) -> Iterator[Part]:
        if self.settings.backend_store.file is None:
            yield from self._server_part(directory, progress)
        for store, file in self._files().items():
            if (kind := sqlite.header(file)) in {"missing", "empty"}:
                self._not_lost(store, file, kind)
                continue
            progress(f"copying the {store} database ({file.stat().st_size / 1e6:.0f} MB)")
            yield self._file_part(store, file, directory / f"{store}.db")

    def _file_part(self, store: str, file: Path, target: Path) -> Part:
        try:
            sqlite.copy(file, target, self.who)
            wrong = sqlite.quick_check(target, self.who)
            revision = "" if wrong else sqlite.revision(target, self.who)
        except sqlite.BusyError:
            raise
        except RefusedError as error:
            if not _DAMAGE.search(error.message):
                raise
            wrong = error.message.rpartition(": ")[2].rstrip(".")
        if wrong:
            raise DamagedError(f"The database {file} is damaged: {wrong}.", "sudo mlflowd backup list")
        return self._measured(Kind.SQLITE, store, target, revision)

    def _server_part(self, directory: Path, progress: Progress) -> Iterator[Part]:
        server = self._server(lambda: None)
        found = server.found()
        if not found.tables:
            return
        told = f"copying the {BACKEND} database ({found.bytes / 1e6:.0f} MB)"
        progress(told)
        kind = Kind(server.database.dialect)
        target = directory / f"{BACKEND}.{dumps.SUFFIXES[server.database.dialect]}"
        run_as(self.who, lambda: target.touch(mode=0o600))
        revision = self._server(partial(progress, told)).dump(target)
        yield self._measured(kind, BACKEND, target, revision)

    def _measured(self, kind: Kind, store: str, target: Path, revision: str) -> Part:
        run_as(self.who, lambda: target.chmod(0o600))
        size, digest = run_as(self.who, lambda: aside.measure(target))
        return Part(store, kind, target.name, size, digest, revision)

    def _wrong(self, part: Part, directory: Path) -> str:
        path = directory / part.file
        try:
            size, digest = run_as(self.who, lambda: aside.measure(path))
        except (OSError, MlflowdError) as error:
            return f"{path} cannot be read: {error}"
        if (size, digest) != (part.bytes, part.sha256):
            return f"{path} is not what was written: {size} bytes, {part.bytes} were"
        wrong = self._look(part, path)
        return f"{path} is damaged: {wrong}" if wrong else ""

    def _look(self, part: Part, path: Path) -> str:
        if part.kind is not Kind.SQLITE:
            return dumps.wrong(Dialect(part.kind), path, self.who, self.time_limit)
        try:
            return sqlite.quick_check(path, self.who)
        except RefusedError as error:
            return error.message

    # --- where they are -------------------------------------------------------------------------

    def _files(self) -> dict[str, Path]:
        """Return the files of the stores whose database is SQLite's."""
        backend = self.settings.backend_store.file
        found = {BACKEND: backend} if backend else {}
        if self.settings.login.enabled:
            found[LOGIN] = self.state / login.DIRECTORY / login.DATABASE
        return found

    def _place(self, part: Part) -> Path | None:
        """Return the file that a part is put back to, None for a database server. Raises RefusedError."""
        if part.store == LOGIN:
            return self.state / login.DIRECTORY / login.DATABASE
        dialect = self.settings.backend_store.database.dialect
        if part.kind.value != dialect.value:
            message = f"The copy is of a {part.kind} database, and backend_store.uri names one of {dialect}."
            raise RefusedError(message, "name a database of that kind in /etc/mlflowd.toml")
        return self.settings.backend_store.file

    def _server(self, tell: Callable[[], None]) -> dumps.Server:
        return dumps.Server(self.settings, self.secrets, self.who, self.time_limit, tell)

    def _not_lost(self, store: str, file: Path, kind: str) -> None:
        """Refuse to copy nothing where a database was served from this place before."""
        served = fingerprint.load(self.state)
        if store == BACKEND and served and served.tables and served.place.path == str(file):
            message = f"The database {file} is {kind}, though one with data was served from there."
            raise DamagedError(message, f"put it back at {file}, or: sudo mlflowd restore")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise MlflowdError in place of OSError."""
    try:
        yield
    except OSError as error:
        raise MlflowdError(
            f"{error.filename or path}: {error.strerror or error}.", "df -h; sudo mlflowd check"
        ) from error


def _anew(directory: Path) -> None:
    if files.exists(directory):
        shutil.rmtree(directory)
    directory.mkdir(mode=0o700, parents=True)
