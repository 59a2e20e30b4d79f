"""The contents of an artifact directory exchanged for those of a backup, by renames alone, and exchanged back.

Effects: renames top-level entries within one file system; makes and removes the two directories beside them; flushes
the directories. To be done as the service user, while no server runs. The order, and the way back:

    set_aside(artifacts, aside)      # today's entries: artifacts -> aside
    place(staged, artifacts)         # the backup's:    staged -> artifacts
    undo_place(artifacts, staged)    # the backup's:    artifacts -> staged
    undo_aside(aside, artifacts)     # today's:         aside -> artifacts
    clear(staged)                    # in the end, whichever way it went: what is left of the staged directory

The first two may be cut short after any rename, and both done again or both undone; so may the undoing. Names on the
disk say how far it is: while `set_aside` is at it the entries are in `aside.part`, which becomes `aside` when all are
there; while `place` is at it `staged` is `staged.placing`, and at its end an empty `staged.placed` says so. So what is
done again takes nothing away that was placed, and what is undone moves nothing that was not done.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from mlflowd.errors import RefusedError
from mlflowd.host.files import exists, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = ".mlflowd-"
"""Begins the names that never move: mlflowd's own, such as the directories of these moves."""
_STAYS = frozenset({"lost+found"})
"""Root's, where the directory is a file system of its own."""


def staged_in(artifacts: Path, transaction_id: str) -> Path:
    """Return where a transaction stages the artifacts of a backup."""
    return artifacts / f"{OWN}restore-{transaction_id}"


def aside_in(artifacts: Path, transaction_id: str) -> Path:
    """Return where a transaction sets today's artifacts aside."""
    return artifacts / f"{OWN}aside-{transaction_id}"


def set_aside(artifacts: Path, aside: Path) -> None:
    """Move what `artifacts` holds into `aside`, a directory in it. Raises OSError and RefusedError."""
    if exists(aside):
        return
    part = _part(aside)
    _make(part)
    _move_all(artifacts, part)
    _rename(part, aside)


def place(staged: Path, artifacts: Path) -> None:
    """Move what `staged` holds into `artifacts`. Raises OSError; RefusedError where it is gone, or a name is taken."""
    placing, placed = _placing(staged), _placed(staged)
    if exists(placed):
        return
    if not exists(placing):
        if not exists(staged):
            raise RefusedError(f"{staged}, the artifacts of the backup, is gone.", "sudo mlflowd restore, once more")
        _rename(staged, placing)
    _move_all(placing, artifacts)
    _rename(placing, placed)


def undo_place(artifacts: Path, staged: Path) -> None:
    """Move what was placed back into `staged`; nothing where nothing was placed. Raises OSError and RefusedError.

    What came into `artifacts` since, such as the gate's trial of a server, goes along.
    """
    placing, placed = _placing(staged), _placed(staged)
    if exists(placed):
        _rename(placed, placing)
    if exists(placing):
        _move_all(artifacts, placing)
        _rename(placing, staged)


def undo_aside(aside: Path, artifacts: Path) -> None:
    """Move what was set aside back into `artifacts`, where it was. Raises OSError and RefusedError."""
    part = _part(aside)
    if exists(aside):
        _rename(aside, part)
    if exists(part):
        _move_all(part, artifacts)
        part.rmdir()
        sync_directory(artifacts)


def clear(staged: Path) -> None:
    """Remove what is left of the staged directory, once the transaction has come to its end. Raises OSError."""
    for left in (staged, _placing(staged), _placed(staged)):
        if exists(left):
            shutil.rmtree(left)


def _part(aside: Path) -> Path:
    return aside.with_name(f"{aside.name}.part")


def _placing(staged: Path) -> Path:
    return staged.with_name(f"{staged.name}.placing")


def _placed(staged: Path) -> Path:
    return staged.with_name(f"{staged.name}.placed")


def _make(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    sync_directory(directory.parent)


def _rename(source: Path, target: Path) -> None:
    source.rename(target)
    sync_directory(target.parent)


def _move_all(source: Path, target: Path) -> None:
    """Move the entries over, none onto another, and flush both directories before anything is built on it."""
    for entry in sorted(_movable(source)):
        there = target / entry.name
        if exists(there):
            message = f"{entry} cannot be moved: there is {there} already."
            raise RefusedError(message, f"look at both, and move one of them out of {target.name} and {source.name}")
        entry.rename(there)
    sync_directory(target)
    sync_directory(source)


def _movable(directory: Path) -> Iterator[Path]:
    return (path for path in directory.iterdir() if not path.name.startswith(OWN) and path.name not in _STAYS)
