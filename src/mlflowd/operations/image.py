"""Makes an image with MLflow where the pinned one cannot be pulled: `mlflowd image build`.

Effects: images on the engine, and one throw-away container that proves the result. The same inputs make the same
image: they are hashed into a label, and an image that carries the hash already is used again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import mlflowd
from mlflowd.errors import ConfigurationError, MlflowdError
from mlflowd.model import LABEL_NAME, LABEL_STANDS_FOR
from mlflowd.operations import debian_base, recipe, references, requirements, room
from mlflowd.operations.derived import LABEL_PACKAGES, REPOSITORY
from mlflowd.operations.derived_build import LABEL_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflowd.engine.api import Engine, Progress
    from mlflowd.model import Image
    from mlflowd.operations.index_settings import IndexSettings

LABEL_INPUTS = "io.mlflowd.inputs"
"""Hash of everything that the image was made from."""

DEFAULT_PYTHON = "3.13"
ROOM = 3_000_000_000
"""Bytes that a build needs for a while: the base, two copies of the environment, the archive."""

_FAST_SERVER = ("uvloop", "httptools")
"""uvicorn uses them where they are: without uvloop several workers lose 40 ms on each request (uvicorn #3149)."""
_ALL_STORES = "[extras,azure,db,gateway,genai,auth]"
"""MLflow's own extras in its images whose tag ends in "-full" (docker/README of MLflow)."""
_PROOF = "import mlflow, uvloop, httptools, sys; print(mlflow.__version__, '%d.%d' % sys.version_info[:2])"
_PROOF_LIMIT = 180.0
_TURNS = (
    "turns/mlflowd_turns.py",
    "turns/mlflowd_turns-1.dist-info/METADATA",
    "turns/mlflowd_turns-1.dist-info/entry_points.txt",
)
"""A package of our own in the image: writers of SQLite take turns."""
_FILES = ("Dockerfile", "make-venv.sh", *_TURNS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to build."""

    stands_for: str
    """The reference that the image is equivalent to."""
    version: str
    """MLflow's."""
    packages: tuple[str, ...]
    """Requirements beside MLflow's own, sorted."""
    base: str | None = None
    """Reference of an image with Python; None for one made from Debian packages."""
    python: str = DEFAULT_PYTHON
    full: bool = False
    """With the drivers of all stores, as MLflow's own images whose tag ends in "-full"."""

    @property
    def tag(self) -> str:
        """Return the image's name: the version, and a short hash of the extra packages where there are some."""
        extra = hashlib.sha256("\n".join(self.packages).encode()).hexdigest()[:8]
        full = references.FULL if self.full else ""
        return f"{REPOSITORY}:v{self.version}{full}" + (f"-{extra}" if self.packages else "")

    @property
    def requirements(self) -> tuple[str, ...]:
        """Return what pip installs."""
        mlflow = f"mlflow{_ALL_STORES if self.full else ''}=={self.version}"
        return (mlflow, *_FAST_SERVER, *self.packages)


def wanted(
    reference: str, *, version: str | None, packages: tuple[str, ...], base: str | None, python: str | None
) -> Wanted:
    """Return what to build in place of `reference`; another `version` stands for that version's tag.

    Raises ConfigurationError where the version is neither given nor in the tag, and for what is no package name.
    """
    tagged = references.version_of(reference)
    version = (version or tagged).removeprefix("v")
    if not references.VERSION.fullmatch(version):
        raise ConfigurationError(
            f"Which version of MLflow to build cannot be told from {version or reference!r}.",
            "mlflowd image build --version 3.17.2",
        )
    if base and python:
        raise ConfigurationError(f"The base {base} brings its own Python.", "leave out --python")
    if tagged and version != tagged:
        repository, tag = references.split(reference)
        reference = f"{repository}:{tag.replace(tagged, version)}"
    packages = requirements.checked(packages)
    return Wanted(reference, version, packages, base, python or DEFAULT_PYTHON, references.is_full(reference))


def build(engine: Engine, what: Wanted, settings: IndexSettings, progress: Progress, *, force: bool = False) -> Image:
    """Return the image of `what`: the one that is there when it was made from the same inputs, else a new one.

    Raises MlflowdError with the remedy; nothing temporary is left behind on any path.
    """
    base = _present_base(engine, what)
    if not force and base and (present := _same(engine, what, base)):
        progress(f"{what.tag} is there already, made from the same inputs")
        return present
    room.require(engine, "A build", ROOM, debian_base.temporary_directory())
    if base is None or (force and what.base is None):
        base = debian_base.debian_base(engine, debian_base.SUITES[what.python], progress, fresh=force)
    for sentence in settings.left_out:
        progress(sentence)
    image = engine.build(
        _context(what, settings),
        tag=what.tag,
        labels=_labels(what, base),
        build_args={"BASE": _base_name(what), **settings.proxies},
        progress=progress,
    )
    progress(_proven(engine, what, image))
    return image


def _base_name(what: Wanted) -> str:
    return what.base or debian_base.base_tag(debian_base.SUITES[what.python])


def _present_base(engine: Engine, what: Wanted) -> Image | None:
    """Return the base where it is there; one that was named must be, or be fetched."""
    base = engine.image(_base_name(what))
    if base is None and what.base is not None:
        raise MlflowdError(f"There is no image {what.base} on this engine.", f"sudo docker pull {what.base}")
    return base


def _same(engine: Engine, what: Wanted, base: Image) -> Image | None:
    image = engine.image(what.tag)
    return image if image and image.labels.get(LABEL_INPUTS) == _inputs(what, base) else None


def _inputs(what: Wanted, base: Image) -> str:
    """Return the hash of all that makes a difference: the request, the base's content, the recipe."""
    parts = [what.stands_for, *what.requirements, base.id, *(recipe.text(name) for name in _FILES)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _labels(what: Wanted, base: Image) -> Mapping[str, str]:
    return {
        LABEL_STANDS_FOR: what.stands_for,
        LABEL_NAME: what.tag,
        LABEL_INPUTS: _inputs(what, base),
        LABEL_PACKAGES: " ".join(what.requirements),
        LABEL_VERSION: mlflowd.__version__,
        "org.opencontainers.image.title": "MLflow",
        "org.opencontainers.image.version": what.version,
        "org.opencontainers.image.base.name": _base_name(what),
        "org.opencontainers.image.created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _context(what: Wanted, settings: IndexSettings) -> bytes:
    """Return the tar archive for the engine: the Dockerfile and, in build/, what its first stage alone sees."""
    files = {
        "Dockerfile": recipe.text("Dockerfile").encode(),
        "build/make-venv.sh": recipe.text("make-venv.sh").encode(),
        **{f"build/{name}": recipe.text(name).encode() for name in _TURNS},
        "build/requirements.txt": "".join(f"{one}\n" for one in what.requirements).encode(),
        "build/pip.conf": settings.pip_conf.encode(),
        "build/ca.pem": settings.ca_bundle,
    }
    return recipe.context(files)


def _proven(engine: Engine, what: Wanted, image: Image) -> str:
    """Return a sentence on the built image, after its MLflow was imported under its own user."""
    version, python = engine.ask(image.id, ["python3", "-c", _PROOF], _PROOF_LIMIT).split()[-2:]
    if version != what.version:
        raise MlflowdError(f"{what.tag} has MLflow {version} instead of {what.version}.", "try: --force")
    return f"{what.tag} is ready: MLflow {version} on Python {python}, in place of {what.stands_for}"
