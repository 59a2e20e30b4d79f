"""The probes against peers on loopback that behave well, badly and worse."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fakes import web as fakes_web
from mlflowd.model import Address
from mlflowd.server import probe
from mlflowd.server.probe import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Reply = tuple[int, bytes]


@contextmanager
def web(reply: Callable[[str, str, bytes], Reply]) -> Iterator[tuple[Address, list[dict[str, str]]]]:
    """Serve HTTP; `reply` gets method, path and body. Yields the address and the headers of each request."""
    seen: list[dict[str, str]] = []

    def plainly(method: str, path: str, body: bytes) -> Reply:
        return reply(method, path.partition("?")[0], body)

    with fakes_web.web(plainly, seen, Location="http://127.0.0.1:9/") as address:
        yield address, seen


@contextmanager
def peer(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[Address]:
    """Accept connections and let `behave` have each, until the event says that the test is over."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while not over.is_set():
            connection, _ = listener.accept()
            with connection:
                if not over.is_set():
                    try:
                        behave(connection, over)
                    except OSError:
                        continue

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield Address("127.0.0.1", listener.getsockname()[1])
    finally:
        over.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join()
        listener.close()


def silent(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    over.wait()


def dripping(connection: socket.socket, over: threading.Event) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X: y\r\n" * 1000:
        if over.wait(0.02):
            return
        connection.sendall(bytes([byte]))


def endless(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"x" * 65536)


def babbling(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"220 mail.example ESMTP\r\n")


def closing(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(65536)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# --- health -------------------------------------------------------------------------------------


def test_mlflow_is_known_by_its_constant_answer() -> None:
    with web(lambda *_: (200, b"OK")) as (address, _):
        assert probe.health(address, 1).kind is Kind.OK


@pytest.mark.parametrize("reply", [(200, b"<html>nginx</html>"), (302, b""), (404, b"OK"), (200, b"")])
def test_a_server_of_somebody_else_does_not_pass(reply: Reply) -> None:
    with web(lambda *_: reply) as (address, seen):
        answer = probe.health(address, 1)
    assert (answer.kind, answer.ok, len(seen)) == (Kind.FOREIGN, False, 1)
    assert "not as MLflow does" in answer.sentence


def test_a_server_error_is_no_foreign_server() -> None:
    with web(lambda *_: (500, b"Internal Server Error")) as (address, _):
        assert probe.health(address, 1).kind is Kind.ERROR


def test_a_peer_without_http_is_foreign() -> None:
    with peer(babbling) as address:
        assert probe.health(address, 1).kind is Kind.FOREIGN


def test_no_listener_and_a_closed_connection_are_refusals() -> None:
    address = Address("127.0.0.1", unused_port())
    answer = probe.health(address, 1)
    assert (answer.kind, answer.sentence) == (Kind.REFUSED, f"nothing listens on {address}")
    with peer(closing) as address:
        assert probe.health(address, 1).kind is Kind.REFUSED


def test_an_unreachable_name_is_a_refusal() -> None:
    assert probe.health(Address("name.invalid", 5000), 1).kind is Kind.REFUSED


@pytest.mark.parametrize("behaviour", [silent, dripping])
def test_the_limit_is_for_the_whole_answer(behaviour: Callable[[socket.socket, threading.Event], None]) -> None:
    with peer(behaviour) as address:
        began = time.monotonic()
        answer = probe.health(address, 0.3)
        assert answer.kind is Kind.TIMEOUT
        assert 0.25 <= answer.seconds <= time.monotonic() - began < 0.8


def test_an_endless_body_is_cut_off() -> None:
    with peer(endless) as address:
        answer = probe.health(address, 5)
    assert answer.kind is Kind.FOREIGN
    assert answer.seconds < 2
    assert len(answer.sentence) < probe.MAX_QUOTE + 200


def test_a_wildcard_address_is_probed_by_loopback() -> None:
    with web(lambda *_: (200, b"OK")) as (address, _):
        assert probe.health(Address("0.0.0.0", address.port), 1).ok  # noqa: S104 - probed, not bound


def test_the_ipv6_wildcard_is_probed_by_loopback() -> None:
    answer = probe.health(Address("::", unused_port()), 1)
    assert answer.kind is Kind.REFUSED
    assert "[::]" in answer.sentence


def test_probes_are_marked_and_name_a_host_that_mlflow_accepts() -> None:
    with web(lambda *_: (200, b"OK")) as (address, seen):
        probe.health(address, 1)
        probe.database(address, 1)
        probe.artifacts(address, 1)
    assert len(seen) == 5
    assert all(request["path"].endswith("?probe=mlflowd") for request in seen)
    assert all(request["Host"] == "localhost" for request in seen)


# --- database -----------------------------------------------------------------------------------


def database(status: int, body: object) -> probe.Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with web(lambda *_: (status, content)) as (address, _):
        return probe.database(address, 1)


def test_a_search_result_proves_the_database() -> None:
    assert database(200, {"experiments": [{"experiment_id": "0"}]}).kind is Kind.OK
    assert database(200, {}).kind is Kind.OK


def test_a_page_instead_of_a_result_is_no_proof() -> None:
    assert database(200, b"<html></html>").kind is Kind.ERROR
    assert database(200, ["x"]).kind is Kind.ERROR


def test_a_lock_is_told_from_other_errors() -> None:
    text = "(sqlite3.OperationalError) database is locked"
    locked = database(503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": text})
    assert locked.kind is Kind.LOCKED
    other = database(500, {"error_code": "INTERNAL_ERROR", "message": "no such table: experiments"})
    assert other.kind is Kind.ERROR
    assert other.sentence == "the database request failed: status 500: no such table: experiments"


def test_a_page_of_an_error_is_quoted_short_and_printable() -> None:
    answer = database(500, b"\x1b[31m<h1>Oops</h1>\n\n" + b"x" * 5000)
    assert "<h1>Oops</h1> xxx" in answer.sentence
    assert "\x1b" not in answer.sentence
    assert len(answer.sentence) < 400


def test_a_server_that_wants_credentials_is_not_degraded_by_it() -> None:
    answer = database(401, b"You are not authenticated.")
    assert (answer.kind, answer.ok) == (Kind.DENIED, True)


def test_no_answer_of_the_database_in_time_means_busy() -> None:
    with peer(silent) as address:
        answer = probe.database(address, 0.2)
    assert (answer.kind, answer.sentence) == (Kind.TIMEOUT, "the database is busy: no answer within 0.2 s")


def test_the_database_of_a_server_that_is_down_is_not_judged() -> None:
    assert probe.database(Address("127.0.0.1", unused_port()), 1).kind is Kind.REFUSED


# --- artifacts ----------------------------------------------------------------------------------


class Store:
    """An artifact store in memory, with faults to switch on."""

    def __init__(self, *, put: int = 200, get: int = 200, delete: int = 200, returns: bytes | None = None) -> None:
        self.kept: dict[str, bytes] = {}
        self.methods: list[str] = []
        self._statuses = {"PUT": put, "GET": get, "DELETE": delete}
        self._returns = returns

    def reply(self, method: str, path: str, body: bytes) -> Reply:
        self.methods.append(method)
        if method == "PUT":
            self.kept[path] = body
        content = self.kept.get(path, b"") if method == "GET" else b""
        if method == "DELETE":
            del self.kept[path]
        return self._statuses[method], content if self._returns is None else self._returns


def artifacts(store: Store) -> probe.Answer:
    with web(store.reply) as (address, _):
        return probe.artifacts(address, 1)


def test_an_object_goes_round_and_is_deleted() -> None:
    store = Store()
    assert artifacts(store).kind is Kind.OK
    assert (store.methods, store.kept) == (["PUT", "GET", "DELETE"], {})


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (Store(put=500), "takes nothing"),
        (Store(get=404), "does not give back"),
        (Store(returns=b"something else"), "something else"),
        (Store(delete=500), "does not delete"),
    ],
)
def test_each_step_that_fails_is_named_and_the_object_deleted(store: Store, says: str) -> None:
    answer = artifacts(store)
    assert answer.kind is Kind.ERROR
    assert says in answer.sentence
    assert (store.methods[-1], store.kept) == ("DELETE", {})


def test_artifacts_behind_credentials_are_not_judged() -> None:
    assert artifacts(Store(put=401)).kind is Kind.DENIED


def test_a_store_that_hangs_is_left_within_the_limit() -> None:
    with peer(silent) as address:
        answer = probe.artifacts(address, 0.4)
    assert answer.kind is Kind.TIMEOUT
    assert answer.seconds < 0.8
