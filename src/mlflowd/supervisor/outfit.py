"""Everything that follows from one configuration; a reload makes a new one and lets the old one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflowd.errors import ConfigurationError
from mlflowd.host import secrets
from mlflowd.server import artifact_stores, login
from mlflowd.supervisor import checks, serving_image
from mlflowd.supervisor.artifact_store import ArtifactStore
from mlflowd.supervisor.backups import BackupWatch
from mlflowd.supervisor.doorkeeper import Doorkeeper
from mlflowd.supervisor.effects import Effects
from mlflowd.supervisor.status import Served
from mlflowd.supervisor.watch import Watch
from mlflowd.supervisor.wish import Wish

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Container, Trouble
    from mlflowd.supervisor.inbox import Inbox
    from mlflowd.supervisor.place import Place


def require_changeable(old: Settings, new: Settings) -> None:
    """Raise ConfigurationError where the new settings differ in what a running daemon cannot change."""
    fixed = {"container.name": old.container.name != new.container.name, "engine": old.engine != new.engine}
    if changed := [key for key, differs in fixed.items() if differs]:
        message = f"{' and '.join(changed)} cannot change while mlflowd runs"
        raise ConfigurationError(message, "sudo systemctl restart mlflowd")


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
        door = Doorkeeper(settings, place, read)
        self.effects = Effects(self.wish, place, door, read)
        self._backups = BackupWatch(settings, place)
        self._watches = (
            Watch("watch-server", checks.of_server(settings, place, door), inbox),
            Watch("watch-artifacts", (ArtifactStore(settings, place, door).check(),), inbox),
            Watch("watch-files", (*checks.of_files(settings, place), self._backups.check()), inbox),
            Watch("watch-images", (serving_image.check(self.wish, place), self.wish.runs.check(door)), inbox),
        )

    def begin(self) -> None:
        """Let the watches look."""
        for watch in self._watches:
            watch.start()

    def end(self) -> None:
        """Let the watches end."""
        for watch in self._watches:
            watch.end()

    def served(self, ready: bool, container: Container | None, transaction: dict[str, Any] | None) -> Served:
        """Return what the status document says beside the scene."""
        reference, version = self.wish.running(container)
        address, backups = self.settings.server.listen, self._backups.document
        return Served(ready, address, reference, version, transaction, backups)

    def serving(self, answers: bool) -> None:
        """Tell the watches whether the server answers."""
        for watch in self._watches:
            watch.serving(answers)

    def rest(self) -> None:
        """Let the watches forget what they know of stores that were exchanged."""
        for watch in self._watches:
            watch.rest()

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What is known of the image, and what the watches found."""
        found = tuple(trouble for watch in self._watches for trouble in watch.findings)
        return (*self.wish.troubles, *found)
