"""Makes a backup: the databases first, the artifacts after them, both in one snapshot of restic's.

Effects: copies in <state>/backup/staging for as long as it lasts; a snapshot; old ones are removed by backup.keep; the
record. A run that is written meanwhile is in it as of the copy: whatever the databases name was there before, so
nothing in the snapshot points at a missing file. It is to be run as the service user (paths.become).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mlflowd import __version__
from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files, restic
from mlflowd.host.disk import space
from mlflowd.host.occupation import OccupiedError, occupied
from mlflowd.host.restic import BusyRepositoryError, DamagedRepositoryError
from mlflowd.host.secrets import KEPT
from mlflowd.operations import copies
from mlflowd.operations.backup import manifest
from mlflowd.operations.backup.manifest import Manifest
from mlflowd.operations.backup.record import Failure, RecordFile, Success
from mlflowd.operations.backup.repository import STAGING, Backups, affected
from mlflowd.operations.images_kept import ImagesKept
from mlflowd.stores import places

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.engine.api import Progress
    from mlflowd.host.paths import Identity
    from mlflowd.host.restic import Added, Restic
    from mlflowd.model import Secrets
    from mlflowd.operations.copies import Copy

_UPLOADING: Final = ".artifact.uploading.*"
"""MLflow writes an artifact under such a name first, and renames it."""
_OWN: Final = ".mlflowd-*"
"""Probes, and what a restore staged or set aside: never a part of the data."""
_FILE_SYSTEM: Final = "lost+found"
"""Root's, where the directory is a file system of its own."""
_SIDE: Final = 0.02
"""Share of a database that its copy may need beyond it."""
_SAMPLE: Final = 3


@dataclass(frozen=True, slots=True)
class Source:
    """What is saved, and who saves it."""

    settings: Settings
    secrets: Secrets
    state: Path
    who: Identity
    configuration: Path
    """The configuration file."""

    @property
    def staging(self) -> Path:
        """Where the copies lie until restic has read them."""
        return self.state / STAGING

    @property
    def artifacts(self) -> Path | None:
        """The local artifact directory; None where there is none, or none yet."""
        directory = self.settings.artifact_store.directory
        return directory if directory and directory.is_dir() else None


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made."""

    added: Added
    seconds: float
    unfinished: str = ""
    """What could not be done after it: old backups that could not be removed."""


def create(source: Source, progress: Progress, *, anew: bool = False) -> Made:
    """Make a backup and return it; the record has what became of it.

    `anew`: an empty repository is made although there was one. Raises MlflowdError; OccupiedError where another
    operation is at work.
    """
    began, record = time.time(), RecordFile(source.state, source.who)
    with noted(record, "backup"), occupied(source.state, "a backup"):
        record.begin(source.settings.backup.repository, began)
        shutil.rmtree(source.staging, ignore_errors=True)  # of a backup that was killed
        _require_room(source)
        with restic.opened(source.settings.backup, source.secrets, source.state, progress) as door:
            backups = Backups(door, source.state, record)
            identity = backups.present(record.read(), anew=anew)
            record.change(lambda known: known.of(identity))
            with _staged(source, progress):
                added = _save(source, door, progress)
            _trusted(backups, record, added)
            seconds = time.time() - began
            record.succeeded(Success(time.time(), added.snapshot, seconds, added.bytes, added.total))
            return Made(added, seconds, _thinned(source, door, record, progress))


@contextmanager
def noted(record: RecordFile, what: str) -> Iterator[None]:
    """Put what goes wrong into the record; an operation or a repository that is busy is no failure."""
    try:
        yield
    except (OccupiedError, BusyRepositoryError):
        raise
    except MlflowdError as error:
        damaged = isinstance(error, (copies.DamagedError, DamagedRepositoryError))
        _note(record, Failure(time.time(), what, error.message, error.hint, damaged))
        raise
    except KeyboardInterrupt:
        _note(record, Failure(time.time(), what, f"the {what} was interrupted", "sudo mlflowd backup"))
        raise


def _note(record: RecordFile, failure: Failure) -> None:
    with suppress(MlflowdError, OSError):  # it is told anyway; a full disk is the reason itself
        record.failed(failure)


# --- the copies -------------------------------------------------------------------------------------


@contextmanager
def _staged(source: Source, progress: Progress) -> Iterator[None]:
    """Have the copies of the databases, and what describes them, for as long as the block lasts."""
    try:
        databases = copies.Databases(source.settings, source.secrets, source.state, source.who)
        copy = databases.take(source.staging, progress)
        _describe(source, copy)
        yield
    finally:
        shutil.rmtree(source.staging, ignore_errors=True)


def _require_room(source: Source) -> None:
    settings = source.settings
    file = places.database_path(settings)
    needed = int(file.stat().st_size * (1 + _SIDE)) if file and files.exists(file) else 0
    _require(source.state, needed, settings)
    if repository := restic.local(settings.backup.repository):
        _require(repository, 0, settings)


def _require(at: Path, needed: int, settings: Settings) -> None:
    room = space(at)
    kept = settings.disk.require_free.of(room.total)
    if room.free < needed + kept:
        message = f"A backup needs {(needed + kept) / 1e9:.2f} GB at {at}; {room.free / 1e9:.2f} GB are left."
        raise RefusedError(message, "make room (df -h); disk.require_free stays free in any case")


def _describe(source: Source, copy: Copy) -> None:
    """Write the manifest, the configuration and mlflowd's own keys beside the copies."""
    settings, kept = source.settings, ImagesKept(source.state, source.who).read()
    served = kept.served[0] if kept.served else None
    able = kept.abilities.get(served.image) if served else None
    described = Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        hostname=socket.gethostname(),
        mlflowd=__version__,
        mlflow=able.mlflow if able else "",
        reference=settings.image.reference,
        image=served.image if served else "",
        copy=copy,
        artifacts=str(source.artifacts or ""),
        counts=manifest.counts(copy, source.staging),
    )
    files.write_atomically(source.staging / manifest.NAME, described.text())
    with suppress(OSError):  # the environment may hold all of the configuration
        files.write_atomically(source.staging / manifest.CONFIGURATION, source.configuration.read_text("utf-8"))
    for name in KEPT.values() if settings.login.enabled else ():
        with suppress(OSError):
            files.write_atomically(
                source.staging / manifest.KEYS / name, (source.state / "state" / name).read_text("utf-8")
            )


# --- the snapshot -----------------------------------------------------------------------------------


def _save(source: Source, door: Restic, progress: Progress) -> Added:
    """Make the snapshot; one that lacks a file is taken back."""
    saved = [source.staging, *([source.artifacts] if source.artifacts else [])]
    progress(f"saving to {door.where}")
    added = door.save(saved, _left_out(source))
    # A file that was deleted meanwhile belongs to no backup; any other one that could not be read does.
    missing = [path for path in added.unread if os.path.lexists(path)]
    if missing:
        door.forget(added.snapshot)
        named = ", ".join(missing[:_SAMPLE])
        message = f"{len(missing)} files could not be read, so there is no backup: {named}."
        raise MlflowdError(message, "sudo mlflowd check --fix; sudo dmesg shows a disk that fails")
    return added


def _left_out(source: Source) -> Sequence[str]:
    if source.artifacts is None:
        return ()
    top = _literal(str(source.artifacts))
    return (_UPLOADING, f"{top}/{_OWN}", f"{top}/{_FILE_SYSTEM}")


def _literal(path: str) -> str:
    """Return the pattern that fits this path alone (Go's filepath.Match)."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", path)


def _trusted(backups: Backups, record: RecordFile, added: Added) -> None:
    """Raise where the new snapshot rests on data that are known damaged: restic saves nothing twice."""
    known = record.read()
    if not known.packs and not known.bad:
        return
    verdict = restic.Verdict(("known damage",), known.packs)
    own = [each for each in backups.door.snapshots() if each.id == added.snapshot]
    if bad := affected(backups.door, own, verdict):
        record.condemn(bad)
        message = f"The repository {backups.door.where} is damaged, and new backups there rest on the damaged data."
        raise DamagedRepositoryError(message, _begin_anew(backups.door.where))


def _begin_anew(where: str) -> str:
    if restic.local(where):
        return f"sudo mv {where} {where}.damaged && sudo mlflowd backup --init"
    return "set backup.repository to a new place, then: sudo mlflowd backup"


def _thinned(source: Source, door: Restic, record: RecordFile, progress: Progress) -> str:
    """Remove what backup.keep does not keep; return what went wrong with it. Nothing goes while damage is known."""
    known = record.read()
    if known.packs or known.bad:
        return "no old backup is removed while damage is known: sudo mlflowd backup list"
    try:
        if removed := door.thin(source.settings.backup.keep, socket.gethostname()):
            progress(f"removing {removed} old backups")
            door.prune()
    except MlflowdError as error:
        return f"old backups could not be removed: {error.message}"
    return ""
