"""Where the stores lie on this machine. No effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


def database_path(settings: Settings) -> Path:
    """Return the database file."""
    return settings.backend_store.path


def directories(settings: Settings) -> tuple[Directory, Directory]:
    """Return the directories that the container mounts."""
    backend, artifacts = settings.backend_store, settings.artifact_store
    return (
        Directory("backend store", backend.path.parent, backend.create, "backend_store"),
        Directory("artifact store", artifacts.path, artifacts.create, "artifact_store"),
    )
