"""Containers that somebody else made: what they are, what lies in them, and how they are put aside.

Effects: `retire` and `reinstate` rename a container and change its restart policy; all else only reads. Field names are
those of the Engine API 1.41; Podman's Docker socket gives the same ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import APIError, ImageNotFound, NotFound

from mlflowd.engine import answers
from mlflowd.engine.translate import translate, translated
from mlflowd.errors import EngineError
from mlflowd.model import Address
from mlflowd.model.deployed import Attachment, Deployed, Membership, MountKind, Publication

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from docker import APIClient

_PIECE = 1 << 20
"""Bytes of a tar stream that are handed on at a time."""
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - what the engine says, nothing is bound
_POLICY = re.compile(r"(no|always|unless-stopped|on-failure)(?::(\d+))?")


def names(api: APIClient) -> tuple[str, ...]:
    """Return the names of all containers, whether they run or not, sorted."""
    with translated("listing the containers"), answers.sense("list"):
        return tuple(sorted(item["Names"][0].removeprefix("/") for item in api.containers(all=True)))


def deployed(api: APIClient, name: str) -> Deployed | None:
    """Return the container of this name or full id, None where there is none."""
    with translated(f"inspecting the container {name}"):
        try:
            told = api.inspect_container(name)
        except NotFound:
            return None
        found = _deployed(told, _environment_of_image(api, told))
    return found if name in (found.name, found.id) else None


def copy_out(api: APIClient, container_id: str, path: str) -> Iterator[bytes] | None:
    """Return the pieces of a tar stream of a path, None where the container has no such path."""
    doing = f"copying {path} out of the container {container_id[:12]}"
    with translated(doing):
        try:
            pieces, _ = api.get_archive(container_id, path, chunk_size=_PIECE)
        except NotFound as error:
            if "no such container" in str(error.explanation).lower():
                raise
            return None
    return _pieces(pieces, doing)


def retire(api: APIClient, container_id: str, name: str) -> None:
    """Take the restart policy away, then rename; what is done already is left as it is."""
    with translated(f"putting the container {container_id[:12]} aside"):
        _set_policy(api, container_id, "no")
        _rename(api, container_id, name)


def reinstate(api: APIClient, container_id: str, name: str, policy: str) -> None:
    """Undo `retire`: rename back, then give the restart policy back."""
    with translated(f"giving the container {name} its name back"):
        _rename(api, container_id, name)
        _set_policy(api, container_id, policy)


def _rename(api: APIClient, container_id: str, name: str) -> None:
    if answers.container(api.inspect_container(container_id)).name != name:
        api.rename(container_id, name)


def _set_policy(api: APIClient, container_id: str, policy: str) -> None:
    with answers.sense("inspect"):
        if _policy(api.inspect_container(container_id)["HostConfig"]) == policy:
            return
    found = _POLICY.fullmatch(policy)
    if found is None:
        raise EngineError(f"The engine knows no restart policy {policy!r}.")
    asked: Any = {"Name": found[1], "MaximumRetryCount": int(found[2] or 0)}  # types-docker wants a class of its own
    api.update_container(container_id, restart_policy=asked)


def _pieces(pieces: Iterable[bytes], doing: str) -> Iterator[bytes]:
    """Yield what the engine sends, its failures in our words."""
    try:
        yield from pieces
    except (requests.RequestException, APIError) as error:
        raise translate(error, doing) from error


def _environment_of_image(api: APIClient, told: Any) -> dict[str, str]:  # noqa: ANN401  (JSON)
    with answers.sense("inspect"):
        image_id = told["Image"]
    try:
        answer = api.inspect_image(image_id)
    except ImageNotFound:
        return {}
    return _pairs((answer.get("Config") or {}).get("Env"))


def _deployed(told: Any, image_environment: Mapping[str, str]) -> Deployed:  # noqa: ANN401  (JSON)
    seen = answers.container(told)
    with answers.sense("inspect"):
        config, host = told["Config"], told["HostConfig"]
        return Deployed(
            id=seen.id,
            name=seen.name,
            image=config.get("Image") or "",
            image_id=seen.image_id,
            entrypoint=_words(config.get("Entrypoint")),
            command=_words(config.get("Cmd")),
            working_dir=config.get("WorkingDir") or "/",
            user=config.get("User") or "",
            environment=_pairs(config.get("Env")),
            image_environment=image_environment,
            mounts=_mounts(told, host),
            published=tuple(_published(host.get("PortBindings") or {})),
            networks=tuple(_networks(told.get("NetworkSettings") or {}, seen.id)),
            network_mode=host.get("NetworkMode") or "default",
            extra_hosts=_words(host.get("ExtraHosts")),
            restart_policy=_policy(host),
            auto_remove=bool(host.get("AutoRemove")),
            labels=seen.labels,
            status=seen.status,
            exit_code=seen.exit_code,
            size_limit=int(host.get("Memory") or 0),
        )


def _words(value: Any) -> tuple[str, ...]:  # noqa: ANN401  (JSON)
    return (value,) if isinstance(value, str) and value else tuple(value or ())


def _pairs(entries: Iterable[str] | None) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in entries or ())}


def _mounts(told: Mapping[str, Any], host: Mapping[str, Any]) -> tuple[Attachment, ...]:
    """Return them by their target: Docker tells them in another order each time (a map of Go's)."""
    found = (*map(_mount, told.get("Mounts") or ()), *_tmpfs(host))
    return tuple(sorted(found, key=lambda mount: mount.target))


def _mount(told: Mapping[str, Any]) -> Attachment:
    kind = told["Type"] if told["Type"] in set(MountKind) else MountKind.OTHER
    return Attachment(
        kind=MountKind(kind),
        source="" if kind == MountKind.TMPFS else told.get("Source") or "",
        target=told["Destination"].rstrip("/") or "/",
        read_only=not told.get("RW", True),
        volume=told.get("Name") or "",
    )


def _tmpfs(host: Mapping[str, Any]) -> Iterator[Attachment]:
    """Yield what `docker run --tmpfs` made, which is not among the mounts."""
    for target in host.get("Tmpfs") or ():
        yield Attachment(MountKind.TMPFS, "", target.rstrip("/"))


def _published(bindings: Mapping[str, Any]) -> Iterator[Publication]:
    for inside, asked in sorted(bindings.items()):
        port, _, protocol = inside.partition("/")
        for one in asked or () if protocol in {"", "tcp"} else ():
            host = one.get("HostIp") or _EVERYWHERE
            yield Publication(int(port), Address(host, int(one.get("HostPort") or 0)))


def _networks(settings: Mapping[str, Any], container_id: str) -> Iterator[Membership]:
    """Yield the networks; the engine adds the short id to the names, which nobody relies on."""
    for name, told in sorted((settings.get("Networks") or {}).items()):
        aliases = (*(told.get("Aliases") or ()), *(told.get("DNSNames") or ()))
        yield Membership(name, tuple(dict.fromkeys(one for one in aliases if one != container_id[:12])))


def _policy(host: Mapping[str, Any]) -> str:
    told = host.get("RestartPolicy") or {}
    name, count = told.get("Name") or "no", told.get("MaximumRetryCount") or 0
    return f"{name}:{count}" if name == "on-failure" and count else name
