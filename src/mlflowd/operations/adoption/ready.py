"""Whether this machine can take a deployment over: asked before anything is touched. Effects: none, it only looks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflowd.errors import RefusedError
from mlflowd.host import disk, files
from mlflowd.model import ContainerStatus
from mlflowd.operations.adoption import transfer
from mlflowd.operations.adoption.steps import Do
from mlflowd.stores import fingerprint, sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine
    from mlflowd.host.paths import Identity
    from mlflowd.operations.adoption.plan import Plan

_UP = (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)
_SPARE = 64 << 20
"""Bytes that are to be free beside what is copied."""
_DATABASES = (Do.DATABASE, Do.FILE_STORE)


def require(plan: Plan, current: Settings, engine: Engine, who: Identity, state: Path) -> None:
    """Raise RefusedError with what stands in the way.

    `current` is the configuration that is there, which mlflowd may be serving.
    """
    _require_vacant(current, engine, who)
    _require_proxy(plan)
    _require_names(plan, engine)
    for at in _ways(plan):
        if (obstacle := files.obstacle(at, who, os.X_OK)) is not None:
            remedy = "let the data be moved: sudo mlflowd adopt --data move"
            raise RefusedError(f"The service user cannot reach {at}: {obstacle.message}.", remedy)
    _require_room(plan, state)


def _require_vacant(current: Settings, engine: Engine, who: Identity) -> None:
    """Refuse where mlflowd has data of its own: they would be hidden by those that are taken over."""
    file, artifacts = current.backend_store.file, current.artifact_store.directory
    remedy = "mlflowd keeps one server: take the deployment over on another machine, or remove what mlflowd has first"
    if file is not None and sqlite.header(file) != "missing" and not fingerprint.untouched(file, who):
        raise RefusedError(f"mlflowd already has a database of its own, {file}.", remedy)
    if artifacts is not None and artifacts.is_dir() and (names := transfer.entries(artifacts)):
        raise RefusedError(f"mlflowd already has artifacts of its own, {artifacts / names[0]}.", remedy)
    ours = engine.inspect(current.container.name)
    if file is None and ours is not None and ours.ours and ours.status in _UP:
        raise RefusedError(f"mlflowd already serves {current.backend_store.database.written()}.", remedy)


def _require_proxy(plan: Plan) -> None:
    if plan.rewrite and plan.counts.paths and plan.artifacts is None:
        message = "Artifact locations cannot be rewritten: the artifact store is none of this machine's directories."
        raise RefusedError(message, "leave them as they are: --keep-artifacts")


def _require_names(plan: Plan, engine: Engine) -> None:
    """Refuse what would be found only in the middle: names that are taken."""
    retired = f"{plan.deployment.container.name}-before-mlflowd"
    if engine.deployed(retired) is not None:
        raise RefusedError(f"There is a container {retired} already, from another time.", f"docker rm {retired}")
    for step in plan.steps:
        if step.do is Do.ARTIFACTS and step.source and step.source.host and step.target:
            names = transfer.entries(step.source.host, experiments=step.experiments)
            if clashing := transfer.clashing(step.source.host, step.target, names):
                raise RefusedError(f"{step.target / clashing[0]} is there already.", "move it away, and try again")


def _ways(plan: Plan) -> Iterator[Path]:
    """Yield the directories above the stores, which the service user has to pass."""
    for at in (plan.database.parent if plan.database else None, plan.artifacts):
        if at is not None and files.exists(at):
            yield at.parent


def _require_room(plan: Plan, state: Path) -> None:
    """Refuse where what is copied does not fit; the databases lie twice on the state's file system for a while."""
    needed: dict[int, tuple[Path, int]] = {}
    for at, size in _copied(plan, state):
        device = disk.space(at).device
        needed[device] = (at, needed.get(device, (at, 0))[1] + size)
    for at, size in needed.values():
        free = disk.space(at).free
        if free < size + _SPARE:
            message = f"{size / 1e6:.0f} MB are copied to {at}, and {free / 1e6:.0f} MB are free there."
            raise RefusedError(message, f"make room, or leave the data where they are: --data reference; df -h {at}")


def _copied(plan: Plan, state: Path) -> Iterator[tuple[Path, int]]:
    for step in plan.steps:
        source, target = step.source.host if step.source else None, step.target
        if target is None:
            continue
        if step.do in _DATABASES:
            size = plan.counts.database.bytes
            yield state, size
            if not transfer.renamable(state, target.parent):
                yield target.parent, size
        elif step.do is Do.ARTIFACTS and source and not transfer.renamable(source, target):
            yield target, transfer.measure(source, transfer.entries(source, experiments=step.experiments)).bytes
