"""DockerEngine: Docker, or Podman by its Docker socket, behind the protocol of engine/api.py.

Effects: containers, networks and images of the engine. An instance may be made while no engine runs, survives
the engine's restart, and may be used by several threads at once.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound

from mlflowd.engine import answers, asked, asking, body, foreign, podman, stock, streams
from mlflowd.engine.client import Client, connect
from mlflowd.engine.images import Images
from mlflowd.engine.translate import translated
from mlflowd.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlflowd.engine.api import Progress
    from mlflowd.model import Container, ContainerSpec, EngineEvent, EngineInfo, Image
    from mlflowd.model.deployed import Deployed

_ACTIONS = ("create", "start", "die", "stop", "kill", "pause", "unpause", "oom", "destroy", "rename")
"""The events that mean "look now"; an exec's are none of them. Podman goes by words of its own besides."""

_CONFLICT = 409
_ROOT = "0:0"
_NETWORK_GONE = re.compile(r"network \S+ not found")
_PREDEFINED = frozenset({"bridge", "default", "host", "none", "podman"})
"""Networks that every engine has."""


class DockerEngine:
    """The engine at a unix socket; every call is bounded by `timeout` seconds, see engine/api.py."""

    def __init__(self, socket: str, timeout: float) -> None:
        """`socket` is a path, a leading unix:// is allowed; nothing is asked of the engine yet."""
        self._socket = socket.removeprefix("unix://")
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._streams: weakref.WeakSet[streams.Stream] = weakref.WeakSet()
        self._closed = False

    def info(self) -> EngineInfo:
        """Return what the engine says of itself. Two calls, the second slow (some 20 ms)."""
        with translated("asking the engine about itself", self._socket):
            api = self._api()
            return answers.info(api.version(api_version=False), api.info())

    def inspect(self, name: str) -> Container | None:
        """Return the container of this name or full id, None where there is none."""
        with translated(f"inspecting the container {name}", self._socket):
            try:
                found = answers.container(self._api().inspect_container(name))
            except NotFound:
                return None
        # The engine also takes the beginning of an id; a name of hex digits must not find a stranger's container.
        return found if name in (found.name, found.id) else None

    def create(self, spec: ContainerSpec) -> str:
        """Make the container and return its id; what a failed attempt made is removed again."""
        api = self._api()
        if api.podman:
            podman.require_sources(spec)
        made = self._make_network(spec.network)
        try:
            with translated(f"creating the container {spec.name}", self._socket):
                arguments = body.of(spec, api, self._this_machine(spec)) | {"user": self._user(spec)}
                return answers.created(api.create_container(**arguments))
        except EngineError:
            if made:
                self._remove_network(spec.network)
            raise

    def start(self, container_id: str) -> None:
        """Start; the engine itself leaves a running container as it is (status 304).

        A network that somebody removed meanwhile is made again: without that no later start could succeed.
        """
        with translated(f"starting the container {container_id[:12]}", self._socket):
            try:
                self._api().start(container_id)
            except NotFound as error:
                if not _NETWORK_GONE.search(str(error.explanation)):
                    raise
                self._reconnect(container_id)
                self._api().start(container_id)

    def stop(self, container_id: str, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds (rounded up: the API takes whole ones)."""
        with translated(f"stopping the container {container_id[:12]}", self._socket), suppress(NotFound):
            try:
                self._api().stop(container_id, timeout=math.ceil(grace))
            except APIError as error:
                # Podman kills a paused container in vain, and says so: its processes are frozen.
                if "is running or paused" not in str(error.explanation):
                    raise
                self._api().unpause(container_id)
                self._api().stop(container_id, timeout=math.ceil(grace))

    def unpause(self, container_id: str) -> None:
        """Let a paused container run again."""
        with translated(f"unpausing the container {container_id[:12]}", self._socket):
            try:
                self._api().unpause(container_id)
            except APIError as error:
                # Docker 20.10 has no status of its own for it: a 500.
                if "is not paused" not in str(error.explanation):
                    raise

    def remove(self, container_id: str) -> None:
        """Remove a stopped container with its anonymous volumes; one that is being removed is fine too."""
        with translated(f"removing the container {container_id[:12]}", self._socket), suppress(NotFound):
            try:
                self._api().remove_container(container_id, v=True)
            except APIError as error:
                if "is already in progress" not in str(error.explanation):
                    raise

    def publishers(self, port: int) -> tuple[str, ...]:
        """Names of the running containers that publish this host port, sorted."""
        with translated("listing the containers", self._socket):
            return answers.publishers(self._api().containers(), port)

    def deployments(self) -> tuple[str, ...]:
        """See engine/foreign.py."""
        return foreign.names(self._api())

    def deployed(self, name: str) -> Deployed | None:
        """See engine/foreign.py."""
        return foreign.deployed(self._api(), name)

    def copy_out(self, container_id: str, path: str) -> Iterator[bytes] | None:
        """See engine/foreign.py."""
        return foreign.copy_out(self._api(), container_id, path)

    def retire(self, container_id: str, name: str) -> None:
        """See engine/foreign.py."""
        foreign.retire(self._api(), container_id, name)

    def reinstate(self, container_id: str, name: str, policy: str) -> None:
        """See engine/foreign.py."""
        foreign.reinstate(self._api(), container_id, name, policy)

    def image(self, reference: str) -> Image | None:
        """See engine/images.py."""
        return self._images().image(reference)

    def stand_in(self, reference: str) -> Image | None:
        """See engine/images.py."""
        return self._images().stand_in(reference)

    def made(self, label: str) -> tuple[Image, ...]:
        """See engine/stock.py."""
        return stock.made(self._api(), label)

    def remove_image(self, image_id: str) -> None:
        """See engine/stock.py."""
        stock.remove(self._api(), image_id)

    def load(self, archive: Iterable[bytes], progress: Progress) -> tuple[str, ...]:
        """See engine/stock.py."""
        return stock.load(self._api(), archive, progress)

    def pull(self, reference: str, progress: Progress) -> Image:
        """See engine/images.py."""
        return self._images().pull(reference, progress)

    def build(
        self, context: bytes, *, tag: str, labels: Mapping[str, str], build_args: Mapping[str, str], progress: Progress
    ) -> Image:
        """See engine/images.py."""
        return self._images().build(context, tag=tag, labels=labels, build_args=build_args, progress=progress)

    def import_root(self, archive: str, *, tag: str, changes: Sequence[str]) -> Image:
        """See engine/images.py."""
        with translated(f"importing {tag}", self._socket):
            return self._images().import_root(archive, tag=tag, changes=changes)

    def ask(
        self, image_id: str, argv: Sequence[str], limit: float, like: ContainerSpec | None = None, task: str = ""
    ) -> str:
        """See engine/asking.py; a network that is missing is made for the while."""
        if like is None:
            return asking.ask(self._api(), asked.Question(image_id, argv), limit)
        made = self._make_network(like.network)
        try:
            with translated(f"preparing a container like {like.name}", self._socket):
                machine, user = self._this_machine(like), self._user(like)
            question = asked.Question(image_id, argv, replace(like, user=user), machine, task)
            return asking.ask(self._api(), question, limit)
        finally:
            if made:
                self._remove_network(like.network)

    def end(self, task: str) -> int:
        """See engine/asking.py."""
        return asking.end(self._api(), task)

    def events(self, name: str) -> Iterator[EngineEvent]:
        """Subscribe now and yield events as they come; ends, without an exception, when the stream does."""
        filters = {"type": ["container"], "container": [name], "event": (*_ACTIONS, *answers.PODMAN_ACTIONS)}
        # `since` closes the gap between the answer's first byte and the subscription behind it.
        query = {"filters": json.dumps(filters), "since": f"{time.time():.9f}"}
        return streams.events(self._stream("/events", query, "subscribing to events"), name)

    def logs(self, container_id: str, *, since: float, follow: bool, tail: int | None = None) -> Iterator[bytes]:
        """Begin to read now and yield lines; with `follow` until the container ends or the stream does."""
        query = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow))}
        query |= {"since": f"{since:.9f}"} if since > 0 else {}
        query |= {} if tail is None else {"tail": str(tail)}
        doing = f"reading the log of the container {container_id[:12]}"
        stream = self._stream(f"/containers/{container_id}/logs", query, doing)
        if follow and self._api().podman:
            podman.LogWatch(lambda: self.inspect(container_id), stream).start()
        return streams.log_lines(stream)

    def close(self) -> None:
        """Give every connection back for good; streams end, later calls raise EngineError."""
        with self._lock:
            self._closed = True
            for stream in tuple(self._streams):
                stream.close()
            if self._client:
                self._client.close()

    def _api(self) -> Client:
        """Return a client that has agreed with the engine on a version. Raises as engine/api.py says."""
        with self._lock:
            client, closed = self._client, self._closed
        if closed:
            raise EngineError("The connection to the container engine was closed by mlflowd itself.")
        if client is None or client.stale:
            client = connect(self._socket, self._timeout)  # Outside the lock: a hung engine must not block close().
            with self._lock:
                self._client = client
        return client

    def _images(self) -> Images:
        return Images(self._api())

    def _stream(self, target: str, query: Mapping[str, str], doing: str) -> streams.Stream:
        target = f"/v{self._api().api_version}{target}"
        stream = streams.Stream(self._socket, target, query, self._timeout, doing)
        with self._lock:
            self._streams.add(stream)
            if self._closed:
                stream.close()
        return stream

    def _make_network(self, name: str) -> bool:
        """Make the bridge network where it is missing; whether it was."""
        if name in _PREDEFINED:
            return False
        with translated(f"creating the network {name}", self._socket):
            try:
                labels = {body.LABEL_NETWORK: name}
                self._api().create_network(name, driver="bridge", labels=labels, check_duplicate=True)
            except APIError as error:
                # Podman 4.3 has no status of its own for it: a 500.
                if error.status_code == _CONFLICT or "network already exists" in str(error.explanation):
                    return False
                raise
        return True

    def _user(self, spec: ContainerSpec) -> str:
        """Return the user inside: root of a rootless engine's container is that engine's own user outside.

        Any other would be one of its subordinate ids, which the stores do not belong to.
        """
        return _ROOT if self._api().rootless() else spec.user

    def _this_machine(self, spec: ContainerSpec) -> str:
        """Return what stands for this machine's address in the container's /etc/hosts."""
        api = self._api()
        return podman.gateway(api, spec.network) if spec.host_names and api.podman else body.HOST_GATEWAY

    def _reconnect(self, container_id: str) -> None:
        """Make the network of a container again, and tell the container of the new one."""
        name = str(self._api().inspect_container(container_id)["HostConfig"]["NetworkMode"])
        self._make_network(name)
        self._api().connect_container_to_network(container_id, name)

    def _remove_network(self, name: str) -> None:
        with suppress(EngineError), translated(f"removing the network {name}", self._socket):
            self._api().remove_network(name)
