"""What the configuration asks for, made complete by what the wanted image can do.

Effects: looks for the image through the engine and keeps what images can do in the state directory, so that a
daemon that comes back needs no container to ask again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlflowd.host import files
from mlflowd.host.paths import run_as
from mlflowd.model import Desired, Timing
from mlflowd.server import abilities, command
from mlflowd.server.abilities import Abilities
from mlflowd.server.wiring import Machine

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.engine.api import Progress
    from mlflowd.model import ContainerSpec, Image, Secrets
    from mlflowd.supervisor.place import Place

_ASK_LIMIT = 60.0
"""Seconds an image gets to say what it can do; a cold disk takes a few."""


class Wish:
    """The desired state of one configuration."""

    def __init__(self, settings: Settings, secrets: Secrets, place: Place) -> None:
        self.settings = settings
        self._secrets = secrets
        self._engine = place.engine
        self._keep = place.state / "state" / "images.json"
        self._who = place.who
        self._machine = _machine(place)
        self._spec: ContainerSpec | None = None
        self.mlflow_version = ""

    def desired(self, stop_by: float | None = None) -> Desired:
        """Return what is wanted now; `stop_by` as in Desired."""
        container = self.settings.container
        return Desired(
            name=container.name,
            image=self.settings.image.reference,
            spec=self._spec,
            timing=timing(self.settings),
            stop_grace=container.stop_grace,
            stop_by=stop_by,
        )

    @property
    def known(self) -> bool:
        """Whether the wanted image is there and known."""
        return self._spec is not None

    def forget(self) -> None:
        """Look for the image again: it is not there any more."""
        self._spec = None

    def find(self) -> None:
        """Complete the wish from what is known already, if that suffices: two engine calls at most."""
        image = self._local()
        able = self._remembered().get(image.id) if image else None
        if image and able:
            self._complete(image, able)

    def fetch(self, progress: Progress) -> None:
        """Get the image, from the registry if it must be, and ask it what it can do.

        Raises ImageMissingError, EngineError, and MlflowdError for an image without MLflow.
        """
        image = self._local() or self._engine.pull(self.settings.image.reference, progress)
        remembered = self._remembered()
        if image.id not in remembered:
            progress(f"asking {self.settings.image.reference} what it can do")
            answer = self._engine.ask(image.id, abilities.QUESTION, _ASK_LIMIT)
            remembered[image.id] = abilities.parse(answer, self.settings.image.reference)
            self._remember(remembered)
        self._complete(image, remembered[image.id])

    def _local(self) -> Image | None:
        """Return the image that was built in place of the wanted one, or that one: who builds wants it used."""
        reference = self.settings.image.reference
        return self._engine.stand_in(reference) or self._engine.image(reference)

    def _complete(self, image: Image, able: Abilities) -> None:
        self.mlflow_version = able.mlflow
        self._spec = command.container_spec(self.settings, image, able, self._machine, self._secrets)

    def _remembered(self) -> dict[str, Abilities]:
        try:
            kept = json.loads(self._keep.read_text())
            return {key: _abilities(value) for key, value in kept.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}  # it is asked again

    def _remember(self, known: dict[str, Abilities]) -> None:
        text = json.dumps({key: {**asdict(able), "packages": sorted(able.packages)} for key, able in known.items()})
        run_as(self._who, lambda: files.write_atomically(self._keep, text))


def _machine(place: Place) -> Machine:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(place.who.uid, place.who.gid, memory, str(place.state), str(place.runtime / "private"))


def _abilities(kept: dict[str, Any]) -> Abilities:
    return Abilities(**{**kept, "packages": frozenset(kept["packages"])})


def timing(settings: Settings) -> Timing:
    """Return the spans of the settings that `decide` goes by."""
    health, restart = settings.health, settings.restart
    return Timing(
        interval=health.interval,
        retry_interval=health.retry_interval,
        starting_interval=health.starting_interval,
        misses=health.misses,
        start_deadline=health.start_deadline,
        kill_grace=restart.kill_grace,
        backoff_first=restart.backoff_first,
        backoff_max=restart.backoff_max,
        stable_after=restart.stable_after,
    )
