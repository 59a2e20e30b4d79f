"""Which images that mlflowd made are of no more use, and their removal.

Effects: images of mlflowd's own making are removed from the engine: never one that is wanted, one of the last two that
served, or one that a kept one is made from.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError
from mlflowd.model import LABEL_DERIVED, LABEL_STANDS_FOR
from mlflowd.operations import references
from mlflowd.operations.derived import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflowd.engine.api import Engine
    from mlflowd.model import Image
    from mlflowd.operations.images_kept import Kept, Served

_LAST = 2
"""Images that served and are kept: the present one and the one to go back to."""


def prune(engine: Engine, wanted: Served, kept: Kept) -> tuple[Image, ...]:
    """Remove what is of no more use and return it. What the engine keeps, because it is in use, is no error."""
    made = {image.id: image for label in (LABEL_DERIVED, LABEL_STANDS_FOR) for image in engine.made(label)}
    gone: list[Image] = []
    for image in useless(tuple(made.values()), wanted, kept):
        with suppress(EngineError):
            engine.remove_image(image.id)
            gone.append(image)
    return tuple(gone)


def useless(made: Sequence[Image], wanted: Served, kept: Kept) -> Iterator[Image]:
    """Yield the images to remove, derived ones before what they are made from.

    Only those that `kept` knows: another mlflowd on the same engine has its own. A stand-in that never served waits
    for its day: a person has built it.
    """
    stays = {one for each in (wanted, *kept.served[:_LAST]) for one in (each.image, each.base)}
    once = {one for each in kept.served for one in (each.image, each.base)}
    ours = [image for image in made if image.id not in stays and _named_by_us(image)]
    derived = [image for image in ours if image.labels.get(LABEL_DERIVED)]
    yield from (image for image in derived if image.id in once or image.id in kept.abilities)
    yield from (
        image for image in ours if image not in derived and image.labels.get(LABEL_STANDS_FOR) and image.id in once
    )


def _named_by_us(image: Image) -> bool:
    """Whether nobody gave it another name: labels are inherited by what a person makes from our images."""
    return all(references.split(name)[0] == REPOSITORY for name in image.references)
