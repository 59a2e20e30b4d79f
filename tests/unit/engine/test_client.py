from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fakes.unix_http import UnixHttp
from mlflowd.engine.client import API_VERSION, connect
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import EngineError, EngineUnreachableError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("lowest", "highest", "spoken"),
    [
        ("1.12", "1.41", "1.41"),  # Docker 20.10
        ("1.24", "1.45", "1.41"),  # Docker 26.1
        ("1.24", "1.50", "1.41"),  # Docker 28
        ("1.44", "1.52", "1.44"),  # Docker 29
        ("1.24", "1.40", "1.40"),
        ("", "", "1.41"),
    ],
)
def test_the_version_is_ours_moved_into_what_the_engine_speaks(
    tmp_path: Path, lowest: str, highest: str, spoken: str
) -> None:
    version = json.dumps({"MinAPIVersion": lowest, "ApiVersion": highest}).encode()
    with UnixHttp(tmp_path / "s", lambda *_: (200, version)) as server:
        client = connect(str(tmp_path / "s"), 5.0)
        assert client.api_version == spoken
        assert server.asked == ["GET /version"]
        client.close()


def test_an_exchanged_engine_is_agreed_with_anew(tmp_path: Path) -> None:
    lowest = ["1.12"]

    def answer(_: str, target: str) -> tuple[int, bytes]:
        if target == "/version":
            return 200, json.dumps({"MinAPIVersion": lowest[0], "ApiVersion": "1.52"}).encode()
        if target.startswith(f"/v{API_VERSION}/") and lowest[0] > API_VERSION:
            return 400, b'{"message": "client version 1.41 is too old. Minimum supported API version is 1.44"}'
        return 404, b'{"message": "No such container: x"}'

    engine = DockerEngine(str(tmp_path / "s"), 5.0)
    with UnixHttp(tmp_path / "s", answer) as server:
        assert engine.inspect("x") is None
        lowest[0] = "1.44"
        with pytest.raises(EngineUnreachableError, match="too old"):
            engine.inspect("x")
        assert engine.inspect("x") is None
        assert server.asked[-1] == "GET /v1.44/containers/x/json"
    engine.close()


def test_the_version_is_asked_once(tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/s", 5.0)
    with UnixHttp(tmp_path / "s", lambda _, t: (200, b"{}") if t == "/version" else (200, b"[]")) as server:
        for _ in range(3):
            assert engine.publishers(1) == ()
        assert server.asked.count("GET /version") == 1
    engine.close()


def test_several_threads_share_an_engine(tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/s", 5.0)
    answer = b'{"message": "No such container: x"}'
    with (
        UnixHttp(tmp_path / "s", lambda _, target: (200, b"{}") if target == "/version" else (404, answer)),
        ThreadPoolExecutor(8) as threads,
    ):
        assert list(threads.map(engine.inspect, ["x"] * 100)) == [None] * 100
    engine.close()


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'"x"', b"<html>Bad Gateway</html>", b""])
@pytest.mark.parametrize("status", [404, 500])
def test_an_error_status_without_the_engines_message_is_an_engine_error(
    tmp_path: Path, status: int, body: bytes
) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/s", 5.0)
    with (
        UnixHttp(tmp_path / "s", lambda _, target: (200, b"{}") if target == "/version" else (status, body)),
        pytest.raises(EngineError),
    ):
        engine.publishers(1)
    engine.close()
