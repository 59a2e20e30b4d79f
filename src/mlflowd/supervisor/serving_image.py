"""Takes note of the image that serves, and lets go of those that are of no more use.

Effects: writes the state file, removes images of mlflowd's own making. Runs in a watch's thread of its own: to remove
an image may take the engine seconds.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError, MlflowdError
from mlflowd.host import files
from mlflowd.host.paths import transaction_file
from mlflowd.operations import pruning
from mlflowd.supervisor.watch import Check

if TYPE_CHECKING:
    from mlflowd.model import Trouble
    from mlflowd.supervisor.images import Chosen
    from mlflowd.supervisor.place import Place
    from mlflowd.supervisor.wish import Wish

_INTERVAL = 10.0
"""Seconds between two looks, each one engine call, until the wanted image serves; then none asks anything."""


def check(wish: Wish, place: Place) -> Check:
    """Return the check that waits until the server runs from the wish's image; it has no findings."""
    done: list[Chosen] = []

    def look() -> tuple[Trouble, ...]:
        chosen = wish.chosen
        if chosen is None or chosen in done:
            return ()
        # What cannot be noted or removed now costs nothing but room.
        with suppress(OSError, MlflowdError):
            if _serves(wish, place, chosen):
                _note(wish, place, chosen)
                done.append(chosen)
        return ()

    return Check("images", _INTERVAL, look, while_serving=True)


def _serves(wish: Wish, place: Place, chosen: Chosen) -> bool:
    """Whether the container that answers is the wish's: a refused wish leaves the one before in its place.

    Not while a transaction is under way: a server on trial may be taken away again, and who passed notes it itself.
    """
    if files.exists(transaction_file(place.state)):
        return False
    try:
        container = place.engine.inspect(wish.settings.container.name)
    except EngineError:
        return False
    return container is not None and container.ours and container.running and container.image_id == chosen.image.id


def _note(wish: Wish, place: Place, chosen: Chosen) -> None:
    wish.kept.serve(chosen.served)
    reference = wish.settings.image.reference
    # A pin that is there already is this one, or one that a person has accepted meanwhile for the next reload.
    if chosen.pinned and wish.rejection is None and reference not in wish.kept.read().pins:
        wish.kept.pin(reference, chosen.base.id)
    gone = pruning.prune(place.engine, chosen.served, wish.kept.read())
    if gone:
        wish.kept.forget({image.id for image in gone})
