"""What a server holds, read back page by page."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlparse

import pytest

from mlflowd.errors import MlflowdError
from mlflowd.model import Address
from mlflowd.server.call import Login
from mlflowd.server.readback import Reader, store_path

if TYPE_CHECKING:
    from collections.abc import Iterator

API = "/api/2.0/mlflow/"
BLOB = b"an artifact" * 300_000


class Answers(BaseHTTPRequestHandler):
    """MLflow's part: three experiments on pages of two, five runs, a model and a prompt, one artifact."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith(API + "experiments/search"):
            self._page("experiments", [{"experiment_id": str(number)} for number in range(3)], asked, 2)
        elif self.path.startswith(API + "runs/search") and asked["run_view_type"] == "ALL":
            runs = [{"info": {"run_id": f"r{number}"}} for number in range(5)]
            self._page("runs", runs if "0" in asked["experiment_ids"] else [], asked, 2)
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        url = urlparse(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == API + "registered-models/search":
            name = "prompt" if "is_prompt" in query.get("filter", "") else "model"
            self._page("registered_models", [{"name": name}], query, 1)
        elif url.path == API + "artifacts/list":
            below = {None: [{"path": "data", "is_dir": True}, {"path": "a.txt"}], "data": [{"path": "data/blob.bin"}]}
            self._send({"files": below[query.get("path")]})
        elif url.path == API + "model-versions/search":
            self._page("model_versions", [{"name": "model", "version": "1"}], query, 1)
        elif url.path == API + "model-versions/get-download-uri":
            self._send({"artifact_uri": f"mlflow-artifacts:/1/models/{query['name']}-{query['version']}/artifacts"})
        elif url.path == "/api/2.0/mlflow-artifacts/artifacts/1/a%20b" and self.headers["Authorization"]:
            self._send(BLOB)
        else:
            self.send_error(404)

    def _page(self, name: str, entries: list[dict[str, Any]], asked: dict[str, Any], size: int) -> None:
        start = int(asked.get("page_token", 0))
        token = {"next_page_token": str(start + size)} if start + size < len(entries) else {}
        self._send({name: entries[start : start + size]} | token)

    def _send(self, content: dict[str, Any] | bytes) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[Address]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield Address("127.0.0.1", server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def test_all_pages_are_counted_and_prompts_are_models_too(address: Address) -> None:
    held = Reader(address, 5).holdings(100)
    assert (held.experiments, held.runs, held.models, held.complete) == (3, 5, 2, True)


def test_counting_runs_ends_at_the_limit_and_says_so(address: Address) -> None:
    held = Reader(address, 5).holdings(3)
    assert (held.runs, held.complete) == (3, False)


def test_artifacts_of_a_run_are_listed_with_those_of_its_directories(address: Address) -> None:
    assert Reader(address, 5).run_files("r0", 10) == ["a.txt", "data/blob.bin"]


def test_a_registered_version_tells_where_its_files_are(address: Address) -> None:
    assert list(Reader(address, 5).model_places(10)) == [("model 1", "mlflow-artifacts:/1/models/model-1/artifacts")]


def test_an_artifact_is_read_to_its_end_and_measured(address: Address) -> None:
    found = Reader(address, 5, login=Login("admin", "a-long-password")).content("1/a b")
    assert (found.bytes, found.sha256) == (len(BLOB), hashlib.sha256(BLOB).hexdigest())


def test_a_refusal_names_the_path_and_no_password(address: Address) -> None:
    with pytest.raises(MlflowdError, match=r"did not answer .*artifacts/gone: status 404") as caught:
        Reader(address, 5, login=Login("admin", "a-long-password")).content("gone")
    assert "a-long-password" not in str(caught.value)


def test_a_server_that_is_down_is_named() -> None:
    with pytest.raises(MlflowdError, match=r"127.0.0.1:1 did not answer"):
        Reader(Address("127.0.0.1", 1), 1).holdings(1)


def test_places_behind_the_proxy_have_a_path_and_others_none() -> None:
    assert store_path("mlflow-artifacts:/1/run/artifacts") == "1/run/artifacts"
    assert store_path("s3://bucket/1") == ""
