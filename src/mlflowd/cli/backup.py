"""`mlflowd backup`, `backup list`, `check`, `verify` and `unlock`: see operations/backup.

Effects: those of the operation, as the service user: root gives itself up once secrets are read. Started by systemd it
tells the journal how it ended, as an event; by a person, on the terminal.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.cli import backup_list, terminal
from mlflowd.config import load
from mlflowd.errors import ConfigurationError, ExitStatus, MlflowdError
from mlflowd.events import Event
from mlflowd.host import files, journal, paths, restic, secrets
from mlflowd.host.redaction import redact
from mlflowd.host.restic import DamagedRepositoryError
from mlflowd.host.restic.words import size, span
from mlflowd.operations import copies
from mlflowd.operations.backup.check import ALL, NEXT, check
from mlflowd.operations.backup.create import Source, create
from mlflowd.operations.backup.record import RecordFile
from mlflowd.operations.backup.repository import Backups

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from mlflowd.cli.terminal import Progress
    from mlflowd.config import Settings
    from mlflowd.host.paths import Identity

    Part = Callable[[argparse.Namespace, Progress], int]

_INTERRUPTED = 130


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `backup` with its parts."""
    verb = subparsers.add_parser(
        "backup",
        help="save the databases and local artifacts; list, check, verify the backups",
        description="Exit status: 0 done, 69 refused or damaged, 75 another operation is at work, 78 not configured.",
    )
    verb.add_argument("--if-configured", action="store_true", help="nothing, and status 0, where no repository is set")
    verb.add_argument("--init", action="store_true", help="begin anew with an empty repository where one was before")
    verb.set_defaults(run=run, part=_create)
    parts = verb.add_subparsers(metavar="list | check | verify | unlock")
    listing = parts.add_parser("list", help="show the backups, the newest first")
    listing.add_argument("--json", action="store_true", help="print one document (schema 1)")
    listing.set_defaults(part=_list)
    checking = parts.add_parser("check", help="look for damage in the repository")
    checking.add_argument(
        "--read-data", nargs="?", const=ALL, default="", metavar="SUBSET",
        help=f'read the data too: all of them, a subset of restic\'s ("3/12", "5%%"), or "{NEXT}": the next twelfth',
    )  # fmt: skip
    checking.set_defaults(part=_check)
    verifying = parts.add_parser("verify", help="restore one on trial and read it through MLflow")
    verifying.add_argument("snapshot", nargs="?", default="", metavar="ID", help="default: the newest")
    verifying.set_defaults(part=_verify)
    unlocking = parts.add_parser("unlock", help="remove restic's locks: only where nothing is at work any more")
    unlocking.set_defaults(part=_unlock)
    parts.add_parser("prepare", description="Make the repository's directory; run by the units.").set_defaults(
        part=_prepare
    )


def run(args: argparse.Namespace) -> int:
    """Do the part that was asked for; SIGTERM ends it as Ctrl-C does, cleaning up."""
    unit = secrets.in_unit(os.environ)
    if unit:
        journal.configure("info")
    with terminal.interruptible(), terminal.progress() as shown:
        try:
            return int(args.part(args, shown))
        except MlflowdError as error:
            if not unit or args.part is _prepare:
                raise
            journal.report(event_of(error), error.message, remedy=error.hint or None)
            return int(error.exit_status)
        except KeyboardInterrupt:
            if not unit:
                raise
            remedy = "sudo systemctl start mlflowd-backup"
            journal.report(Event.BACKUP_FAILED, "it was interrupted; nothing half done is kept", remedy=remedy)
            return _INTERRUPTED


def event_of(error: MlflowdError) -> Event:
    """Return the event that tells of this error."""
    damaged = isinstance(error, (DamagedRepositoryError, copies.DamagedError))
    return Event.BACKUP_DAMAGED if damaged else Event.BACKUP_FAILED


# --- the parts --------------------------------------------------------------------------------------


def _create(args: argparse.Namespace, progress: Progress) -> int:
    with _source(args) as source:
        if source is None:
            return ExitStatus.OK
        made = create(source, progress, anew=args.init)
        new = f"{size(made.added.bytes)} of {size(made.added.total)} are new"
        sentence = f"the backup {made.added.snapshot[:8]} is complete after {span(made.seconds)}: {new}"
        _tell(Event.BACKUP_DONE, sentence, snapshot=made.added.snapshot[:8], seconds=f"{made.seconds:.1f}")
        if made.unfinished:
            _tell(Event.BACKUP_FAILED, made.unfinished, remedy="sudo mlflowd backup check")
    return ExitStatus.OK


def _list(args: argparse.Namespace, progress: Progress) -> int:
    with _source(args) as source:
        if source is None:
            return ExitStatus.OK
        record = RecordFile(source.state, source.who)
        quiet = (lambda _sentence: None) if args.json else progress
        with restic.opened(source.settings.backup, source.secrets, source.state, quiet) as door:
            found = Backups(door, source.state, record).all()
        known, where = record.read(), source.settings.backup.repository
    progress.end()
    sys.stdout.write(backup_list.document(found, known, where) if args.json else backup_list.table(found, known, where))
    return ExitStatus.OK


def _check(args: argparse.Namespace, progress: Progress) -> int:
    with _source(args) as source:
        if source is not None:
            checked = check(source, args.read_data, progress)
            read = {"": "the data were not read", ALL: "all data were read"}.get(checked.read, f"read: {checked.read}")
            progress(f"{source.settings.backup.repository} is sound ({read})")
    return ExitStatus.OK


def _verify(args: argparse.Namespace, progress: Progress) -> int:
    from mlflowd.operations.backup import verify  # noqa: PLC0415 - it brings the engine along, which others do without

    with _source(args) as source:
        if source is not None:
            verified = verify.verify(source, args.snapshot, progress)
            sentence = f"the backup {verified.snapshot} is good: restored and read in {span(verified.seconds)}"
            _tell(Event.BACKUP_VERIFIED, sentence, snapshot=verified.snapshot, seconds=f"{verified.seconds:.1f}")
    return ExitStatus.OK


def _unlock(args: argparse.Namespace, progress: Progress) -> int:
    with _source(args) as source:
        if source is not None:
            with restic.opened(source.settings.backup, source.secrets, source.state, progress) as door:
                door.unlock(every=True)
            progress("the locks are removed")
    return ExitStatus.OK


def _prepare(args: argparse.Namespace, _progress: Progress) -> int:
    settings = load(args.config, os.environ).settings
    if settings.backup.repository:
        make_repository(settings, paths.state_directory(), paths.identity())
    return ExitStatus.OK


# --- who does it ------------------------------------------------------------------------------------


@contextmanager
def _source(args: argparse.Namespace) -> Iterator[Source | None]:
    """Yield what is to be saved, this process being the service user from now on; None where nothing is asked for."""
    loaded = load(args.config, os.environ)
    settings = loaded.settings
    if not settings.backup.repository:
        if not args.if_configured:
            hint = 'set it in /etc/mlflowd.toml, such as repository = "/mnt/backup/mlflow"; docs/backup.md'
            raise ConfigurationError("backup.repository is not set, so there are no backups.", hint)
        print("backup.repository is not set: nothing to do")
        yield None
        return
    state, who = paths.state_directory(), paths.identity()
    _require_rights(who, state)
    read = secrets.read(settings, state, who, make=False, backup=True)
    if args.part is _create:
        make_repository(settings, state, who, anew=args.init)
    paths.become(who, Path(settings.engine.socket))
    yield Source(settings, read, state, who, loaded.path)


def make_repository(settings: Settings, state: Path, who: Identity, *, anew: bool = False) -> None:
    """Make the directory of a local repository that never was there; below a mount that is away nothing is made.

    `anew`: also where one was.
    """
    directory = restic.local(settings.backup.repository)
    if directory is None or files.exists(directory) or os.geteuid() != 0:
        return
    record = RecordFile(state, who).read()
    if record.identity and record.repository == settings.backup.repository and not anew:
        return  # it is gone: the backup says so
    try:
        files.make_directory(directory, who)
    except OSError as error:
        message = f"The directory {directory} cannot be made: {error.strerror}."
        raise MlflowdError(message, "name another one in backup.repository", ExitStatus.PERMISSION) from error


def _require_rights(who: Identity, state: Path) -> None:
    if os.geteuid() != 0 and files.exists(state) and state.stat().st_uid != who.uid:
        message = f"{state} belongs to another user, so this user cannot see what the server keeps."
        raise MlflowdError(message, f"sudo {' '.join(['mlflowd', *sys.argv[1:]])}", ExitStatus.PERMISSION)


def _tell(event: Event, sentence: str, **fields: object) -> None:
    if secrets.in_unit(os.environ):
        journal.report(event, sentence, priority=None, **fields)
    else:
        print(redact(sentence))
