"""Which image goes on where the wanted one was rejected: the one that served last.

Effects: reads what is written down of transactions, asks the engine for an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.host import files
from mlflowd.host.paths import outcomes_file
from mlflowd.model import LABEL_STANDS_FOR
from mlflowd.operations import derived
from mlflowd.supervisor.images import Chosen

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Image
    from mlflowd.operations.images_kept import ImagesKept, Kept
    from mlflowd.operations.transaction import Rejection
    from mlflowd.supervisor.place import Place


def permitted(chosen: Chosen, settings: Settings, place: Place, kept: ImagesKept) -> tuple[Chosen, Rejection | None]:
    """Return the choice, or, where it was rejected and there is another one, that one and the rejection.

    One that lacks what these settings need (the driver of another store) is none. Raises EngineError.
    """
    rejection = _rejection(chosen.image, place)
    before = last_served(place, kept) if rejection else None
    if rejection is None or before is None or before.image.id == chosen.image.id:
        return chosen, None
    fits = derived.plan(named(settings, rejection.before_reference), before.image, before.able) is None
    return (before, rejection) if fits else (chosen, None)


def last_served(place: Place, kept: ImagesKept) -> Chosen | None:
    """Return the image that served last, None where it is not there or not known. Raises EngineError."""
    known = kept.read()
    for served in known.served[:1]:
        base, image, able = (
            place.engine.image(served.base),
            place.engine.image(served.image),
            known.abilities.get(served.image),
        )
        if base and image and able:
            return Chosen(base, image, able)
    return None


def reference_of(base: Image, kept: Kept) -> str:
    """Return what an image is called in a configuration: what it stands for, or the reference that is pinned to it."""
    pinned = (reference for reference, image_id in kept.pins.items() if image_id == base.id)
    return base.labels.get(LABEL_STANDS_FOR) or next(pinned, "") or next(iter(base.references), base.id)


def remembered(image_id: str, kept: ImagesKept) -> tuple[str, str]:
    """Return what an image is called, and the version of its MLflow, by what is remembered; its id and "" at worst."""
    known = kept.read()
    base = next((served.base for served in known.served if served.image == image_id), image_id)
    pinned = next((reference for reference, pin in known.pins.items() if pin == base), image_id[:19])
    able = known.abilities.get(image_id)
    return pinned, able.mlflow if able else ""


def named(settings: Settings, reference: str) -> Settings:
    """Return the settings with another image."""
    return settings.model_copy(update={"image": settings.image.model_copy(update={"reference": reference})})


def _rejection(image: Image, place: Place) -> Rejection | None:
    if not files.exists(outcomes_file(place.state)):
        return None
    from mlflowd.operations.transaction import Ledger  # noqa: PLC0415 - most daemons never have a transaction

    return Ledger(place.state, place.who).rejected().get(image.id)
