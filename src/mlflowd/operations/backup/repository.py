"""The backups that a repository has: which of them can be restored, and which one is meant.

Effects: restic's commands; manifests are kept in <state>/backup/manifests once they were read, and the damage that is
known in the record (record.py).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files
from mlflowd.host.restic import DamagedRepositoryError, NoRepositoryError, local
from mlflowd.operations.backup import manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflowd.host.restic import Restic, Snapshot, Verdict
    from mlflowd.operations.backup.manifest import Manifest
    from mlflowd.operations.backup.record import Record, RecordFile

STAGING = PurePosixPath("backup/staging")
"""Below the state directory: what a backup copies before restic reads it."""
_LIST = "sudo mlflowd backup list"


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup."""

    snapshot: Snapshot
    manifest: Manifest | None
    wrong: str = ""
    """Why it must not be restored, "" where it may."""

    @property
    def staging(self) -> str:
        """The path, in the snapshot, of the directory with the databases' copies."""
        return staging_of(self.snapshot)

    @property
    def size(self) -> int:
        """Bytes of the databases' copies."""
        return self.manifest.copy.bytes if self.manifest else 0


class Backups:
    """The backups of one repository. Every call raises MlflowdError."""

    def __init__(self, door: Restic, state: Path, record: RecordFile) -> None:
        self.door = door
        self._shelf = state / "backup" / "manifests"
        self._record = record

    def all(self, *, look: bool = True) -> tuple[Backup, ...]:
        """Return them, the newest first; with `look`, after a look at a local repository's structure."""
        snapshots = self.door.snapshots()
        record = self._record.read()
        bad = {**record.bad, **(self._found(snapshots) if look else {})}
        self._tidy(snapshots)
        return tuple(self._backup(snapshot, bad.get(snapshot.id, "")) for snapshot in snapshots)

    def chosen(self, wanted: str = "") -> Backup:
        """Return the one that `wanted` begins the id of; "" or "latest": the newest that is good.

        Raises RefusedError where there is none, or where it must not be restored.
        """
        found = self.all()
        if wanted in {"", "latest"}:
            good = next((each for each in found if not each.wrong), None)
            if good is None:
                raise RefusedError(f"{self.door.where} has no backup that can be restored.", _LIST)
            return good
        fitting = [each for each in found if each.snapshot.id.startswith(wanted)]
        if len(fitting) != 1:
            what = "several backups" if fitting else "no backup"
            raise RefusedError(f"{self.door.where} has {what} of the id {wanted}.", _LIST)
        if fitting[0].wrong:
            raise RefusedError(f"The backup {fitting[0].snapshot.short} cannot be restored: {fitting[0].wrong}.", _LIST)
        return fitting[0]

    def present(self, record: Record, *, anew: bool = False) -> str:
        """Return the repository's own id, and make the repository where there was none yet.

        One that was there and is gone (a disk that is not mounted) is not made again, unless `anew`.
        """
        try:
            return self.door.identity()
        except NoRepositoryError as error:
            if record.identity and not anew:
                message = f"There was a repository at {self.door.where}, and it is gone."
                hint = "mount it; or begin anew with an empty one: sudo mlflowd backup --init"
                raise NoRepositoryError(message, hint) from error
        self.door.make()
        return self.door.identity()

    def _found(self, snapshots: Sequence[Snapshot]) -> dict[str, str]:
        """Return the snapshots that a look at the structure finds damaged; another machine's is not looked at."""
        if local(self.door.where) is None:
            return {}
        return affected(self.door, snapshots, self.door.check(lock=False))

    def _backup(self, snapshot: Snapshot, wrong: str) -> Backup:
        if wrong:
            return Backup(snapshot, None, wrong)
        try:
            return Backup(snapshot, self._manifest(snapshot))
        except DamagedRepositoryError:
            return Backup(snapshot, None, "its data are damaged")
        except RefusedError as error:
            return Backup(snapshot, None, error.message.rstrip("."))

    def _manifest(self, snapshot: Snapshot) -> Manifest:
        kept = self._shelf / f"{snapshot.id}.json"
        with suppress(OSError, RefusedError):
            return manifest.parse(kept.read_text(encoding="utf-8"))
        if not (staging := staging_of(snapshot)):
            raise RefusedError("it is no backup of mlflowd's: it has no manifest")
        try:
            text = self.door.dump(snapshot.id, f"{staging}/{manifest.NAME}").decode()
        except DamagedRepositoryError:
            raise
        except MlflowdError as error:
            raise RefusedError("it is incomplete: it has no manifest") from error
        found = manifest.parse(text)
        files.write_atomically(kept, text)
        return found

    def _tidy(self, snapshots: Sequence[Snapshot]) -> None:
        self._shelf.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = {f"{snapshot.id}.json" for snapshot in snapshots}
        for path in self._shelf.iterdir():
            if path.name not in known:
                path.unlink(missing_ok=True)


def staging_of(snapshot: Snapshot) -> str:
    """Return the path of the copies in a snapshot, "" where it has none."""
    return next((path for path in snapshot.paths if PurePosixPath(path).match(str(STAGING))), "")


def affected(door: Restic, snapshots: Sequence[Snapshot], verdict: Verdict) -> dict[str, str]:
    """Return which snapshots a damage concerns, with the reason; all of them where restic cannot tell."""
    if not verdict.damage:
        return {}
    try:
        hit = set(door.holders(verdict.packs))
    except MlflowdError:
        hit = set()
    hit |= {each.id for each in snapshots if each.id not in hit and not door.readable(each.id)}
    hit &= {each.id for each in snapshots}
    if hit:
        return dict.fromkeys(hit, f"its data are damaged ({verdict.damage[0]})")
    return {each.id: f"the repository is damaged ({verdict.damage[0]})" for each in snapshots}
