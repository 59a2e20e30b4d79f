from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from fakes.web import web
from mlflowd.model import Address
from mlflowd.server import gate
from mlflowd.server.call import Login
from mlflowd.server.probe import Answer, Kind

ADMIN, PROBE = Login("admin", "x"), Login("mlflowd-probe", "y")
Reply = tuple[int, dict[str, Any] | bytes]


class Mlflow:
    """A server with one experiment; `broken` says what it answers to a path instead, `lies` that it keeps nothing."""

    def __init__(self, broken: dict[str, Reply] | None = None, *, empty: bool = False, lies: bool = False) -> None:
        self.experiments: dict[str, dict[str, str]] = {} if empty else {"7": {}, "0": {}}
        self.kept: dict[str, bytes] = {}
        self.lies = lies
        self.broken = broken or {}
        self.paths: list[str] = []

    def reply(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        path = path.partition("&probe")[0].partition("?probe")[0]
        self.paths.append(f"{method} {path.rpartition('/')[2].partition('?')[0]}")
        status, told = self._reply(method, path, body)
        return status, told if isinstance(told, bytes) else json.dumps(told).encode()

    def _reply(self, method: str, path: str, body: bytes) -> Reply:
        name = path.partition("?")[0].rpartition("/")[2].replace("-", "_")
        if name in self.broken:
            return self.broken[name]
        if "mlflow-artifacts" in path:
            if "artifacts" in self.broken:
                return self.broken["artifacts"]
            return self._artifact(method, path, body)
        wanted = json.loads(body or b"{}")
        if path.endswith("experiments/search"):
            found = [] if "filter" in wanted else [{"experiment_id": one} for one in self.experiments][:1]
            return 200, {"experiments": found}
        if path.endswith("runs/search"):
            return 200, {}
        return self._tags(name, wanted, path)

    def _tags(self, name: str, wanted: dict[str, str], path: str) -> Reply:
        number = str(int(wanted.get("experiment_id") or path.rpartition("=")[2]))
        if (tags := self.experiments.get(number)) is None:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No Experiment"}
        if name == "set_experiment_tag" and not self.lies:
            tags[wanted["key"]] = wanted["value"]
        if name == "delete_experiment_tag":
            del tags[wanted["key"]]
        told = [{"key": key, "value": value} for key, value in tags.items()]
        return 200, {"experiment": {"tags": told}} if name == "get" else {}

    def _artifact(self, method: str, path: str, body: bytes) -> Reply:
        if method == "PUT":
            self.kept[path] = body
        return 200, self.kept.get(path, b"") if method == "GET" else {}


def through(server: Mlflow, login: Login | None = None, *, proxied: bool = True) -> Answer:
    with web(server.reply) as address:
        return gate.try_out(address, 10, "", login, proxied=proxied)


@pytest.mark.parametrize("login", [None, ADMIN])
def test_a_server_that_reads_and_writes_passes_and_nothing_of_it_stays(login: Login | None) -> None:
    server = Mlflow()
    answer = through(server, login)
    assert answer.kind is Kind.OK
    assert answer.sentence == "the database is read and written; the artifact store keeps what it is given"
    assert server.experiments["7"] == {}, "the oldest one's tag is gone again"
    assert server.paths == [
        *("POST search", "POST search", "POST set-experiment-tag", "GET get", "POST delete-experiment-tag"),
        *(path for path in server.paths if path.startswith(("PUT", "GET ", "DELETE")) and path != "GET get"),
    ]


def test_artifacts_that_pass_the_server_by_are_not_tried() -> None:
    server = Mlflow()
    assert through(server, proxied=False).sentence == "the database is read and written"
    assert not any(path.startswith("PUT") for path in server.paths)


def test_without_an_experiment_there_is_nothing_to_write_to() -> None:
    assert "no experiment to write to" in through(Mlflow(empty=True), proxied=False).sentence


def test_the_probes_own_user_writes_to_the_first_experiment() -> None:
    server = Mlflow()
    assert "read and written" in through(server, PROBE).sentence
    assert "POST set-experiment-tag" in server.paths


@pytest.mark.parametrize("gone", [(403, {}), (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}), (400, {})])
def test_a_user_who_may_not_write_reads_alone(gone: Reply) -> None:
    answer = through(Mlflow({"set_experiment_tag": gone}), PROBE)
    assert answer.kind is Kind.OK
    assert "may not write" in answer.sentence
    assert through(Mlflow({"set_experiment_tag": gone}), ADMIN).kind is not Kind.OK


def test_a_tag_that_an_old_mlflow_cannot_delete_stays() -> None:
    server = Mlflow({"delete_experiment_tag": (404, b"Not Found")})
    assert through(server).kind is Kind.OK
    assert list(server.experiments["7"]) == [gate.TAG]


def test_what_was_written_has_to_be_read_back() -> None:
    answer = through(Mlflow(lies=True))
    assert answer.kind is Kind.ERROR
    assert "not read back" in answer.sentence


@pytest.mark.parametrize(
    ("broken", "kind", "said"),
    [
        ({"search": (500, {"message": "no such table"})}, Kind.ERROR, "searched: status 500: no such table"),
        ({"search": (200, b"<html>")}, Kind.ERROR, "searched"),
        ({"set_experiment_tag": (500, b"attempt to write a readonly database")}, Kind.ERROR, "cannot be set"),
        ({"set_experiment_tag": (503, b"database is locked")}, Kind.LOCKED, "locked"),
        ({"delete_experiment_tag": (500, b"x")}, Kind.ERROR, "cannot be deleted"),
        ({"get": (500, b"x")}, Kind.ERROR, "not read back"),
    ],
)
def test_a_server_that_fails_at_any_of_it_does_not_pass(broken: dict[str, Reply], kind: Kind, said: str) -> None:
    answer = through(Mlflow(broken))
    assert (answer.kind, answer.ok) == (kind, False)
    assert said in answer.sentence


def test_an_artifact_store_that_takes_nothing_does_not_pass() -> None:
    answer = through(Mlflow({"artifacts": (500, b"disk full")}))
    assert (answer.kind, "takes nothing" in answer.sentence) == (Kind.ERROR, True)


def test_who_asks_in_vain_is_told_apart_from_what_is_broken() -> None:
    assert through(Mlflow({"search": (401, b"")})).kind is Kind.DENIED
    assert through(Mlflow({"search": (401, b"")}), ADMIN).kind is Kind.REJECTED


def test_a_server_that_is_away_or_silent_does_not_pass() -> None:
    assert gate.try_out(Address("127.0.0.1", 9), 1).kind is Kind.REFUSED

    over = threading.Event()

    def silent(*_: object) -> tuple[int, bytes]:
        over.wait(10)
        return 200, b"{}"

    with web(silent) as address:
        assert gate.try_out(address, 0.5).kind is Kind.TIMEOUT
        over.set()
