"""Runs that clients are writing to now: what an upgrade would interrupt.

Effects: HTTP requests to the address given. Nothing raises: a server that does not answer has no active runs.
"""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING, Any, Final

from mlflowd.server.call import Call, fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.model import Address
    from mlflowd.server.call import Login

_API: Final = "/api/2.0/mlflow"
_RUNNING: Final = "attributes.status = 'RUNNING'"
"""Also the status of every run whose client was killed, for good."""
_EXPERIMENTS: Final = 500
"""Experiments of one request."""
_RUNS: Final = 100
"""Runs of one answer; each comes with its parameters, tags and the last values of its metrics."""
_LARGE: Final = 64 << 20
"""Bytes of an answer."""
_MOST: Final = 1000
"""Runs that are named."""


def active(
    address: Address, timeout: float, within: float, prefix: str = "", login: Login | None = None
) -> tuple[str, ...]:
    """Return the runs that are RUNNING and had a metric, or began, in the last `within` seconds; the newest first.

    Each as "name (run id) in experiment". By the clocks of the clients, which give the times. `timeout` is for all
    requests: what was found until then is returned. `login` has to be one that sees them all, an admin's.
    """
    call = Call(address, timeout, prefix, login)
    since = (time.time() - within) * 1000
    found: list[str] = []
    try:
        experiments = dict(_experiments(call))
        for run in _running(call, tuple(experiments)):
            if _last_sign(run) >= since:
                found.append(_told(run, experiments))
            if len(found) == _MOST:
                break
    except (OSError, http.client.HTTPException, ValueError, TypeError, AttributeError):
        pass  # no answer, an error, or something else than was asked for
    return tuple(found)


def _experiments(call: Call) -> Iterator[tuple[str, str]]:
    """Yield id and name of each active experiment."""
    for each in _pages(call, "experiments/search", "experiments", {"max_results": 1000}):
        yield str(each.get("experiment_id", "")), str(each.get("name", ""))


def _running(call: Call, experiments: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for first in range(0, len(experiments), _EXPERIMENTS):
        wanted = {
            "experiment_ids": experiments[first : first + _EXPERIMENTS],
            "filter": _RUNNING,
            "order_by": ["attributes.start_time DESC"],
            "max_results": _RUNS,
        }
        yield from _pages(call, "runs/search", "runs", wanted)


def _pages(call: Call, path: str, name: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what all pages of an answer list under this name. Raises OSError, HTTPException and ValueError."""
    token: object = ""
    while True:
        body = json.dumps(wanted | ({"page_token": token} if token else {})).encode()
        status, answer = call.send("POST", f"{_API}/{path}", body, limit=_LARGE)
        told = fields(answer) if status == http.HTTPStatus.OK else None
        if told is None:
            raise ValueError(path)
        found = told.get(name, [])
        yield from (each for each in found if isinstance(each, dict)) if isinstance(found, list) else ()
        if not (token := told.get("next_page_token")):
            return


def _last_sign(run: dict[str, Any]) -> float:
    """Return when it was last heard of, in milliseconds of the epoch."""
    metrics = (run.get("data") or {}).get("metrics") or []
    times = [(run.get("info") or {}).get("start_time"), *(metric.get("timestamp") for metric in metrics)]
    return max((float(each) for each in times if each), default=0.0)


def _told(run: dict[str, Any], experiments: dict[str, str]) -> str:
    info = run.get("info") or {}
    experiment = str(info.get("experiment_id", ""))
    name = info.get("run_name") or "a run"
    return f"{name} ({info.get('run_id', '')}) in {experiments.get(experiment, experiment)}"
