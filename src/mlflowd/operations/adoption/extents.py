"""How much lies in a directory or a file, on this machine or inside a container.

Effects: none but reading; a directory inside a container is copied to a temporary file to be counted.
"""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.operations.adoption.deployment import Where

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.engine.api import Engine
    from mlflowd.operations.adoption.deployment import Place

_OTHERS = stat.S_IWOTH | stat.S_IWGRP


@dataclass(frozen=True, slots=True)
class Extent:
    """How much lies in one directory."""

    files: int = 0
    bytes: int = 0
    loose: int = 0
    """Files and directories that a group or everybody may write."""
    links: int = 0
    """Symbolic links, which are copied as links."""
    there: bool = True


NOTHING = Extent(there=False)


def extent(at: Place | None, engine: Engine, container_id: str) -> Extent:
    """Return how much lies at a place."""
    if at is None or at.where is Where.MEMORY:
        return Extent(there=False)
    if at.host is not None:
        return _walk(at.host)
    archive = engine.copy_out(container_id, str(at.path))
    if archive is None:
        return Extent(there=False)
    with tempfile.TemporaryFile() as spool:
        spool.writelines(archive)
        spool.seek(0)
        with tarfile.open(fileobj=spool) as packed:
            members = [each for each in packed if each.isreg()]
    return Extent(len(members), sum(each.size for each in members))


def file_extent(at: Place) -> Extent:
    """Return the size of one file of this machine."""
    if at.host is None or not at.host.is_file():
        return Extent(there=False)
    status = at.host.stat()
    return Extent(1, status.st_size, 1 if status.st_mode & _OTHERS else 0)


def _walk(top: Path) -> Extent:
    """Return how much lies below a directory of this machine; links are counted, not followed."""
    if not top.is_dir():
        return Extent(there=False)
    files = size = links = 0
    loose = 1 if top.stat().st_mode & _OTHERS else 0
    pending = [str(top)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for each in entries:
                status = each.stat(follow_symlinks=False)
                if each.is_symlink():
                    links += 1
                    continue
                loose += 1 if status.st_mode & _OTHERS else 0
                if each.is_dir(follow_symlinks=False):
                    pending.append(each.path)
                else:
                    files, size = files + 1, size + status.st_size
    return Extent(files, size, loose, links)
