"""Checks the repository, and says which backups a damage concerns. Effects: restic's commands; the record."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mlflowd.host import restic
from mlflowd.host.occupation import occupied
from mlflowd.host.restic import DamagedRepositoryError
from mlflowd.operations.backup.create import noted
from mlflowd.operations.backup.record import Checked, RecordFile
from mlflowd.operations.backup.repository import affected

if TYPE_CHECKING:
    from mlflowd.engine.api import Progress
    from mlflowd.host.restic import Restic, Verdict
    from mlflowd.operations.backup.create import Source
    from mlflowd.operations.backup.record import Record

NEXT: Final = "next"
"""Reads the part after the one that the last such check read, so that in a while everything was read."""
ALL: Final = "all"
PARTS: Final = 12
_PART: Final = re.compile(r"(\d+)/(\d+)")


def check(source: Source, read: str, progress: Progress) -> Checked:
    """Check the repository's structure and read `read` of it: "" nothing, ALL, NEXT, or a subset of restic's.

    Raises DamagedRepositoryError, naming the backups that are damaged; the record has them.
    """
    record = RecordFile(source.state, source.who)
    with noted(record, "check"), occupied(source.state, "a check of the backups"):
        known = record.begin(source.settings.backup.repository, time.time())
        with restic.opened(source.settings.backup, source.secrets, source.state, progress) as door:
            subset = _subset(read, known)
            verdict = _verdict(door, subset, progress)
            if verdict.damage:
                _condemn(door, record, verdict)
            checked = Checked(time.time(), subset)
            record.change(lambda known: _cleared(replace(known, last_check=checked)))
            return checked


def _subset(read: str, known: Record) -> str:
    """Return what is to be read, in restic's words."""
    if read != NEXT:
        return read
    last = _PART.fullmatch(known.last_check.read) if known.last_check else None
    return f"{int(last[1]) % PARTS + 1 if last and int(last[2]) == PARTS else 1}/{PARTS}"


def _verdict(door: Restic, subset: str, progress: Progress) -> Verdict:
    progress(f"checking the structure of {door.where}")
    verdict = door.check()
    if subset and not verdict.damage:
        progress(f"reading {'all data' if subset == ALL else subset + ' of the data'} of {door.where}")
        verdict = door.check(subset)
    return verdict


def _condemn(door: Restic, record: RecordFile, verdict: Verdict) -> None:
    snapshots = door.snapshots()
    bad = affected(door, snapshots, verdict)
    record.change(
        lambda known: replace(
            known, bad={**known.bad, **bad}, packs=tuple(dict.fromkeys([*known.packs, *verdict.packs]))
        )
    )
    named = ", ".join(each.short for each in snapshots if each.id in bad)
    spared = len(snapshots) - len(bad)
    message = (
        f"The repository {door.where} is damaged: {verdict.damage[0]}. "
        f"Not to be restored: {named or 'none'}; {spared} other backups are not concerned."
    )
    raise DamagedRepositoryError(message, "sudo mlflowd backup list; docs/backup.md says how to go on")


def _cleared(record: Record) -> Record:
    """Return the record without the damage that a look at everything did not find any more."""
    whole = record.last_check is not None and record.last_check.read == ALL
    return replace(record, bad={}, packs=()) if whole else record
