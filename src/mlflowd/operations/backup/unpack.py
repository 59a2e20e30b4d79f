"""What a backup holds taken out of the repository, to a place of one's own.

Effects: restic's; writes `target`, and `target`.nest meanwhile.
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflowd.errors import RefusedError
from mlflowd.host import files
from mlflowd.host.restic import DamagedRepositoryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.host.restic import Restic
    from mlflowd.operations.backup.manifest import Manifest
    from mlflowd.operations.backup.repository import Backup

ANOTHER = "another one: sudo mlflowd backup list, then: sudo mlflowd restore ID"
"""What helps where one is damaged."""


def name(backup: Backup) -> str:
    """Return what people call it: "1a2b3c4d of 2026-11-20 21:00 UTC"."""
    return f"{backup.snapshot.short} of {backup.snapshot.time:%Y-%m-%d %H:%M} UTC"


def manifest_of(backup: Backup) -> Manifest:
    """Return what it holds. Raises RefusedError for one that must not be restored."""
    if backup.manifest is None or backup.wrong:
        raise RefusedError(f"The backup {name(backup)} cannot be restored: {backup.wrong}.", ANOTHER)
    return backup.manifest


def take(door: Restic, backup: Backup, path: str, target: Path) -> None:
    """Write what a backup holds below `path` to `target`, which is not there yet; an empty directory for nothing.

    restic writes each file at its whole path, so it does that in `target`.nest, which stays where this process is
    killed. Raises MlflowdError and OSError; then nothing stays.
    """
    nest = target.with_name(f"{target.name}.nest")
    try:
        _anew(nest)
        with naming(backup):
            door.restore(backup.snapshot.id, nest, include=[_literal(path)])
        found = nest / path.lstrip("/")
        if files.exists(found):
            found.rename(target)
        else:
            target.mkdir(mode=0o700)
    finally:
        shutil.rmtree(nest, ignore_errors=True)


@contextmanager
def naming(backup: Backup) -> Iterator[None]:
    """Name the backup where the repository turns out to be damaged in the block."""
    try:
        yield
    except DamagedRepositoryError as error:
        message = f"The backup {name(backup)} is damaged, and cannot be restored whole: {error.message}"
        raise DamagedRepositoryError(message, ANOTHER) from error


def _anew(directory: Path) -> None:
    if files.exists(directory):
        shutil.rmtree(directory)
    directory.mkdir(mode=0o700, parents=True)


def _literal(path: str) -> str:
    """Return the pattern of restic's that means this path alone (filepath.Match of Go)."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", path)
