"""A container that is tried beside the one that runs: with private files of its own.

Effects: writes the private files of a container into a directory and removes them again.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflowd.host import secrets
from mlflowd.server.wiring import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.host.paths import Identity
    from mlflowd.model import ContainerSpec, Mount


@contextmanager
def written(spec: ContainerSpec, who: Identity, directory: Path) -> Iterator[ContainerSpec]:
    """Write the private files into `directory` for the while, and yield the spec with their mounts from there.

    `directory` does not exist, and this process or `who` may make it; those of the server that is running stay as
    they are. Raises MlflowdError.
    """
    private = next((mount.source for mount in spec.mounts if mount.target == PRIVATE), "")
    mounts = tuple(_moved(mount, private, str(directory)) for mount in spec.mounts)
    try:
        secrets.write(directory, spec.files, who)
        yield replace(spec, mounts=mounts)
    finally:
        secrets.write(directory, (), who)


def _moved(mount: Mount, before: str, after: str) -> Mount:
    """Return the mount with what lies in the one directory in the other."""
    inside = before and (mount.source == before or mount.source.startswith(f"{before}/"))
    return replace(mount, source=after + mount.source.removeprefix(before)) if inside else mount
