"""Changes of image, schema or data that are finished or reverted, whatever happens meanwhile: what is written down.

Effects: <state>/state/transaction.json holds the one transaction that is under way, written ahead of each step;
<state>/state/transactions.json what became of the last ones, and which images were rejected;
<state>/transactions/<id>/ the copy of the databases from before, and the logs of the attempt. The steps themselves are
the supervisor's (supervisor/changeover.py).
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files
from mlflowd.host.paths import outcomes_file, run_as, transaction_file
from mlflowd.operations import copies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflowd.host.paths import Identity
    from mlflowd.operations.copies import Copy

_SCHEMA = 1
_REMEMBERED = 10
"""Outcomes that are kept."""


class Kind(StrEnum):
    """What is changed."""

    UPGRADE = "upgrade"
    """The image, and with it the schema."""
    RESTORE = "restore"
    """The data, which come from a backup."""


class Step(StrEnum):
    """How far it is: written before the step begins, so that whoever finds it knows what may be half done."""

    READY = "ready"
    """Prepared; nothing was touched."""
    STOP = "stop"
    COPY = "copy"
    """The databases are copied to `before`."""
    CHANGE = "change"
    """Of a restore: today's artifacts are set aside."""
    PLACE = "place"
    """Of a restore: the backup's artifacts and databases are put in their place."""
    MIGRATE = "migrate"
    START = "start"
    """The new server is made and started."""
    GATE = "gate"
    """It has to serve, to read and to write."""
    COMMIT = "commit"
    REVERT = "revert"
    """What was changed is taken back."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """The one that is under way."""

    id: str
    """Its beginning, in UTC: 20261120T210000Z."""
    kind: Kind
    step: Step = Step.READY
    reference: str = ""
    """The image that is to serve, as the configuration names it; "" for whichever serves."""
    image: str = ""
    """Its id."""
    before_reference: str = ""
    before_image: str = ""
    """The image that served before, "" where none did."""
    migrates: bool = True
    """Whether the new image may write to the databases what the old one does not read: they are copied first."""
    before: Copy | None = None
    """The databases of before, in `before/` of the transaction's directory; None until they are complete."""
    staged: Copy | None = None
    """Of a restore: the databases of the backup, in `staged/` of the transaction's directory."""
    staged_artifacts: str = ""
    """Of a restore: the directory in the artifact store that holds the backup's, "" where there are none."""
    snapshot: str = ""
    """Of a restore: the backup's id."""
    stopped_at: float = 0.0
    """When clients were served last, in seconds of the epoch; 0 until then."""
    set_aside: bool = False
    """Of a restore: `before/` has the database files of before themselves, since they could not be copied."""
    reached: str = ""
    """Of one that is being reverted: the step at which it went wrong."""
    why: str = ""
    """Of one that is being reverted: what went wrong, as a sentence."""
    remedy: str = ""

    @property
    def target(self) -> str:
        """What it leads to, for people."""
        return self.reference if self.kind is Kind.UPGRADE else f"the backup {self.snapshot}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one."""

    id: str
    kind: Kind
    ok: bool
    target: str
    sentence: str
    remedy: str
    downtime: float | None
    """Seconds for which clients could not be served, None where that is not known."""
    ended: str
    """RFC 3339, in UTC."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An image that did not pass, and is not tried again before a reload."""

    image: str
    reference: str
    before_reference: str
    """What went on serving in its place."""
    sentence: str
    remedy: str


class Ledger:
    """What is written down; every call reads anew, because a command may have written meanwhile."""

    def __init__(self, state: Path, who: Identity) -> None:
        self._state = state
        self._who = who
        self.path = transaction_file(state)
        self._past = outcomes_file(state)

    def directory(self, transaction_id: str) -> Path:
        """Return where a transaction keeps what it needs."""
        return self._state / "transactions" / transaction_id

    def begin(self, transaction: Transaction) -> None:
        """Write down a new one. Raises RefusedError where another one is under way, and MlflowdError."""
        if other := self.pending():
            raise RefusedError(f"The {other.kind} {other.id} is not finished.", "mlflowd status")
        self.write(transaction)

    def write(self, transaction: Transaction) -> None:
        """Write down how far it is, before the step. Raises MlflowdError."""
        told = asdict(transaction)
        for name in ("before", "staged"):
            copy: Copy | None = getattr(transaction, name)
            told[name] = None if copy is None else copy.document()
        self._write(self.path, {"schema": _SCHEMA, **told})

    def pending(self) -> Transaction | None:
        """Return the one that is under way. Raises RefusedError where what is written down cannot be read."""
        try:
            return _parse(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"{self.path} cannot be read ({type(error).__name__}), so it is not known what is half done."
            raise RefusedError(message, f"look at {self._state / 'transactions'}, then: sudo rm {self.path}") from error

    def end(self, outcome: Outcome, rejection: Rejection | None = None) -> None:
        """Write down what became of it, and that none is under way. Raises MlflowdError."""
        past = self._read()
        kept = [asdict(one) for one in self.outcomes() if one.id != outcome.id]
        past["outcomes"] = [asdict(outcome), *kept][:_REMEMBERED]
        if rejection:
            past["rejected"] = {**past.get("rejected", {}), rejection.image: asdict(rejection)}
        self._write(self._past, past)
        run_as(self._who, lambda: self.path.unlink(missing_ok=True))

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return what became of the last ones, the latest first."""
        try:
            return tuple(Outcome(**{**one, "kind": Kind(one["kind"])}) for one in self._read().get("outcomes", []))
        except (ValueError, TypeError, KeyError, AttributeError):
            return ()

    def rejected(self) -> dict[str, Rejection]:
        """Return the images that did not pass, by id."""
        try:
            return {key: Rejection(**told) for key, told in self._read().get("rejected", {}).items()}
        except (TypeError, AttributeError):
            return {}

    def reject(self, rejection: Rejection) -> None:
        """Write down that an image did not pass its rehearsal. Raises MlflowdError."""
        past = self._read()
        self._write(self._past, {**past, "rejected": {**past.get("rejected", {}), rejection.image: asdict(rejection)}})

    def forgive(self) -> None:
        """Let every image be tried again. Raises MlflowdError."""
        past = self._read()
        if past.pop("rejected", None):
            self._write(self._past, past)

    def clear(self, *stay: str) -> None:
        """Remove the directories of all transactions but these. Raises MlflowdError."""
        run_as(self._who, lambda: _clear(self._state / "transactions", stay))

    def unstage(self, transaction_id: str) -> None:
        """Remove what a restore had staged, once it is in its place. Raises MlflowdError."""
        staged = self.directory(transaction_id) / "staged"
        run_as(self._who, lambda: shutil.rmtree(staged, ignore_errors=True))

    def _read(self) -> dict[str, Any]:
        try:
            told = json.loads(self._past.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"schema": _SCHEMA}
        return told if isinstance(told, dict) and told.get("schema") == _SCHEMA else {"schema": _SCHEMA}

    def _write(self, path: Path, told: Mapping[str, Any]) -> None:
        text = json.dumps(told, indent=1) + "\n"
        try:
            run_as(self._who, partial(_write, path, text))
        except OSError as error:
            raise MlflowdError(f"{path} cannot be written: {error.strerror}.", "sudo mlflowd check") from error


def new(kind: Kind) -> Transaction:
    """Return a transaction that begins now; the caller fills in what it is about."""
    return Transaction(id=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", kind=kind)


def outcome(transaction: Transaction, sentence: str, *, ok: bool) -> Outcome:
    """Return what became of it, at this moment."""
    downtime = round(time.time() - transaction.stopped_at, 1) if transaction.stopped_at else None
    ended = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    remedy = "" if ok else transaction.remedy
    return Outcome(transaction.id, transaction.kind, ok, transaction.target, sentence, remedy, downtime, ended)


def advance(transaction: Transaction, step: Step, **changes: Any) -> Transaction:  # noqa: ANN401 - as replace takes
    """Return the transaction at this step."""
    return replace(transaction, step=step, **changes)


def _parse(told: dict[str, Any]) -> Transaction:
    if told.pop("schema") != _SCHEMA:
        raise ValueError("schema")
    for name in ("before", "staged"):
        told[name] = None if told[name] is None else copies.parse(told[name])
    return Transaction(**{**told, "kind": Kind(told["kind"]), "step": Step(told["step"])})


def _write(path: Path, text: str) -> None:
    files.write_atomically(path, text)
    files.sync_directory(path.parent)


def _clear(directory: Path, stay: tuple[str, ...]) -> None:
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.name not in stay:
            shutil.rmtree(path)
