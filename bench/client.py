"""The load, by the real MLflow client; runs inside a container of the server's own image, on the host network.

Reads one JSON task a line from stdin ({"task": …, "url": …, "seconds": …}) and writes one JSON result a line.
Each client is a process of its own, forked after the import, as clients are in life. Retries are off, so that
an error of the server is seen as one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow  # type: ignore[import-not-found, unused-ignore]  # only the container has it
from mlflow.entities import Metric  # type: ignore[import-not-found, unused-ignore]  # as above

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 40
"""Requests of each client before the clock starts: every worker opens its store at its first one."""
BATCH = 1000
MEBIBYTE = 2**20
Result = dict[str, float]
context = multiprocessing.get_context("fork")


def timed(seconds: float, act: Callable[[int], object]) -> dict[str, Any]:
    """Call `act` with 0, 1, … for `seconds`; return the latencies, the errors and the time taken, in seconds."""
    latencies: list[float] = []
    errors, begin = 0, time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        try:
            act(len(latencies))
        except mlflow.exceptions.MlflowException:
            errors += 1
        latencies.append(time.perf_counter() - now)
    return {"latencies": latencies, "errors": errors, "seconds": time.perf_counter() - begin}


def log_metric(url: str, seconds: float, barrier: Any) -> dict[str, Any]:  # noqa: ANN401 - a barrier has no public type
    """Log single metrics to a run of its own."""
    client, run = new_run(url)

    def act(step: int) -> None:
        client.log_metric(run, "loss", 1 / (step + 1), step=step, synchronous=True)

    for step in range(WARM_UP):
        act(step)
    barrier.wait()
    return timed(seconds, act)


def log_batch(url: str, seconds: float, barrier: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Log a thousand metrics a request."""
    client, run = new_run(url)

    def act(step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(f"m{key}", float(step), now, step) for key in range(BATCH)]
        client.log_batch(run, metrics=metrics, synchronous=True)

    act(0)
    barrier.wait()
    return timed(seconds, lambda step: act(step + 1))


def artifact(url: str, megabytes: float, _barrier: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Put one file of `megabytes` MiB to the server and get it back; MiB per second each way."""
    client, run = new_run(url)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "blob.bin")
        file.write_bytes(os.urandom(MEBIBYTE) * int(megabytes))
        begin = time.perf_counter()
        client.log_artifact(run, str(file))
        there = time.perf_counter()
        back = Path(client.download_artifacts(run, file.name, str(Path(folder, tempfile.mkdtemp(dir=folder)))))
        end = time.perf_counter()
        if back.stat().st_size != file.stat().st_size:
            raise SystemExit("the artifact came back with another size")
    return {"up": megabytes / (there - begin), "down": megabytes / (end - there)}


def new_run(url: str) -> tuple[Any, str]:
    """Return a client and the id of a new run."""
    client = mlflow.MlflowClient(tracking_uri=url)
    return client, client.create_run("0").info.run_id


def _child(pipe: Any, work: Callable[..., dict[str, Any]], url: str, amount: float, barrier: Any) -> None:  # noqa: ANN401 - as above
    pipe.send(work(url, amount, barrier))


def at_once(work: Callable[..., dict[str, Any]], url: str, amount: float, clients: int) -> list[dict[str, Any]]:
    """Run `work` in so many processes at the same time and return what each measured."""
    barrier = context.Barrier(clients, timeout=120)
    started = []
    for _ in range(clients):
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(theirs, work, url, amount, barrier))
        child.start()
        theirs.close()
        started.append((child, mine))
    results = [mine.recv() for _, mine in started]
    for child, _ in started:
        child.join()
    return results


def summary(results: list[dict[str, Any]]) -> Result:
    """Return rate per second, median and 99th percentile latency (seconds), errors, over all clients."""
    latencies = sorted(latency for result in results for latency in result["latencies"])
    return {
        "rate": sum(len(result["latencies"]) / result["seconds"] for result in results),
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))],
        "worst": latencies[-1],
        "errors": sum(result["errors"] for result in results),
    }


def answer(task: dict[str, Any]) -> Result:
    """Carry out one task."""
    url, amount = task["url"], task["amount"]
    match task["task"]:
        case "sequential":
            return summary(at_once(log_metric, url, amount, 1))
        case "concurrent":
            return summary(at_once(log_metric, url, amount, task["clients"]))
        case "batch":
            found = summary(at_once(log_batch, url, amount, 1))
            return {"rate": found["rate"] * BATCH, "errors": found["errors"]}
        case "artifact":
            return at_once(artifact, url, amount, 1)[0]
        case other:
            raise SystemExit(f"unknown task {other}")


def main() -> None:
    """Answer every line of stdin."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
