"""Files of the configuration and directories that stay, each with its way back written down before it is made.

Effects: writes files and makes directories; the file of before keeps a second name beside the new one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflowd.host import files
from mlflowd.operations.adoption.undo import BEFORE, unfinished
from mlflowd.operations.adoption.written import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.operations.adoption.carry_out import Work


def write(work: Work, path: Path, text: str, mode: int, owner: tuple[int, int]) -> None:
    """Write a file of the configuration, whole or not at all; the one of before stays beside it."""
    keep(work, path)
    new = unfinished(path)
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        if os.geteuid() == 0:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
    new.replace(path)
    files.sync_directory(path.parent)


def keep(work: Work, path: Path) -> None:
    """Give the file that is there a second name, from which the way back restores it; without one, it is removed."""
    before = path.with_name(path.name + BEFORE)
    if files.exists(before):
        before.replace(before.with_name(f"{before.name}.{work.id}"))  # of an adoption before this one
    work.ahead(Kind.FILE, path=str(path), existed=files.exists(path))
    if files.exists(path):
        os.link(path, before, follow_symlinks=False)


def make(work: Work, path: Path, *, who: bool | None = True) -> None:
    """Make a directory that stays, and the missing ones above it."""
    missing = [each for each in (path, *path.parents) if not files.exists(each)]
    for each in reversed(missing):
        work.ahead(Kind.MADE, path=str(each))
        if who and each == path:
            files.make_directory(each, work.tools.who)
        else:
            each.mkdir()
            each.chmod(0o755)
