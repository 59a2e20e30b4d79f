"""`mlflowd restore`: a backup in the place of today's data, or, with --to, in a directory to look at.

Effects: in place, the backup is staged beside today's data (operations/backup/restore.py) as the service user, and the
daemon, which is started where it does not run, does the rest; with --to the directory alone is written.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.cli import starter, terminal
from mlflowd.config import Settings, load
from mlflowd.errors import ConfigurationError, EngineError, ExitStatus, MlflowdError
from mlflowd.host import paths, restic, secrets
from mlflowd.host.occupation import occupied
from mlflowd.host.paths import Identity
from mlflowd.host.restic import access
from mlflowd.host.service import Service
from mlflowd.operations.backup import rehearse, trial
from mlflowd.operations.backup.record import RecordFile
from mlflowd.operations.backup.repository import Backups
from mlflowd.operations.backup.restore import Restore
from mlflowd.operations.backup.unpack import manifest_of, name
from mlflowd.operations.images_kept import ImagesKept
from mlflowd.server import command, login
from mlflowd.server.call import Login
from mlflowd.server.readback import Reader
from mlflowd.supervisor import status

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from mlflowd.engine.api import Progress
    from mlflowd.model import Secrets
    from mlflowd.operations.backup.repository import Backup
    from mlflowd.operations.transaction import Outcome, Transaction
    from mlflowd.server.abilities import Abilities

_VARIABLES = {"password": "RESTIC_PASSWORD"}
_S3_VARIABLES = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"}
"""restic's own, and the keys of [backup] that they stand for."""
_LOOK_EVERY = 0.5
_STARTUP = 30.0
"""Seconds that a daemon gets to come up, or one that has just ended to come again."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "restore",
        help="bring a backup back, in place or into a directory",
        description="In place, today's data are set aside first; where the backup does not serve, all is undone. "
        "Exit status: 0 restored, 69 the backup or the machine does not allow it, 1 another failure.",
    )
    parser.add_argument("snapshot", nargs="?", default="latest", metavar="SNAPSHOT", help="an id; the newest good one")
    parser.add_argument("--to", type=Path, metavar="DIR", help="into this directory, which is empty or not there")
    parser.add_argument(
        "--config-less",
        action="store_true",
        help="with --to: ask restic's own variables for the repository, not /etc/mlflowd.toml: RESTIC_REPOSITORY, "
        "RESTIC_PASSWORD or RESTIC_PASSWORD_FILE, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Restore; SIGTERM ends it as Ctrl-C does, cleaning up."""
    if args.config_less and args.to is None:
        raise MlflowdError("--config-less restores into a directory alone.", "name it by --to DIR", ExitStatus.USAGE)
    settings = from_environment(os.environ) if args.config_less else load(args.config, os.environ).settings
    with terminal.interruptible(), terminal.progress() as progress:
        if args.to is not None:
            who = _myself() if args.config_less else paths.identity()
            return _into(args.to.absolute(), args.snapshot, settings, who, progress)
        return _in_place(args, settings, progress)


# --- into a directory -------------------------------------------------------------------------------


def _into(directory: Path, wanted: str, settings: Settings, who: Identity, progress: Progress) -> int:
    """Restore as whoever asks: what restic keeps for itself meanwhile goes into the directory's own neighbourhood."""
    workplace = directory.with_name(f".{directory.name}.restic")
    try:
        with access.granted(settings.backup, _secrets(settings, who), workplace) as granted:
            door = restic.Restic(granted, settings.backup.time_limit, progress)
            backup = Backups(door, workplace, RecordFile(paths.state_directory(), who)).chosen(wanted)
            found = rehearse.rehearse(door, backup, directory, progress)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    _tell(backup, directory, found)
    return ExitStatus.FAILURE if found.differing else ExitStatus.OK


def _tell(backup: Backup, directory: Path, found: rehearse.Rehearsed) -> None:
    told = manifest_of(backup)
    print(f"The backup {name(backup)} of {told.hostname} (MLflow {told.mlflow or 'unknown'}) is in {directory}.")
    for kind, count in (found.counts or {}).items():
        expected = (found.expected or {}).get(kind)
        print(f"  {kind.replace('_', ' '):18} {count:>9}{_compared(count, expected)}")
    print(f"  {'artifact files':18} {found.files:>9}  {found.bytes / 1e6:.1f} MB")


def _compared(count: int, expected: int | None) -> str:
    if expected is None:
        return ""
    return "  as backed up" if count == expected else f"  DIFFERS: {expected} were backed up"


# --- in place ---------------------------------------------------------------------------------------


def _in_place(args: argparse.Namespace, settings: Settings, progress: Progress) -> int:
    state, who = paths.state_directory(), paths.identity()
    _require_rights(state)
    read, able, admin = _secrets(settings, who), _able(settings, state), _admin(settings)
    with starter.ready() as start:
        paths.become(who)
        restore = Restore(settings, state, who, able)
        with restic.opened(settings.backup, read, state, progress) as door:
            backup = Backups(door, state, RecordFile(state, who)).chosen(args.snapshot)
            restore.check(backup)
            if not args.yes and not agreed(backup, settings):
                return ExitStatus.USAGE
            with occupied(state, "a restore"):
                transaction = restore.stage(door, backup, progress)
        progress("the backup is ready; the daemon puts it in place")
        try:
            outcome = follow(restore, transaction, start, progress)
        except KeyboardInterrupt:
            print("\nThe daemon goes on with it: mlflowd status", file=sys.stderr)
            raise
        restore.settled(transaction)
    if not outcome.ok:
        raise MlflowdError(outcome.sentence, outcome.remedy)
    _congratulate(restore, transaction, outcome)
    compare(settings, backup, admin)
    return ExitStatus.OK


def agreed(backup: Backup, settings: Settings) -> bool:
    """Tell what would be restored, and ask. Raises MlflowdError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise MlflowdError("Nobody is there to be asked.", "sudo mlflowd restore --yes", ExitStatus.USAGE)
    told = manifest_of(backup)
    counted = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in (told.counts or {}).items())
    print(f"The backup {name(backup)} of {told.hostname}: {counted or 'not counted'}.")
    print(f"It takes the place of what {settings.server.listen} serves now, which is set aside.")
    return input("Restore it? [y/N] ").strip().lower() in {"y", "yes"}


def follow(restore: Restore, transaction: Transaction, start: Callable[[], bool], progress: Progress) -> Outcome:
    """Wait until the daemon has done it, or taken it back. Raises MlflowdError where no daemon does."""
    said, last_seen, asked = "", time.monotonic(), False
    while True:
        if outcome := next((one for one in restore.ledger.outcomes() if one.id == transaction.id), None):
            return outcome
        document = status.read(paths.status_file()) or {}
        now = time.monotonic()
        if _runs(document):
            last_seen = now
            reason = str(document.get("reason", "")) if _alive(document) and restore.ledger.pending() else ""
            if reason not in {"", said}:
                progress(said := reason)
        elif not asked:
            asked, last_seen = True, now
            progress("starting mlflowd" if start() else f"mlflowd does not run; start it: {starter.START}")
        elif now - last_seen > _STARTUP:
            raise MlflowdError(
                "The backup is ready, and mlflowd does not run: its next start puts it in place.",
                f"journalctl -u mlflowd -n 30, then: {starter.START}",
            )
        time.sleep(_LOOK_EVERY)


def _runs(document: dict[str, object]) -> bool:
    """Whether a daemon is there, or on its way."""
    return _alive(document) or Service().active


def _alive(document: dict[str, object]) -> bool:
    """Whether the daemon that wrote the status is still there."""
    try:
        return b"mlflowd" in Path(f"/proc/{document.get('pid')}/cmdline").read_bytes()
    except OSError:
        return False


def _congratulate(restore: Restore, transaction: Transaction, outcome: Outcome) -> None:
    print(outcome.sentence[:1].upper() + outcome.sentence[1:])
    kept = " ".join(str(path) for path in restore.kept(transaction))
    print(f"Once you are sure, remove what was set aside: sudo rm -r {kept}")


def compare(settings: Settings, backup: Backup, admin: Login | None) -> None:
    """Read back through the API how much there is, and say what is missing; what cannot be asked is said too."""
    if settings.login.enabled and admin is None:
        print("What the server shows was not counted: login.admin_password is not to be read from here.")
        return
    reader = Reader(settings.server.listen, settings.health.database_timeout, command.static_prefix(settings), admin)
    try:
        wrong = trial.differing(trial.holdings(reader), manifest_of(backup), at_least=True)
    except MlflowdError as error:
        print(f"warning: what the server shows could not be counted. {error.message}", file=sys.stderr)
        return
    if wrong:
        print(f"warning: {wrong}, which the backup has.", file=sys.stderr)
    else:
        print("Experiments, runs and registered models are there through the API, as many as were backed up.")


# --- what both need ---------------------------------------------------------------------------------


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Return settings with the repository that restic's variables name. Raises ConfigurationError."""
    named = {"repository": environ.get("RESTIC_REPOSITORY", "")}
    if file := environ.get("RESTIC_PASSWORD_FILE"):
        named["password"] = f"file:{Path(file).absolute()}"
    wanted = _VARIABLES | (_S3_VARIABLES if named["repository"].startswith("s3:") else {})
    for key, variable in wanted.items():
        if environ.get(variable):
            named.setdefault(key, f"env:{variable}")
    hint = "RESTIC_REPOSITORY=/mnt/backup/mlflow RESTIC_PASSWORD_FILE=FILE mlflowd restore --config-less --to DIR"
    message = "restic's variables name no repository that mlflowd can use."
    if not named["repository"]:
        raise ConfigurationError(message, hint)
    try:
        return Settings.layered({"backup": named})
    except ValueError as error:
        raise ConfigurationError(message, hint) from error


def _myself() -> Identity:
    """Return whoever runs this: a machine without mlflowd's user can restore into a directory, too."""
    return Identity(os.geteuid(), os.getegid(), paths.user_name(os.geteuid()))


def _secrets(settings: Settings, who: Identity) -> Secrets:
    """Return the secrets of the repository alone: those of the server may be the unit's own to see."""
    alone = Settings().model_copy(update={"backup": settings.backup})
    return secrets.read(alone, paths.state_directory(), who, make=False, backup=True)


def _admin(settings: Settings) -> Login | None:
    """Return the admin's login, None where the server has none or its password is not to be seen from here."""
    alone = Settings().model_copy(update={"login": settings.login})
    try:
        read = secrets.read(alone, paths.state_directory(), paths.identity(), make=False)
    except MlflowdError:
        return None
    password = read.get(login.ADMIN_PASSWORD)
    return Login(login.ADMIN, password) if settings.login.enabled and password else None


def _able(settings: Settings, state: Path) -> Abilities | None:
    """Return what the image can do that the configuration names, None where that is not known."""
    from mlflowd.engine.docker import DockerEngine  # noqa: PLC0415 - not for --to
    from mlflowd.supervisor.images import Images  # noqa: PLC0415 - as above

    who = paths.identity()
    engine = DockerEngine(settings.engine.socket, settings.engine.timeout)
    try:
        chosen = Images(settings, engine, ImagesKept(state, who), who).find()
    except EngineError:
        return None  # the daemon meets the same, and judges the schema itself
    finally:
        engine.close()
    return chosen.able if chosen else None


def _require_rights(state: Path) -> None:
    if os.geteuid() not in (0, state.stat().st_uid):
        message = f"{state} belongs to another user, so this user cannot restore it."
        raise MlflowdError(message, "sudo mlflowd restore", ExitStatus.PERMISSION)
