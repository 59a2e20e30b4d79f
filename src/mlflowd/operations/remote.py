"""The checks of stores that are not on this machine: the candidate image itself is asked to try them.

Effects: a throw-away container like the server's own, the private files that it needs in a directory of their own,
and what server/inquiry_script.py does to the stores (it writes and deletes a small object).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.errors import ImageMissingError, MlflowdError
from mlflowd.operations import private_files
from mlflowd.server import inquiry, schema
from mlflowd.server.wiring import ARTIFACTS, BACKEND, LOGIN
from mlflowd.stores import fingerprint, places, remote, remote_artifacts
from mlflowd.stores.findings import of_schema, warning

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine
    from mlflowd.host.paths import Identity
    from mlflowd.model import ContainerSpec, Finding
    from mlflowd.server.abilities import Abilities
    from mlflowd.server.inquiry import Answers
    from mlflowd.stores.fingerprint import Fingerprint

_LOCAL = frozenset({BACKEND, ARTIFACTS, LOGIN})
"""Mounts that hold data of this machine, which the inquiry has no use for."""


def any_remote(settings: Settings) -> bool:
    """Whether one of the stores is not on this machine."""
    return settings.backend_store.file is None or settings.artifact_store.directory is None


def check(  # noqa: PLR0913, PLR0917 - the machine, and the candidate with what is known of it
    settings: Settings, engine: Engine, state: Path, who: Identity, spec: ContainerSpec, able: Abilities, trial: Path
) -> list[Finding]:
    """Return what is to be said of the remote stores; nothing is asked where there is none.

    `trial`: a directory that does not exist, where this process or `who` may make one, for the private files while
    the container runs: those of the server that is running stay as they are.
    """
    if not any_remote(settings):
        return []
    try:
        answers = _ask(engine, who, spec, trial)
    except ImageMissingError:
        return []  # told where it is fetched
    except (MlflowdError, OSError) as error:
        message = f"The remote stores could not be tried: {getattr(error, 'message', error)}"
        return [warning("stores", message, getattr(error, "hint", "") or "journalctl -u docker -n 20")]
    return _findings(settings, answers, _served(state, who), able, spec)


def schema_of_file(settings: Settings, who: Identity, able: Abilities, spec: ContainerSpec) -> list[Finding]:
    """Return what is to be said of a SQLite database that this image's MLflow does not work with; [] where it does.

    A database that cannot be read now (another process may have it locked) is the other checks' to judge.
    """
    path = places.database_path(settings)
    if path is None or not able.head:
        return []
    try:
        found = fingerprint.read(path, who)
    except (MlflowdError, OSError):
        return []
    return of_schema(schema.judge(found.revision if found else "", able, spec))


def _findings(
    settings: Settings, answers: Answers, served: Fingerprint | None, able: Abilities, spec: ContainerSpec
) -> list[Finding]:
    found = []
    if answers.backend:
        found += remote.check(settings, answers.backend, served, able, spec)
    if answers.artifacts:
        found.append(remote_artifacts.check(settings, answers.artifacts))
    return found


def _served(state: Path, who: Identity) -> Fingerprint | None:
    """Return the database served last; None where that is a SQLite file that nobody has put anything into yet."""
    try:
        last = fingerprint.load(state)
    except MlflowdError:
        return None  # it is written anew; an unreadable record is no reason to refuse
    return None if last and fingerprint.untouched(Path(last.place.path), who) else last


def _ask(engine: Engine, who: Identity, spec: ContainerSpec, trial: Path) -> Answers:
    mounts = tuple(mount for mount in spec.mounts if mount.target not in _LOCAL)
    with private_files.written(replace(spec, mounts=mounts), who, trial) as like:
        return inquiry.parse(engine.ask(spec.image_id, inquiry.question(), inquiry.LIMIT, like))
