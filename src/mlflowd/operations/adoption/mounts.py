"""Where a path inside a container really is: on this machine, in the container's own layer, in memory. No effects."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlflowd.model.deployed import MountKind
from mlflowd.operations.adoption.deployment import Place, Where

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflowd.model.deployed import Attachment


def place(path: str, working_dir: str, mounts: Iterable[Attachment]) -> Place:
    """Return where a path is; a relative one is below the working directory. Of several mounts the innermost holds."""
    at = PurePosixPath(normal(str(PurePosixPath(working_dir or "/") / path)))
    found: Attachment | None = None
    for mount in mounts:
        if at.is_relative_to(mount.target) and (found is None or len(mount.target) >= len(found.target)):
            found = mount
    if found is None:
        return Place(at, Where.INSIDE)
    if found.kind is MountKind.TMPFS or not found.source:
        return Place(at, Where.MEMORY, mount=found)
    return Place(at, Where.HOST, Path(found.source) / at.relative_to(found.target), found)


def normal(path: str) -> str:
    """Return an absolute path without empty parts, "." and ".."; links are not known here."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)
