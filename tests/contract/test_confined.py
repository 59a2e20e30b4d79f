"""The real server at work in the confined container: artifacts, a model and traces, by real clients."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.test_server import host  # noqa: F401 - a fixture
from e2e.client_environment import PROGRAM, client_python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from contract.test_server import Host, Server
    from mlflowd.model import Address

pytestmark = pytest.mark.engine

LIMIT = 300.0
TRACE = """
import json, sys, mlflow
mlflow.set_experiment("traced")
with mlflow.start_span("outer") as outer:
    outer.set_inputs({"question": "why"})
    with mlflow.start_span("inner") as inner:
        inner.set_outputs({"answer": 42})
mlflow.flush_trace_async_logging()
print(json.dumps(outer.trace_id))
"""
READ = """
import json, sys, mlflow
spans = mlflow.get_trace(json.load(sys.stdin)).data.spans
print(json.dumps({span.name: [span.inputs, span.outputs] for span in spans}))
"""
SPAN = {"name": "by hand", "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "kind": 1}
"""A span as OpenTelemetry's exporters send it; the ids are those of the standard's own example."""


@pytest.fixture(scope="module")
def server(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:  # noqa: F811 - the fixture
    with host.server(tmp_path_factory.mktemp("confined"), server={"workers": 2}) as server:
        server.start()
        server.serve()
        yield server


def client(server: Server, home: Path, *argv: str, said: object = None) -> Any:
    """Run a program of a client that has no credentials, and return the JSON of its last line."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "MLFLOW_TRACKING_URI": f"http://{server.address}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    command = [str(client_python()), *argv]
    done = subprocess.run(
        command,
        check=False, capture_output=True, text=True, env=environ, cwd=home, timeout=LIMIT, input=json.dumps(said),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_an_artifact_of_50_mb_and_a_model_come_back_as_they_were_sent(server: Server, tmp_path: Path) -> None:
    written = client(server, tmp_path, str(PROGRAM), "write")
    found = client(server, tmp_path, str(PROGRAM), "read", said=written)
    for key in ("run", "params", "metrics", "artifact", "model", "predictions"):
        assert found[key] == written[key]
    assert sum(file.stat().st_size for file in server.artifacts.rglob("*") if file.is_file()) > 50_000_000


def test_a_trace_comes_back_as_it_was_sent(server: Server, tmp_path: Path) -> None:
    trace = client(server, tmp_path, "-c", TRACE)
    found = client(server, tmp_path, "-c", READ, said=trace)
    assert found == {"outer": [{"question": "why"}, None], "inner": [None, {"answer": 42}]}


def test_a_trace_of_opentelemetry_is_taken(server: Server) -> None:
    now = time.time_ns()
    span = SPAN | {"startTimeUnixNano": str(now - 10**9), "endTimeUnixNano": str(now)}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    status, _ = post(server.address, "/v1/traces", body, {"x-mlflow-experiment-id": "0"})
    assert status == http.HTTPStatus.OK
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
    status, answer = post(server.address, "/api/3.0/mlflow/traces/search", {"locations": [location]}, {})
    assert (status, [trace["trace_id"] for trace in answer["traces"]]) == (200, [f"tr-{SPAN['traceId']}"])


def post(address: Address, path: str, body: object, headers: dict[str, str]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()
