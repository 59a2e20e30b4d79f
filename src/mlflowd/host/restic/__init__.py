"""The only door to restic, the program that keeps the backups: Debian's package, 0.14 and later.

    with restic.opened(settings.backup, secrets, state, progress) as door:
        door.identity()                      # raises NoRepositoryError where none was made yet
        added = door.save([staging, artifacts], exclude)
        door.restore(added.snapshot, target, include=[staging])

access.py has the environment and the private files of a call, process.py runs it, words.py says how far it is,
faults.py makes errors of its words.
"""

from mlflowd.host.restic.access import local
from mlflowd.host.restic.client import Added, Restic, Snapshot, Verdict, opened
from mlflowd.host.restic.faults import (
    BusyRepositoryError,
    DamagedRepositoryError,
    NoRepositoryError,
    NoRoomError,
    ResticError,
    UnreachableRepositoryError,
)

__all__ = [
    "Added",
    "BusyRepositoryError",
    "DamagedRepositoryError",
    "NoRepositoryError",
    "NoRoomError",
    "Restic",
    "ResticError",
    "Snapshot",
    "UnreachableRepositoryError",
    "Verdict",
    "local",
    "opened",
]
