"""HTTP requests of mlflowd's own to its server, all within one time limit.

Effects: HTTP requests to the address given. The limit is for all requests of a Call together, so that a peer that
sends a byte a second ends like one that sends nothing; redirects are not followed, which also keeps a login from
being sent elsewhere, and of a body no more than
MAX_BODY bytes are read unless more are asked for.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from mlflowd.model import Address

MAX_BODY = 64 * 1024
"""Bytes read of an answer."""
MARK = "probe=mlflowd"
"""The query that every request carries, by which loglines drops the access-log lines of our own making."""

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not bound


@dataclass(frozen=True, slots=True)
class Login:
    """A user of MLflow's basic-auth."""

    user: str
    """Without a colon (RFC 7617)."""
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """Return the value of the Authorization header."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


class Call:
    """Requests to one address within one time limit."""

    def __init__(self, address: Address, timeout: float, prefix: str = "", login: Login | None = None) -> None:
        """`prefix` is the server's static prefix."""
        self.address = address
        self.timeout = timeout
        self.login = login
        self._prefix = prefix.rstrip("/")
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the time since the call began."""
        return time.monotonic() - self._began

    def extend(self, timeout: float) -> None:
        """Set the limit, still counted from the beginning."""
        self.timeout = timeout

    def send(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json", limit: int = MAX_BODY
    ) -> tuple[int, bytes]:
        """Return the status and the first `limit` bytes; raises OSError or http.client.HTTPException."""
        connection = http.client.HTTPConnection(self.address.host, self.address.port)
        with _connect(self.address, self._began + self.timeout) as connection.sock:
            # MLflow refuses Host headers that it does not know; localhost is on its list and on ours (names.py).
            headers = {"Host": "localhost", "Connection": "close"} | ({"Content-Type": kind} if body else {})
            if self.login is not None:
                headers["Authorization"] = self.login.header
            mark = f"{'&' if '?' in path else '?'}{MARK}"
            connection.request(method, f"{self._prefix}{path}{mark}", body or None, headers)
            with connection.getresponse() as response:
                return response.status, response.read(limit)


def fields(body: bytes) -> dict[str, object] | None:
    """Return the JSON object that `body` is, None where it is something else."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


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
