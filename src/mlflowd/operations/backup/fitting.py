"""Whether a backup can take the place of what is there: the same kinds of stores, a schema that is known, the room.

Effects: asks for the room of file systems, and whether directories may be used.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.config.uris import Dialect
from mlflowd.errors import RefusedError
from mlflowd.host import disk
from mlflowd.host.files import exists, obstacle
from mlflowd.host.restic.words import size
from mlflowd.operations.backup.unpack import manifest_of, name
from mlflowd.operations.copies import BACKEND, LOGIN, Copy, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.host.paths import Identity
    from mlflowd.operations.backup.repository import Backup
    from mlflowd.server.abilities import Abilities

_KINDS = {Dialect.SQLITE: Kind.SQLITE, Dialect.POSTGRESQL: Kind.POSTGRESQL, Dialect.MYSQL: Kind.MYSQL}
_ELSEWHERE = "or look at it in a directory: sudo mlflowd restore {id} --to DIR"


@dataclass(frozen=True, slots=True)
class Need:
    """Room that a file system has to have."""

    path: Path
    bytes: int


def parts(backup: Backup, settings: Settings) -> Copy:
    """Return the databases of the backup that this configuration takes. Raises RefusedError where they do not fit."""
    copy = manifest_of(backup).copy
    backend, kind = copy.part(BACKEND), _KINDS.get(settings.backend_store.database.dialect)
    if backend is None:
        raise RefusedError(f"The backup {name(backup)} holds no database: there was none yet.", "mlflowd backup list")
    if backend.kind is not kind:
        message = (
            f"The backup {name(backup)} is of a {backend.kind} database, and backend_store.uri names another kind."
        )
        raise RefusedError(message, f"name one of that kind in backend_store.uri, {_elsewhere(backup)}")
    users = copy.part(LOGIN) if settings.login.enabled else None
    return Copy((backend, users) if users else (backend,))


def check_artifacts(backup: Backup, settings: Settings, who: Identity) -> Path | None:
    """Return the directory that the backup's artifacts go to, None where they lie in an object store.

    Raises RefusedError where the backup's are of another kind, and for a directory that cannot be used.
    """
    directory, had = settings.artifact_store.directory, manifest_of(backup).artifacts
    if had and directory is None:
        message = f"The backup {name(backup)} holds the artifacts of {had}, and artifact_store.uri names no directory."
        raise RefusedError(message, f"name a directory in artifact_store.uri, {_elsewhere(backup)}")
    if not had and directory is not None:
        message = f"The backup {name(backup)} holds no artifacts: they were in a store elsewhere."
        raise RefusedError(
            message, f"set artifact_store as it was then (mlflowd.toml in the backup), {_elsewhere(backup)}"
        )
    if directory is None:
        return None
    if not exists(directory):
        raise RefusedError(f"The artifact directory {directory} is not there.", "sudo mlflowd check --fix")
    if trouble := obstacle(directory, who):
        raise RefusedError(f"{trouble.message}.", "sudo mlflowd check --fix")
    _check_one_file_system(directory)
    return directory


def check_schema(backup: Backup, able: Abilities | None) -> None:
    """Raise RefusedError where MLflow as it is wanted here does not know the backup's schema.

    An older one is migrated when the backup has come into place. An image that is not known yet is not judged.
    """
    backend = manifest_of(backup).copy.part(BACKEND)
    if able is None or not able.revisions or backend is None or not backend.revision:
        return
    if backend.revision not in able.revisions:
        was = manifest_of(backup)
        message = (
            f"The backup {name(backup)} is of MLflow {was.mlflow}, whose schema {backend.revision} is not known to "
            f"MLflow {able.mlflow}: it is newer."
        )
        hint = f'set image.reference = "{was.reference}", sudo systemctl reload mlflowd, then restore again'
        raise RefusedError(message, hint)


def check_room(needs: Iterable[Need], what: str) -> None:
    """Raise RefusedError where a file system has less room than all that is needed on it."""
    wanted: dict[int, tuple[Path, int, int]] = {}
    for need in needs:
        space = disk.space(need.path)
        path, bytes_, _ = wanted.get(space.device, (need.path, 0, 0))
        wanted[space.device] = (path, bytes_ + need.bytes, space.free)
    for path, needed, free in wanted.values():
        if free < needed:
            message = f"{what} needs {size(needed)} at {path}, and there are {size(free)} left."
            raise RefusedError(message, f"make room: sudo du -xh -d2 {path} | sort -h")


def _check_one_file_system(directory: Path) -> None:
    """Refuse a directory with a file system mounted in it, which no rename crosses."""
    device = directory.stat().st_dev
    for entry in os.scandir(directory):
        if entry.stat(follow_symlinks=False).st_dev != device:
            message = f"{entry.path} is a file system of its own, and artifacts are set aside by renaming."
            raise RefusedError(message, f"unmount it, and mount it at {directory} itself or nowhere")


def _elsewhere(backup: Backup) -> str:
    return _ELSEWHERE.format(id=backup.snapshot.short)
