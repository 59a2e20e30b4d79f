"""Finds the container to take over, and what has to be known beside it.

Effects: asks the engine, looks at paths of this machine, and asks the image what it can do, in a throw-away container.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, EnginePermissionError, EngineUnreachableError, MlflowdError, RefusedError
from mlflowd.model import LABEL_SPEC
from mlflowd.operations.adoption import commandline
from mlflowd.operations.adoption.deployment import NotUnderstoodError
from mlflowd.operations.adoption.facts import Facts
from mlflowd.operations.adoption.mounts import place
from mlflowd.server import abilities

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflowd.engine.api import Engine
    from mlflowd.model.deployed import Deployed
    from mlflowd.operations.adoption.deployment import Place
    from mlflowd.server.abilities import Abilities

RETIRED = "-before-mlflowd"
"""What the name of a container that was taken over ends with."""
_ASK_LIMIT = 60.0
_COMPOSE = "com.docker.compose."
_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_NAMED_FILES = ("GOOGLE_APPLICATION_CREDENTIALS", "MLFLOW_AUTH_CONFIG_PATH")
_LARGEST = 1 << 20
_WHY = "mlflowd reads what runs, not what is written: variables, overrides and defaults are decided only then"


def find(engine: Engine, what: str | None) -> Deployed:
    """Return the container of this name or id, of this compose file, or the only one that runs MLflow.

    Raises NotUnderstoodError where that is none or several, and RefusedError where there is nothing of that name.
    """
    every = everything(engine)
    if what is None:
        return _only(_servers(every), "The machine")
    if found := next((each for each in every if what in {each.name, each.id}), None):
        return found
    short = [each for each in every if re.fullmatch(r"[0-9a-f]{12,63}", what) and each.id.startswith(what)]
    if len(short) == 1:
        return short[0]
    if (file := _compose_file(what)) is not None:
        return _of_compose(every, file)
    names = ", ".join(each.name for each in _servers(every)) or "none"
    message = f"There is no container {what}, and no such compose file. Containers that run MLflow: {names}."
    raise RefusedError(message, "docker ps -a")


def everything(engine: Engine) -> tuple[Deployed, ...]:
    """Return every container of the engine."""
    found = (engine.deployed(name) for name in engine.deployments())
    return tuple(each for each in found if each is not None)


def facts(engine: Engine, deployed: Deployed) -> Facts:
    """Return what `understand` needs to know beside the container."""
    gone = frozenset(each.source for each in deployed.mounts if each.source and not os.path.lexists(each.source))
    return Facts(
        able=_able(engine, deployed),
        reference=_reference(engine, deployed),
        others=tuple(each for each in everything(engine) if each.id != deployed.id),
        fixed_policy=engine.info().name == "podman",
        gone=gone,
        # An engine that looks into a container makes the sources of its mounts that are missing (seen of Docker 20.10).
        holding=frozenset() if gone else frozenset(_holding(engine, deployed)),
        files={} if gone else dict(_named_files(engine, deployed)),
    )


# --- which one ----------------------------------------------------------------------------------


def _servers(every: Sequence[Deployed]) -> list[Deployed]:
    """Return the containers that run MLflow, or seem to; those that run, where some do."""
    theirs = [each for each in every if LABEL_SPEC not in each.labels and not each.name.endswith(RETIRED)]
    found = [each for each in theirs if commandline.is_server(each.argv)]
    found = found or [each for each in theirs if "mlflow" in f"{each.image} {' '.join(each.argv)}".lower()]
    return [each for each in found if each.up] or found


def _only(found: Sequence[Deployed], whose: str) -> Deployed:
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotUnderstoodError((f"{whose} has no container that runs an MLflow server.", "docker ps -a"))
    names = ", ".join(each.name for each in found)
    services = {each.labels.get(f"{_COMPOSE}service", "") for each in found}
    if len(services) == 1 and "" not in services:
        sentence = f"The service {services.pop()} has {len(found)} replicas ({names}); mlflowd runs one server."
        raise NotUnderstoodError((sentence, "docker compose up -d --scale SERVICE=1, and adopt then"))
    sentence = f"{whose} has {len(found)} containers that run MLflow: {names}."
    raise NotUnderstoodError((sentence, f"name one: sudo mlflowd adopt {found[0].name}"))


def _compose_file(what: str) -> Path | None:
    path = Path(what)
    if path.is_dir():
        path = next((path / name for name in _FILES if (path / name).is_file()), path)
    return path.resolve() if path.is_file() else None


def _of_compose(every: Sequence[Deployed], file: Path) -> Deployed:
    made = [each for each in every if _made_from(each.labels, file)]
    if not made:
        message = f"No container was made from {file}. {_WHY[0].upper()}{_WHY[1:]}."
        raise RefusedError(message, f"docker compose -f {file} up -d, and adopt then")
    return _only(_servers(made), f"What was made from {file}")


def _made_from(labels: Mapping[str, str], file: Path) -> bool:
    """Whether compose made a container from this file; its version 1 tells names as they were given, 2 whole paths."""
    if labels.get(f"{_COMPOSE}oneoff", "").lower() == "true":
        return False
    directory = labels.get(f"{_COMPOSE}project.working_dir", "")
    for name in labels.get(f"{_COMPOSE}project.config_files", "").split(","):
        candidates = (Path(directory) / name, Path(directory) / Path(name).name)
        if name and directory and any(Path(os.path.realpath(each)) == file for each in candidates):
            return True
    return False


# --- what is beside it --------------------------------------------------------------------------


def _able(engine: Engine, deployed: Deployed) -> Abilities | None:
    try:
        return abilities.parse(engine.ask(deployed.image_id, abilities.QUESTION, _ASK_LIMIT), deployed.image)
    except (EngineUnreachableError, EnginePermissionError):
        raise
    except MlflowdError:
        return None


def _reference(engine: Engine, deployed: Deployed) -> str:
    """Return a name of the very image that the container was made from; its tag may mean another one by now."""
    for name in (deployed.image, *_digests(engine, deployed)):
        try:
            image = engine.image(name) if name and not re.fullmatch(r"[0-9a-f]{12,64}", name) else None
        except EngineError:
            continue
        if image is not None and image.id == deployed.image_id:
            return name
    return deployed.image_id


def _digests(engine: Engine, deployed: Deployed) -> tuple[str, ...]:
    image = engine.image(deployed.image_id)
    return (*image.references, *image.digests) if image else ()


def _told_dir(deployed: Deployed) -> str:
    try:
        return commandline.read(deployed.argv, deployed.environment, deployed.working_dir).working_dir
    except commandline.UnreadableError:
        return deployed.working_dir


def _holding(engine: Engine, deployed: Deployed) -> Iterator[str]:
    """Yield those of MLflow's own default places that hold data."""
    directory = _told_dir(deployed)
    runs = place("mlruns", directory, deployed.mounts)
    if any(re.fullmatch(r"\d+/meta\.yaml", name) for name in _names(engine, deployed, runs)):
        yield str(runs.path)
    artifacts = place("mlartifacts", directory, deployed.mounts)
    if any(True for _ in _names(engine, deployed, artifacts)):
        yield str(artifacts.path)


def _names(engine: Engine, deployed: Deployed, at: Place) -> Iterator[str]:
    """Yield the paths of files below a directory, as seen from it."""
    if at.host is not None:
        if at.host.is_dir():
            yield from (str(each.relative_to(at.host)) for each in at.host.glob("*") if each.is_file())
            yield from (str(each.relative_to(at.host)) for each in at.host.glob("*/*"))
        return
    archive = engine.copy_out(deployed.id, str(at.path))
    if archive is None:
        return
    with tarfile.open(fileobj=_Stream(archive), mode="r|") as packed:
        for each in packed:
            if each.isreg():
                yield each.name.partition("/")[2]


class _Stream(io.RawIOBase):
    """What a generator yields, as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as one piece reaches."""
        self._rest = self._rest or next(self._pieces, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _named_files(engine: Engine, deployed: Deployed) -> Iterator[tuple[str, str]]:
    """Yield the path inside and the text of each file that a variable names."""
    for name in _NAMED_FILES:
        if not (path := deployed.environment.get(name, "")):
            continue
        at = place(path, _told_dir(deployed), deployed.mounts)
        if (text := _text(engine, deployed, at)) is not None:
            yield path, text


def _text(engine: Engine, deployed: Deployed, at: Place) -> str | None:
    try:
        if at.host is not None:
            with at.host.open("rb") as stream:
                return stream.read(_LARGEST).decode()
        archive = engine.copy_out(deployed.id, str(at.path))
        if archive is None:
            return None
        with tarfile.open(fileobj=_Stream(archive), mode="r|") as packed:
            member = packed.next()
            inside = packed.extractfile(member) if member is not None and member.isreg() else None
            return inside.read(_LARGEST).decode() if inside else None
    except (OSError, UnicodeDecodeError, tarfile.TarError):
        return None
