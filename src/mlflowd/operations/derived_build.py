"""Makes an image that has what another one lacks: the base, and the packages that are added, nothing else changed.

Effects: an image on the engine, and one throw-away container that proves it. Whatever serves goes on meanwhile.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import mlflowd
from mlflowd.errors import EngineUnreachableError, ExitStatus, MlflowdError
from mlflowd.model import LABEL_ADDED, LABEL_DERIVED, LABEL_STANDS_FOR
from mlflowd.operations import derived, recipe, requirements, room
from mlflowd.operations.index_settings import index_settings
from mlflowd.server import abilities

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflowd.engine.api import Engine, Progress
    from mlflowd.model import Image
    from mlflowd.operations.derived import Derived
    from mlflowd.operations.index_settings import IndexSettings
    from mlflowd.server.abilities import Abilities

LABEL_VERSION = "io.mlflowd.version"
"""On an image that mlflowd made: the mlflowd that made it."""
ROOM = 1_000_000_000
"""Bytes: a driver takes 10 to 300 MB, twice for a while, and pip's copies."""
ASK_LIMIT = 60.0
"""Seconds an image gets to say what it can do; a cold disk takes a few."""

_FILES = {
    "Dockerfile": "derived.Dockerfile",
    "build/add-packages.sh": "add-packages.sh",
    "build/plan.py": "added/plan.py",
    "build/mlflowd_added.py": "added/mlflowd_added.py",
}
_CONFLICT = ("ResolutionImpossible", "conflicting dependencies")
"""pip's words for requirements that no index can meet."""
_REMEDY = "check the names and versions, and pip's settings in /etc/pip.conf; then: sudo mlflowd image build"


def machine_settings() -> IndexSettings:
    """Return how this machine, for this user, reaches a package index."""
    return index_settings(os.environ, Path.home())


def build(engine: Engine, what: Derived, settings: IndexSettings, progress: Progress) -> tuple[Image, Abilities]:
    """Return the image of `what`, made now, and what it can do.

    Raises ConfigurationError for what is no package name, RefusedError without room or where versions contradict
    each other, MlflowdError with pip's last lines where a package cannot be had; the image is then not there.
    """
    requirements.checked(what.packages)
    room.require(engine, "Adding packages to an image", ROOM)
    for sentence in settings.left_out:
        progress(sentence)
    progress(f"adding {', '.join(what.packages)} to {what.reference}")
    try:
        image = engine.build(
            _context(what, settings),
            tag=what.tag,
            labels=_labels(what),
            build_args={
                "BASE": what.base.id,
                "PURELIB": what.able.purelib,
                "BASE_USER": what.base.user or "0",
                **settings.proxies,
            },
            progress=progress,
        )
    except EngineUnreachableError:
        raise
    except MlflowdError as error:
        raise _failed(what, error) from error
    return image, _proven(engine, what, image, progress)


def _failed(what: Derived, error: MlflowdError) -> MlflowdError:
    message = f"{', '.join(what.packages)} could not be added to the image {what.reference}. {error.message}"
    status = ExitStatus.REFUSED if any(words in message for words in _CONFLICT) else None
    return MlflowdError(message, error.hint or _REMEDY, status)


def _labels(what: Derived) -> Mapping[str, str]:
    # Every other label of the base is inherited; the empty ones must not be.
    return {
        LABEL_STANDS_FOR: "",
        LABEL_DERIVED: what.base.id,
        LABEL_ADDED: " ".join(what.packages),
        derived.LABEL_PACKAGES: " ".join((*what.base.labels.get(derived.LABEL_PACKAGES, "").split(), *what.packages)),
        LABEL_VERSION: mlflowd.__version__,
        "org.opencontainers.image.created": datetime.now(UTC).isoformat(timespec="seconds"),
        "org.opencontainers.image.base.name": what.reference,
    }


def _context(what: Derived, settings: IndexSettings) -> bytes:
    exempt = sorted(requirements.name(one) for one in what.packages if requirements.versioned(one))
    return recipe.context(
        {
            **{path: recipe.text(name).encode() for path, name in _FILES.items()},
            "build/requirements.txt": _lines(what.packages),
            "build/exempt.txt": _lines(exempt),
            "build/pip.conf": settings.pip_conf.encode(),
            "build/ca.pem": settings.ca_bundle,
        }
    )


def _lines(words: tuple[str, ...] | list[str]) -> bytes:
    return "".join(f"{one}\n" for one in words).encode()


def _proven(engine: Engine, what: Derived, image: Image, progress: Progress) -> Abilities:
    """Return what the new image can do, once it says that it has the packages and the same MLflow."""
    able = abilities.parse(engine.ask(image.id, abilities.QUESTION, ASK_LIMIT), what.tag)
    lost = sorted({requirements.name(one) for one in what.packages} - able.packages)
    if able.mlflow != what.able.mlflow or lost:
        problem = f"lacks {', '.join(lost)}" if lost else f"has MLflow {able.mlflow} instead of {what.able.mlflow}"
        engine.remove_image(image.id)
        raise MlflowdError(f"The image {what.tag}, just made, {problem}.", _REMEDY, ExitStatus.REFUSED)
    progress(f"{what.tag} is ready: {what.reference} with {', '.join(what.packages)}")
    return able
