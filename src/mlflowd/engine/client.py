"""docker-py's low-level client, made lean: one API version, one place where the transport's errors are translated.

Effects: calls on the engine's socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.errors import APIError

from mlflowd.engine import answers
from mlflowd.engine.translate import SOCKET_NOTE, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from requests import PreparedRequest, Response

API_VERSION = "1.41"
"""What Docker 20.10 and Podman 4 speak and Docker 28 still does: the same answers from all of them."""

_BAD_REQUEST = 400


class Client(docker.APIClient):
    """An APIClient on a unix socket; making one asks nothing of the engine.

    Several threads may share it: requests keeps a pool of connections, and no call here uses cookies.
    """

    def __init__(self, socket: str, timeout: float, version: str = API_VERSION) -> None:
        """Prepare calls on `socket` (a path), each bounded by `timeout` seconds."""
        # docker-py only hands the number on to requests, which takes a float.
        super().__init__(f"unix://{socket}", version=version, timeout=timeout)  # type: ignore[arg-type]
        self.trust_env = False  # Neither a proxy nor ~/.netrc belongs between us and the socket.
        self.socket = socket
        self.stale = False
        """The engine may have been exchanged since: agree on a version again."""
        self.podman = False
        """Whether Podman stands behind the socket; `connect` finds out."""
        self._rootless: bool | None = None

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:  # noqa: ANN401  (requests' own signature)
        """Send, as requests.Session does; a failure carries the socket as a note for `translated`."""
        try:
            response = super().send(request, **kwargs)
        except requests.RequestException as error:
            error.add_note(SOCKET_NOTE + self.socket)
            self.stale = True
            raise
        if response.status_code == _BAD_REQUEST:
            self.stale = True
        return response

    def load(self, archive: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        """Send the archive of an image, piece by piece, and yield the engine's events; without a time limit.

        docker-py's load_image has one, and the engine is silent while it writes gigabytes.
        """
        answer = self._post(  # type: ignore[attr-defined]  # The stubs leave out what is protected.
            self._url("/images/load"),  # type: ignore[attr-defined]
            data=iter(archive),
            params={"quiet": "false"},
            headers={"Content-Type": "application/x-tar"},
            stream=True,
            timeout=None,
        )
        self._raise_for_status(answer)
        return self._stream_helper(answer, decode=True)  # type: ignore[attr-defined, no-any-return]

    def rootless(self) -> bool:
        """Return whether the engine runs as an ordinary user; asks it once."""
        if self._rootless is None:
            self._rootless = answers.is_rootless(self.info())
        return self._rootless

    def _raise_for_status(self, response: Response) -> None:
        """Raise APIError also for an error status whose JSON is not the engine's: docker-py looks for a message."""
        try:
            super()._raise_for_status(response)  # type: ignore[misc]  # The stubs leave out what is protected.
        except (LookupError, TypeError) as error:
            said = f"status {response.status_code}, {response.text[:200]}"
            raise APIError(said, response=response, explanation=said) from error


def connect(socket: str, timeout: float) -> Client:
    """Return a client of a version that this engine speaks: API_VERSION, or what is nearest. One call."""
    client = Client(socket, timeout)
    with translated("asking the engine for its version", socket):
        answer = client.version(api_version=False)
    version = _nearest(str(answer.get("MinAPIVersion", "")), str(answer.get("ApiVersion", "")))
    client = client if version == API_VERSION else Client(socket, timeout, version)
    client.podman = answers.is_podman(answer)
    return client


def _nearest(lowest: str, highest: str) -> str:
    """Return API_VERSION, moved into what the engine speaks; an end it does not tell is none."""
    if lowest and _number(lowest) > _number(API_VERSION):
        return lowest
    if highest and _number(highest) < _number(API_VERSION):
        return highest
    return API_VERSION


def _number(version: str) -> tuple[int, ...]:
    """Return (1, 41) for "1.41", () for what is no version."""
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()
