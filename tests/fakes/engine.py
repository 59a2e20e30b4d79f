"""FakeEngine: the protocol of mlflowd.engine.api in memory; tests/contract/ runs the same suite on it and on Docker.

`unreachable`, `denied`, `fail` and `taken` inject faults; kill, pause, exit, destroy, foreign, deploy and say are what
somebody else does to the engine; `calls` is what it was asked. `answer` is what an image says of itself, `stores` what
one says in a container like the server's own, `liked` those containers; `work` is what a task does and prints, `tasks`
which ones were asked for, `left` those that an mlflowd has left that was killed.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict, deque
from dataclasses import replace
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import TYPE_CHECKING

from fakes.foreign import ForeignContainers
from mlflowd import errors
from mlflowd.errors import EngineError, ImageMissingError
from mlflowd.model import (
    LABEL_DERIVED,
    LABEL_SLOT,
    LABEL_SPEC,
    LABEL_STANDS_FOR,
    Container,
    ContainerStatus,
    EngineEvent,
    EngineInfo,
    Image,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mlflowd.engine.api import Progress
    from mlflowd.model import Address, ContainerSpec

_UP = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)


class FakeEngine(ForeignContainers):
    """An engine without processes. A stopped server ends with `stop_status`."""

    def __init__(self) -> None:
        super().__init__()
        self.unreachable = False
        self.denied = False
        self.taken: set[Address] = set()
        self.calls: list[str] = []
        self.images: dict[str, Image] = {}
        self.archived: tuple[Image, ...] = ()
        self.loaded = 0
        self.registry: dict[str, Image] = {}
        self.networks: set[str] = set()
        self.answer = ""
        self.stores = "{}"
        self.liked: list[ContainerSpec] = []
        self.work: Callable[[ContainerSpec], str] = lambda _: ""
        self.tasks: list[str] = []
        self.left: list[str] = []
        self.stop_status = 143
        self._containers: dict[str, Container] = {}
        self._says: dict[str, list[str]] = defaultdict(list)
        self._logs: dict[str, list[tuple[float, bytes]]] = defaultdict(list)
        self._failures: dict[str, deque[Exception]] = defaultdict(deque)
        self._subscribers: list[tuple[str, SimpleQueue[EngineEvent | None]]] = []
        self._changed = threading.Condition(threading.RLock())
        self._ended = 0
        self._closed = False

    # --- the protocol ---------------------------------------------------------------------------

    def info(self) -> EngineInfo:
        self._asked("info")
        return EngineInfo("docker", "20.10.24", "1.41", "/var/lib/docker", 8 << 30)

    def inspect(self, name: str) -> Container | None:
        self._asked("inspect")
        return self._find(name)

    def create(self, spec: ContainerSpec) -> str:
        self._asked("create")
        if self._find(spec.name):
            raise EngineError(f"The container name {spec.name} is already in use.", f"docker rename {spec.name} …")
        if not self._image(spec.image_id):
            raise ImageMissingError(f"No such image: {spec.image_id}.")
        self.networks.add(spec.network)
        labels = {LABEL_SLOT: str(spec.slot), LABEL_SPEC: spec.digest}
        return self._add(spec.name, spec.image_id, labels, spec.publish).id

    def start(self, container_id: str) -> None:
        self._asked("start")
        container = self._get(container_id)
        if container.status is ContainerStatus.RUNNING:
            return
        if container.status is ContainerStatus.PAUSED:
            raise EngineError("cannot start a paused container, try unpause instead")
        address = container.published
        if address and (address in self.taken or self._holders(address)):
            self._put(replace(container, error=f"Bind for {address} failed: port is already allocated", exit_code=128))
            raise errors.PortTakenError(f"{address} is taken.", "change server.listen")
        fresh = replace(container, status=ContainerStatus.RUNNING, started_at=_stamp(), exit_code=0, oom_killed=False)
        self._put(replace(fresh, error=""), "start")
        for line in self._says[container.name]:
            self.say(container.name, line)

    def stop(self, container_id: str, grace: float) -> None:
        del grace
        self._asked("stop")
        container = self._find(container_id)
        if container and container.status in _UP:
            self.kill(container.id, signal=15, status=self.stop_status)
            self._tell("stop", container)

    def unpause(self, container_id: str) -> None:
        self._asked("unpause")
        container = self._get(container_id)
        if container.status is ContainerStatus.PAUSED:
            self._put(replace(container, status=ContainerStatus.RUNNING), "unpause")

    def remove(self, container_id: str) -> None:
        self._asked("remove")
        container = self._find(container_id)
        if container and container.status in _UP:
            raise EngineError(f"You cannot remove a running container {container.id}.")
        if container:
            self.destroy(container.id)

    def publishers(self, port: int) -> tuple[str, ...]:
        self._asked("publishers")
        up = (c for c in self._containers.values() if c.status in _UP and c.published)
        return tuple(sorted(c.name for c in up if c.published and c.published.port == port))

    def image(self, reference: str) -> Image | None:
        self._asked("image")
        return self._image(reference)

    def stand_in(self, reference: str) -> Image | None:
        self._asked("stand_in")
        found = [i for i in self.images.values() if i.labels.get(LABEL_STANDS_FOR) == reference]
        return found[-1] if found else None

    def made(self, label: str) -> tuple[Image, ...]:
        self._asked("made")
        return tuple(image for image in self.images.values() if label in image.labels)

    def remove_image(self, image_id: str) -> None:
        self._asked("remove_image")
        image = self._image(image_id)
        if image is None:
            return
        if any(c.image_id == image.id for c in self._containers.values()):
            raise EngineError(f"conflict: the image {image.id} is being used by a container")
        if len(image.references) > 1:
            raise EngineError(f"conflict: the image {image.id} is referenced in multiple repositories")
        if any(other.labels.get(LABEL_DERIVED) == image.id for other in self.images.values()):
            raise EngineError(f"conflict: the image {image.id} has dependent child images")
        del self.images[image.id]

    def load(self, archive: Iterable[bytes], progress: Progress) -> tuple[str, ...]:
        """Make the images of `archived`, whatever the bytes are; they are counted in `loaded`."""
        self._asked("load")
        progress("the engine unpacks a layer")
        self.loaded = sum(map(len, archive))
        for image in self.archived:
            self.add_image(image)
        return tuple(name for image in self.archived for name in image.references or (image.id,))

    def pull(self, reference: str, progress: Progress) -> Image:
        self._asked("pull")
        if reference not in self.registry:
            raise ImageMissingError(f"The registry does not have {reference}.")
        progress(f"pulling {reference}")
        return self.add_image(self.registry[reference])

    def build(
        self, context: bytes, *, tag: str, labels: Mapping[str, str], build_args: Mapping[str, str], progress: Progress
    ) -> Image:
        del context, build_args
        self._asked("build")
        progress(f"building {tag}")
        return self.add_image(Image(f"sha256:{uuid.uuid4().hex * 2}", (tag,), dict(labels)))

    def import_root(self, archive: str, *, tag: str, changes: Sequence[str]) -> Image:
        del archive, changes
        self._asked("import_root")
        return self.add_image(Image(f"sha256:{uuid.uuid4().hex * 2}", (tag,), {}))

    def ask(
        self, image_id: str, argv: Sequence[str], limit: float, like: ContainerSpec | None = None, task: str = ""
    ) -> str:
        del argv, limit
        self._asked("ask")
        if not self._image(image_id):
            raise ImageMissingError(f"No such image: {image_id}.")
        if like is None:
            return self.answer
        self.liked.append(like)
        if task:
            self.tasks.append(task)
            return self.work(like)
        return self.stores

    def end(self, task: str) -> int:
        """End nothing: what is asked here ends at once; `left` are those of mlflowds that were killed."""
        self._asked("end")
        found = self.left.count(task)
        self.left = [other for other in self.left if other != task]
        return found

    def events(self, name: str) -> Iterator[EngineEvent]:
        self._asked("events")
        queue: SimpleQueue[EngineEvent | None] = SimpleQueue()
        self._subscribers.append((name, queue))
        return iter(queue.get, None)

    def logs(self, container_id: str, *, since: float, follow: bool, tail: int | None = None) -> Iterator[bytes]:
        self._asked("logs")
        container = self._get(container_id)
        said = [number for number, (at, _) in enumerate(self._logs[container.id]) if at >= since]
        first = min(said, default=len(self._logs[container.id]))
        if tail is not None:
            first = max(first, len(self._logs[container.id]) - tail)
        return self._lines(container.id, first, follow=follow)

    def close(self) -> None:
        self._closed = True
        self.end_streams()

    # --- faults, and what somebody else does ----------------------------------------------------

    def fail(self, method: str, error: Exception) -> None:
        """Let the next call of this method raise; several wait in a row."""
        self._failures[method].append(error)

    def end_streams(self) -> None:
        """End all event and log streams, as an engine's restart does."""
        with self._changed:
            self._ended += 1
            for _, queue in self._subscribers:
                queue.put(None)
            self._subscribers.clear()
            self._changed.notify_all()

    def kill(self, name: str, *, signal: int = 9, status: int = 137) -> None:
        container = self._get(name)
        self._tell("kill", container, signal=str(signal))
        self.exit(name, status)

    def exit(self, name: str, status: int, *, oom: bool = False) -> None:
        container = self._get(name)
        if oom:
            self._tell("oom", container)
        ended = replace(container, status=ContainerStatus.EXITED, exit_code=status, oom_killed=oom)
        self._put(ended, "die", exitCode=str(status))

    def pause(self, name: str) -> None:
        self._put(replace(self._get(name), status=ContainerStatus.PAUSED), "pause")

    def destroy(self, name: str) -> None:
        """Remove it, running or not."""
        container = self._get(name)
        if container.status in _UP:
            self.kill(name)
        with self._changed:
            del self._containers[container.id]
            self._changed.notify_all()
        self._tell("destroy", container)

    def foreign(self, name: str) -> str:
        """Make a container that is not ours and return its id."""
        return self._add(name, "sha256:foreign", {}, None).id

    def add_image(self, image: Image) -> Image:
        """Add it; names that others have go to it."""
        for other in list(self.images.values()):
            names = tuple(name for name in other.references if name not in image.references)
            self.images[other.id] = replace(other, references=names)
        self.images[image.id] = image
        return image

    def says(self, name: str, *lines: str) -> None:
        """Let the container of this name write these lines at each start."""
        self._says[name] = list(lines)

    def say(self, name: str, line: str) -> None:
        """Let the server write a line to its log now."""
        with self._changed:
            self._logs[self._get(name).id].append((time.time(), f"{_stamp()} {line}".encode()))
            self._changed.notify_all()

    # --- within ---------------------------------------------------------------------------------

    def _asked(self, method: str) -> None:
        self.calls.append(method)
        if self._closed:
            raise EngineError("The connection to the container engine was closed by mlflowd itself.")
        if self.denied:
            raise errors.EnginePermissionError("The user may not use the container engine.", "sudo usermod …")
        if self.unreachable:
            raise errors.EngineUnreachableError("The container engine is not running.", "sudo systemctl start docker")
        if self._failures[method]:
            raise self._failures[method].popleft()

    def _all(self) -> list[Container]:
        return list(self._containers.values())

    def _find(self, name: str) -> Container | None:
        return next((c for c in list(self._containers.values()) if name in (c.id, c.name)), None)

    def _get(self, name: str) -> Container:
        container = self._find(name)
        if container is None:
            raise EngineError(f"No such container: {name}.")
        return container

    def _image(self, reference: str) -> Image | None:
        return next((i for i in self.images.values() if reference in (i.id, *i.references)), None)

    def _holders(self, address: Address) -> list[Container]:
        return [c for c in self._containers.values() if c.status in _UP and c.published == address]

    def _add(self, name: str, image_id: str, labels: Mapping[str, str], published: Address | None) -> Container:
        created = ContainerStatus.CREATED
        container = Container(uuid.uuid4().hex * 2, name, created, image_id, labels, "", 0, False, "", published)
        self._put(container, "create")
        return container

    def _put(self, container: Container, action: str = "", **attributes: str) -> None:
        with self._changed:
            self._containers[container.id] = container
            self._changed.notify_all()
        if action:
            self._tell(action, container, **attributes)

    def _tell(self, action: str, container: Container, **attributes: str) -> None:
        for name, queue in list(self._subscribers):
            if name == container.name:
                queue.put(EngineEvent(action, container.id, {"name": name, **attributes}))

    def _lines(self, container_id: str, first: int, *, follow: bool) -> Iterator[bytes]:
        ended = self._ended
        while True:
            with self._changed:
                while not (lines := [line for _, line in self._logs[container_id][first:]]):
                    if not follow or self._ended != ended or not self._up(container_id):
                        return
                    self._changed.wait()
            first += len(lines)
            yield from lines

    def _up(self, container_id: str) -> bool:
        container = self._find(container_id)
        return container is not None and container.status in _UP


def _stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z")
