"""`mlflowd upgrade --rehearse`: what an upgrade would do, tried on a copy of the database while the server goes on.

Effects: as the service user (root gives itself up once secrets are read) the wanted image is fetched, with the packages
that the configuration needs, and remembered; a copy of the databases is migrated and removed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlflowd.cli import terminal
from mlflowd.config import load
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.host import disk, files, paths, secrets
from mlflowd.host import memory as host_memory
from mlflowd.host.occupation import occupied
from mlflowd.host.redaction import redact
from mlflowd.operations import migration, references
from mlflowd.operations.copies import Databases
from mlflowd.operations.images_kept import ImagesKept
from mlflowd.server import advisories, command, probe
from mlflowd.server.wiring import Machine
from mlflowd.supervisor import way_back
from mlflowd.supervisor.active_runs import ActiveRuns
from mlflowd.supervisor.doorkeeper import Doorkeeper
from mlflowd.supervisor.images import Images
from mlflowd.supervisor.place import Place

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from mlflowd.config import Settings
    from mlflowd.engine.api import Progress
    from mlflowd.model import Secrets
    from mlflowd.operations.migration import Rehearsal
    from mlflowd.supervisor.images import Chosen

_HOW = """An upgrade is a change of the configuration, and has no command of its own:

  sudo mlflowd upgrade --rehearse VERSION   try the migration on a copy, while the server goes on
  edit image.reference in /etc/mlflowd.toml
  sudo systemctl reload mlflowd             upgrade; what fails is undone, the image and the database
"""
_AS_CONFIGURED = ""
"""What stands for image.reference as it is."""
_START = 12.0
"""Seconds that a stop, a start with one worker, and the gate take together on two processors."""
_FIRST_RUNS = 5
"""Active runs that are named."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "upgrade",
        help="rehearse an upgrade: migrate a copy of the database with another version",
        description="An upgrade itself is made by editing image.reference and 'systemctl reload mlflowd'. "
        "Exit status of a rehearsal: 0 it would succeed, 69 it would be refused, 75 another operation is at work.",
    )
    parser.add_argument(
        "--rehearse", nargs="?", const=_AS_CONFIGURED, metavar="VERSION | REFERENCE",
        help="migrate a copy with this version or image, default: the one that image.reference names",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rehearse and print what was found. Raises MlflowdError where the upgrade would be refused, or cannot be tried."""
    if args.rehearse is None:
        sys.stderr.write(_HOW)
        return ExitStatus.USAGE
    settings, state, who = load(args.config, os.environ).settings, paths.state_directory(), paths.identity()
    wanted = references.with_version(settings.image.reference, args.rehearse or settings.image.reference)
    _require_rights(state, who)
    read = secrets.read(settings, state, who, make=False)
    paths.become(who, Path(settings.engine.socket))
    engine = DockerEngine(settings.engine.socket, settings.engine.timeout)
    place = Place(engine, state, paths.runtime_directory(), who)
    try:
        with terminal.interruptible(), terminal.progress() as progress, occupied(state, "a rehearsal"):
            report = "\n".join(_report(_rehearsed(settings, wanted, place, read, progress)))
    finally:
        engine.close()
    print(redact(report))
    return ExitStatus.OK


class _Found(NamedTuple):
    """What a rehearsal brought."""

    settings: Settings
    """Those of the upgrade."""
    chosen: Chosen
    before: Chosen | None
    """What serves now, None where nothing has yet."""
    rehearsal: Rehearsal
    room: disk.Space
    runs: tuple[str, ...] | None
    """Those that are active, None where the server does not answer."""


def _rehearsed(settings: Settings, wanted: str, place: Place, read: Secrets, progress: Progress) -> _Found:
    after, kept = _wanting(settings, wanted), ImagesKept(place.state, place.who)
    chosen = Images(after, place.engine, kept, place.who).fetch(progress)
    machine = Machine(
        place.who.uid, place.who.gid, host_memory.total(), str(place.state), str(place.runtime / "private")
    )
    spec = command.container_spec(after, chosen.image, chosen.able, machine, read)
    databases, directory = Databases(after, read, place.state, place.who), place.state / "rehearsal"
    limit = settings.upgrade.migration_timeout
    rehearsal = migration.rehearse(databases, place.engine, spec, directory, limit, progress)
    runs = _active(settings, place, read)
    before = way_back.last_served(place, kept)
    return _Found(after, chosen, before, rehearsal, disk.space(place.state), runs)


def _wanting(settings: Settings, reference: str) -> Settings:
    """Return the settings with the wanted image; the archive of another one is left out."""
    if reference == settings.image.reference:
        return settings
    image = settings.image.model_copy(update={"reference": reference, "archive": ""})
    return settings.model_copy(update={"image": image})


def _active(settings: Settings, place: Place, read: Secrets) -> tuple[str, ...] | None:
    prefix = command.static_prefix(settings)
    if not probe.health(settings.server.listen, settings.health.timeout, prefix).ok:
        return None
    return ActiveRuns(settings).look(Doorkeeper(settings, place, read))


def _report(found: _Found) -> Iterator[str]:
    """Yield the lines for a person."""
    settings, rehearsal = found.settings, found.rehearsal
    serves = found.before is not None and found.before.image.id == found.chosen.image.id
    yield f"image        {settings.image.reference}: MLflow {found.chosen.able.mlflow}, {_in_place_of(found.before)}"
    yield f"migration    {rehearsal.sentence}"
    yield f"room         {migration.told(rehearsal.needed)} for a while; {migration.told(found.room.free)} are free"
    yield f"active runs  {_runs(found.runs)}"
    yield from (f"advisory     {one.name}: {one.opens} can {one.what}" for one in _holes(found))
    if serves:
        yield "to upgrade   nothing: this image serves already"
        return
    yield f"downtime     {_downtime(rehearsal)}"
    yield f'to upgrade   set image.reference = "{settings.image.reference}" in /etc/mlflowd.toml,'
    yield "             then: sudo systemctl reload mlflowd"


def _in_place_of(before: Chosen | None) -> str:
    return f"in place of {before.able.mlflow}" if before else "the first one to serve"


def _downtime(rehearsal: Rehearsal) -> str:
    known = rehearsal.copied + (rehearsal.seconds if rehearsal.migrates else 0)
    parts = "the copy, the migration and the start" if rehearsal.migrates else "the copy and the start"
    return f"about {known + _START:.0f} s: {parts}"


def _runs(runs: tuple[str, ...] | None) -> str:
    if runs is None:
        return "not known: the server does not answer"
    named = "".join(f"\n             {one}" for one in runs[:_FIRST_RUNS])
    more = f"\n             and {len(runs) - _FIRST_RUNS} more" if len(runs) > _FIRST_RUNS else ""
    return f"{len(runs) or 'none'}{named}{more}"


def _holes(found: _Found) -> tuple[advisories.Advisory, ...]:
    return advisories.concerning(found.settings, found.chosen.able.mlflow)


def _require_rights(state: Path, who: paths.Identity) -> None:
    if os.geteuid() != 0 and files.exists(state) and state.stat().st_uid != who.uid:
        message = f"{state} belongs to another user, so this user cannot see what the server keeps."
        raise MlflowdError(message, f"sudo {' '.join(['mlflowd', *sys.argv[1:]])}", ExitStatus.PERMISSION)
