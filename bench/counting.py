"""A door before the engine's socket that counts the calls which pass it.

Listens on a unix socket of its own and hands every byte on. A call is a request line at the beginning of what the
client sends: the engine's clients write the head of a request in one piece.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|DELETE) (\S+) HTTP/1\.1\r\n")
CHUNK = 65536


class CountingDoor:
    """Passes bytes between `path` and the engine's socket; `calls` has (monotonic time, method and path) of each."""

    def __init__(self, path: Path, engine: str) -> None:
        self.calls: list[tuple[float, str]] = []
        self._engine = engine
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        path.chmod(0o666)
        threading.Thread(target=self._accept, daemon=True).start()

    def since(self, instant: float) -> list[str]:
        """Return the calls after this instant of time.monotonic()."""
        return [call for when, call in self.calls if when >= instant]

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(self._engine)
                threading.Thread(target=self._pass, args=(client, engine, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(engine, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, count: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if count and (found := REQUEST.match(data)):
                    self.calls.append((time.monotonic(), b" ".join(found.groups()).decode()))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
