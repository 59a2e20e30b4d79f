"""The engine's JSON as values of the model. No effects.

Field names are those of the Engine API 1.41 (docs.docker.com/reference/api/engine/version/v1.41/); Podman's
Docker socket gives the same ones, with some states of its own.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflowd.errors import EngineUnreachableError
from mlflowd.model import Address, Container, ContainerStatus, EngineEvent, EngineInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time: the container never started."""

_PODMAN = {
    "configured": ContainerStatus.CREATED,
    "initialized": ContainerStatus.CREATED,
    "stopping": ContainerStatus.RUNNING,
    "stopped": ContainerStatus.EXITED,
}

PODMAN_ACTIONS = {"died": "die", "remove": "destroy"}
"""Podman's own words for events: it goes by them, and tells of the first by Docker's."""


def container(answer: Any) -> Container:  # noqa: ANN401  (JSON)
    """Return the container of an inspect answer. Raises EngineUnreachableError where the answer is no such thing."""
    with sense("inspect"):
        state = answer["State"]
        return Container(
            id=answer["Id"],
            name=answer["Name"].removeprefix("/"),
            status=_PODMAN.get(state["Status"]) or ContainerStatus(state["Status"]),
            image_id=answer["Image"],
            labels=dict(answer["Config"].get("Labels") or {}),
            started_at="" if state["StartedAt"] == _NEVER else state["StartedAt"],
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
            error=state.get("Error") or "",
            published=_published(answer["HostConfig"].get("PortBindings") or {}),
        )


def created(answer: Any) -> str:  # noqa: ANN401  (JSON)
    """Return the id of a new container."""
    with sense("create"):
        return str(answer["Id"])


def is_podman(version: Any) -> bool:  # noqa: ANN401  (JSON)
    """Return whether what /version tells is Podman's."""
    with sense("version"):
        return any("podman" in part.get("Name", "").lower() for part in version.get("Components") or ())


def is_rootless(host: Any) -> bool:  # noqa: ANN401  (JSON)
    """Return whether what /info tells is an engine's that runs as an ordinary user; Podman 4.3 has a field for it."""
    with sense("info"):
        return bool(host.get("Rootless")) or "name=rootless" in (host.get("SecurityOptions") or ())


def info(version: Any, host: Any) -> EngineInfo:  # noqa: ANN401  (JSON)
    """Return what /version and /info tell together."""
    with sense("version"):
        return EngineInfo(
            name="podman" if is_podman(version) else "docker",
            version=version["Version"],
            api_version=version["ApiVersion"],
            root=host.get("DockerRootDir") or "",
            memory=int(host.get("MemTotal") or 0),
        )


def publishers(answer: Any, port: int) -> tuple[str, ...]:  # noqa: ANN401  (JSON)
    """Return the names of those containers of a list answer that publish this host port, sorted."""
    with sense("list"):
        holders = (item for item in answer if any(p.get("PublicPort") == port for p in item.get("Ports") or ()))
        return tuple(sorted(item["Names"][0].removeprefix("/") for item in holders))


def event(line: bytes) -> EngineEvent | None:
    """Return the event of one line of the event stream, None where it is not one."""
    try:
        answer = json.loads(line)
        actor = answer["Actor"]
        attributes: Mapping[str, str] = actor.get("Attributes") or {}
        action = str(answer["Action"])
        return EngineEvent(PODMAN_ACTIONS.get(action, action), str(actor["ID"]), dict(attributes))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _published(bindings: Mapping[str, Any]) -> Address | None:
    """Return the first address of a container's port bindings, as they were asked for at its creation."""
    asked = (one for several in bindings.values() for one in several or ())
    return next((Address(one["HostIp"], int(one["HostPort"])) for one in asked if one.get("HostPort")), None)


@contextmanager
def sense(question: str) -> Iterator[None]:
    """Raise EngineUnreachableError where an answer lacks what every engine's answer has."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        message = f"The container engine's answer ({question}) makes no sense: {type(error).__name__}: {error}."
        raise EngineUnreachableError(message, "systemctl status docker") from error
