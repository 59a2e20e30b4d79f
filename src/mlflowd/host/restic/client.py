"""restic's commands, as functions. Effects: see each; the child processes are process.py's."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from mlflowd.errors import MlflowdError
from mlflowd.host.restic import access, faults, process
from mlflowd.host.restic.faults import UnreachableRepositoryError
from mlflowd.host.restic.words import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mlflowd.config.upkeep import BackupSettings
    from mlflowd.host.restic.access import Access
    from mlflowd.host.restic.process import Ended
    from mlflowd.model import Secrets

    Progress = Callable[[str], None]

TAG: Final = "mlflowd"
"""Marks our snapshots: no other one is listed, kept or removed by us."""
_INCOMPLETE: Final = 3
"""restic's exit status for a snapshot that lacks files which could not be read."""
_PACK: Final = re.compile(r"\b[0-9a-f]{64}\b")
_DAMAGE: Final = re.compile(r"error|does not exist|does not match|damaged|failed|invalid", re.IGNORECASE)
_ADVICE: Final = re.compile(r"troubleshooting|restic repair|create exclusive lock|issues/new|contains errors")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot of ours."""

    id: str
    time: datetime
    hostname: str
    paths: tuple[str, ...]

    @property
    def short(self) -> str:
        """What people write: restic takes the first digits too."""
        return self.id[:8]


@dataclass(frozen=True, slots=True)
class Added:
    """What a backup put into the repository."""

    snapshot: str
    """The id."""
    bytes: int
    """New in the repository, before compression."""
    total: int
    """Bytes of all files."""
    files: int
    unread: tuple[str, ...]
    """Paths that could not be read: the snapshot lacks them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found."""

    damage: tuple[str, ...] = ()
    """restic's own words; empty where all is well."""
    packs: tuple[str, ...] = ()
    """The pack files that are damaged or missing, where it names them."""


@contextmanager
def opened(settings: BackupSettings, secrets: Secrets, state: Path, progress: Progress) -> Iterator[Restic]:
    """Yield the door to the repository of these settings. All calls together may take backup.time_limit.

    As the service user (paths.become). Raises ConfigurationError where no repository is set.
    """
    with access.granted(settings, secrets, state / "backup") as granted:
        yield Restic(granted, settings.time_limit, progress)


class Restic:
    """One repository. Every call raises MlflowdError: faults.py has the kinds."""

    def __init__(self, to: Access, limit: float, progress: Progress) -> None:
        self._access = to
        self._limit = limit
        self._deadline = time.monotonic() + limit
        self._progress = progress

    @property
    def where(self) -> str:
        """The repository, for people."""
        return self._access.where

    # --- the repository -------------------------------------------------------------------------

    def identity(self) -> str:
        """Return the repository's own id. Raises NoRepositoryError where none was made yet."""
        return str(json.loads(self._out("cat", "config", "--no-lock"))["id"])

    def make(self) -> None:
        """Make the repository."""
        self._out("init")

    def unlock(self, *, every: bool = False) -> None:
        """Remove the locks of processes that are gone; `every`: all locks."""
        self._out("unlock", *(["--remove-all"] if every else []))

    def check(self, read: str = "", *, lock: bool = True) -> Verdict:
        """Check the structure, and read what `read` says: "" nothing, "all", or restic's subset ("1/12", "5%").

        Without the `lock` it goes beside a backup that is being made.

        A repository that is found damaged is no error here.
        """
        data = [] if not read else ["--read-data"] if read == "all" else [f"--read-data-subset={read}"]
        locking = [] if lock else ["--no-lock"]
        ended = self._run(["check", "--json", *data, *locking], lambda _line: False, retry=lock)
        if ended.status == 0:
            return Verdict()
        error = self._fault("check", ended.said)
        if not isinstance(error, faults.DamagedRepositoryError):
            raise error
        return _verdict(ended.said)

    # --- snapshots ------------------------------------------------------------------------------

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return our snapshots, the newest first."""
        told = json.loads(self._out("snapshots", "--json", "--tag", TAG, "--no-lock") or b"null") or []
        found = [_snapshot(each) for each in told]
        return tuple(sorted(found, key=lambda each: each.time, reverse=True))

    def save(self, paths: Sequence[Path], exclude: Sequence[str]) -> Added:
        """Make a snapshot of these paths; `exclude`: patterns of restic's. Tells the progress.

        Raises NoRoomError and others; then no snapshot is there.
        """
        listener = Listener(self._progress)
        left_out = [f"--exclude={pattern}" for pattern in exclude]
        arguments = ["backup", "--json", "--tag", TAG, *left_out, "--", *map(str, paths)]
        ended = self._run(arguments, listener, listener.fails, retry=True)
        if ended.status not in {0, _INCOMPLETE} or not (told := listener.summary):
            raise self._fault("backup", ended.said)
        full = self._full(str(told["snapshot_id"]))
        counts = int(told["data_added"]), int(told["total_bytes_processed"]), int(told["total_files_processed"])
        return Added(full, *counts, tuple(listener.failed))

    def dump(self, snapshot: str, path: str) -> bytes:
        """Return the contents of one file of a snapshot."""
        return self._out("dump", "--no-lock", snapshot, path)

    def restore(self, snapshot: str, target: Path, include: Sequence[str] = ()) -> None:
        """Write a snapshot below `target`, each file at its whole path; `include`: these paths of it alone.

        Tells the progress. Every file is verified by its blobs' hashes as it comes. Raises DamagedRepositoryError.
        """
        listener = Listener(self._progress)
        only = [f"--include={path}" for path in include]
        arguments = ["restore", "--json", "--no-lock", snapshot, "--target", str(target), *only]
        ended = self._run(arguments, listener, lambda line: listener.fails(line) or self._despair(line))
        if ended.status != 0 or listener.failed:
            raise self._fault("restore", [*ended.said, *_lost(listener)])

    def _despair(self, line: str) -> bool:
        if faults.is_lost(line):
            raise faults.damaged(self.where)
        return False

    def size(self, snapshot: str) -> int:
        """Return the bytes of a snapshot's files, as `restore` writes them."""
        told = json.loads(self._out("stats", "--json", "--mode", "restore-size", "--no-lock", snapshot))
        return int(told["total_size"])

    def readable(self, snapshot: str) -> bool:
        """Whether the tree of a snapshot can be read, past the cache."""
        return self._run(["ls", "--json", "--no-cache", "--no-lock", snapshot], lambda _line: True).status == 0

    def holders(self, packs: Iterable[str]) -> frozenset[str]:
        """Return the snapshots that need one of these packs. Raises ResticError where restic cannot say."""
        found: set[str] = set()
        for pack in packs:
            told = json.loads(self._out("find", "--json", "--no-lock", "--pack", pack) or b"null") or []
            found |= {str(each["snapshot"]) for each in told if "snapshot" in each}
        return frozenset(found)

    def forget(self, snapshot: str) -> None:
        """Remove one snapshot; its data stay until `prune`."""
        self._out("forget", snapshot)

    def thin(self, keep: Mapping[str, int | str], hostname: str) -> int:
        """Remove our snapshots of this machine that restic's policy `keep` does not keep; return how many."""
        policy = [f"--keep-{name}={value}" for name, value in keep.items()]
        mine = ["--tag", TAG, "--host", hostname, "--group-by", "host,tags"]
        told = json.loads(self._out("forget", "--json", *mine, *policy) or b"null") or []
        return sum(len(group.get("remove") or ()) for group in told)

    def prune(self) -> None:
        """Remove the data that no snapshot needs."""
        self._out("prune", "--json")

    # --- running --------------------------------------------------------------------------------

    def _full(self, short: str) -> str:
        """Return the whole id: restic 0.14 tells eight digits."""
        if _PACK.fullmatch(short):
            return short
        told = json.loads(self._out("snapshots", "--json", "--no-lock", short))
        return str(told[0]["id"])

    def _fault(self, verb: str, said: Sequence[str]) -> MlflowdError:
        """Return the error; where restic ended before it had passed on why, ssh itself is asked."""
        error = faults.translate(verb, self.where, said)
        if isinstance(error, UnreachableRepositoryError) and self._access.ssh:
            told = process.complaints(self._access.ssh, self._access.environment)
            return faults.translate(verb, self.where, [*said, *told])
        return error

    def _out(self, *arguments: str) -> bytes:
        ended = self._run(arguments, retry=arguments[0] in {"init", "forget", "prune"})
        if ended.status != 0:
            said = [*ended.said, *ended.output.decode(errors="replace").splitlines()]
            raise self._fault(arguments[0], said)
        return bytes(ended.output)

    def _run(
        self,
        arguments: Sequence[str],
        listen: Callable[[str], bool] | None = None,
        complain: Callable[[str], bool] = lambda _line: False,
        *,
        retry: bool = False,
    ) -> Ended:
        """Run one command; with `retry` once more where the lock of a dead process was in the way."""
        command = [*self._access.options, *arguments]
        try:
            ended = process.run(command, self._access.environment, self._deadline, listen, complain)
        except process.LateError:
            raise faults.late(arguments[0], self.where, self._limit) from None
        except OSError as error:
            raise MlflowdError(f"restic cannot be run: {error}.") from error
        if retry and ended.status != 0 and faults.is_locked(ended.said):
            self.unlock()
            return self._run(arguments, listen, complain)
        return ended


def _snapshot(told: Mapping[str, Any]) -> Snapshot:
    return Snapshot(str(told["id"]), _instant(str(told["time"])), str(told.get("hostname", "")), tuple(told["paths"]))


def _instant(text: str) -> datetime:
    """Return the instant, which Go writes with nanoseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).astimezone(UTC)


def _verdict(lines: Iterable[str]) -> Verdict:
    plain = [text for line in lines for text in faults.plain(line).splitlines()]
    damage = [text.strip() for text in plain if _DAMAGE.search(text) and not _ADVICE.search(text)]
    named = [pack for text in damage if "pack" in text.lower() for pack in _PACK.findall(text)[:1]]
    return Verdict(tuple(damage) or ("restic check found errors",), tuple(dict.fromkeys(named)))


def _lost(listener: Listener) -> list[str]:
    """Return the files that were not restored, in words that tell of damage."""
    return [f"{path}: the data are damaged: blob not found" for path in listener.failed]
