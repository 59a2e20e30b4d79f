"""The throw-away containers of `ask`: what the engine is asked to create, and what may be told of their words.

No effects; engine/asking.py runs them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mlflowd.config.masking import MASK, mask_entry
from mlflowd.engine import body

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docker import APIClient

    from mlflowd.model import ContainerSpec

LABEL = "io.mlflowd.asked"
"""On these containers, with the task as its value: one whose mlflowd was killed is removed by a later `ask`, one that
has a task by `end` alone."""
ABANDONED = "15m"
"""The age of one that nobody can be waiting for any more."""
_MEMORY = 2**30
_PIDS = 256
_SHORTEST = 4
"""Characters of a secret that is masked: "true" of a variable that sounds like one would be found everywhere."""
_WORD = re.compile(r"[^\s=:,;\"']{8,}")
"""What may be a secret in a private file."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to run, and in what container."""

    image_id: str
    argv: Sequence[str]
    like: ContainerSpec | None = None
    """The container that it resembles, None for one without network, mounts or rights."""
    machine: str = ""
    """As in body.of."""
    task: str = ""
    """What `end` knows it by, "" for a small question that nobody needs to end."""


def arguments(question: Question, name: str, api: APIClient) -> dict[str, Any]:
    """Return the arguments of APIClient.create_container."""
    if question.like is None:
        return _bare(name, question.image_id, question.argv, api)
    return _alike(question, question.like, name, api)


def _bare(name: str, image_id: str, argv: Sequence[str], api: APIClient) -> dict[str, Any]:
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


def _alike(question: Question, like: ContainerSpec, name: str, api: APIClient) -> dict[str, Any]:
    """Return them for one like the server's own, by the same code, but without its port and labels.

    A task has the server's size as well, in whose place it runs; beside a server that runs, a question is small.
    """
    spec = replace(like, name=name, image_id=question.image_id, argv=tuple(question.argv))
    if not question.task:
        spec = replace(spec, memory=min(like.memory or _MEMORY, _MEMORY), pids=min(like.pids, _PIDS))
    told = body.of(spec, api, question.machine)
    del told["ports"]
    told["labels"] = {LABEL: question.task}
    told["host_config"].pop("PortBindings", None)
    return told


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
