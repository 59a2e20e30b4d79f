"""Carries a plan out, step by step, each with its way back written down before it is taken.

Effects: those that the plan names. Whatever interrupts it, undo.undo makes everything what it was: originals are
renamed or left where they are, never written to, until the new server has proven itself.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files
from mlflowd.host.paths import fingerprint_file, run_as
from mlflowd.operations.adoption import filestore, owners, relocate, rescue, transfer, writing
from mlflowd.operations.adoption.steps import Do
from mlflowd.operations.adoption.undo import BEFORE
from mlflowd.operations.adoption.written import Adoption, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mlflowd.operations.adoption.plan import Plan
    from mlflowd.operations.adoption.steps import Step
    from mlflowd.operations.adoption.undo import Tools

RETIRED = "-before-mlflowd"
"""Ends the name of the old container, and of a database that stays beside the new one."""
GRACE = 60.0
"""Seconds that the old server gets to stop: a transaction that is cut short is rolled back, but why cut it short."""


@dataclass(frozen=True, slots=True)
class Work:
    """One adoption: what is to be done, and with what."""

    id: str
    plan: Plan
    config: Path
    tools: Tools
    copy_databases: Callable[[Path], None]
    """Copies the database of a database server into a directory; raises MlflowdError."""

    @property
    def directory(self) -> Path:
        """The adoption's own directory, the service user's."""
        return self.tools.directory(self.id)

    def ahead(self, kind: Kind, **told: object) -> None:
        """Write a step down before it is taken."""
        self.tools.book.ahead(kind, **told)


def begin(work: Work) -> None:
    """Write down that an adoption begins, and make its directory. Raises RefusedError where another is under way."""
    tools, name = work.tools, work.plan.deployment.container.name
    tools.book.begin(Adoption(work.id, name, str(work.config)))
    work.ahead(Kind.DIRECTORY, path=str(work.directory))
    files.make_directory(work.directory, tools.who)


def carry_out(work: Work) -> None:
    """Take every step of the plan but the start. Raises MlflowdError; what was done is then the caller's to undo."""
    for step in ordered(work.plan):
        work.tools.progress(step.sentence)
        if (do := _DO.get(step.do)) is not None:
            _take(work, step, do)


def _take(work: Work, step: Step, do: Callable[[Work, Step], None]) -> None:
    try:
        do(work, step)
    except OSError as error:
        message = f"{step.sentence.rstrip('.')}: {error.filename or ''}: {error.strerror}."
        raise MlflowdError(message, "look at the disk and the mounts: df -h, mount") from error


def ordered(plan: Plan) -> tuple[Step, ...]:
    """Return the steps as they are taken: a database server's rows are rewritten with the configuration's own secrets.

    So that the way back has them as well: it goes backwards, and removes the configuration after the rows are back.
    """
    if plan.database is not None:
        return plan.steps
    rows = tuple(step for step in plan.steps if step.do is Do.REWRITE)
    others = [step for step in plan.steps if step.do is not Do.REWRITE]
    at = next((index for index, step in enumerate(others) if step.do is Do.CONFIGURE), len(others) - 1) + 1
    return (*others[:at], *rows, *others[at:])


def start(work: Work, container: str) -> None:
    """Start mlflowd. Raises MlflowdError."""
    service, existed = work.tools.service, work.tools.engine.inspect(container) is not None
    for at in (work.plan.database.parent if work.plan.database else None, work.plan.artifacts):
        if at is not None:
            writing.make(work, at)  # or the daemon would
    work.ahead(Kind.DAEMON, active=False, enabled=service.enabled, container=container, existed=existed)
    service.start()


def stop_daemon(work: Work) -> None:
    """Stop an mlflowd that runs without data. Raises MlflowdError."""
    service = work.tools.service
    if service.active:
        work.tools.progress("stopping the mlflowd that runs, which has no data")
        work.ahead(Kind.DAEMON, active=True, enabled=service.enabled, container="", existed=True)
        service.stop()


def clear(work: Work) -> None:
    """Remove what only the way back needed, after it has succeeded."""
    shutil.rmtree(work.directory, ignore_errors=True)
    with suppress(OSError):
        work.directory.parent.rmdir()
    for path in (work.tools.state / "state").glob(f"*{BEFORE}"):
        path.unlink(missing_ok=True)


# --- the old server -------------------------------------------------------------------------------


def _stop(work: Work, _: Step) -> None:
    old = work.plan.deployment.container
    work.ahead(Kind.CONTAINER, id=old.id, name=old.name, running=old.up)
    work.tools.engine.stop(old.id, GRACE)


def _retire(work: Work, _: Step) -> None:
    old = work.plan.deployment.container
    work.ahead(Kind.NAME, id=old.id, name=old.name, policy=old.restart_policy)
    work.tools.engine.retire(old.id, old.name + RETIRED)


# --- databases ------------------------------------------------------------------------------------


def _save(work: Work, _: Step) -> None:
    if work.plan.database is None:
        work.copy_databases(work.directory / "before")


def _database(work: Work, step: Step) -> None:
    source, target = step.source, step.target
    if source is None or target is None:
        return
    tools, whole = work.tools, work.directory / step.do / target.name
    rescue.rescue(tools.engine, work.plan.deployment.container, source, whole, tools.who, tools.progress)
    _set_aside(work, target)
    _place(work, whole, target)


def _file_store(work: Work, step: Step) -> None:
    if step.source is None or step.source.host is None or step.target is None:
        return
    tools, place = work.tools, work.directory / step.do
    _give(work, (step.source.host,))
    run_as(tools.who, lambda: place.mkdir(mode=0o700, exist_ok=True))
    said = filestore.migrate(tools.engine, tools.spec(), step.source.host, place / step.target.name, tools.who)
    tools.progress(said.strip().rpartition("\n")[2] or "MLflow has turned the file store into a database")
    _set_aside(work, step.target)
    _place(work, place / step.target.name, step.target)


def _set_aside(work: Work, target: Path) -> None:
    """Rename the database that is at a place, with what SQLite keeps beside it."""
    if not files.exists(target):
        return
    aside = target.with_name(target.name + RETIRED)
    if files.exists(aside):
        raise RefusedError(f"{aside} is there already, from another time.", f"move it away: sudo mv {aside} …")
    work.ahead(Kind.ASIDE, path=str(target), aside=str(aside))
    for each in rescue.with_sides(target):
        each.rename(target.with_name(aside.name + each.name.removeprefix(target.name)))
    files.sync_directory(target.parent)


def _place(work: Work, path: Path, target: Path) -> None:
    """Put a database of the adoption's directory, which is whole, where the configuration names it."""
    writing.make(work, target.parent)
    work.ahead(Kind.PLACED, path=str(target))
    if transfer.renamable(path.parent, target.parent):
        path.rename(target)
    else:
        transfer.copy_tree(path.parent, target.parent, (path.name,), work.tools.progress)
    files.sync_directory(target.parent)


# --- artifacts ------------------------------------------------------------------------------------


def _artifacts(work: Work, step: Step) -> None:
    if step.source is None or step.source.host is None or step.target is None:
        return
    source, target = step.source.host, step.target
    if source == target:
        return
    names = tuple(name for name in transfer.entries(source) if name.isdigit() or not step.experiments)
    if clashing := transfer.clashing(source, target, names):
        message = f"{target} has {', '.join(clashing[:3])} already, so what is in {source} cannot go there."
        raise RefusedError(message, "move them away, or leave the data where they are: --data reference")
    writing.make(work, target)
    if transfer.renamable(source, target):
        work.ahead(Kind.MOVED, source=str(source), target=str(target), names=names)
        transfer.move(source, target, names)
        return
    work.ahead(Kind.COPIED, source=str(source), target=str(target), names=names)
    tally = transfer.copy_tree(source, target, names, work.tools.progress)
    left = f"; {tally.special} pipes, sockets or devices stay behind" if tally.special else ""
    work.tools.progress(f"copied and compared {tally.files} files, {tally.bytes / 1e6:.0f} MB{left}")


def _rewrite(work: Work, step: Step) -> None:
    tools, database = work.tools, work.plan.database
    if database is not None:
        counts = relocate.of_file(database, step.prefixes, tools.who)
    else:
        place = work.directory / "rows"
        run_as(tools.who, lambda: place.mkdir(mode=0o700, exist_ok=True))
        work.ahead(Kind.ROWS, directory=str(place))
        counts = relocate.of_server(tools.engine, tools.spec(), step.prefixes, place, tools.who)
    tools.progress(relocate.table(counts))


# --- owners and configuration ---------------------------------------------------------------------


def _own(work: Work, step: Step) -> None:
    _give(work, step.paths)


def _give(work: Work, paths: Iterable[Path]) -> None:
    there = tuple(path for path in paths if files.exists(path))
    record = work.directory / f"owners-{len(list(work.directory.glob('owners-*')))}"
    work.ahead(Kind.OWNERS, record=str(record))
    given = owners.give(there, work.tools.who, record)
    left = f"; left alone: {given.left} files with several hard links" if given.left else ""
    work.tools.progress(f"gave {given.changed} files and directories to {work.tools.who.owner}{left}")


def _configure(work: Work, _: Step) -> None:
    tools = work.tools
    for secret in work.plan.deployment.secrets:
        writing.make(work, secret.path.parent, who=None)
        writing.write(work, secret.path, secret.content + "\n", 0o600, (tools.who.uid, tools.who.gid))
    writing.write(work, work.config, work.plan.toml, 0o640, (0, tools.who.gid))
    forgotten = fingerprint_file(tools.state)
    writing.keep(work, forgotten)
    forgotten.unlink(missing_ok=True)


_DO: Mapping[Do, Callable[[Work, Step], None]] = {
    Do.STOP: _stop,
    Do.RETIRE: _retire,
    Do.SAVE: _save,
    Do.DATABASE: _database,
    Do.LOGIN: _database,
    Do.FILE_STORE: _file_store,
    Do.ARTIFACTS: _artifacts,
    Do.REWRITE: _rewrite,
    Do.OWN: _own,
    Do.CONFIGURE: _configure,
}
"""The start is not among them: what follows on it is waited for (start, proof.py)."""
