"""A Python package index on the loopback address that asks for a password and has tiny packages."""

from __future__ import annotations

import base64
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class PackageIndex:
    """A context manager; `packages` maps names to versions, each an empty module with a __version__."""

    def __init__(self, packages: Mapping[str, str], password: str) -> None:
        wheels = {f"{name}-{version}-py3-none-any.whl": _wheel(name, version) for name, version in packages.items()}
        expected = "Basic " + base64.b64encode(f"reader:{password}".encode()).decode()

        class _Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/").rpartition("/")[2]
                if self.headers.get("Authorization") != expected:
                    self._send(401, b"")
                elif name in wheels:
                    self._send(200, wheels[name])
                else:
                    files = [file for file in wheels if file.startswith(f"{name}-")]
                    links = "".join(f'<a href="/files/{file}">{file}</a>' for file in files)
                    self._send(200 if files else 404, links.encode())

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.url = f"http://reader:{password}@127.0.0.1:{self._server.server_address[1]}/simple"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _wheel(name: str, version: str) -> bytes:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)
    return archive.getvalue()
