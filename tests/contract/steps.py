"""The steps that the contract suite is written in."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from mlflowd.model import EngineEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contract.worlds import World
    from mlflowd.model import Container, ContainerSpec

T = TypeVar("T")
LIMIT = 15.0


class Collector(threading.Thread):
    """Reads a stream in a thread of its own, so that a test can wait with a time limit."""

    def __init__(self, stream: Iterable[object]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._seen: SimpleQueue[object] = SimpleQueue()
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for item in self._stream:
                self._seen.put(item)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error

    def next(self, kind: type[T]) -> T:
        item = self._seen.get(timeout=LIMIT)
        assert isinstance(item, kind)
        return item

    def ended(self) -> bool:
        self.join(LIMIT)
        return not self.is_alive() and self.failure is None


def made(world: World, spec: ContainerSpec | None = None) -> str:
    return world.engine.create(spec or world.spec)


def started(world: World, spec: ContainerSpec | None = None) -> str:
    container_id = made(world, spec)
    world.engine.start(container_id)
    return container_id


def look(world: World, name: str | None = None) -> Container:
    found = world.engine.inspect(name or world.spec.name)
    assert found is not None
    return found


def killed(world: World, container_id: str) -> None:
    """Kill it and wait until the engine tells so."""
    events = Collector(world.engine.events(world.spec.name))
    world.kill(container_id)
    while events.next(EngineEvent).action != "die":
        pass


def spoken(world: World, container_id: str, count: int) -> list[bytes]:
    """Return the first lines of its log."""
    logs = Collector(world.engine.logs(container_id, since=0, follow=True))
    return [logs.next(bytes) for _ in range(count)]


def actions(world: World, events: Collector, last: str) -> list[str]:
    seen: list[str] = []
    while last not in seen:
        event = events.next(EngineEvent)
        assert event.attributes["name"] == world.spec.name
        seen.append(event.action)
    return seen
