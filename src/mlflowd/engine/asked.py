"""The throw-away containers of `ask`: what the engine is asked to create, and what may be told of their words.

No effects.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mlflowd.config.masking import MASK, mask_entry
from mlflowd.engine import body

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docker import APIClient

    from mlflowd.model import ContainerSpec

LABEL = "io.mlflowd.asked"
"""On these containers, so that one whose mlflowd was killed is removed by a later `ask`."""
ABANDONED = "15m"
"""The age of one that nobody can be waiting for any more."""
_MEMORY = 2**30
_PIDS = 256
_SHORTEST = 4
"""Characters of a secret that is masked: "true" of a variable that sounds like one would be found everywhere."""
_WORD = re.compile(r"[^\s=:,;\"']{8,}")
"""What may be a secret in a private file."""


def bare(name: str, image_id: str, argv: Sequence[str], api: APIClient) -> dict[str, Any]:
    """Return the arguments of APIClient.create_container for one without network, mounts or rights."""
    host = api.create_host_config(
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "size=256m,mode=1777"},  # noqa: S108 (the path inside the container)
        mem_limit=_MEMORY,
        pids_limit=_PIDS,
    )
    return {
        "image": image_id,
        "name": name,
        "entrypoint": [argv[0]],
        "command": list(argv[1:]),
        "environment": {"HOME": "/tmp"},  # noqa: S108 (the path inside the container)
        "labels": {LABEL: ""},
        "host_config": host,
    }


def alike(  # noqa: PLR0913, PLR0917 - four facts of the container, two of the engine
    like: ContainerSpec, name: str, image_id: str, argv: Sequence[str], api: APIClient, machine: str
) -> dict[str, Any]:
    """Return them for one like the server's own, by the same code, but without its port, labels and size.

    `machine` as in body.of.
    """
    memory = min(like.memory or _MEMORY, _MEMORY)
    spec = replace(like, name=name, image_id=image_id, argv=tuple(argv), memory=memory, pids=min(like.pids, _PIDS))
    arguments = body.of(spec, api, machine)
    del arguments["ports"]
    arguments["labels"] = {LABEL: ""}
    arguments["host_config"].pop("PortBindings", None)
    return arguments


def masked(text: str, like: ContainerSpec | None) -> str:
    """Return the text without what may be a secret of this container's environment and private files."""
    secrets = set(_secrets(like)) if like else set()
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _secrets(like: ContainerSpec) -> Iterator[str]:
    for name, value in like.environment:
        found = re.findall(r"://[^\s/:@]*:([^\s@]+)@", value)
        if value and mask_entry(name, value) == MASK:
            found.append(value)
        for secret in found:
            yield from (form for form in (secret, unquote(secret)) if len(form) >= _SHORTEST)
    for file in like.files:
        yield from _WORD.findall(file.content)
