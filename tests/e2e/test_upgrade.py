"""Upgrades as their owner makes them, on a real host: MLflow 3.10.1 to 3.17.2 with a real client's data.

The tests build on each other's host: it serves MLflow 3.10.1 until the last ones upgrade it.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e import old_image, upgrades
from e2e.old_image import DIES, HALF_DONE, HANGS, MOVES, NEW, OLD, VERSION
from e2e.trial import DATABASE, NAME, STARTED, Trial, ask
from e2e.upgrades import SLACK, client_of, data, outcome, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.guest import Guest
    from e2e.installation import Installation
    from e2e.upgrades import Prepared

pytestmark = pytest.mark.timeout(1500)  # the first test may have to install, and to build the old image
NEW_VERSION, NEW_REVISION = NEW.rpartition(":v")[2], "dc11669786a5"


@pytest.fixture(scope="module")
def machine(installation: Callable[[str], Installation]) -> Prepared:
    return upgrades.prepared(installation("bookworm"))


@pytest.fixture(scope="module")
def host(machine: Prepared) -> Iterator[Guest]:
    with machine.boot() as guest:
        yield guest


@pytest.fixture
def active_run(host: Guest) -> Iterator[str]:
    """A run that began just now and has a metric; it ends with the test."""
    started = {"experiment_id": "0", "start_time": int(time.time() * 1000), "run_name": "long-training"}
    run = str(ask(host, "POST", "runs/create", started)["run"]["info"]["run_id"])
    metric = {"run_id": run, "key": "loss", "value": 1.0, "timestamp": int(time.time() * 1000)}
    ask(host, "POST", "runs/log-metric", metric)
    yield run
    end(host, run)


def end(host: Guest, run: str) -> None:
    ask(host, "POST", "runs/update", {"run_id": run, "status": "FINISHED", "end_time": int(time.time() * 1000)})


def number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def test_a_rehearsal_by_hand_tells_revisions_time_and_space_and_changes_nothing(host: Guest, active_run: str) -> None:
    with Trial(host) as trial:
        before, images = data(host), host.read("/var/lib/mlflowd/state/images.json")
        told = host.run(f"mlflowd upgrade --rehearse v{NEW_VERSION}", timeout=120).stdout
        assert before.revision in told
        assert NEW_REVISION in told
        assert number(told, r"on a copy, in ([\d.]+) s") > 0
        assert "MB" in told
        assert active_run in told
        assert trial.prober.outage() == 0
        assert data(host) == before
        assert json.loads(host.read("/var/lib/mlflowd/state/images.json"))["served"] == json.loads(images)["served"]
        assert upgrades.containers(host) == [NAME]
        assert host.run(["ls", upgrades.REHEARSAL], check=False).returncode != 0
        assert status(host)["mlflow"] == VERSION
        assert "UPGRADE_STARTED" not in trial.events()


def test_an_upgrade_waits_for_active_runs_where_that_is_configured(host: Guest, active_run: str) -> None:
    """It waits while the old server serves, and begins when the run has ended; here it is undone then."""
    with Trial(host, restarts=None) as trial:
        before = data(host)
        upgrades.change(host, DIES.reference, 'rehearse = false\nwait_for_runs = "10min"')
        assert active_run in trial.said("ACTIVE_RUNS")["MESSAGE"]
        host.run("until mlflowd status | grep -q 'waits for 1 active run '; do sleep 0.2; done", timeout=30)
        assert "UPGRADE_STARTED" not in trial.events()
        assert trial.prober.outage() == 0
        assert data(host) == before
        end(host, active_run)
        before = data(host)
        assert outcome(trial, 60)["MLFLOWD_EVENT"] == "UPGRADE_UNDONE"
        assert "UPGRADE_STARTED" in trial.events()
        host.wait_serving(60)
        assert data(host) == before


def test_a_stop_in_the_middle_of_an_upgrade_ends_in_time_and_leaves_nothing_half_done(host: Guest) -> None:
    with Trial(host, restarts=None, daemon_stays=False):
        before = data(host)
        host.run(["rm", "-f", HALF_DONE])
        upgrades.change(host, HANGS.reference, "rehearse = false")
        host.run(f"until test -e {HALF_DONE}; do sleep 0.05; done")
        began = time.monotonic()
        host.run("systemctl stop mlflowd", timeout=120)
        assert time.monotonic() - began < 30 + SLACK
        assert host.run("systemctl show -p Result --value mlflowd").stdout.strip() == "success"
        assert host.run(["ls", upgrades.TRANSACTION], check=False).returncode != 0
        assert set(upgrades.containers(host)) <= {NAME}
        assert upgrades.sha256(host, DATABASE) == upgrades.copied_sha256(host)
        upgrades.configure(host, OLD)
        host.run("systemctl start mlflowd", timeout=180)
        assert data(host) == before
        assert status(host)["mlflow"] == VERSION


# --- the upgrade -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Upgrade:
    """What was seen of one upgrade under load."""

    entries: dict[str, dict[str, str]]
    """The journal's, by their event."""
    outage: float
    missed: float
    """The first probe that was not answered, in seconds of the epoch."""
    migration: float
    """Seconds that the container of the migration ran."""
    start: float
    """Seconds from the start of the new server to its first answer."""
    acknowledged: list[int]
    """The steps that the server had acknowledged to the client that wrote all the while."""
    kept: list[int]
    """Those that it has in the end."""


@pytest.fixture(scope="module")
def upgraded(host: Guest) -> Upgrade:
    """The upgrade from 3.10.1 to 3.17.2, while a client writes."""
    with client_of(host) as client, Trial(host, restarts=None) as trial, client.stream() as stream:
        first = stream.acknowledged(20)
        upgrades.change(host, NEW)
        last = outcome(trial, 120)
        host.wait_serving(60)
        later, kept = stream.end()
        outage, missed = trial.prober.outage(), trial.prober.first_miss()
        started = datetime.fromisoformat(host.run(STARTED).stdout.strip()[:19] + "+00:00").timestamp()
        migration, start = upgrades.migration_seconds(host), missed + outage - started
    said = {entry["MLFLOWD_EVENT"]: entry for entry in host.journal(unit="mlflowd", cursor=trial.cursor)
            if "MLFLOWD_EVENT" in entry}  # fmt: skip
    assert last["MLFLOWD_EVENT"] == "UPGRADE_DONE", last
    return Upgrade(said, outage, missed, migration, start, first + later, kept)


def test_an_upgrade_serves_on_the_new_schema(host: Guest, upgraded: Upgrade) -> None:
    assert f"MLflow {NEW_VERSION} serves from {NEW}" in upgraded.entries["UPGRADE_DONE"]["MESSAGE"]
    assert data(host).revision == NEW_REVISION
    assert status(host)["mlflow"] == NEW_VERSION
    assert upgrades.serving_image(host) == old_image.image_id(host, f"mlflowd/mlflow:v{NEW_VERSION}")


def test_an_upgrade_is_not_told_to_a_client_that_writes_meanwhile(upgraded: Upgrade) -> None:
    assert upgraded.kept == upgraded.acknowledged


def test_an_upgrade_tells_its_downtime_which_is_short(upgraded: Upgrade) -> None:
    told = float(upgraded.entries["UPGRADE_DONE"]["DOWNTIME"])
    assert f"{told:.1f} s" in upgraded.entries["UPGRADE_DONE"]["MESSAGE"]
    figures = f"outage {upgraded.outage:.1f} s, migration {upgraded.migration:.1f} s, start {upgraded.start:.1f} s"
    print(figures)  # noqa: T201 - what is to be shown
    assert upgraded.outage < upgraded.migration + upgraded.start + 5, figures
    assert abs(told - upgraded.outage) < 5, figures


def test_the_old_server_serves_while_an_upgrade_is_rehearsed(upgraded: Upgrade) -> None:
    at = {event: int(entry["__REALTIME_TIMESTAMP"]) / 1e6 for event, entry in upgraded.entries.items()}
    assert at["UPGRADE_REHEARSED"] <= at["UPGRADE_STARTED"] <= upgraded.missed + 0.1


def test_an_upgrade_warns_of_the_run_that_it_interrupts(upgraded: Upgrade) -> None:
    assert upgraded.entries["ACTIVE_RUNS"]["RUNS"] == "1"
    assert "wait_for_runs" in upgraded.entries["ACTIVE_RUNS"]["REMEDY"]


@pytest.mark.usefixtures("upgraded")
def test_the_last_two_images_are_kept(host: Guest) -> None:
    ids = [old_image.image_id(host, f"mlflowd/mlflow:v{version}") for version in (NEW_VERSION, VERSION)]
    kept = json.loads(host.read("/var/lib/mlflowd/state/images.json"))
    assert [image for image, _ in kept["served"]] == ids
    assert "last upgrade" in host.run("mlflowd status").stdout


@pytest.mark.usefixtures("upgraded")
def test_a_client_reads_after_an_upgrade_what_it_wrote_before(host: Guest, machine: Prepared) -> None:
    with client_of(host) as client:
        found = client.run("read", machine.written)
    assert {**found, "seconds": 0} == {**machine.written, "seconds": 0}


@pytest.mark.usefixtures("upgraded")
def test_a_later_reload_does_nothing(host: Guest) -> None:
    with Trial(host) as trial:
        host.run("systemctl reload mlflowd")
        trial.said("RELOADED")
        host.run("sleep 2")  # the look after a reload comes at once
        assert trial.prober.outage() == 0
        assert "UPGRADE_STARTED" not in trial.events()


# --- a tag that moves ------------------------------------------------------------------------------


@pytest.fixture
def registry(host: Guest) -> Iterator[str]:
    """A registry in the guest, as its repository's name; the image "good" there is not one of MLflow."""
    host.copy_in(Path(__file__).parents[1] / "fakes" / "registry.py", "/root/registry.py")
    program = (
        "import registry, sys; r = registry.Registry({}).__enter__(); print(r.repository, flush=True); sys.stdin.read()"
    )
    command = ["env", "-C", "/root", "python3", "-c", program]
    with host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
        process.kill()


@pytest.mark.usefixtures("upgraded")
def test_55_a_tag_that_moved_at_the_registry_is_refused(host: Guest, registry: str) -> None:
    reference = f"{registry}:good"
    host.run(["docker", "tag", MOVES.reference, reference])
    with Trial(host, restarts=None) as trial:
        upgrades.change(host, reference, "rehearse = false")
        assert outcome(trial, 60)["MLFLOWD_EVENT"] == "UPGRADE_DONE"
    host.run(["docker", "pull", reference])
    with Trial(host) as trial:
        host.run("systemctl reload mlflowd")
        said = trial.said("PREFLIGHT_WARNING", timeout=2 + SLACK)
        assert "the server stays with" in said["MESSAGE"]
        assert trial.prober.outage() == 0
    host.run(f"systemctl stop mlflowd && docker rm {NAME} && docker rmi {reference} {MOVES.reference}", timeout=90)
    began, cursor = time.monotonic(), host.journal_end()
    host.run("systemctl start mlflowd", check=False, timeout=60)
    assert time.monotonic() - began < 2 + SLACK
    assert "ExecMainStatus=69" in host.run("systemctl show -p ExecMainStatus mlflowd").stdout
    said = next(entry for entry in host.journal(unit="mlflowd", cursor=cursor) if entry.get("REMEDY"))
    assert "has moved" in said["MESSAGE"]
    assert "mlflowd image accept" in said["REMEDY"]
