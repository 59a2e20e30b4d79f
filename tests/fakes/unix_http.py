"""An HTTP server on a unix socket that answers what a test tells it to: a broken engine, a proxy before one."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Answer = tuple[int, bytes] | tuple[int, Iterator[bytes]]
    Handler = Callable[[str, str], Answer]


class UnixHttp:
    """Answers each request with the status and the bytes of `handler(method, path)`; a context manager.

    A negative status sends the bytes as they are, without a header, and closes the connection; of an iterator
    it sends piece by piece.
    """

    def __init__(self, path: Path, handler: Handler) -> None:
        self.asked: list[str] = []
        self._open: list[socket.socket] = []
        outer = self

        class _Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer._open.append(self.connection)

            def answer(self) -> None:
                outer.asked.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = handler(self.command, self.path)
                if status < 0:
                    self.close_connection = True
                elif isinstance(body, bytes):
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                for piece in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(piece)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server looks for

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class _Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                """Say nothing: a client that hangs up is what the tests want."""

        self._server = _Server(str(path), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()
