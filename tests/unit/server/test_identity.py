from __future__ import annotations

import json

import pytest

from fakes.web import web
from mlflowd.model import Address
from mlflowd.server import identity

OLDEST = {"experiment_id": "0", "name": "Default", "creation_time": 1763660000123}


def test_oldest_experiment_is_asked_for_deleted_ones_included() -> None:
    asked: list[dict[str, object]] = []

    def reply(_: str, path: str, body: bytes) -> tuple[int, bytes]:
        assert path.partition("?")[0] == "/ml/api/2.0/mlflow/experiments/search"
        asked.append(json.loads(body))
        return 200, json.dumps({"experiments": [OLDEST]}).encode()

    with web(reply) as address:
        assert identity.oldest(address, 5, "/ml") == "0@1763660000123"
    assert asked == [{"max_results": 1, "view_type": "ALL", "order_by": ["creation_time ASC", "experiment_id ASC"]}]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"{}"),
        (200, b'{"experiments": []}'),
        (200, b'{"experiments": [{"experiment_id": "0"}]}'),
        (200, b'{"experiments": [7]}'),
        (200, b"<html>"),
        (401, b"who are you"),
        (503, b'{"error_code": "TEMPORARILY_UNAVAILABLE"}'),
    ],
)
def test_what_tells_no_experiment_is_no_identity(status: int, body: bytes) -> None:
    with web(lambda *_: (status, body)) as address:
        assert identity.oldest(address, 5) == ""


def test_server_that_is_away_has_no_identity() -> None:
    assert identity.oldest(Address("127.0.0.1", 1), 1) == ""
