"""A container like the server's on a copy of its databases, in a directory that is thrown away.

Effects: makes `directory`/scratch with the databases of a copy, an own login database, private files and a place for
artifacts; on a database server a database of its own (operations/dumps.py). All of it is removed in the end.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mlflowd.errors import RefusedError
from mlflowd.host import files
from mlflowd.host.paths import run_as
from mlflowd.operations import copies, dumps, private_files
from mlflowd.operations.copies import Kind
from mlflowd.server import login, migrating
from mlflowd.server.wiring import ARTIFACTS, BACKEND, LOGIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.model import ContainerSpec
    from mlflowd.operations.copies import Copy, Databases, Part

_DIRECTORY: Final = "scratch"
_STORES: Final = {BACKEND: "backend", ARTIFACTS: "artifacts", LOGIN: "login"}
"""What is mounted where, and its directory in ours."""


@contextmanager
def scratch(  # noqa: PLR0913 - what is tried, on what data, and where
    databases: Databases,
    copy: Copy,
    directory: Path,
    spec: ContainerSpec,
    artifacts: Path | None = None,
    *,
    keep: bool = True,
) -> Iterator[ContainerSpec]:
    """Yield a container like `spec` on the databases of `copy`, whose parts lie in `directory`.

    Local artifacts are those in `artifacts`, or none; an object store is the server's own, to which a server that is
    started so could write. `keep`: the parts stay as they are, which takes their size once more; without it they are
    used up. Name and address are the caller's to change (dataclasses.replace), the engine has to see `directory`, and
    nothing may run any more when the block is left. Raises MlflowdError: RefusedError where the copy is of another
    kind of database than the configuration's, RehearsalImpossibleError where a database server allows no second one.
    """
    place, who = directory / _DIRECTORY, databases.who
    backend = copy.part(copies.BACKEND)
    _require_kind(databases, backend)
    try:
        run_as(who, lambda: _lay_out(databases, copy, directory, keep=keep))
        with ExitStack() as stack:
            spec = stack.enter_context(private_files.written(spec, who, place / "private"))
            if backend is not None and backend.kind is not Kind.SQLITE:
                path, uri = directory / backend.file, dict(spec.environment)[migrating.URI]
                uri = stack.enter_context(dumps.scratch_database(databases, backend, path, uri))
                spec = migrating.with_uri(spec, uri)
            yield _moved(spec, place, artifacts)
    finally:
        run_as(who, lambda: shutil.rmtree(place, ignore_errors=True))


def database(databases: Databases, directory: Path) -> Path | None:
    """Return the file of the backend's database that is tried in `directory`, None for a server's."""
    file = databases.settings.backend_store.file
    return None if file is None else directory / _DIRECTORY / _STORES[BACKEND] / file.name


def _require_kind(databases: Databases, part: Part | None) -> None:
    local = databases.settings.backend_store.file is not None
    if (part is None and not local) or (part is not None and local is not (part.kind is Kind.SQLITE)):
        what = f"a {part.kind} database" if part else "no database"
        message = f"The copy is of {what}, which backend_store.uri does not name."
        raise RefusedError(message, "set backend_store.uri as it was when the copy was taken")


def _lay_out(databases: Databases, copy: Copy, directory: Path, *, keep: bool) -> None:
    place = directory / _DIRECTORY
    if files.exists(place):
        shutil.rmtree(place)
    for each in (place, *(place / name for name in _STORES.values())):
        each.mkdir(mode=0o700)
    targets = {copies.BACKEND: database(databases, directory), copies.LOGIN: place / _STORES[LOGIN] / login.DATABASE}
    for part in copy.parts:
        if part.kind is Kind.SQLITE and (target := targets[part.store]):
            source = directory / part.file
            # Not a link: SQLite writes to the file itself.
            shutil.copyfile(source, target) if keep else source.rename(target)
            target.chmod(0o600)


def _moved(spec: ContainerSpec, place: Path, artifacts: Path | None) -> ContainerSpec:
    """Return the container with the stores of this machine in our directory."""
    sources = {target: str(place / name) for target, name in _STORES.items()}
    if artifacts is not None:
        sources[ARTIFACTS] = str(artifacts)
    mounts = tuple(replace(mount, source=sources.get(mount.target, mount.source)) for mount in spec.mounts)
    return replace(spec, mounts=mounts)
