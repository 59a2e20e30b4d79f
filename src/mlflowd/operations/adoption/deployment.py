"""What was understood of a deployment: the configuration that does the same, and where its data lie. No effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflowd.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflowd.model.deployed import Attachment, Deployed
    from mlflowd.server.abilities import Abilities

SECRETS = Path("/etc/mlflowd")
"""Where the secrets of an adopted deployment go, as private files."""


class NotUnderstoodError(RefusedError):
    """A deployment that mlflowd does not take over; `reasons` are all of them, each a (sentence, remedy)."""

    def __init__(self, *reasons: tuple[str, str]) -> None:
        self.reasons = reasons
        if len(reasons) == 1:
            super().__init__(*reasons[0])
            return
        lines = [f"  - {sentence}" + (f" Remedy: {remedy}" if remedy else "") for sentence, remedy in reasons]
        super().__init__("\n".join(["This deployment cannot be taken over, and nothing was changed:", *lines]))


class Where(StrEnum):
    """Where a path inside a container really is."""

    HOST = "host"
    """On this machine, by a bind or a volume."""
    INSIDE = "inside"
    """In the container's own layer, which is lost when the container is removed."""
    MEMORY = "memory"
    """In a tmpfs: lost at each stop."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path inside the container, and where that is."""

    path: PurePosixPath
    where: Where
    host: Path | None = None
    """The path on this machine, None unless it is there."""
    mount: Attachment | None = None

    @property
    def alone(self) -> bool:
        """Whether this very path is the mount, so that what is beside it lies elsewhere: a file's journal."""
        return self.mount is not None and PurePosixPath(self.mount.target) == self.path

    def __str__(self) -> str:
        """Return it for people."""
        return str(self.host) if self.host else f"{self.path} inside the container"


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret that was in the deployment's command line or environment, and goes to a private file."""

    key: str
    """The key of the configuration that refers to it."""
    path: Path
    content: str = field(repr=False)

    @property
    def source(self) -> str:
        """Return what the configuration says of it."""
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment that was understood."""

    container: Deployed
    able: Abilities
    """What its image can do."""
    settings: Mapping[str, Mapping[str, Any]]
    """Sections and keys of /etc/mlflowd.toml, in its notation; the URIs of local stores are the plan's to add."""
    secrets: tuple[NewSecret, ...] = ()
    database: Place | None = None
    """SQLite's file; None where the database is a server's, or where there is a file store."""
    file_store: Place | None = None
    """The directory of MLflow's file store (mlruns), in the place of a database."""
    artifacts: Place | None = None
    """The directory from which the server hands artifacts on; None where they are not on this machine."""
    root: Place | None = None
    """A server path that clients were given as artifact root, which other machines cannot use; None where none is."""
    root_uri: str = ""
    """The same as it was written: "/mlflow/mlruns", "file:///mlflow/mlruns", "./mlruns"."""
    working_dir: str = "/"
    """What relative paths are relative to."""
    login: Place | None = None
    """The database of basic-auth's users."""
    notes: tuple[str, ...] = ()
    """What the owner should know: what is not carried over, what others have to change."""

    @property
    def version(self) -> str:
        """Return the version of its MLflow."""
        return self.able.mlflow

    @property
    def stores(self) -> tuple[Place, ...]:
        """Return every place that holds data."""
        return tuple(
            place for place in (self.database, self.file_store, self.artifacts, self.root, self.login) if place
        )


def refuse(reasons: Sequence[tuple[str, str]]) -> None:
    """Raise NotUnderstoodError where there is a reason."""
    if reasons:
        raise NotUnderstoodError(*dict.fromkeys(reasons))
