"""Images: look, pull, build, import. DockerEngine is composed of this and of what it does to containers.

Effects: makes images on the engine; a build leaves no layer of its earlier stages behind.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import secrets
import threading
import time
from collections import deque
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from docker import utils
from docker.errors import APIError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from mlflowd.engine.registry import Paced, PullProgress, refusal
from mlflowd.engine.translate import translated
from mlflowd.errors import EngineError, ImageMissingError
from mlflowd.model import LABEL_NAME, LABEL_STANDS_FOR, Image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import docker
    from requests import Response

    from mlflowd.engine.api import Progress

LABEL_BUILD = "io.mlflowd.build"
"""On the layers of a build's first stage (the build argument MLFLOWD_BUILD), so that they can be removed after it."""

_TAIL = 15
"""Lines of a failed build that its error shows."""
_HEARTBEAT = 10.0
"""Seconds between two lines of one build step."""
_NOISE = ("--->", "Removing intermediate container", "Removed intermediate container")
"""Lines of the builder about its own layers."""
_WIDTH = 120
_STEP = "==> "
"""What a recipe prints before the name of a step of its own."""
_LEAVE = 10.0
"""Seconds that the engine gets to end a build whose reader has left."""
_ABANDONED = "6h"
"""The age of layers that no build can be using any more."""
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Images:
    """The engine's images."""

    def __init__(self, api: docker.APIClient) -> None:
        self._api = api

    def image(self, reference: str) -> Image | None:
        """Return the local image of this reference or id, None where there is none."""
        with translated(f"looking for the image {reference}"):
            try:
                return _image(self._api.inspect_image(reference))
            except ImageNotFound:
                return None

    def stand_in(self, reference: str) -> Image | None:
        """Return the newest local image that carries LABEL_STANDS_FOR with this reference.

        An image that somebody made from such a one has its labels, but not the name that LABEL_NAME tells.
        """
        with translated(f"looking for an image in place of {reference}"):
            found = self._api.images(filters={"label": f"{LABEL_STANDS_FOR}={reference}"})
            own = (one for one in found if _has_own_name(one))
            newest = max(own, key=lambda one: one.get("Created") or 0, default=None)
        return self.image(newest["Id"]) if newest else None

    def pull(self, reference: str, progress: Progress) -> Image:
        """Fetch an image. Raises ImageMissingError with the registry's refusal in plain words."""
        repository, tag = utils.parse_repository_tag(reference)
        state = PullProgress(reference, progress)
        with translated(f"pulling {reference}"), self._closing():
            try:
                for event in self._api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                    if "error" in event:
                        raise refusal(reference, _failure(event))
                    state.feed(event)
            except APIError as error:
                raise refusal(reference, error.explanation or str(error)) from error
        return self._made(reference)

    def build(
        self, context: bytes, *, tag: str, labels: Mapping[str, str], build_args: Mapping[str, str], progress: Progress
    ) -> Image:
        """Build an image from a tar archive that holds a Dockerfile. Raises EngineError with the last lines.

        An image that had the tag before is removed, unless it has another name or a container uses it.

        It is built on the host's network, so that it reaches what this machine reaches: a proxy or an index on
        the loopback address, a name server there, a network without forwarding.
        """
        mark, before = secrets.token_hex(8), self.image(tag)
        with translated(f"building {tag}"):
            try:
                with self._closing():
                    events = self._api.build(
                        fileobj=io.BytesIO(context),
                        custom_context=True,
                        tag=tag,
                        labels=dict(labels),
                        buildargs={**build_args, "MLFLOWD_BUILD": mark},
                        network_mode="host",
                        nocache=True,
                        rm=True,
                        forcerm=True,
                        decode=True,
                    )
                    _follow_build(events, tag, progress)
            finally:
                self._forget_stages(mark)
        made = self._made(tag)
        if before and before.id != made.id:
            self._forget_replaced(before)
        return made

    def import_root(self, archive: str, *, tag: str, changes: Sequence[str]) -> Image:
        """Make an image from the tar archive of a root file system at this path."""
        with translated(f"importing {tag}"):
            # Podman looks at the tag only as a part of the name.
            answer = self._api.import_image_from_file(archive, repository=tag, changes=list(changes))
        for event in _events(answer):
            if "error" in event:
                raise EngineError(f"The engine could not import {tag}: {_failure(event)}.")
        return self._made(tag)

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        """Close what this thread was answered inside: docker-py keeps the answers of its streams to itself.

        The engine ends a build when its reader leaves, so this has to happen before its stages are removed.
        """
        answers: list[Response] = []
        thread = threading.get_ident()

        def keep(answer: Response, **_: object) -> None:
            if threading.get_ident() == thread:
                answers.append(answer)

        self._api.hooks["response"].append(keep)
        try:
            yield
        finally:
            self._api.hooks["response"].remove(keep)
            for answer in answers:
                answer.close()

    def _forget_stages(self, mark: str) -> None:
        """Remove the layers of the first stage: they hold a whole copy of what is copied, and the build's settings.

        A build that was left holds a container for a moment. A failure here must not hide how the build itself went.
        What a build left whose mlflowd was killed goes too, once it is old enough to be nobody's.
        """
        filters = {"label": [f"{LABEL_BUILD}={mark}"]}
        deadline = time.monotonic() + _LEAVE
        with contextlib.suppress(DockerException, RequestException):
            while (left := self._api.containers(all=True, filters=filters)) and time.monotonic() < deadline:
                for container in left:
                    with contextlib.suppress(APIError):
                        self._api.remove_container(container["Id"], force=True, v=True)
                time.sleep(0.1)
            self._api.prune_images({"dangling": True, **filters})
            self._api.prune_images({"dangling": True, "label": [LABEL_BUILD], "until": _ABANDONED})

    def _forget_replaced(self, image: Image) -> None:
        """Remove an image whose last name went to its successor; the engine keeps what a container still uses."""
        now = self.image(image.id)
        if now and not now.references:
            with contextlib.suppress(DockerException, RequestException):
                self._api.remove_image(image.id)

    def _made(self, reference: str) -> Image:
        image = self.image(reference)
        if image is None:
            raise ImageMissingError(f"The engine reported {reference} as done, but has no such image.")
        return image


def _has_own_name(item: Mapping[str, Any]) -> bool:
    """Whether an image of a list has the name that it was built with; the first ones of mlflowd do not tell it."""
    told = (item.get("Labels") or {}).get(LABEL_NAME)
    return not told or any(name.removeprefix("localhost/") == told for name in item.get("RepoTags") or ())


def _image(answer: Mapping[str, Any]) -> Image:
    config = answer.get("Config") or {}
    return Image(
        id=answer["Id"],
        references=tuple(answer.get("RepoTags") or ()),
        labels=dict(config.get("Labels") or {}),
        digests=tuple(answer.get("RepoDigests") or ()),
        user=config.get("User") or "",
    )


def _follow_build(events: Iterable[Mapping[str, Any]], tag: str, progress: Progress) -> None:
    """Tell the steps at once and the lines between them now and then; raise EngineError with the last lines."""
    tail: deque[str] = deque(maxlen=_TAIL)
    say = Paced(progress, _HEARTBEAT)
    for event in events:
        for line in _lines(str(event.get("stream", ""))):
            if not line.startswith("Step "):
                tail.append(line)
                shown = shorten(line.removeprefix(_STEP), _WIDTH)
                say(f"building {tag}: {shown}", at_once=line.startswith(_STEP))
        if "error" in event:
            last = "\n  ".join((*tail, _failure(event)))
            raise EngineError(f"The build of {tag} failed. Its last lines:\n  {last}")


def _lines(text: str) -> Iterator[str]:
    lines = (line.strip() for line in _ANSI.sub("", text).splitlines())
    return (line for line in lines if line and not line.startswith(_NOISE))


def _failure(event: Mapping[str, Any]) -> str:
    return str((event.get("errorDetail") or {}).get("message") or event["error"])


def _events(answer: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of an answer that has one on each line."""
    return (json.loads(line) for line in answer.splitlines() if line.strip())
