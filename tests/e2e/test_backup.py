"""Backups of a host that serves: by hand and by the timers, incremental, seen in list, status and journal, under load.

Fault 60 of docs/reliability.md is here. MLFLOWD_TEST_BIG=1 gives it a database of 1 GB and 2000 artifacts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from e2e import saving
from e2e.trial import ask, write_rows

if TYPE_CHECKING:
    from e2e.guest import Guest

pytestmark = pytest.mark.timeout(1800)  # the first test may have to install
REPOSITORY = "/srv/backups/mlflow"
TIMERS = ("mlflowd-backup", "mlflowd-backup-check", "mlflowd-backup-verify")
BIG = os.environ.get("MLFLOWD_TEST_BIG") == "1"
DATABASE_BYTES, ARTIFACTS, ARTIFACT_BYTES = (1_000_000_000, 2000, 100_000) if BIG else (150_000_000, 300, 200_000)
SLACK = 3.0
"""Seconds that a loaded machine may add to the longest write."""
HERE = Path(__file__).parent


def test_timers_run_and_nothing_is_saved_until_a_repository_is_set(host: Guest) -> None:
    for timer in TIMERS:
        assert host.run(f"systemctl is-active {timer}.timer").stdout.strip() == "active"
        assert saving.by_unit(host, timer) == 0
    assert host.run("mlflowd backup", check=False).returncode == 78
    assert json.loads(host.run("mlflowd status --json").stdout)["backup"] is None


@pytest.fixture(scope="module")
def saved(host: Guest) -> str:
    """A host with backups configured and one made; its id."""
    run = saving.new_run(host)
    saving.upload(host, f"0/{run}/artifacts/model.bin", os.urandom(3_000_000))
    write_rows(host)
    saving.configure(host, REPOSITORY, "keep = {last = 20}")
    return saving.backup(host)


def test_a_backup_is_listed_with_what_it_holds(host: Guest, saved: str) -> None:
    told = next(each for each in saving.listed(host) if each["id"] == saved)
    runs = ask(host, "POST", "runs/search", {"experiment_ids": ["0"], "max_results": 1000})["runs"]
    assert told["restorable"]
    assert told["mlflow"] == "3.17.2"
    assert told["counts"]["runs"] == len(runs)
    assert saved[:8] in host.run("mlflowd backup list").stdout
    assert host.run(f"test -e {saving.STAGING}", check=False).returncode != 0


def test_the_repository_is_the_service_users_and_holds_no_plain_text(host: Guest, saved: str) -> None:
    assert saved
    assert host.run(f"stat -c '%U %a' {REPOSITORY}").stdout.strip() == "mlflowd 700"
    assert host.run(f"find {REPOSITORY} -not -user mlflowd").stdout == ""
    assert host.run(f"grep -rl experiment {REPOSITORY}", check=False).stdout == ""


def test_the_timers_service_saves_what_changed_and_tells_the_journal(host: Guest, saved: str) -> None:
    cursor = host.journal_end()
    run = saving.new_run(host)
    saving.upload(host, f"0/{run}/artifacts/small.bin", os.urandom(200_000))
    assert saving.by_unit(host) == 0
    told = host.wait_journal(
        lambda entry: entry.get("MLFLOWD_EVENT") == "BACKUP_DONE", unit=saving.UNIT, cursor=cursor, timeout=10
    )
    last = saving.record(host)["last_success"]
    assert told["SNAPSHOT"] == last["snapshot"][:8]
    assert 200_000 < last["bytes"] < 1_500_000 < last["total"]
    assert saving.good(host)[:2] == [last["snapshot"], saved]


def test_status_tells_the_age_of_the_last_backup(host: Guest, saved: str) -> None:
    assert saved
    host.run("timeout 90 sh -c 'until mlflowd status | grep \"last backup .*ago\"; do sleep 0.5; done'", timeout=100)
    assert saving.record(host)["last_success"]["snapshot"][:8] in host.run("mlflowd status").stdout


def test_a_check_reads_a_part_of_the_data_and_the_next_one_another(host: Guest, saved: str) -> None:
    assert saved
    assert saving.by_unit(host, "mlflowd-backup-check") == 0
    assert saving.record(host)["last_check"]["read"] == "1/12"
    host.run("mlflowd backup check --read-data=next", timeout=120)
    assert saving.record(host)["last_check"]["read"] == "2/12"
    assert "sound" in host.run("mlflowd backup check --read-data", timeout=120).stdout


def test_a_stale_backup_is_told_once(host: Guest, saved: str) -> None:
    assert saved
    cursor = host.journal_end()
    saving.configure(host, REPOSITORY, 'keep = {last = 20}\nstale_after = "1s"')
    told = host.wait_journal(
        lambda entry: entry.get("MLFLOWD_EVENT") == "BACKUP_STALE", unit="mlflowd", cursor=cursor, timeout=90
    )
    assert "stale_after" in told["MESSAGE"]
    assert host.run("mlflowd status").returncode == 0, "the server serves"
    saving.configure(host, REPOSITORY, "keep = {last = 20}")


@dataclass
class Load:
    """Clients that write in the guest while something else is done."""

    host: Guest
    child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.child = self.host.popen(["python3", "/srv/write_load.py", "8", "50"], stdout=subprocess.PIPE)
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        if self.child is not None and self.child.poll() is None:
            self.child.kill()

    def end(self) -> dict[str, Any]:
        assert self.child is not None
        self.host.run("pkill -TERM -o -f /srv/write_load.py")
        return dict(json.loads(self.child.communicate(timeout=90)[0]))


def test_60_a_backup_under_fifty_writes_a_second(host: Guest, saved: str) -> None:
    assert saved
    run = saving.new_run(host)
    for name in ("write_load.py", "filling.py"):
        host.copy_in(HERE / name, f"/srv/{name}")
    fill(host, run)
    size = int(host.run("stat -c %s /var/lib/mlflowd/backend/mlflow.db").stdout)
    with Load(host) as load:
        first = saving.backup(host, timeout=600)
        moved = saving.record(host)["last_success"]
        told = load.end()
    tell("first", moved, told)
    assert told["errors"] == []
    assert told["writes"] >= 0.5 * 50 * told["seconds"]
    assert told["longest"] <= size / 300e6 + SLACK
    with Load(host) as load:
        second = saving.backup(host, timeout=600)
        moved = saving.record(host)["last_success"]
        told = load.end()
    tell("second", moved, told)
    assert told["errors"] == []
    assert told["longest"] <= size / 300e6 + SLACK
    assert moved["bytes"] < 0.05 * moved["total"]
    assert saving.good(host)[:2] == [second, first]


def tell(which: str, moved: dict[str, Any], told: dict[str, Any]) -> None:
    """Print the figures; pytest shows them with -rP."""
    figures = {key: told[key] for key in ("writes", "seconds", "median", "longest")}
    sys.stdout.write(f"{which} backup: {moved}; the writers: {figures}\n")


def fill(host: Guest, run: str) -> None:
    host.run("systemctl stop mlflowd", timeout=90)
    places = "/var/lib/mlflowd/backend/mlflow.db /var/lib/mlflowd/artifacts"
    as_user = "setpriv --reuid mlflowd --regid mlflowd --clear-groups"
    amounts = f"{DATABASE_BYTES} {ARTIFACTS} {ARTIFACT_BYTES}"
    host.run(f"chmod 644 /srv/*.py; {as_user} python3 /srv/filling.py {places} {run} {amounts}", timeout=300)
    host.run("systemctl start mlflowd", timeout=180)
    host.wait_serving(120)
