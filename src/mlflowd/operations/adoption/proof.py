"""Whether the new server does what the old one did: it serves, reads, writes, and shows as much as there was.

Effects: HTTP requests to the new server; a small artifact is written, read back and deleted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, MlflowdError
from mlflowd.operations.adoption import transfer
from mlflowd.server import command, gate, login, probe
from mlflowd.server.call import Login
from mlflowd.server.readback import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine, Progress
    from mlflowd.host.service import Service
    from mlflowd.model import Secrets
    from mlflowd.operations.adoption.counts import Counts

MOST_RUNS = 20_000
"""Runs that are counted through the API; beyond them, it is enough that so many are there."""
SAMPLE = 5
"""Old artifacts that are downloaded and compared."""
ENDS = 3
"""Times that a server may end before its first answer: those of an image or a configuration that will not do."""
_NEWLINE = "\n"
_LOOK = 0.5
_TIMEOUT = 60.0
"""Seconds for one answer: a machine that has just moved gigabytes is slow."""
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen of the new server."""

    experiments: int
    runs: int
    complete: bool
    """Whether all runs were counted."""
    sampled: int
    """Old artifacts that came through the proxy as they lie on the disk."""

    def __str__(self) -> str:
        """Return it for people."""
        more = "" if self.complete else " or more"
        return (
            f"it serves {self.experiments} experiments with {self.runs} runs{more}, takes and gives artifacts, "
            f"and gave {self.sampled} old ones unchanged"
        )


@dataclass
class Ending:
    """Tells why a server that does not answer yet never will: mlflowd has ended, or the server does, each time."""

    service: Service
    engine: Engine
    container: str
    _runs: set[str] = field(default_factory=set)

    def __call__(self) -> str:
        """Return why, "" while it may come yet; to be called again and again."""
        if self.service.failed:
            return f"mlflowd does not run: {self.service.said().rpartition(_NEWLINE)[2] or 'the unit has failed'}"
        try:
            found = self.engine.inspect(self.container)
        except EngineError:
            return ""
        if found is not None and found.started_at:
            self._runs.add(found.run)
        return "" if len(self._runs) <= ENDS else f"the new server ended {ENDS} times before it answered"


def await_serving(settings: Settings, limit: float, ended: Callable[[], str], progress: Progress) -> None:
    """Return when the server answers, reads and writes. `ended`: why it never will, "" while it may.

    Raises MlflowdError after `limit` seconds, and where it has ended.
    """
    deadline = time.monotonic() + limit
    prefix, address = command.static_prefix(settings), settings.server.listen
    while not (answer := probe.health(address, 5.0, prefix)).ok:
        if why := ended():
            raise MlflowdError(why, "journalctl -u mlflowd")
        if time.monotonic() > deadline:
            raise MlflowdError(f"{answer.sentence} after {limit:.0f} s", "journalctl -u mlflowd")
        time.sleep(_LOOK)
    progress(f"http://{address} answers")


def prove(settings: Settings, secrets: Secrets, before: Counts, progress: Progress) -> Proof:
    """Return what is seen of a server that answers. Raises MlflowdError where it is less than there was before."""
    prefix, address = command.static_prefix(settings), settings.server.listen
    who = Login(login.ADMIN, secrets.get(login.ADMIN_PASSWORD)) if settings.login.enabled else None
    answer = gate.try_out(address, _TIMEOUT, prefix, who, proxied=settings.artifact_store.proxied)
    if not answer.ok:
        raise MlflowdError(f"{answer.sentence}.", "journalctl -u mlflowd")
    reader = Reader(address, _TIMEOUT, prefix, who)
    held = reader.holdings(MOST_RUNS)
    for what, was, now in (("experiments", before.experiments, held.experiments), ("runs", before.runs, held.runs)):
        if now < (was if held.complete else min(was, MOST_RUNS)):
            raise MlflowdError(f"The new server shows {now} {what}, and there were {was}.")
    sampled = _sampled(reader, settings) if settings.artifact_store.proxied else 0
    proof = Proof(held.experiments, held.runs, held.complete, sampled)
    progress(str(proof))
    return proof


def _sampled(reader: Reader, settings: Settings) -> int:
    """Download a few files of a local artifact directory and compare them with the disk; return how many."""
    top = settings.artifact_store.directory
    if top is None:
        return 0
    count = 0
    for path in _some(top):
        there = transfer.digest(top / path)
        if reader.content(str(path)).sha256 != there:
            raise MlflowdError(f"The new server gives another {path} than lies in {top}.")
        count += 1
    return count


def _some(top: Path) -> Iterator[Path]:
    """Yield a few regular files below the directories of experiments, one of each as long as there are enough."""
    count = 0
    for name in transfer.entries(top):
        if count >= SAMPLE:
            return
        found = next(_files(top / name), None)
        if found is not None:
            count += 1
            yield found.relative_to(top)


def _files(top: Path) -> Iterator[Path]:
    if top.is_symlink() or not top.is_dir():
        return
    for path in sorted(top.iterdir()):
        if path.is_symlink() or path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file() and path.stat().st_nlink == 1:
            yield path
