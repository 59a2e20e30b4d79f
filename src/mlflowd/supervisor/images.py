"""Which image the server is to run from: the wanted one, or one derived from it that has the packages too.

Effects: looks through the engine; `fetch` pulls, loads and builds, and remembers what images can do and mean in the
state directory, so that a daemon that comes back needs no container to ask again. Whatever serves goes on meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.errors import ImageMissingError, RefusedError
from mlflowd.events import Event
from mlflowd.host import journal
from mlflowd.model import LABEL_STANDS_FOR
from mlflowd.operations import derived
from mlflowd.operations.images_kept import Served
from mlflowd.server import abilities

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine, Progress
    from mlflowd.host.paths import Identity
    from mlflowd.model import Image
    from mlflowd.operations.derived import Derived
    from mlflowd.operations.images_kept import ImagesKept
    from mlflowd.server.abilities import Abilities

ACCEPT = "sudo mlflowd image accept, then: sudo systemctl reload mlflowd"
_ASK_LIMIT = 60.0
"""Seconds an image gets to say what it can do; a cold disk takes a few."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The image to run."""

    base: Image
    """What the reference means."""
    image: Image
    """The base, or what was derived from it."""
    able: Abilities

    @property
    def pinned(self) -> bool:
        """Whether the reference keeps meaning this base; a stand-in is a person's own act, and the next one too."""
        return not self.base.labels.get(LABEL_STANDS_FOR)

    @property
    def served(self) -> Served:
        """Return it as it is remembered once it serves."""
        return Served(self.image.id, self.base.id)


def base_of(engine: Engine, reference: str, pin: str) -> tuple[Image | None, Image | None]:
    """Return the local image that the reference means, and the one that its name has moved to, None where it has not.

    An image that was built in place of the wanted one comes first: who builds wants it used. Else the one that served
    under this name goes on (`pin` is its id, "" for none), wherever the name has moved. Raises RefusedError where it
    has moved and that one is gone.
    """
    if stand_in := engine.stand_in(reference):
        return stand_in, None
    named = engine.image(reference)
    if not pin or (named and named.id == pin):
        return named, None
    before = engine.image(pin)
    if named and not before:
        raise _moved(reference, pin, named)
    return before, named


class Images:
    """The choice of one configuration."""

    def __init__(self, settings: Settings, engine: Engine, kept: ImagesKept, who: Identity) -> None:
        self._settings = settings
        self._reference = settings.image.reference
        self._engine = engine
        self._kept = kept
        self._who = who
        self._warned = ""

    def find(self) -> Chosen | None:
        """Return the choice where all of it is there and known: four engine calls at most."""
        kept = self._kept.read()
        try:
            base = self._local(kept.pins.get(self._reference, ""))
        except RefusedError:
            return None  # `fetch` says why
        able = kept.abilities.get(base.id) if base else None
        if base is None or able is None:
            return None
        what = derived.plan(self._settings, base, able)
        if what is None:
            return Chosen(base, base, able)
        image = derived.present(self._engine, what)
        able = kept.abilities.get(image.id) if image else None
        return Chosen(base, image, able) if image and able else None

    def fetch(self, progress: Progress) -> Chosen:
        """Return the choice, after whatever is missing was pulled, loaded or built.

        Raises ImageMissingError and EngineError; MlflowdError for an image without MLflow and for packages that cannot
        be had; RefusedError for a tag that moved, a wrong archive, and packages that may not be added.
        """
        pin = self._kept.read().pins.get(self._reference, "")
        base = self._local(pin)
        if base is None:
            base = self.bring(progress)
            if pin and base.id != pin and not base.labels.get(LABEL_STANDS_FOR):
                raise _moved(self._reference, pin, base)
        able = self._able(base, self._reference, progress)
        what = derived.plan(self._settings, base, able)
        if what is None:
            return Chosen(base, base, able)
        if (image := derived.present(self._engine, what)) is None:
            return Chosen(base, *self._derive(what, progress))
        return Chosen(base, image, self._able(image, what.tag, progress))

    def derive(self, progress: Progress) -> None:
        """Build what the image that is there lacks, whatever image.build says; nothing is remembered.

        Raises ImageMissingError where there is no image, and as `fetch`.
        """
        base = self._local(self._kept.read().pins.get(self._reference, ""))
        if base is None:
            raise ImageMissingError(f"There is no image {self._reference} on this engine.", "sudo mlflowd image pull")
        what = derived.plan(self._settings, base, self._ask(base, self._reference, progress))
        if what is None:
            progress(f"{self._reference} has what the configuration needs")
        elif derived.present(self._engine, what):
            progress(f"{what.tag} is there already, with {', '.join(what.packages)}")
        else:
            self._make(what, progress)

    def bring(self, progress: Progress) -> Image:
        """Return the image, from the archive where one is configured, else from the registry. Raises as `fetch`."""
        if self._settings.image.archive:
            return self._load(Path(self._settings.image.archive), progress)
        return self._engine.pull(self._reference, progress)

    def accept(self, image: Image) -> None:
        """Let the reference mean this image from now on; a stand-in needs no leave. Raises OSError, MlflowdError."""
        if not image.labels.get(LABEL_STANDS_FOR):
            self._kept.pin(self._reference, image.id)

    def _local(self, pin: str) -> Image | None:
        """Return the base as `base_of` does, and warn where the name has moved away from it."""
        base, elsewhere = base_of(self._engine, self._reference, pin)
        if base and elsewhere:
            self._warn(base, elsewhere)
        return base

    def _warn(self, before: Image, named: Image) -> None:
        if self._warned != named.id:
            self._warned = named.id
            message = f"{self._reference} now names {_short(named.id)}; the server stays with {_short(before.id)}."
            remedy = f"to move to it: {ACCEPT}"
            journal.report(Event.PREFLIGHT_WARNING, message, check="image", remedy=remedy)

    def _load(self, path: Path, progress: Progress) -> Image:
        from mlflowd.operations import archive  # noqa: PLC0415 - few daemons load one, and all would keep it

        loaded = archive.load(self._engine, path, self._reference, self._who, progress)
        able = self._able(loaded.image, str(path), progress)
        archive.check_version(self._engine, loaded, path, self._reference, able)
        if "@" in self._reference:  # the engine forgets a registry's digest, so that only the id finds it again
            self.accept(loaded.image)
        return loaded.image

    def _able(self, image: Image, name: str, progress: Progress) -> Abilities:
        able = self._kept.read().abilities.get(image.id)
        if able is None:
            able = self._ask(image, name, progress)
            self._kept.know(image.id, able)
        return able

    def _ask(self, image: Image, name: str, progress: Progress) -> Abilities:
        progress(f"asking {name} what it can do")
        return abilities.parse(self._engine.ask(image.id, abilities.QUESTION, _ASK_LIMIT), name)

    def _derive(self, what: Derived, progress: Progress) -> tuple[Image, Abilities]:
        if not self._settings.image.build:
            raise derived.refusal(what)
        image, able = self._make(what, progress)
        self._kept.know(image.id, able)
        return image, able

    def _make(self, what: Derived, progress: Progress) -> tuple[Image, Abilities]:
        from mlflowd.operations import derived_build  # noqa: PLC0415 - as above

        return derived_build.build(self._engine, what, derived_build.machine_settings(), progress)


def _moved(reference: str, pin: str, named: Image) -> RefusedError:
    message = f"{reference} has moved: it names {_short(named.id)}, and what served under it was {_short(pin)}"
    return RefusedError(f"{message}, which is gone.", f"where the new one is right: {ACCEPT}")


def _short(image_id: str) -> str:
    return image_id[:19]
