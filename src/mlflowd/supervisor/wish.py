"""What the configuration asks for, made complete by what the wanted image can do.

Effects: those of supervisor/images.py, which finds or makes the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.host import memory as host_memory
from mlflowd.model import Desired, Layer, Timing, Trouble
from mlflowd.operations.images_kept import ImagesKept
from mlflowd.server import command
from mlflowd.server.wiring import Machine
from mlflowd.supervisor.active_runs import ActiveRuns
from mlflowd.supervisor.images import Images
from mlflowd.supervisor.way_back import named, permitted, remembered

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.engine.api import Progress
    from mlflowd.model import Container, ContainerSpec, Secrets
    from mlflowd.operations.transaction import Rejection
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
        self.rejection: Rejection | None = None
        """Of the image that the configuration names, where `chosen` is the one from before in its place."""
        self.reference = settings.image.reference
        """What `chosen` is called."""
        self.runs = ActiveRuns(settings)
        self._images = Images(settings, place.engine, self.kept, place.who)
        self._place = place
        self._machine = _machine(place)
        self._spec: ContainerSpec | None = None
        self._served = ""
        self._rehearsed = ""
        self._other: tuple[str, str, str] | None = None
        self.mlflow_version = ""

    def desired(self, stop_by: float | None = None) -> Desired:
        """Return what is wanted now; `stop_by` as in Desired."""
        container = self.settings.container
        return Desired(
            name=container.name,
            image=self.reference,
            spec=self._spec,
            timing=timing(self.settings),
            stop_grace=container.stop_grace,
            stop_by=stop_by,
            served=self._served,
            rehearsed=self._spec is not None and self._rehearsed == self._spec.image_id,
            held=self.runs.held,
        )

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """Return what is to be said of the image."""
        if self.rejection is None:
            return ()
        return (Trouble(Layer.IMAGE, self.rejection.sentence, self.rejection.remedy, critical=False),)

    def running(self, container: Container | None) -> tuple[str, str]:
        """Return what the image of this container is called and its MLflow's version; what is wanted where it is none.

        An image that goes on while another one is rehearsed, or waits, is called by what is remembered of it.
        """
        if container is None or self._spec is None or container.image_id == self._spec.image_id:
            return self.reference, self.mlflow_version
        if self._other is None or self._other[0] != container.image_id:
            self._other = (container.image_id, *remembered(container.image_id, self.kept))
        return self._other[1], self._other[2]

    def rehearsed(self) -> None:
        """Take note that the upgrade to the wanted image has passed its rehearsal."""
        if self._spec is not None:
            self._rehearsed = self._spec.image_id
            self.runs.begin()

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
        chosen, self.rejection = permitted(chosen, self.settings, self._place, self.kept)
        settings = self.settings
        if self.rejection:
            settings = named(settings, self.rejection.before_reference)
        self.reference, self.mlflow_version = settings.image.reference, chosen.able.mlflow
        spec = command.container_spec(settings, chosen.image, chosen.able, self._machine, self._secrets)
        served = self.kept.read().served
        self.chosen, self._spec, self._served = chosen, spec, served[0].image if served else ""
        if not settings.upgrade.rehearse and self._served not in {"", spec.image_id}:
            self.rehearsed()


def _machine(place: Place) -> Machine:
    return Machine(place.who.uid, place.who.gid, host_memory.total(), str(place.state), str(place.runtime / "private"))


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
