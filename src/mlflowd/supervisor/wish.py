"""What the configuration asks for, made complete by what the wanted image can do.

Effects: those of supervisor/images.py, which finds or makes the image.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflowd.model import Desired, Timing
from mlflowd.operations.images_kept import ImagesKept
from mlflowd.server import command
from mlflowd.server.wiring import Machine
from mlflowd.supervisor.images import Images

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.engine.api import Progress
    from mlflowd.model import ContainerSpec, Secrets
    from mlflowd.supervisor.images import Chosen
    from mlflowd.supervisor.place import Place


class Wish:
    """The desired state of one configuration."""

    def __init__(self, settings: Settings, secrets: Secrets, place: Place) -> None:
        self.settings = settings
        self._secrets = secrets
        self.kept = ImagesKept(place.state, place.who)
        self.chosen: Chosen | None = None
        """The image, None until it is there and known."""
        self._images = Images(settings, place.engine, self.kept, place.who)
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
        self.chosen = self._spec = None

    def find(self) -> None:
        """Complete the wish from what is there and known already, if that suffices: a few engine calls."""
        if chosen := self._images.find():
            self._complete(chosen)

    def fetch(self, progress: Progress) -> None:
        """Get the image, from wherever it comes, and ask it what it can do. Raises as Images.fetch."""
        self._complete(self._images.fetch(progress))

    def _complete(self, chosen: Chosen) -> None:
        self.mlflow_version = chosen.able.mlflow
        spec = command.container_spec(self.settings, chosen.image, chosen.able, self._machine, self._secrets)
        self.chosen, self._spec = chosen, spec


def _machine(place: Place) -> Machine:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(place.who.uid, place.who.gid, memory, str(place.state), str(place.runtime / "private"))


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
