"""The stock of images: what mlflowd made, what an archive brings, what goes.

Effects: `load` makes images on the engine and moves the names that the archive holds to them; `remove` removes one.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, ImageNotFound

from mlflowd.engine.registry import Paced
from mlflowd.engine.translate import translated
from mlflowd.errors import EngineError
from mlflowd.model import Image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflowd.engine.api import Progress
    from mlflowd.engine.client import Client

_LOADED = re.compile(r"Loaded image(?: ID|\(s\))?: (.+)")
"""Docker: "Loaded image: name:tag", "Loaded image ID: sha256:…"; Podman has a list with commas."""
_PAUSE = 1.0
"""Seconds between two sentences."""


def made(api: Client, label: str) -> tuple[Image, ...]:
    """Return the local images that carry this label, with any value."""
    with translated(f"listing the images with the label {label}"):
        return tuple(_listed(one) for one in api.images(filters={"label": label}))


def remove(api: Client, image_id: str) -> None:
    """Remove an image and its name; a missing one is fine."""
    with translated(f"removing the image {image_id}"), suppress(ImageNotFound):
        try:
            api.remove_image(image_id)
        except APIError as error:
            if "image not known" not in str(error.explanation):  # Podman has no status of its own for it: a 500
                raise


def load(api: Client, archive: Iterable[bytes], progress: Progress) -> tuple[str, ...]:
    """Send `archive` and return the names, or ids, of what the engine loaded from it."""
    loaded: list[str] = []
    say = Paced(progress, _PAUSE)
    with translated("loading an archive of images"):
        for event in api.load(archive):
            if "error" in event:
                raise EngineError(f"The engine could not load the archive: {str(event['error']).strip()}.")
            detail = event.get("progressDetail") or {}
            if detail.get("total"):
                say(f"the engine unpacks a layer: {_mb(detail['current'])} of {_mb(detail['total'])} MB")
            if found := _LOADED.match(str(event.get("stream", ""))):
                loaded += (name.strip() for name in found[1].split(","))
    return tuple(loaded)


def _listed(item: Mapping[str, Any]) -> Image:
    names = (name for name in item.get("RepoTags") or () if name != "<none>:<none>")
    return Image(item["Id"], tuple(names), dict(item.get("Labels") or {}))


def _mb(size: object) -> int:
    return round(float(str(size)) / 1e6)
