"""Every check before a start, each a small function that gives findings; `mlflowd check` prints the same.

Effects: missing store directories are made where the configuration allows it, a hot journal of the database is
rolled back, `settle` sets its journal mode; those of operations/remote.py. A warning never blocks.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, EnginePermissionError, ExitStatus
from mlflowd.host import files, ports
from mlflowd.host.paths import fingerprint_file
from mlflowd.model import Finding, Level
from mlflowd.operations import exposure, remote
from mlflowd.stores import database, directories, places, sqlite, watch
from mlflowd.stores.findings import failure, fine, permission, refused, warning

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine
    from mlflowd.host.disk import Space
    from mlflowd.host.paths import Identity
    from mlflowd.model import Address, ContainerSpec, EngineInfo
    from mlflowd.server.abilities import Abilities

OLDEST = {"docker": (20, 10), "podman": (4, 0)}
"""The oldest engines that are tested."""
LOOK_THROUGH = 2_000
"""Entries of a store that a start looks through; some 10 ms."""
FEW_INODES = 16
"""Fewer free inodes do not suffice for SQLite's side files and one run's artifacts."""


def preflight(  # noqa: PLR0913 - facts of the machine, nearly all by name
    settings: Settings,
    engine: Engine,
    *,
    state: Path,
    who: Identity,
    running: bool,
    make: bool = True,
    limit: int = LOOK_THROUGH,
    spec: ContainerSpec | None = None,
    able: Abilities | None = None,
    trial: Path | None = None,
) -> list[Finding]:
    """Return the findings of every check, those of the stores first.

    `running`: our server is up, so its database is not opened for writing. `make`: missing directories are made at
    once. `limit`: how many entries of each store are looked through. `spec`, `able`: the container that is to serve,
    and what its image can do; with them the schema is judged, and with `trial` (as in remote.check) the remote stores
    are tried, which takes seconds.
    """
    findings, info = _engine(engine)
    if info is not None:
        findings += [*_name(settings, engine), *_port(settings, engine)]
    stores = [*_directories(settings, who, state, make=make, limit=limit)]
    if not any(finding.level is Level.FAILURE and finding.check.startswith("backend") for finding in stores):
        stores += database.check(settings, state, who, running=running)
    if spec and able:
        stores += remote.schema_of_file(settings, who, able, spec)
    if spec and able and trial and info is not None:
        stores += remote.check(settings, engine, state, who, spec, able, trial)
    return [*stores, *_room(settings, state, info.root if info else ""), *findings, *exposure.check(settings, able)]


def guard(settings: Settings, *, state: Path, who: Identity) -> list[Finding]:
    """Return what keeps a stopped server from being started again as it is, in a few milliseconds.

    Above all it must not make an empty database in a lost one's place.
    """
    found = [
        finding
        for at in places.directories(settings, state)
        for finding in directories.check(at, who, state, make=False)
        if finding.level is Level.FAILURE
    ]
    return found or database.guard(settings, state, who)


def settle(settings: Settings, who: Identity) -> None:
    """Set the journal mode of SQLite's database while no server uses it. Raises RefusedError and OSError.

    The mode only makes the server faster: a database that somebody else has locked keeps the one it has.
    """
    path = places.database_path(settings)
    if path is None:
        return
    try:
        sqlite.set_journal_mode(path, settings.backend_store.journal_mode, who)
    except sqlite.BusyError:
        return


def _directories(settings: Settings, who: Identity, state: Path, *, make: bool, limit: int) -> list[Finding]:
    kept = fingerprint_file(state).parent
    ours = places.Directory("state directory", kept if files.exists(kept) else state, create=True)
    findings: list[Finding] = []
    for at in (*places.directories(settings, state), ours):
        found = directories.check(at, who, state, make=make)
        findings += found
        if at is not ours and not any(finding.level is Level.FAILURE for finding in found):
            findings += directories.contents(at, who, limit)
    return findings


def _room(settings: Settings, state: Path, engine_root: str) -> list[Finding]:
    spaces = watch.spaces(settings, state, engine_root)
    return [_of_file_system(settings, names, space) for names, space in spaces.items()]


def _of_file_system(settings: Settings, names: str, space: Space) -> Finding:
    required = settings.disk.require_free
    if space.below(required) or (space.inodes and space.inodes_free < FEW_INODES):
        has = f"{space.free >> 20}M and {space.inodes_free} inodes free"
        message = f"The file system of {names} has {has}, less than disk.require_free = {required} asks for."
        first = names.partition(", ")[0]
        return replace(refused("disk", message, f"make room: sudo du -xh -d2 {first} | sort -h"), transient=True)
    if trouble := watch.tight(settings, names, space):
        return warning("disk", trouble.message, trouble.remedy)
    return fine("disk", f"the file system of {names} has {space.percent}% free")


def _engine(engine: Engine) -> tuple[list[Finding], EngineInfo | None]:
    try:
        info = engine.info()
    except EnginePermissionError as error:
        return [permission("engine", error.message, error.hint)], None
    except EngineError as error:
        return [_transient("engine", error.message, error.hint)], None
    oldest = OLDEST.get(info.name, (0, 0))
    if _version(info.version) < oldest:
        message = f"{info.name} {info.version} is too old: {oldest[0]}.{oldest[1]} or newer is needed."
        return [refused("engine", message, f"update it: sudo apt-get install {_package(info.name)}")], info
    return [fine("engine", f"{info.name} {info.version} answers")], info


def _package(engine: str) -> str:
    return "podman" if engine == "podman" else "docker.io"


def _version(text: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (999, 0)  # a version without numbers is a build of its own


def _name(settings: Settings, engine: Engine) -> list[Finding]:
    name = settings.container.name
    try:
        container = engine.inspect(name)
    except EngineError as error:
        return [_transient("container", error.message, error.hint)]
    if container is None or container.ours:
        return [fine("container", f"the name {name} is {'ours' if container else 'free'}")]
    message = f"A container named {name} ({container.id[:12]}) was not made by mlflowd; it is left alone."
    remedy = f"docker rename {name} {name}-old, or choose another container.name in the configuration"
    return [_transient("container", message, remedy, ExitStatus.CONFIGURATION)]


def _port(settings: Settings, engine: Engine) -> list[Finding]:
    address = settings.server.listen
    try:
        publishers = engine.publishers(address.port)
    except EngineError as error:
        return [_transient("port", error.message, error.hint)]
    if settings.container.name in publishers:
        return [fine("port", f"{address} is published by our container")]
    if not ports.local(address):
        message = f"{address.host} is not an address of this machine."
        return [_transient("port", message, "change server.listen; `ip -brief address` lists the addresses")]
    if ports.free(address):
        return [fine("port", f"{address} is free")]
    return [_taken(address, publishers)]


def _taken(address: Address, publishers: tuple[str, ...]) -> Finding:
    if publishers:
        names = ", ".join(publishers)
        return _transient("port", f"{address} is taken by the container {names}.", _elsewhere(f"docker stop {names}"))
    holder = ports.holder(address) or "a process that cannot be named"
    return _transient("port", f"{address} is taken by {holder}.", _elsewhere("stop it"))


def _elsewhere(stop: str) -> str:
    return f"{stop}, or change server.listen in the configuration"


def _transient(check: str, message: str, remedy: str, status: ExitStatus = ExitStatus.FAILURE) -> Finding:
    """Return a failure that may pass by itself."""
    return replace(failure(check, message, remedy, status), transient=True)
