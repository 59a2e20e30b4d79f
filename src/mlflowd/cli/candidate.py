"""The container that the daemon would make, for `mlflowd check`: its description, and what its image can do.

Effects: asks an image that is not known yet what it can do; a directory for the private files while one is tried.
Nothing is fetched, built or remembered.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlflowd.errors import EnginePermissionError, EngineUnreachableError, ExitStatus, MlflowdError, RefusedError
from mlflowd.host import secrets
from mlflowd.host.paths import runtime_directory
from mlflowd.operations import derived
from mlflowd.operations.images_kept import ImagesKept
from mlflowd.server import abilities, artifact_stores, command, login
from mlflowd.server.wiring import Machine
from mlflowd.stores.findings import failure, fine, warning
from mlflowd.supervisor.images import base_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine
    from mlflowd.host.paths import Identity
    from mlflowd.model import ContainerSpec, Finding, Image, Secrets
    from mlflowd.server.abilities import Abilities

_ASK_LIMIT = 60.0


class Candidate(NamedTuple):
    """What would be made, as far as that is known; and what is to be said of it."""

    findings: tuple[Finding, ...]
    spec: ContainerSpec | None = None
    able: Abilities | None = None


def find(settings: Settings, engine: Engine, state: Path, who: Identity) -> Candidate:
    """Return the candidate; one that is not complete has a finding that says why."""
    try:
        image, able, finding = _image(settings, engine, state, who)
    except (EngineUnreachableError, EnginePermissionError):
        return Candidate(())  # told by the check of the engine
    except MlflowdError as error:
        return Candidate((_unusable(error),))
    if image is None or able is None:
        return Candidate((finding,))
    try:
        spec = command.container_spec(settings, image, able, _machine(state, who), _secrets(settings, state, who))
    except secrets.UnreadError as error:
        return Candidate((finding, _unread(error)), None, able)
    except MlflowdError as error:
        return Candidate((finding, failure("configuration", error.message, error.hint, error.exit_status)), None, able)
    return Candidate((finding,), spec, able)


@contextmanager
def trial(who: Identity) -> Iterator[Path]:
    """Yield the place of a directory that `who` may make, and that the engine sees."""
    root = os.geteuid() == 0
    place = Path(tempfile.mkdtemp(prefix="mlflowd-check-", dir="/run" if root else None))
    try:
        if root:
            os.chown(place, who.uid, who.gid)
        yield place / "private"
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _image(
    settings: Settings, engine: Engine, state: Path, who: Identity
) -> tuple[Image | None, Abilities | None, Finding]:
    """Return the image that would run, what it can do, and what is to be said of it. Raises MlflowdError."""
    reference = settings.image.reference
    kept = ImagesKept(state, who).read()
    base, _ = base_of(engine, reference, kept.pins.get(reference, ""))
    if base is None:
        message = f"The image {reference} is not here yet: it is fetched at the start."
        return None, None, warning("image", message, "sudo mlflowd image pull, or sudo mlflowd image build")

    def known(image: Image) -> Abilities:
        return kept.abilities.get(image.id) or abilities.parse(
            engine.ask(image.id, abilities.QUESTION, _ASK_LIMIT), reference
        )

    able = known(base)
    what = derived.plan(settings, base, able)
    if what is None:
        return base, able, fine("image", f"{reference} is here, with MLflow {able.mlflow}")
    if image := derived.present(engine, what):
        return image, known(image), fine("image", f"{what.tag} is here, with {', '.join(what.packages)}")
    return None, None, _lacking(settings, what)


def _unusable(error: MlflowdError) -> Finding:
    """Return what a start would say: it refuses a tag that moved, and tries again what may pass."""
    if isinstance(error, RefusedError):
        return failure("image", error.message, error.hint, error.exit_status)
    return warning("image", error.message, error.hint)


def _lacking(settings: Settings, what: derived.Derived) -> Finding:
    if not settings.image.build:
        error = derived.refusal(what)
        return failure("image", error.message, error.hint, ExitStatus.REFUSED)
    message = f"The image {what.reference} lacks {', '.join(what.packages)}, which the start installs."
    return warning("image", message, "beforehand: sudo mlflowd image build --packages-only")


def _secrets(settings: Settings, state: Path, who: Identity) -> Secrets:
    read = secrets.read(settings, state, who, make=False)
    login.check(settings, read)
    artifact_stores.check(settings, read)
    return read


def _unread(error: secrets.UnreadError) -> Finding:
    """Return what it means that secrets cannot be read: here, or also for the unit."""
    if error.elsewhere and not secrets.in_unit(os.environ):
        message = f"The stores are not tried, since the unit alone may have what they need: {error.message}"
        return warning("secrets", message, "sudo systemctl start mlflowd, then: sudo mlflowd check")
    return failure("secrets", error.message, error.hint, error.exit_status)


def _machine(state: Path, who: Identity) -> Machine:
    return Machine(who.uid, who.gid, state=str(state), private=str(runtime_directory() / "private"))
