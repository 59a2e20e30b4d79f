"""The door to the container engine, as a protocol: everything mlflowd may ask of it.

Two things stand behind it: `docker.DockerEngine` (Docker, and Podman by its Docker socket) and the fake of
tests/fakes/engine.py. tests/contract/ runs one suite against both.

Every method may raise EngineUnreachableError (also for an answer that makes no sense), EnginePermissionError
or EngineError; each method says what else. Calls are bounded by the engine's time limit, `stop`, `pull`, `load`,
`build` and the streams aside: a stream has that limit up to its first byte. Any thread may call any method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlflowd.model import Container, ContainerSpec, EngineEvent, EngineInfo, Image
    from mlflowd.model.deployed import Deployed

Progress = Callable[[str], None]
"""Takes a sentence such as "pulling …: 120 of 480 MB"."""


class Engine(Protocol):
    """What mlflowd may ask of a container engine."""

    def info(self) -> EngineInfo:
        """Return what the engine says of itself."""
        ...

    def inspect(self, name: str) -> Container | None:
        """Return the container of this name or id, None where there is none. One engine call."""
        ...

    def create(self, spec: ContainerSpec) -> str:
        """Make a container (and its network, where missing) and return its id; not started.

        Raises ImageMissingError, and EngineError where the name is taken.
        """
        ...

    def start(self, container_id: str) -> None:
        """Start; a running container is left as it is. Raises PortTakenError, and EngineError for a paused one."""
        ...

    def stop(self, container_id: str, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds; a stopped or missing container is left as it is."""
        ...

    def unpause(self, container_id: str) -> None:
        """Let a paused container run again; a running one is left as it is."""
        ...

    def remove(self, container_id: str) -> None:
        """Remove a stopped container; a missing one is fine."""
        ...

    def publishers(self, port: int) -> tuple[str, ...]:
        """Names of the running containers that publish this host port."""
        ...

    def deployments(self) -> tuple[str, ...]:
        """Names of all containers, whoever made them and whether they run or not, sorted."""
        ...

    def deployed(self, name: str) -> Deployed | None:
        """Return all that was asked of the container of this name or id when it was made, None where there is none."""
        ...

    def copy_out(self, container_id: str, path: str) -> Iterator[bytes] | None:
        """Return a tar archive, in pieces, of a path inside a container that runs or not; None where it has none.

        Its entries begin with the last part of the path. What is mounted there is in it, but not of a container that
        is stopped and whose mount is a volume of a file system elsewhere.
        """
        ...

    def retire(self, container_id: str, name: str) -> None:
        """Take the container's restart policy away and give it another name; may be done twice.

        Raises EngineError where the name is taken, and on Podman 4.3, which cannot change a policy.
        """
        ...

    def reinstate(self, container_id: str, name: str, policy: str) -> None:
        """Give the container this name and this restart policy ("always", "on-failure:5"); may be done twice."""
        ...

    def image(self, reference: str) -> Image | None:
        """Return the local image of this reference or id, None where there is none."""
        ...

    def stand_in(self, reference: str) -> Image | None:
        """Return the newest local image that `mlflowd image build` made in place of `reference`."""
        ...

    def made(self, label: str) -> tuple[Image, ...]:
        """Return the local images that carry this label, with any value; their `user` is not told."""
        ...

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its name; a missing one is fine.

        Raises EngineError where a container uses it, another image is made from it, or it has several names.
        """
        ...

    def load(self, archive: Iterable[bytes], progress: Progress) -> tuple[str, ...]:
        """Load the images of an archive (a tar as of `docker save`, in pieces) and return their names or ids.

        Raises EngineError with the engine's words; what the archive's iterator raises passes.
        """
        ...

    def pull(self, reference: str, progress: Progress) -> Image:
        """Fetch an image. Raises ImageMissingError with the registry's refusal in plain words."""
        ...

    def build(
        self, context: bytes, *, tag: str, labels: Mapping[str, str], build_args: Mapping[str, str], progress: Progress
    ) -> Image:
        """Build an image from a tar archive that holds a Dockerfile. Raises EngineError with the last lines."""
        ...

    def import_root(self, archive: str, *, tag: str, changes: Sequence[str]) -> Image:
        """Make an image from the tar archive of a root file system at this path."""
        ...

    def ask(
        self, image_id: str, argv: Sequence[str], limit: float, like: ContainerSpec | None = None, task: str = ""
    ) -> str:
        """Run `argv` in a throw-away container without network or mounts and return what it printed.

        With `like` it has that container's environment, user, mounts, network, host names and /tmp, but no port;
        private files must have been written. With `task` (a word) it has its memory and processes as well, and `end`
        finds it. Raises AskedError where it fails, takes longer than `limit` seconds or is ended, with its words but
        without the secrets of `like`; the container is gone. After any other EngineError it may still be there.
        """
        ...

    def end(self, task: str) -> int:
        """End what `ask` runs for this task, also what an mlflowd has left that was killed; return how many there were.

        When this returns none of them is there any more. What is asked later is not: who has another thread that is
        about to ask calls this again, until that thread is through.
        """
        ...

    def events(self, name: str) -> Iterator[EngineEvent]:
        """Subscribe, then yield the events of the container of this name as they come; ends when the stream ends.

        The subscription stands when this returns. Docker 26 may tell of a `stop` before the `die`.
        """
        ...

    def logs(self, container_id: str, *, since: float, follow: bool, tail: int | None = None) -> Iterator[bytes]:
        """Yield log lines (stdout and stderr, no line end, timestamp and a blank before the text).

        `since` is a wall-clock time in seconds of the epoch (0 for all). A follower of Docker 20.10 often misses
        the last line of a container that ends where that line has no end; without `follow` it is read.
        """
        ...

    def close(self) -> None:
        """Give every connection back for good; streams end, in whichever thread they are read."""
        ...
