"""Which packages an image lacks, and the image that has them too: its name, its labels, whether it is there.

Effects: one engine call to look for it. operations/derived_build.py makes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.errors import RefusedError
from mlflowd.model import LABEL_ADDED, LABEL_DERIVED
from mlflowd.operations import references, requirements
from mlflowd.server import drivers

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine
    from mlflowd.model import Image
    from mlflowd.server.abilities import Abilities

REPOSITORY = "mlflowd/mlflow"
LABEL_PACKAGES = "io.mlflowd.packages"
"""On an image that mlflowd made: the requirements that it was made with."""


@dataclass(frozen=True, slots=True)
class Derived:
    """An image made from another one by adding packages."""

    base: Image
    reference: str
    """The base's name, for people."""
    able: Abilities
    """The base's."""
    packages: tuple[str, ...]
    """The requirements to add, sorted, without blanks."""

    @property
    def tag(self) -> str:
        """Return its name: MLflow's version, the base's id, a hash of the packages."""
        base = self.base.id.partition(":")[2][:12]
        extra = hashlib.sha256("\n".join(self.packages).encode()).hexdigest()[:8]
        return f"{REPOSITORY}:v{self.able.mlflow.replace('+', '-')}-{base}-{extra}"


def lacking(settings: Settings, base: Image, able: Abilities) -> tuple[str, ...]:
    """Return the requirements of the configuration that the image does not meet, sorted.

    A requirement with a version counts as met where the image was made with this very one: only pip can compare.
    """
    made_with = {*base.labels.get(LABEL_PACKAGES, "").split(), *base.labels.get(LABEL_ADDED, "").split()}
    listed = map(requirements.compact, settings.image.packages)
    unmet = [one for one in listed if one not in made_with and not _plainly_there(one, able)]
    needed = drivers.missing(settings, able.packages)
    return tuple(sorted({*unmet, *map(requirements.compact, needed)}))


def plan(settings: Settings, base: Image, able: Abilities) -> Derived | None:
    """Return the image to derive from `base`, None where nothing is lacking."""
    packages = lacking(settings, base, able)
    return Derived(base, settings.image.reference, able, packages) if packages else None


def present(engine: Engine, what: Derived) -> Image | None:
    """Return the image of `what` where it is there. One engine call.

    A recipe that changed with a newer mlflowd makes no difference: an upgrade must not need the index.
    """
    image = engine.image(what.tag)
    told = (image.labels.get(LABEL_DERIVED), image.labels.get(LABEL_ADDED)) if image else None
    return image if told == (what.base.id, " ".join(what.packages)) else None


def refusal(what: Derived) -> RefusedError:
    """Return the error for an image that lacks packages where none may be derived."""
    ways = ["sudo mlflowd image build --packages-only", "image.build = true in the configuration"]
    if full := references.full_variant(what.reference):
        ways.append(f'image.reference = "{full}", which has the drivers of all stores')
    message = f"The image {what.reference} lacks {' and '.join(what.packages)}, and image.build = false forbids"
    return RefusedError(f"{message} to add what is missing.", ", or ".join(ways))


def _plainly_there(requirement: str, able: Abilities) -> bool:
    return requirements.bare(requirement) and requirements.name(requirement) in able.packages
