from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from fakes.web import web
from mlflowd.model import Address
from mlflowd.server import active_runs
from mlflowd.server.call import Login

if TYPE_CHECKING:
    from collections.abc import Callable

Runs = list[dict[str, Any]]
NOW = int(time.time() * 1000)
LONG_AGO = NOW - 3_600_000


def a_run(
    number: int, *metrics: int, start: int = LONG_AGO, name: str = "train", experiment: str = "1"
) -> dict[str, Any]:
    data = {"metrics": [{"key": f"m{each}", "value": 1.0, "timestamp": each} for each in metrics]}
    return {"info": {"run_id": f"r{number}", "run_name": name, "experiment_id": experiment, "start_time": start},
            "data": data if metrics else {}}  # fmt: skip


class Mlflow:
    """Answers searches as MLflow does, page by page."""

    def __init__(self, runs: Runs, experiments: int = 1, page: int = 2) -> None:
        self.runs, self.page = runs, page
        self.experiments = [
            {"experiment_id": str(number), "name": f"e{number}"} for number in range(1, experiments + 1)
        ]
        self.asked: list[dict[str, Any]] = []

    def reply(self, _: str, path: str, body: bytes) -> tuple[int, bytes]:
        wanted = json.loads(body)
        self.asked.append(wanted)
        if "experiments/search" in path:
            return self._page("experiments", self.experiments, wanted)
        found = [run for run in self.runs if run["info"]["experiment_id"] in wanted["experiment_ids"]]
        return self._page("runs", found, wanted)

    def _page(self, name: str, found: list[dict[str, Any]], wanted: dict[str, Any]) -> tuple[int, bytes]:
        first = int(wanted.get("page_token", 0))
        more = {"next_page_token": str(first + self.page)} if first + self.page < len(found) else {}
        return 200, json.dumps({name: found[first : first + self.page], **more}).encode()


def look(server: Mlflow | Callable[[str, str, bytes], tuple[int, bytes]], **options: Any) -> tuple[str, ...]:
    with web(server.reply if isinstance(server, Mlflow) else server) as address:
        return active_runs.active(address, 10, 300, **options)


def test_a_run_with_a_young_metric_is_active_and_told_for_people() -> None:
    server = Mlflow([a_run(1, LONG_AGO, NOW - 1000), a_run(2, LONG_AGO)])
    assert look(server) == ("train (r1) in e1",)
    assert server.asked[-1]["filter"] == "attributes.status = 'RUNNING'"


def test_a_run_that_has_just_begun_is_active_without_a_metric() -> None:
    assert look(Mlflow([a_run(1, start=NOW - 1000, name=""), a_run(2)])) == ("a run (r1) in e1",)


def test_all_pages_of_all_experiments_are_read() -> None:
    runs = [a_run(number, NOW, experiment=str(number % 1201 + 1)) for number in range(1201)]
    server = Mlflow(runs, experiments=1201, page=400)
    assert len(look(server)) == 1000  # as many as are named
    assert all(len(wanted["experiment_ids"]) <= 500 for wanted in server.asked if "experiment_ids" in wanted)
    few = Mlflow(runs[:900], experiments=1201, page=400)
    assert len(look(few)) == 900


def test_an_answer_larger_than_a_probe_s_is_read() -> None:
    run = a_run(1, *range(NOW, NOW + 4000))
    assert len(json.dumps(run)) > 64 * 1024
    assert look(Mlflow([run])) == ("train (r1) in e1",)


def test_the_login_and_the_prefix_go_with_each_request() -> None:
    seen: list[dict[str, str]] = []
    with web(Mlflow([a_run(1, NOW)]).reply, seen) as address:
        assert active_runs.active(address, 10, 300, "/team", Login("admin", "x"))
    assert len(seen) == 2
    assert all(each["path"].startswith("/team/api/") and each["Authorization"] for each in seen)
    assert all("probe=mlflowd" in each["path"] for each in seen)


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"{}"),
        (401, b""),
        (200, b"no JSON"),
        (200, b'{"experiments": 5}'),
        (200, b'{"experiments": ["x", null]}'),
        (200, b'{"experiments": [{}], "runs": [{"info": "x"}]}'),
    ],
)
def test_a_server_that_does_not_say_has_no_active_runs(answer: tuple[int, bytes]) -> None:
    assert look(lambda *_: answer) == ()


def test_a_server_that_is_away_has_no_active_runs() -> None:
    assert active_runs.active(Address("127.0.0.1", 9), 1, 300) == ()


def test_what_was_found_until_the_time_is_over_is_told() -> None:
    server = Mlflow([a_run(1, NOW), a_run(2, NOW), a_run(3, NOW)])

    def slow(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if b"page_token" in body:
            time.sleep(3)
        return server.reply(method, path, body)

    with web(slow) as address:
        began = time.monotonic()
        assert active_runs.active(address, 0.7, 300) == ("train (r1) in e1", "train (r2) in e1")
        assert time.monotonic() - began < 2
