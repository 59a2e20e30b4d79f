"""Everything that follows from one configuration; a reload makes a new one and lets the old one go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.host import secrets
from mlflowd.server import artifact_stores, login
from mlflowd.supervisor import checks, serving_image
from mlflowd.supervisor.artifact_store import ArtifactStore
from mlflowd.supervisor.doorkeeper import Doorkeeper
from mlflowd.supervisor.effects import Effects
from mlflowd.supervisor.watch import Watch
from mlflowd.supervisor.wish import Wish

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Trouble
    from mlflowd.supervisor.inbox import Inbox
    from mlflowd.supervisor.place import Place


class Outfit:
    """The wish, the hands and the watches for these settings.

    Making one reads the settings' secrets: raises MlflowdError where one cannot be read.
    """

    def __init__(self, settings: Settings, place: Place, inbox: Inbox) -> None:
        self.settings = settings
        read = secrets.read(settings, place.state, place.who)
        login.check(settings, read)
        artifact_stores.check(settings, read)
        self.wish = Wish(settings, read, place)
        self.effects = Effects(self.wish, place)
        door = Doorkeeper(settings, place, read)
        self._watches = (
            Watch("watch-server", checks.of_server(settings, place, door), inbox),
            Watch("watch-artifacts", (ArtifactStore(settings, place, door).check(),), inbox),
            Watch("watch-files", checks.of_files(settings, place), inbox),
            Watch("watch-images", (serving_image.check(self.wish, place),), inbox),
        )

    def begin(self) -> None:
        """Let the watches look."""
        for watch in self._watches:
            watch.start()

    def end(self) -> None:
        """Let the watches end."""
        for watch in self._watches:
            watch.end()

    def serving(self, answers: bool) -> None:
        """Tell the watches whether the server answers."""
        for watch in self._watches:
            watch.serving(answers)

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What the watches found."""
        return tuple(trouble for watch in self._watches for trouble in watch.findings)
