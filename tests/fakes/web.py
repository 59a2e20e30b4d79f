"""A web server on loopback whose answers a test decides."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from mlflowd.model import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reply = Callable[[str, str, bytes], tuple[int, bytes]]


@contextmanager
def web(reply: Reply, seen: list[dict[str, str]] | None = None, **headers: str) -> Iterator[Address]:
    """Serve; `reply` gets method, path with query, and body, and returns status and body.

    `seen` gets the method, path and headers of each request; each answer has these headers too.
    """

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if seen is not None:
                seen.append({"method": self.command, "path": self.path, **dict(self.headers)})
            status, content = reply(self.command, self.path, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Address("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
