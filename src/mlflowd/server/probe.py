"""HTTP probes of the server: whether it serves, its database answers, its artifact store keeps what it gets.

Effects: HTTP requests to the address given, and in `artifacts` one small object that is deleted again. Nothing
raises: a server that is down, hung or somebody else's is an Answer. The limit is for a probe as a whole, so that
a peer that sends a byte a second ends like one that sends nothing; redirects are not followed, and of a body no
more than MAX_BODY bytes are read.
"""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from mlflowd.model import Address

MAX_BODY = 64 * 1024
"""Bytes read of an answer."""
MAX_QUOTE = 300
"""Characters of an answer that stand in a sentence."""
MARK = "probe=mlflowd"
"""The query that every probe carries, by which loglines drops the access-log lines of our own making."""
PROBE_DIRECTORY = ".mlflowd-probe"
"""Where in the artifact store the probe's object lies for a moment."""

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not bound
_TO_THE_REQUEST = 0.75
"""Share of the artifact probe's time for PUT and GET; the rest is kept for the DELETE."""


class Kind(StrEnum):
    """What became of a probe."""

    OK = "ok"
    REFUSED = "refused"
    """No connection, or one that was closed without an answer: nothing serves."""
    TIMEOUT = "timeout"
    """No whole answer within the limit: hung, or busy."""
    FOREIGN = "foreign"
    """Something answers, but not as MLflow does."""
    LOCKED = "locked"
    """The database is locked by another process."""
    DENIED = "denied"
    """The server answers but wants credentials or another Host header, so that the layer cannot be seen."""
    ERROR = "error"
    """The server answered with an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one probe: what, a sentence for people, and the seconds it took."""

    kind: Kind
    sentence: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the layer is well, as far as it can be seen."""
        return self.kind in {Kind.OK, Kind.DENIED}


def health(address: Address, timeout: float, prefix: str = "") -> Answer:
    """GET /health: OK only with status 200 and the body "OK", which is MLflow's constant answer.

    `prefix` is the server's static prefix. It says nothing of the stores: MLflow answers it natively.
    """
    call = _Call(address, timeout, prefix)
    try:
        status, body = call.send("GET", "/health")
    except (OSError, http.client.HTTPException) as error:
        return call.lost(error)
    if status == http.HTTPStatus.OK and body.strip() == b"OK":
        return call.answer(Kind.OK, f"{address} answers")
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return call.answer(Kind.ERROR, f"{address} answers GET /health with status {status}: {_quote(body)}")
    return call.answer(
        Kind.FOREIGN, f"{address} answers, but not as MLflow does: GET /health gives {status}: {_quote(body)}"
    )


def database(address: Address, timeout: float, prefix: str = "") -> Answer:
    """Search one experiment: the cheapest request that MLflow answers from its database.

    SQLite waits up to 20 s for a lock before MLflow answers 503, so a smaller `timeout` makes a locked database
    a TIMEOUT, which is to be read as "busy".
    """
    call = _Call(address, timeout, prefix)
    try:
        status, body = call.send("POST", "/api/2.0/mlflow/experiments/search", b'{"max_results": 1}')
    except TimeoutError:
        return call.answer(Kind.TIMEOUT, f"the database is busy: no answer within {timeout:g} s")
    except (OSError, http.client.HTTPException) as error:
        return call.lost(error)
    if status == http.HTTPStatus.OK and _fields(body) is not None:
        return call.answer(Kind.OK, "the database answers")
    if status in {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}:
        return call.answer(Kind.DENIED, f"the server hides its database from the probe: {_message(status, body)}")
    if b"database is locked" in body:
        return call.answer(Kind.LOCKED, "the database is locked by another process")
    return call.answer(Kind.ERROR, f"the database request failed: {_message(status, body)}")


def artifacts(address: Address, timeout: float, prefix: str = "") -> Answer:
    """Put a small object through the server's artifact proxy, read it back, compare, and delete it in any case.

    It leaves the empty directory PROBE_DIRECTORY in a local store.
    """
    path = f"/api/2.0/mlflow-artifacts/artifacts/{PROBE_DIRECTORY}/{secrets.token_hex(8)}"
    content = secrets.token_hex(32).encode()
    call = _Call(address, timeout * _TO_THE_REQUEST, prefix)
    try:
        answer = _store(call, path, content)
    except (OSError, http.client.HTTPException) as error:
        answer = call.lost(error)
    call.extend(timeout)
    deleted = _delete(call, path)
    return answer if answer.kind is not Kind.OK else deleted


def _store(call: _Call, path: str, content: bytes) -> Answer:
    status, body = call.send("PUT", path, content, "application/octet-stream")
    if status in {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}:
        return call.answer(Kind.DENIED, f"the server hides its artifacts from the probe: {_message(status, body)}")
    if status != http.HTTPStatus.OK:
        return call.answer(Kind.ERROR, f"the artifact store takes nothing: {_message(status, body)}")
    status, body = call.send("GET", path)
    if status != http.HTTPStatus.OK:
        return call.answer(Kind.ERROR, f"the artifact store does not give back: {_message(status, body)}")
    if body != content:
        return call.answer(Kind.ERROR, "the artifact store gave back something else than it was given")
    return call.answer(Kind.OK, "the artifact store keeps what it is given")


def _delete(call: _Call, path: str) -> Answer:
    try:
        status, body = call.send("DELETE", path)
    except (OSError, http.client.HTTPException) as error:
        return call.lost(error)
    if status != http.HTTPStatus.OK:
        return call.answer(Kind.ERROR, f"the artifact store does not delete: {_message(status, body)}")
    return call.answer(Kind.OK, "the artifact store keeps what it is given")


class _Call:
    """Requests to one address within one time limit, and the Answers that speak of them."""

    def __init__(self, address: Address, timeout: float, prefix: str) -> None:
        self._address = address
        self._timeout = timeout
        self._prefix = prefix.rstrip("/")
        self._began = time.monotonic()

    def extend(self, timeout: float) -> None:
        """Set the limit, still counted from the beginning."""
        self._timeout = timeout

    def send(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
        """Return the status and the first MAX_BODY bytes; raises OSError or http.client.HTTPException."""
        connection = http.client.HTTPConnection(self._address.host, self._address.port)
        with _connect(self._address, self._began + self._timeout) as connection.sock:
            # MLflow refuses Host headers that it does not know; localhost is among its defaults.
            headers = {"Host": "localhost", "Connection": "close"} | ({"Content-Type": kind} if body else {})
            connection.request(method, f"{self._prefix}{path}?{MARK}", body or None, headers)
            with connection.getresponse() as response:
                return response.status, response.read(MAX_BODY)

    def answer(self, kind: Kind, sentence: str) -> Answer:
        """Return an Answer with the time since the call began."""
        return Answer(kind, sentence, time.monotonic() - self._began)

    def lost(self, error: Exception) -> Answer:
        """Return the Answer for a request that got none."""
        if isinstance(error, TimeoutError):
            return self.answer(Kind.TIMEOUT, f"{self._address} does not answer within {self._timeout:g} s")
        if isinstance(error, ConnectionRefusedError):
            return self.answer(Kind.REFUSED, f"nothing listens on {self._address}")
        if isinstance(error, ConnectionError):
            return self.answer(Kind.REFUSED, f"{self._address} closes the connection without an answer")
        if isinstance(error, http.client.HTTPException):
            return self.answer(Kind.FOREIGN, f"{self._address} does not speak HTTP ({type(error).__name__})")
        return self.answer(Kind.REFUSED, f"{self._address} cannot be reached: {error.strerror or error}")  # type: ignore[attr-defined]


class _BoundedSocket(socket.socket):
    """A connected socket that receives no longer than until `deadline`, an instant of time.monotonic().

    The time limit of a plain socket starts anew with every byte that comes.
    """

    deadline = 0.0

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive within what is left of the time."""
        self.settimeout(_left(self.deadline))
        return super().recv_into(buffer, nbytes, flags)


def _connect(address: Address, deadline: float) -> _BoundedSocket:
    host = _LOOPBACK.get(address.host, address.host)
    plain = socket.create_connection((host, address.port), _left(deadline))
    bounded = _BoundedSocket(plain.family, plain.type, plain.proto, plain.detach())
    bounded.deadline = deadline
    bounded.settimeout(_left(deadline))
    return bounded


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _fields(body: bytes) -> dict[str, object] | None:
    """Return the JSON object that `body` is, None where it is something else."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _message(status: int, body: bytes) -> str:
    """Return the status and MLflow's own message, or what else came."""
    message = (_fields(body) or {}).get("message")
    return f"status {status}: {_quote(str(message).encode() if message else body)}"


def _quote(body: bytes) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in body.decode(errors="replace")).split())
    return f"{text[:MAX_QUOTE]}…" if len(text) > MAX_QUOTE else text or "(empty)"
