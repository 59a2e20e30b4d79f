"""One fault on a running host: rows written before, a prober at 20 Hz meanwhile, and what must hold in every case.

    with Trial(host) as trial:
        host.run("docker kill mlflowd")
        trial.wait_recovered(limit)
    # leaving the block asserts: acknowledged rows are there, the database is sound, one container of our name,
    # no restart but those announced, the daemon's watchdog was kept

Effects: writes rows through the server's REST API in the guest; reads its journal.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from e2e.guest import Guest

NAME = "mlflowd"
DATABASE = "/var/lib/mlflowd/backend/mlflow.db"
STARTED = f"docker inspect -f '{{{{.State.StartedAt}}}}' {NAME}"
_PERIOD = 0.05
_ROWS = 20
_CHECK = f"""python3 -c "
import sqlite3
print(sqlite3.connect('file:{DATABASE}?mode=ro', uri=True).execute('PRAGMA integrity_check').fetchone()[0])" """


class Prober(threading.Thread):
    """Asks for /health 20 times a second and remembers when it was answered and when not."""

    def __init__(self, host: Guest) -> None:
        super().__init__(daemon=True)
        self._host = host
        self._ended = threading.Event()
        self.looks: list[tuple[float, bool]] = []

    def run(self) -> None:
        while not self._ended.wait(_PERIOD):
            began = time.monotonic()
            self.looks.append((began, self._host.serving()))

    def end(self) -> None:
        self._ended.set()
        self.join(10)

    def outage(self) -> float:
        """Seconds from the first look without an answer to the next one with it, added up."""
        total, began = 0.0, None
        for at, answered in list(self.looks):
            if answered and began is not None:
                total, began = total + at - began, None
            elif not answered and began is None:
                began = at
        return total + (time.monotonic() - began if began is not None else 0.0)

    def first_miss(self) -> float:
        """Return when a look was without an answer for the first time, in seconds of the epoch."""
        return time.time() - time.monotonic() + next(at for at, answered in self.looks if not answered)


@dataclass
class Trial:
    """A fault with its witnesses. `restarts`: how many starts of the server the fault may cause."""

    host: Guest
    restarts: int | None = 0
    daemon_stays: bool = True
    """Whether the same daemon process must be there at the end."""
    sqlite: bool = True
    """Whether the database is the one that ./install.sh makes; another machine's is not looked into."""
    cursor: str = ""
    began: float = 0.0
    prober: Prober = field(init=False)
    _rows: list[tuple[str, str, float]] = field(default_factory=list)
    _before: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.host.wait_serving()
        self._rows = write_rows(self.host)
        self.cursor = self.host.journal_end()
        self._before = self._facts()
        self.prober = Prober(self.host)
        self.prober.start()
        self.began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.prober.end()
        if kind is None:
            self._always()

    @property
    def seconds(self) -> float:
        """Seconds since the fault."""
        return time.monotonic() - self.began

    def said(self, event: str, timeout: float = 30) -> dict[str, str]:
        """Return the journal's entry of this event, waiting for it."""
        return self.host.wait_journal(
            lambda entry: entry.get("MLFLOWD_EVENT") == event, unit="mlflowd", cursor=self.cursor, timeout=timeout
        )

    def events(self) -> list[str]:
        """Return the events that the daemon told since the fault."""
        entries = self.host.journal(unit="mlflowd", cursor=self.cursor)
        return [entry["MLFLOWD_EVENT"] for entry in entries if "MLFLOWD_EVENT" in entry]

    def wait_recovered(self, limit: float) -> float:
        """Wait until the server answers after it did not, or was never missed; return the seconds since the fault."""
        self.host.wait_serving(limit)
        seconds = self.seconds
        assert seconds <= limit, f"it took {seconds:.1f} s, the bound is {limit:.1f} s"
        return seconds

    def _facts(self) -> dict[str, Any]:
        status = json.loads(self.host.run("mlflowd status --json", check=False).stdout)
        daemon = self.host.run("systemctl show -p MainPID,NRestarts mlflowd").stdout
        return {"status": status, "daemon": daemon, "started": self.host.run(STARTED, check=False).stdout}

    def _always(self) -> None:
        self.host.wait_serving()
        after = self._facts()
        for run, key, value in self._rows:
            assert read_row(self.host, run, key) == value
        if self.sqlite:
            assert self.host.run(_CHECK).stdout.strip() == "ok"
        names = self.host.run("docker ps --all --format '{{.Names}}'").stdout.split()
        assert names.count(NAME) == 1
        if self.restarts == 0:
            assert after["started"] == self._before["started"], "the server was restarted"
        elif self.restarts is not None:
            starts = self.events().count("SERVER_STARTING") + self.events().count("SERVER_HUNG")
            assert starts <= self.restarts, self.events()
        if self.daemon_stays:
            assert after["daemon"] == self._before["daemon"], "the daemon was restarted"


def write_rows(host: Guest, count: int = _ROWS) -> list[tuple[str, str, float]]:
    """Write metrics through the server and return those that it acknowledged."""
    experiment = {"experiment_id": "0", "start_time": int(time.time() * 1000)}
    run = ask(host, "POST", "runs/create", experiment)["run"]["info"]["run_id"]
    rows = [(run, f"m{number}", float(number)) for number in range(count)]
    for _, key, value in rows:
        ask(host, "POST", "runs/log-metric", {"run_id": run, "key": key, "value": value, "timestamp": 1})
    ask(host, "POST", "runs/update", {"run_id": run, "status": "FINISHED"})  # an active run would hold up an upgrade
    return rows


def read_row(host: Guest, run: str, key: str) -> float:
    # MLflow 3.10.1 answers with an empty page where the request does not say how many it may be.
    history = ask(host, "GET", f"metrics/get-history?run_id={run}&metric_key={key}&max_results=1000")
    return float(history["metrics"][0]["value"])


def ask(host: Guest, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call the server's REST API; an answer other than 200 is an error."""
    status, answer = host.http(
        method, f"/api/2.0/mlflow/{path}", json.dumps(body).encode() if body else None, timeout=60
    )
    assert status == 200, (path, status, answer[:300])
    return dict(json.loads(answer))


def start_seconds(host: Guest, times: int = 2) -> float:
    """Return S: the time that MLflow itself takes from start to first answer here, without mlflowd."""
    host.run("systemctl stop mlflowd", timeout=90)
    worst = 0.0
    for _ in range(times):
        began = time.monotonic()
        host.run(f"docker start {NAME}")
        host.wait_serving(120)
        worst = max(worst, time.monotonic() - began)
        host.run(f"docker stop {NAME}", timeout=60)
    host.run("systemctl start mlflowd", timeout=180)
    return worst
