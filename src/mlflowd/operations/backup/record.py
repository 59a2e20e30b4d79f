"""What became of the last backups, checks and verifications: for `status`, the daemon and the next backup.

Effects: reads and writes <state>/state/backups.json; a flock(2) on backups.lock beside it while it is changed, because
the daemon and a command may both.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflowd.host import files
from mlflowd.host.paths import run_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from mlflowd.host.paths import Identity

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Success:
    """The last backup that is complete. Instants are seconds of the epoch."""

    at: float
    snapshot: str
    seconds: float
    bytes: int
    """New in the repository."""
    total: int
    """Bytes of all that it holds."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last attempt that failed."""

    at: float
    what: str
    """ "backup", "check" or "verification"."""
    message: str
    remedy: str
    damaged: bool = False
    """The database that was to be saved, or the repository, is damaged."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The last check of the repository that found nothing wrong."""

    at: float
    read: str
    """What was read beside the structure: "" nothing, "all", or a subset of restic's ("3/12")."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The last backup that was restored on trial and read through MLflow."""

    at: float
    snapshot: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Record:
    """The content of the file: of one repository, another one begins a new record."""

    repository: str = ""
    """As the configuration names it."""
    since: float = 0.0
    """When it was first seen in the configuration."""
    identity: str = ""
    """The repository's own id, once there was one."""
    last_success: Success | None = None
    last_failure: Failure | None = None
    last_check: Checked | None = None
    last_verify: Verified | None = None
    bad: Mapping[str, str] = field(default_factory=dict)
    """Snapshots that are known damaged or incomplete: the id, and why."""
    packs: tuple[str, ...] = ()
    """restic's pack files that are known damaged: what a later snapshot shares with them is damaged too."""

    def of(self, identity: str) -> Record:
        """Return the record of the repository with this id: what is known of another one's data is left out."""
        if self.identity in {"", identity}:
            return replace(self, identity=identity)
        return Record(self.repository, self.since, identity, last_failure=self.last_failure)

    @property
    def failing(self) -> Failure | None:
        """The last failure, where no later attempt of its kind went well."""
        last = self.last_failure
        if last is None:
            return None
        after = {"backup": self.last_success, "check": self.last_check, "verification": self.last_verify}.get(last.what)
        return None if after is not None and after.at > last.at else last


class RecordFile:
    """The file; every call reads it anew."""

    def __init__(self, state: Path, who: Identity) -> None:
        self.path = state / "state" / "backups.json"
        self._who = who

    def read(self) -> Record:
        """Return what is recorded; nothing where the file is not there or damaged."""
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            return _record(told) if told.get("schema") == _SCHEMA else Record()
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return Record()

    def begin(self, repository: str, now: float) -> Record:
        """Note since when this repository is configured; what is known of another one is forgotten."""
        record = self.read()
        return record if record.repository == repository else self.change(lambda _: Record(repository, now))

    def change(self, how: Callable[[Record], Record]) -> Record:
        """Exchange the record for what `how` makes of it. Raises MlflowdError and OSError."""
        return _record(run_as(self._who, lambda: self._change(how)))

    def succeeded(self, success: Success) -> None:
        """Note a complete backup."""
        self.change(lambda record: replace(record, last_success=success))

    def failed(self, failure: Failure) -> None:
        """Note an attempt that failed."""
        self.change(lambda record: replace(record, last_failure=failure))

    def verified(self, verified: Verified) -> None:
        """Note that a backup was restored on trial and is good."""
        self.change(lambda record: replace(record, last_verify=verified))

    def condemn(self, bad: Mapping[str, str]) -> None:
        """Note snapshots that nothing is to be restored from, with the reason."""
        self.change(lambda record: replace(record, bad={**record.bad, **bad}))

    def _change(self, how: Callable[[Record], Record]) -> dict[str, Any]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self.path.with_suffix(".lock")):
            document = {"schema": _SCHEMA, **asdict(how(self.read()))}
            files.write_atomically(self.path, json.dumps(document, indent=1) + "\n")
        return document


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _record(told: Mapping[str, Any]) -> Record:
    return Record(
        repository=str(told["repository"]),
        since=float(told["since"]),
        identity=str(told["identity"]),
        last_success=Success(**each) if (each := told["last_success"]) else None,
        last_failure=Failure(**each) if (each := told["last_failure"]) else None,
        last_check=Checked(**each) if (each := told["last_check"]) else None,
        last_verify=Verified(**each) if (each := told["last_verify"]) else None,
        bad=dict(told["bad"]),
        packs=tuple(told["packs"]),
    )
