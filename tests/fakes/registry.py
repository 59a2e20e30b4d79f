"""An image registry on the loopback address, as far as a pull needs one (distribution specification 1.1).

Engines speak plain HTTP to a registry on 127.0.0.0/8 without any setting.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

Answer = tuple[int, str, bytes]
"""Status, content type, body."""


def error(status: int, code: str, message: str = "") -> Answer:
    """Return an answer as a registry refuses."""
    body = {"errors": [{"code": code, "message": message or code.lower().replace("_", " ")}]}
    return status, "application/json", json.dumps(body).encode()


class Registry:
    """A context manager; `answers` maps a tag of the repository "mlflow" to what its manifest request gets."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._blobs: dict[str, bytes] = {}
        self._answers = {**answers, "good": self._image(), "elsewhere": self._list_of("s390x")}
        registry = self

        class _Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, kind, body = registry._answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if "/manifests/" in self.path and status == 200:
                    self.send_header("Docker-Content-Digest", _digest(body))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 (http.server's name)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.repository = f"127.0.0.1:{self._server.server_address[1]}/mlflow"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> Answer:
        if path == "/v2/":
            return 200, "application/json", b"{}"
        _, _, kind, name = path.strip("/").split("/")
        if kind == "blobs":
            return 200, "application/octet-stream", self._blobs[name]
        by_digest = {_digest(body): (status, kind, body) for status, kind, body in self._answers.values()}
        return self._answers.get(name) or by_digest.get(name) or error(404, "MANIFEST_UNKNOWN")

    def _image(self) -> Answer:
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            entry = tarfile.TarInfo("payload")
            entry.size = 3_000_000
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
        architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
        root = {"type": "layers", "diff_ids": [_digest(layer.getvalue())]}
        config = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["x"]}, "rootfs": root}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._blob("application/vnd.docker.container.image.v1+json", json.dumps(config).encode()),
            "layers": [
                self._blob("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip.compress(layer.getvalue(), 0))
            ],
        }
        return 200, MANIFEST, json.dumps(manifest).encode()

    def _list_of(self, architecture: str) -> Answer:
        entry = {"mediaType": MANIFEST, "size": 2, "digest": _digest(b"{}")}
        entry |= {"platform": {"architecture": architecture, "os": "linux"}}
        return 200, LIST, json.dumps({"schemaVersion": 2, "mediaType": LIST, "manifests": [entry]}).encode()

    def _blob(self, kind: str, content: bytes) -> dict[str, object]:
        digest = _digest(content)
        self._blobs[digest] = content
        return {"mediaType": kind, "size": len(content), "digest": digest}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
