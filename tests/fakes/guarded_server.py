"""A server with MLflow's basic-auth, as far as mlflowd uses it: users, their passwords, one right each."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from mlflowd.model import Address

if TYPE_CHECKING:
    from collections.abc import Callable

Reply = tuple[int, dict[str, Any] | bytes]

EXISTS: Reply = (400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "… scrypt:32768:8:1$the-hash …"})
"""MLflow 3.17.2 sends the statement that failed, with the hash of the password in it."""


class GuardedServer:
    """Listens on loopback while it is entered; `old` is a server before MLflow's newer way to give rights."""

    def __init__(self, *, old: bool = False) -> None:
        self.users = {"admin": "the-admin-s-password"}
        self.rights: set[tuple[str, str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        """User (or "") and path, of each request."""
        self.forgotten: set[str] = set()
        """Users who were deleted while a worker still believes their passwords."""
        self.broken = False
        self._old = old
        self._kept: dict[str, bytes] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, content = outer._answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the names that http.server calls

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self._http.server_address[1])

    @property
    def paths(self) -> list[str]:
        return [path for _, path in self.asked]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _answer(self, method: str, target: str, header: str, body: bytes) -> Reply:
        path, _, query = target.partition("?")
        user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        self.asked.append((user, path))
        if self.broken:
            return 500, {"error_code": "INTERNAL_ERROR", "message": "no such table: users"}
        if not password or self.users.get(user) != password:
            return 401, b"You are not authenticated."
        if user in self.forgotten:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"User with username={user} not found"}
        if path.startswith("/api/2.0/mlflow-artifacts/"):
            return self._artifact(method, path, user, body)
        answer = self._routes.get((method, path.partition("/mlflow/")[2]))
        return answer(user, json.loads(body or b"{}"), query) if answer else (404, b"<!doctype html>")

    @property
    def _routes(self) -> dict[tuple[str, str], Callable[[str, dict[str, str], str], Reply]]:
        new = {("POST", "users/permissions/grant"): self._grant}
        old = {("POST", "experiments/permissions/create"): self._grant_before}
        return {
            ("POST", "experiments/search"): lambda *_: (200, {}),
            ("GET", "users/get"): self._get,
            ("POST", "users/create"): self._create,
            ("PATCH", "users/update-password"): self._update,
            **(old if self._old else new),
        }

    def _get(self, user: str, _: dict[str, str], query: str) -> Reply:
        return (200, {}) if query.startswith(f"username={user}&") else (403, b"Permission denied")

    def _create(self, user: str, message: dict[str, str], _: str) -> Reply:
        if user != "admin":
            return 403, b"Permission denied"
        if message["username"] in self.users:
            return EXISTS
        self.users[message["username"]] = message["password"]
        return 200, {}

    def _update(self, user: str, message: dict[str, str], _: str) -> Reply:
        if user != "admin":
            return 403, b"Permission denied"
        if message["username"] not in self.users:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such user"}
        self.users[message["username"]] = message["password"]
        return 200, {}

    def _grant(self, _: str, message: dict[str, str], __: str) -> Reply:
        self.rights.add((message["username"], message["resource_id"], message["permission"]))
        return 200, {}

    def _grant_before(self, _: str, message: dict[str, str], __: str) -> Reply:
        right = (message["username"], message["experiment_id"], message["permission"])
        if right in self.rights:
            return EXISTS
        self.rights.add(right)
        return 200, {}

    def _artifact(self, method: str, path: str, user: str, body: bytes) -> Reply:
        experiment = path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/").partition("/")[0]
        if (user, experiment, "MANAGE") not in self.rights:
            return 403, b"Permission denied"
        if method == "PUT":
            self._kept[path] = body
        return 200, self._kept[path]
