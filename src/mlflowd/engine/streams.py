"""The engine's endless answers, events and logs, on a connection each. Effects: reads the engine's socket.

Plain http.client, because such a stream needs a time limit up to its first byte and none behind it, and must
end when another thread says so.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from mlflowd.engine import answers
from mlflowd.engine.translate import answered, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self

    from mlflowd.model import EngineEvent

_OK = 200
_HEADER = struct.Struct(">BxxxL")
"""A frame's header: the stream (1 stdout, 2 stderr) and the length of what follows."""
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) ")
_LONGEST = 1 << 20
"""Bytes of a line; a longer one is cut, so that a server without line ends cannot fill the daemon's memory."""
_ENDS = (OSError, HTTPException, ValueError)
"""How a stream ends when the engine goes away or the socket is shut under a read."""


class _Connection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Stream:
    """One endless answer; `close` may be called by any thread and ends a read that waits."""

    def __init__(self, path: str, target: str, query: Mapping[str, str], timeout: float, doing: str) -> None:
        """Ask for `target` on the socket `path`; `timeout` seconds hold until the answer begins.

        Raises EngineUnreachableError, EnginePermissionError, and EngineError for an answer that is an error.
        """
        self.ended = threading.Event()
        """Set once nobody reads it any more."""
        self._connection = _Connection(path, timeout)
        try:
            with translated(doing, path):
                self._connection.request("GET", f"{target}?{urlencode(query)}")
                self._socket = self._connection.sock
                self._response = self._connection.getresponse()
                _raise_for_status(self._response, doing)
                self._socket.settimeout(None)
        except BaseException:
            self._connection.close()
            raise

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer or none at the stream's end."""
        try:
            return self._response.read(size)
        except _ENDS:
            return b""

    def lines(self) -> Iterator[bytes]:
        """Yield lines up to the stream's end."""
        with suppress(*_ENDS):
            yield from self._response

    def close(self) -> None:
        """Shut the connection; whoever reads sees the end and gives the rest back."""
        self.ended.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the connection back; for the thread that reads."""
        self.ended.set()
        self._response.close()
        self._connection.close()


def events(stream: Stream, name: str) -> Iterator[EngineEvent]:
    """Yield the events of the container `name`; the engine's own filter also lets longer names pass."""
    with stream:
        for line in stream.lines():
            event = answers.event(line)
            if event is None:
                return
            names = (event.attributes.get("name", ""), event.attributes.get("oldName", "").removeprefix("/"))
            if name in names:
                yield event


def log_lines(stream: Stream) -> Iterator[bytes]:
    """Yield the lines of a log stream."""
    with stream:
        yield from lines(frames(stream.read))


def frames(read: Callable[[int], bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (stream, data) from multiplexed frames; a cut-off last frame is given as far as it came.

    The format: docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
    """
    while len(header := read(_HEADER.size)) == _HEADER.size:
        number, length = _HEADER.unpack(header)
        yield number, read(length)


def lines(parts: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield lines without their end from frames that each begin with a timestamp.

    The engine gives a line of more than 16 KiB in several frames and stamps each of them; the stamp of the
    first stays. stdout and stderr may interleave within a line, so each has its own rest.
    """
    rest: dict[int, bytes] = {}
    for number, part in parts:
        begun = rest.pop(number, b"")
        if begun and (stamp := _STAMP.match(part)):
            part = part[stamp.end() :]  # noqa: PLW2901  (the part without its stamp is the part)
        *whole, tail = (begun + part).split(b"\n")
        yield from (line.removesuffix(b"\r") for line in whole)
        if len(tail) < _LONGEST:
            rest[number] = tail
        else:
            yield tail
    yield from (tail for tail in rest.values() if tail)


def _raise_for_status(response: HTTPResponse, doing: str) -> None:
    if response.status == _OK:
        return
    body = response.read()
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        said = body.decode(errors="replace").strip() or response.reason
    raise answered(response.status, said, doing)
