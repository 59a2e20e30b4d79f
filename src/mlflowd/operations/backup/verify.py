"""A backup restored on trial: into a scratch directory, served by MLflow there, and read as a client reads it.

Effects: writes <state>/backup/verify; a container of its own on a free port of this machine alone; the record. All but
the record is gone in the end, and what a killed verification has left with the next one. The server that runs is not
touched.
"""

from __future__ import annotations

import shutil
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import EngineError, MlflowdError, RefusedError
from mlflowd.host import files, restic
from mlflowd.host.occupation import occupied
from mlflowd.host.paths import runtime_directory
from mlflowd.host.restic import DamagedRepositoryError
from mlflowd.model import Address, ContainerStatus
from mlflowd.operations import copies, dumps
from mlflowd.operations.backup import fitting, trial
from mlflowd.operations.backup.create import noted
from mlflowd.operations.backup.fitting import Need
from mlflowd.operations.backup.record import RecordFile, Verified
from mlflowd.operations.backup.rehearse import sound
from mlflowd.operations.backup.repository import Backups
from mlflowd.operations.backup.unpack import ANOTHER, manifest_of, name, take
from mlflowd.operations.copies import BACKEND, Databases, Kind
from mlflowd.operations.images_kept import ImagesKept
from mlflowd.operations.migration import migrate
from mlflowd.operations.scratch import scratch
from mlflowd.server import causes, command, loglines, probe
from mlflowd.server.readback import Reader
from mlflowd.server.wiring import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine, Progress
    from mlflowd.host.restic import Restic
    from mlflowd.model import ContainerSpec
    from mlflowd.operations.backup.create import Source
    from mlflowd.operations.backup.repository import Backup
    from mlflowd.server.abilities import Abilities

_DIRECTORY: Final = "backup/verify"
_ARTIFACTS: Final = "artifacts"
_PATIENCE: Final = 60.0
"""Seconds for one call to the engine, and for each piece of an answer of the server."""
_LOOK_EVERY: Final = 0.2
_GRACE: Final = 5.0
_LOG_LINES: Final = 200


def verify(source: Source, wanted: str, progress: Progress) -> Verified:
    """Try the backup `wanted` ("" for the newest good one) and return that it is good; the record has it too.

    As the service user. Raises DamagedRepositoryError for one that is not good, which the record then has as bad, and
    MlflowdError for what keeps it from being tried.
    """
    began, record = time.time(), RecordFile(source.state, source.who)
    engine = DockerEngine(source.settings.engine.socket, max(source.settings.engine.timeout, _PATIENCE))
    try:
        with noted(record, "verification"), occupied(source.state, "a verification"):
            with restic.opened(source.settings.backup, source.secrets, source.state, progress) as door:
                backup = Backups(door, source.state, record).chosen(wanted)
                with _condemning(record, backup), _emptied(engine, source) as directory:
                    _restore(door, source, backup, directory, progress)
                    _Trial(engine, source, backup, directory, progress).run()
            verified = Verified(time.time(), backup.snapshot.short, round(time.time() - began, 1))
            record.verified(verified)
            return verified
    finally:
        engine.close()


@contextmanager
def _condemning(record: RecordFile, backup: Backup) -> Iterator[None]:
    """Write down a backup that turns out to be damaged: nothing is to be restored from it."""
    try:
        yield
    except DamagedRepositoryError as error:
        with suppress(MlflowdError, OSError):
            record.condemn({backup.snapshot.id: f"its verification failed: {error.message}"})
        raise


@contextmanager
def _emptied(engine: Engine, source: Source) -> Iterator[Path]:
    """Yield the scratch directory, not there yet; it is gone afterwards, and the container with it."""
    directory = source.state / _DIRECTORY

    def clear() -> None:
        _remove(engine, _container_name(source.settings))
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(directory.with_name(f"{directory.name}.nest"), ignore_errors=True)

    clear()
    try:
        yield directory
    finally:
        clear()


def _container_name(settings: Settings) -> str:
    return f"{settings.container.name}-verify"


def _remove(engine: Engine, name_: str) -> None:
    container = engine.inspect(name_)
    if container is not None and container.ours:
        engine.stop(container.id, _GRACE)
        engine.remove(container.id)


# --- restoring --------------------------------------------------------------------------------------


def _restore(door: Restic, source: Source, backup: Backup, directory: Path, progress: Progress) -> None:
    """Restore databases and artifacts, and check every page of the databases."""
    told = manifest_of(backup)
    fitting.check_room([Need(source.state, door.size(backup.snapshot.id))], "The verification")
    progress(f"restoring the backup {name(backup)} into {directory}")
    take(door, backup, backup.staging, directory)
    progress("checking the databases")
    databases = Databases(source.settings, source.secrets, source.state, source.who)
    wrong = databases.wrong(told.copy, directory) or _unsound(told.copy, directory)
    if wrong:
        raise _damaged(backup, wrong)
    if told.artifacts:
        progress("restoring the artifacts")
        take(door, backup, told.artifacts, directory / _ARTIFACTS)


def _unsound(copy: copies.Copy, directory: Path) -> str:
    found = ((part, sound(directory / part.file)) for part in copy.parts if part.kind is Kind.SQLITE)
    return next((f"the {part.store} database {wrong}" for part, wrong in found if wrong), "")


def _damaged(backup: Backup, wrong: str) -> DamagedRepositoryError:
    return DamagedRepositoryError(f"The backup {name(backup)} is damaged: {wrong}.", ANOTHER)


# --- serving it -------------------------------------------------------------------------------------


class _Trial:
    """MLflow on what was restored."""

    def __init__(self, engine: Engine, source: Source, backup: Backup, directory: Path, progress: Progress) -> None:
        self._engine = engine
        self._source = source
        self._backup = backup
        self._told = manifest_of(backup)
        self._directory = directory
        self._progress = progress
        # Without a login: who may see what is of no matter here, and nobody else reaches the port for long.
        login = source.settings.login.model_copy(update={"enabled": False})
        self._settings = source.settings.model_copy(update={"login": login})
        self._databases = Databases(self._settings, source.secrets, source.state, source.who)

    def run(self) -> None:
        """Serve and read. Raises DamagedRepositoryError where what is read is not what was saved."""
        part = self._told.copy.part(BACKEND)
        if part is None:
            self._progress("the backup holds no database: there was none yet")
            return
        image, able = self._image()
        spec = self._spec(image, able)
        older = bool(able.head and part.revision and part.revision != able.head)
        if older and part.revision not in able.revisions:
            message = f"The backup {name(self._backup)} has a schema that MLflow {able.mlflow} does not know."
            raise RefusedError(message, f"it can be tried where {self._told.reference} serves")
        artifacts = self._directory / _ARTIFACTS if self._told.artifacts else None
        copy = copies.Copy((part,))
        try:
            with scratch(self._databases, copy, self._directory, spec, artifacts, keep=False) as like:
                if older:
                    self._progress("migrating the restored database")
                    migrate(self._engine, like, self._settings.upgrade.migration_timeout)
                self._serve(like)
        except dumps.RehearsalImpossibleError as error:
            self._progress(f"the dump is whole, and is not tried in a database of its own: {error.message}")

    def _image(self) -> tuple[str, Abilities]:
        """Return the image that served last, and what it can do."""
        kept = ImagesKept(self._source.state, self._source.who).read()
        for served in kept.served:
            able = kept.abilities.get(served.image)
            if able is not None and self._engine.image(served.image) is not None:
                return served.image, able
        raise RefusedError("No image has served yet, so there is none to try the backup with.", "mlflowd status")

    def _spec(self, image: str, able: Abilities) -> ContainerSpec:
        found = self._engine.image(image)
        if found is None:
            raise EngineError(f"The image {image[:19]} is gone.")
        who = self._source.who
        machine = Machine(who.uid, who.gid, state=str(self._source.state), private=str(runtime_directory() / "private"))
        spec = command.container_spec(self._settings, found, able, machine, self._source.secrets)
        return replace(spec, name=_container_name(self._settings), publish=Address("127.0.0.1", _free_port()))

    def _serve(self, spec: ContainerSpec) -> None:
        self._progress("starting MLflow on what was restored")
        container = self._engine.create(spec)
        try:
            self._engine.start(container)
            self._wait(spec, container)
            self._read(Reader(spec.publish, _PATIENCE, command.static_prefix(self._settings)))
        finally:
            # Before the scratch directory goes: a server must not lose its files while it runs.
            self._engine.stop(container, _GRACE)
            self._engine.remove(container)

    def _wait(self, spec: ContainerSpec, container: str) -> None:
        deadline = time.monotonic() + self._settings.health.start_deadline
        prefix = command.static_prefix(self._settings)
        while not probe.health(spec.publish, self._settings.health.timeout, prefix).ok:
            seen = self._engine.inspect(container)
            if seen is None or seen.status in {ContainerStatus.EXITED, ContainerStatus.DEAD}:
                raise RefusedError(f"MLflow ended on what was restored{self._why(container)}", "docker events; df -h")
            if time.monotonic() > deadline:
                limit = self._settings.health.start_deadline
                message = f"MLflow did not serve what was restored within {limit:g} s."
                raise RefusedError(message, "raise health.start_deadline, or look at what keeps this machine busy: top")
            time.sleep(_LOOK_EVERY)

    def _why(self, container: str) -> str:
        with suppress(EngineError):
            lines = self._engine.logs(container, since=0, follow=False, tail=_LOG_LINES)
            text = [loglines.plain(loglines.split(line)[1]) for line in lines]
            if cause := causes.recognise(text, 1, oom_killed=False):
                return f": {cause.message}"
            return f": {text[-1]}." if text else "."
        return "."

    def _read(self, reader: Reader) -> None:
        self._progress("reading experiments, runs and models through it")
        if wrong := trial.differing(trial.holdings(reader), self._told):
            raise _damaged(self._backup, wrong)
        if not self._told.artifacts:
            self._progress("the artifacts lie in a store elsewhere, and are not a part of the backup")
            return
        self._progress("downloading artifacts through it")
        found = trial.sample(reader, self._directory / _ARTIFACTS, files.nearest(self._before()))
        if found.wrong:
            raise _damaged(self._backup, found.wrong)
        self._progress(f"{found.files} artifacts ({found.bytes / 1e6:.1f} MB) came as they were saved")
        if found.absent:
            self._progress(f"of {len(found.absent)} registered models there were no files to save: {found.absent[0]}")

    def _before(self) -> Path:
        return self._settings.artifact_store.directory or self._directory / _ARTIFACTS


def _free_port() -> int:
    """Return a port that nobody has now; a start that meets another's fails and says so."""
    with socket.socket() as probe_:
        probe_.bind(("127.0.0.1", 0))
        return int(probe_.getsockname()[1])
