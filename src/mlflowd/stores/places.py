"""Where the stores lie on this machine. No effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.server import login

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.config import Settings

SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; sqlite.org/tempfiles.html."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that the server or mlflowd itself writes to."""

    name: str
    path: Path
    create: bool
    """Whether the configuration lets a missing one be made."""
    section: str = ""
    """The section of the configuration that names it, "" where none does."""
    mounted: bool = False
    """Whether a file system must be mounted for it: then it is refused without, rather than written under."""


def database_path(settings: Settings) -> Path | None:
    """Return SQLite's file, None where the database is a server's."""
    return settings.backend_store.file


def directories(settings: Settings, state: Path | None = None) -> tuple[Directory, ...]:
    """Return the stores' directories on this machine, which the container mounts.

    `state`: the state directory; with it, the directory of the login's users is among them.
    """
    backend, artifacts = settings.backend_store, settings.artifact_store
    found = []
    if backend.file:
        found.append(Directory("backend store", backend.file.parent, backend.create, "backend_store"))
    if artifacts.directory:
        create = artifacts.create and not artifacts.mounted
        found.append(Directory("artifact store", artifacts.directory, create, "artifact_store", artifacts.mounted))
    if settings.login.enabled and state is not None:
        found.append(Directory("login", state / login.DIRECTORY, create=True))
    return tuple(found)
