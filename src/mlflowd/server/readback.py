"""What a server holds, read back through its API as a client reads it: how much, and the files of a few.

Effects: HTTP requests to the address given; nothing is written. For commands: unlike a probe's, an answer may be large.
Seen with MLflow 3.17.2 and 3.10.1.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from mlflowd.errors import MlflowdError
from mlflowd.server.call import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflowd.model import Address
    from mlflowd.server.call import Login

_API = "/api/2.0/mlflow"
_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_SCHEME = "mlflow-artifacts:"
_PAGE = 1000
"""Experiments, models or versions of one answer."""
_RUNS_PAGE = 200
"""Runs of one answer: each comes with its parameters, metrics and tags."""
_EXPERIMENTS_AT_ONCE = 100
_PROMPTS = "tag.`mlflow.prompt.is_prompt` = 'true'"
_PIECE = 1 << 20
_LOCAL = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not bound


@dataclass(frozen=True, slots=True)
class Holdings:
    """How much there is, deleted experiments and runs included."""

    experiments: int
    runs: int
    models: int
    """Registered models."""
    complete: bool = True
    """Whether all runs were counted: it ends at the limit."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file as the server gave it."""

    path: str
    """In the artifact store."""
    bytes: int
    sha256: str


class Reader:
    """A client of one server. Every method raises MlflowdError where the server does not answer as MLflow does."""

    def __init__(self, address: Address, timeout: float, prefix: str = "", login: Login | None = None) -> None:
        """`timeout`: seconds for each piece of an answer."""
        self._host = _LOCAL.get(address.host, address.host)
        self._address = address
        self._timeout = timeout
        self._prefix = prefix.rstrip("/")
        self._login = login

    def holdings(self, most_runs: int) -> Holdings:
        """Count what the server shows; no more than some `most_runs` runs."""
        experiments = list(self.experiments())
        count = 0
        for _ in self.runs(experiments):
            count += 1
            if count >= most_runs:
                break
        return Holdings(len(experiments), count, self._models(), complete=count < most_runs)

    def experiments(self) -> Iterator[str]:
        """Yield the ids of all experiments."""
        for each in self._listed("POST", "experiments/search", "experiments", {"view_type": "ALL"}):
            yield str(each["experiment_id"])

    def runs(self, experiments: list[str]) -> Iterator[dict[str, Any]]:
        """Yield the runs of these experiments, the newest first of each hundred experiments."""
        for start in range(0, len(experiments), _EXPERIMENTS_AT_ONCE):
            some = experiments[start : start + _EXPERIMENTS_AT_ONCE]
            asked = {"experiment_ids": some, "run_view_type": "ALL", "order_by": ["attributes.start_time DESC"]}
            yield from self._listed("POST", "runs/search", "runs", asked, _RUNS_PAGE)

    def run_files(self, run: str, most: int) -> list[str]:
        """Return the paths of a run's artifacts, below its own directory."""
        found: list[str] = []
        pending = [""]
        while pending and len(found) < most:
            query = {"run_id": run} | ({"path": at} if (at := pending.pop()) else {})
            for each in self._answer("GET", f"{_API}/artifacts/list?{urlencode(query)}").get("files", []):
                (pending if each.get("is_dir") else found).append(str(each["path"]))
        return found[:most]

    def model_places(self, most: int) -> Iterator[tuple[str, str]]:
        """Yield registered versions ("name 3") and where the artifacts of each lie."""
        for index, each in enumerate(self._listed("GET", "model-versions/search", "model_versions", {})):
            if index >= most:
                return
            query = urlencode({"name": each["name"], "version": each["version"]})
            told = self._answer("GET", f"{_API}/model-versions/get-download-uri?{query}")
            yield f"{each['name']} {each['version']}", str(told.get("artifact_uri", ""))

    def content(self, path: str) -> Content:
        """Download a file of the artifact store and return what came."""
        digest, size = hashlib.sha256(), 0

        def take(piece: bytes) -> None:
            nonlocal size
            digest.update(piece)
            size += len(piece)

        self._request("GET", f"{_PROXY}/{quote(path)}", None, take)
        return Content(path, size, digest.hexdigest())

    def _models(self) -> int:
        """Count the registered models; prompts are some, too, which a search leaves out unless it asks for them."""
        names = {
            str(each["name"])
            for more in ({}, {"filter": _PROMPTS})
            for each in self._listed("GET", "registered-models/search", "registered_models", more)
        }
        return len(names)

    def _listed(
        self, method: str, path: str, name: str, asked: dict[str, Any], page: int = _PAGE
    ) -> Iterator[dict[str, Any]]:
        """Yield the entries of all pages."""
        token = ""
        while True:
            message = {**asked, "max_results": page} | ({"page_token": token} if token else {})
            if method == "GET":
                told = self._answer(method, f"{_API}/{path}?{urlencode(message)}")
            else:
                told = self._answer(method, f"{_API}/{path}", message)
            yield from told.get(name, [])
            if not (token := str(told.get("next_page_token") or "")):
                return

    def _answer(self, method: str, path: str, message: dict[str, Any] | None = None) -> dict[str, Any]:
        pieces: list[bytes] = []
        self._request(method, path, json.dumps(message).encode() if message is not None else None, pieces.append)
        try:
            told = json.loads(b"".join(pieces))
        except ValueError as error:
            raise self._error(path, "what it sent is no JSON") from error
        if not isinstance(told, dict):
            raise self._error(path, "what it sent is no object of JSON")
        return told

    def _request(self, method: str, path: str, body: bytes | None, take: Callable[[bytes], object]) -> None:
        connection = http.client.HTTPConnection(self._host, self._address.port, timeout=self._timeout)
        headers = {"Host": "localhost"} | ({"Content-Type": "application/json"} if body else {})
        headers |= {"Authorization": self._login.header} if self._login else {}
        mark = f"{'&' if '?' in path else '?'}{MARK}"
        try:
            with contextlib.closing(connection):
                connection.request(method, f"{self._prefix}{path}{mark}", body, headers)
                with connection.getresponse() as answer:
                    if answer.status != http.HTTPStatus.OK:
                        raise self._error(path, f"status {answer.status}")
                    while piece := answer.read(_PIECE):
                        take(piece)
        except (OSError, http.client.HTTPException) as error:
            raise self._error(path, str(error) or type(error).__name__) from error

    def _error(self, path: str, why: str) -> MlflowdError:
        return MlflowdError(f"The server at {self._address} did not answer {path.partition('?')[0]}: {why}.")


def store_path(uri: str) -> str:
    """Return the path in the artifact store of a place behind the proxy, "" for a place elsewhere."""
    return uri.removeprefix(_SCHEME).lstrip("/") if uri.startswith(_SCHEME) else ""
