"""A program inside a guest: some clients that log metrics at a steady rate until SIGTERM, and what became of it.

    python3 write_load.py CLIENTS RATE >result.json      # RATE: writes a second, of all clients together

Needs Python's own library alone. Prints "ready" once every client has a run, in the end one line of JSON: the number of
writes, the seconds, the longest write, the errors. A client that is late does not catch up: the rate is a ceiling.
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import threading
import time

ENDED = threading.Event()
LIMIT = 60.0


class Client(threading.Thread):
    """One client with a connection and a run of its own."""

    def __init__(self, number: int, period: float) -> None:
        super().__init__()
        self.number, self.period = number, period
        self.connection = http.client.HTTPConnection("127.0.0.1", 5000, timeout=LIMIT)
        self.spans: list[float] = []
        self.errors: list[str] = []
        created = self.ask("runs/create", {"experiment_id": "0", "start_time": int(time.time() * 1000)})
        self.id = json.loads(created)["run"]["info"]["run_id"]

    def ask(self, path: str, body: dict[str, object]) -> bytes:
        headers = {"Content-Type": "application/json"}
        self.connection.request("POST", f"/api/2.0/mlflow/{path}", json.dumps(body), headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status} {text[:200]!r}")
        return text

    def run(self) -> None:
        step, due = 0, time.monotonic()
        while not ENDED.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            due, step = max(due + self.period, began), step + 1
            now = int(time.time() * 1000)
            try:
                metric = {"run_id": self.id, "key": "loss", "value": step / 7, "timestamp": now, "step": step}
                self.ask("runs/log-metric", metric)
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                self.connection.close()
            self.spans.append(time.monotonic() - began)


def main() -> None:
    count, rate = int(sys.argv[1]), float(sys.argv[2])
    clients = [Client(number, count / rate) for number in range(count)]
    signal.signal(signal.SIGTERM, lambda *_: ENDED.set())
    began = time.monotonic()
    for client in clients:
        client.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for client in clients:
        client.join()
    spans = sorted(span for client in clients for span in client.spans)
    told = {
        "writes": len(spans),
        "seconds": time.monotonic() - began,
        "longest": spans[-1],
        "median": spans[len(spans) // 2],
        "errors": [error for client in clients for error in client.errors],
        "runs": {client.id: len(client.spans) - len(client.errors) for client in clients},
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
