"""The server's container as a compose file, for those who go on without mlflowd. No effects.

Secrets stand in no compose file: an environment variable that holds one is `${NAME:?…}`, which compose takes from the
file .env beside it; private files are named, to be put into a directory beside it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflowd.config.masking import mask_entry
from mlflowd.operations.yaml_text import Comment, lines
from mlflowd.server.wiring import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflowd.model import ContainerSpec, Image, Secrets
    from mlflowd.model import Mount as MountSpec

DIRECTORY = "./private"
"""Where the private files go, beside the compose file."""
_SERVICE = "mlflow"
_SHORTEST = 4
"""Characters of a secret that is looked for inside other values."""
_LOST = """\
What the mlflowd that wrote this did beyond it, and compose does not:
a server that hangs, or answers no request, is restarted (compose restarts one that ended; the health check only tells);
a server that is stopped by hand comes back; full disks, locked databases and stores that are away are told;
an upgrade that fails is undone, with its database; backups are made, and tried.
The image: `docker compose pull` and a newer tag migrate the database at the next start, without a way back."""


@dataclass(frozen=True, slots=True)
class Composed:
    """The compose file, and what belongs beside it."""

    text: str
    environment: Mapping[str, str] = field(repr=False)
    """What .env has to hold."""
    files: Mapping[str, str] = field(repr=False)
    """Private files, by their names below DIRECTORY."""

    @property
    def dotenv(self) -> str:
        """Return the text of .env; it holds secrets."""
        return "".join(f"{name}={_dotenv(value)}\n" for name, value in sorted(self.environment.items()))


def composed(spec: ContainerSpec, image: Image, secrets: Secrets, *, prefix: str, network_of_others: bool) -> Composed:
    """Return the compose file of this container.

    `image`: the one that the container is made from; `prefix`: the server's static prefix; `network_of_others`: its
    network is not mlflowd's own.
    """
    hidden = _hidden(spec, secrets)
    network: dict[str, object] = {"name": spec.network, "external": True} if network_of_others else {"driver": "bridge"}
    document: dict[str, object] = {
        Comment(f"The MLflow server that mlflowd ran as {spec.name}: `docker compose up -d` beside .env."): None,
        Comment(f"First: sudo systemctl disable --now mlflowd; docker rm {spec.name}"): None,
        Comment(_LOST): None,
        "services": {_SERVICE: _service(spec, image, hidden, prefix)},
        "networks": {"default": network},
    }
    text = "\n".join(lines(document)) + "\n"
    return Composed(text, hidden, {each.name: each.content for each in spec.files})


def _service(spec: ContainerSpec, image: Image, hidden: Mapping[str, str], prefix: str) -> dict[str, object]:
    reference, note = _image(spec, image)
    return {
        "container_name": spec.name,
        Comment(note): None,
        "image": reference,
        "entrypoint": [_literal(word) for word in spec.argv[:1]],
        "command": [_literal(word) for word in spec.argv[1:]],
        "working_dir": "/tmp",  # noqa: S108 - inside the container
        Comment("the owner of the stores: the user mlflowd of this machine"): None,
        "user": spec.user,
        "environment": dict(_environment(spec, hidden)),
        "volumes": [_volume(each) for each in spec.mounts],
        "ports": [f"{_bracketed(spec.publish.host)}:{spec.publish.port}:{spec.port}"],
        **({"extra_hosts": [f"{name}:host-gateway" for name in spec.host_names]} if spec.host_names else {}),
        "init": True,
        "read_only": True,
        "tmpfs": [f"/tmp:rw,nosuid,nodev,noexec,mode=1777,size={spec.tmpfs_size}"],  # noqa: S108 - as above
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges", *(f"label={label}" for label in spec.security_labels)],
        "ipc": "private",
        "cpu_shares": spec.cpu_weight,
        "pids_limit": spec.pids,
        # Memory and swap together: no swap.
        **({"mem_limit": spec.memory, "memswap_limit": spec.memory} if spec.memory else {}),
        "shm_size": spec.shm_size,
        "stop_signal": "SIGTERM",
        "stop_grace_period": f"{math.ceil(spec.stop_grace)}s",
        "restart": "unless-stopped",
        "healthcheck": _health(spec, prefix),
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    }


def _image(spec: ContainerSpec, image: Image) -> tuple[str, str]:
    """Return a name of this very image, and what is to be known of it."""
    if image.digests:
        return image.digests[0], f"{spec.image}, as it was when the server was made"
    name = image.references[0] if image.references else image.id
    if spec.image in image.references:
        return spec.image, f"made on this machine ({image.id[:19]}…): for another one, docker save {spec.image} | gzip"
    return (
        name,
        f"made by mlflowd on this machine in the place of {spec.image}: for another one, docker save {name} | gzip",
    )


def _environment(spec: ContainerSpec, hidden: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in spec.environment:
        yield name, f"${{{name}:?is missing in .env}}" if name in hidden else _literal(value)


def _hidden(spec: ContainerSpec, secrets: Secrets) -> dict[str, str]:
    """Return the variables that hold a secret, by their names, or in their values."""
    known = [text for text in secrets.values.values() if len(text) >= _SHORTEST]
    return {
        name: value
        for name, value in spec.environment
        if (mask_entry(name, value) != value and not value.startswith("/")) or any(text in value for text in known)
    }


def _volume(mount: MountSpec) -> dict[str, object]:
    source = DIRECTORY if mount.target == PRIVATE else _literal(mount.source)
    return {
        "type": "bind",
        "source": source,
        "target": mount.target,
        "read_only": mount.read_only,
        "bind": {"propagation": "rprivate"},
    }


def _health(spec: ContainerSpec, prefix: str) -> dict[str, object]:
    address = f"http://127.0.0.1:{spec.port}{prefix}/health"
    script = f"import urllib.request; urllib.request.urlopen({_literal(address)!r}, timeout=5)"
    return {
        "test": ["CMD", "python", "-c", script],
        "interval": "30s",
        "timeout": "10s",
        "retries": 3,
        "start_period": "3m",
    }


def _literal(text: str) -> str:
    """Return a text in which compose replaces nothing."""
    return text.replace("$", "$$")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _dotenv(value: str) -> str:
    """Return a value as .env has it: literally between single quotes, where that can be.

    One with both a single quote and "$" is written for docker compose 2; version 1 has no form for it.
    """
    if "'" not in value and "\n" not in value and "\\" not in value:
        return f"'{value}'"
    escaped = re.sub(r'([\\"$])', r"\\\1", value).replace("\n", "\\n")
    return f'"{escaped}"'
