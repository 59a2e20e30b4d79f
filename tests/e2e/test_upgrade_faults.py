"""Faults of upgrades, each on a real host with real images, a real schema and a real client's data.

A test's name begins with the number of its fault in docs/reliability.md. `s` is the time that MLflow itself takes from
start to first answer on this host. The host serves MLflow 3.10.1 at the beginning, and again after each upgrade that
was undone; where it does not, it is reset for the next test that needs it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from e2e import old_image, upgrades
from e2e.old_image import DIES, EXITS, HALF_DONE, HANGS, NEW, NEXT, READ_ONLY, SICK
from e2e.trial import DATABASE, NAME, Trial
from e2e.upgrades import SLACK, client_of, data, killer, outcome, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.guest import Guest
    from e2e.installation import Installation
    from e2e.old_image import Variant
    from e2e.upgrades import Data, Prepared

pytestmark = pytest.mark.timeout(1500)  # the first test may have to install, and to build the old image
UNREHEARSED = "rehearse = false"
OLD_REVISION = "1b5f0d9ad7c1"
GATE = 8
"""Seconds that an image is given which never serves."""
MIGRATING = f"docker ps --quiet --filter label=io.mlflowd.asked=migration-{NAME}"
"""Prints the container of a migration."""


@pytest.fixture(scope="module")
def machine(installation: Callable[[str], Installation]) -> Prepared:
    return upgrades.prepared(installation("bookworm"))


@pytest.fixture(scope="module")
def host(machine: Prepared) -> Iterator[Guest]:
    with machine.boot() as guest:
        yield guest


@pytest.fixture(scope="module")
def s(host: Guest) -> float:
    return upgrades.start_seconds(host)


@pytest.fixture
def old(host: Guest) -> Guest:
    """The host, serving MLflow 3.10.1 as it did in the beginning."""
    if upgrades.serving_image(host) != old_image.image_id(host, "mlflowd/mlflow:v3.10.1") or not host.serving():
        upgrades.reset(host)
    host.run(["rm", "-f", HALF_DONE])
    return host


def assert_as_before(host: Guest, machine: Prepared, before: Data) -> None:
    """The old server serves, and the database is what it was, row by row."""
    assert data(host) == before
    assert status(host)["mlflow"] == old_image.VERSION
    assert_settled(host)
    assert_all_is_read(host, machine)


def assert_settled(host: Guest) -> None:
    """No transaction is under way, and nothing of one is left over."""
    assert upgrades.containers(host) == [NAME]
    assert host.run(f"ls -d {upgrades.TRANSACTION} {upgrades.REHEARSAL} 2>/dev/null", check=False).stdout == ""


def assert_all_is_read(host: Guest, machine: Prepared) -> None:
    with client_of(host) as client:
        found = client.run("read", machine.written)
    assert {**found, "seconds": 0} == {**machine.written, "seconds": 0}


def migration(s: float) -> float:
    """Return more seconds than stop, copy and migration take on a machine where MLflow starts in `s`."""
    return 5 + 2 * s


def undone(trial: Trial, timeout: float) -> str:
    """Wait until the upgrade was undone and the old server serves; return what was said, in one sentence."""
    said = outcome(trial, timeout)
    assert said["MLFLOWD_EVENT"] == "UPGRADE_UNDONE", said
    assert said["REMEDY"]
    assert "\n" not in said["MESSAGE"]
    trial.wait_recovered(timeout)
    return said["MESSAGE"]


def undone_with_a_log(trial: Trial, timeout: float) -> str:
    """Do the same; where the log is stands in the sentence, and there is something in it."""
    sentence = undone(trial, timeout)
    logs = [word.rstrip(".") for word in sentence.split() if word.startswith("/var/lib/mlflowd/transactions/")]
    assert logs, sentence
    assert all(trial.host.read(log).strip() for log in logs)
    return sentence


def assert_stays(host: Guest, s: float, reference: str) -> None:
    """Nothing is tried again, and what did not pass is told by `mlflowd status`."""
    host.wait_serving(s + 10 + SLACK)
    told = status(host)
    assert told["mlflow"] == old_image.VERSION
    assert [trouble["layer"] for trouble in told["troubles"]] == ["image"], told
    assert reference in told["troubles"][0]["message"]


# --- images that do not pass -----------------------------------------------------------------------


def test_47_a_database_file_cannot_be_mounted_alone(host: Guest) -> None:
    """There is no key for a mount, and what mlflowd mounts are directories."""
    for section, line in (("container", 'mounts = ["/x/mlflow.db:/db"]'), ("container", "volumes = []")):
        host.write("/root/mounts.toml", f"[{section}]\n{line}\n")
        began = time.monotonic()
        refused = host.run("mlflowd --config /root/mounts.toml config --validate", check=False)
        assert time.monotonic() - began < 1 + SLACK
        assert refused.returncode == 78
        assert line.split()[0] in refused.stdout
    mounts = host.run(
        f"docker inspect --format '{{{{range .Mounts}}}}{{{{.Source}}}} {{{{end}}}}' {NAME}"
    ).stdout.split()
    assert "/var/lib/mlflowd/backend" in mounts
    assert host.run(["stat", "--format=%F", *mounts]).stdout.split("\n")[:-1] == ["directory"] * len(mounts)


def test_56_an_image_that_exits_at_once_is_rolled_back(old: Guest, machine: Prepared, s: float) -> None:
    with Trial(old, restarts=None) as trial:
        before = data(old)
        upgrades.change(old, EXITS.reference)
        sentence = undone_with_a_log(trial, 120)
        assert EXITS.reference in sentence
        assert "exit status 1" in sentence
        assert trial.prober.outage() < migration(s) + 2 * s + SLACK
        assert_as_before(old, machine, before)
    old.run("systemctl restart mlflowd", timeout=180)
    assert_stays(old, s, EXITS.reference)


def test_57_an_image_that_answers_500_is_rolled_back_after_the_gates_time(
    old: Guest, machine: Prepared, s: float
) -> None:
    with Trial(old, restarts=None) as trial:
        before = data(old)
        upgrades.change(old, SICK.reference, f'{UNREHEARSED}\ngate_timeout = "{GATE}s"')
        assert "upgrade.gate_timeout" in undone_with_a_log(trial, GATE + migration(s) + s + SLACK)
        assert trial.prober.outage() < GATE + migration(s) + s + SLACK
        assert_as_before(old, machine, before)


def test_57_an_image_that_serves_but_cannot_write_is_rolled_back(old: Guest, machine: Prepared, s: float) -> None:
    with Trial(old, restarts=None) as trial:
        before = data(old)
        upgrades.change(old, READ_ONLY.reference, UNREHEARSED)
        assert "It serves, but" in undone_with_a_log(trial, migration(s) + 2 * s + SLACK)
        assert_as_before(old, machine, before)


def test_58_a_migration_that_dies_half_way_is_rolled_back(old: Guest, machine: Prepared, s: float) -> None:
    with Trial(old, restarts=None) as trial:
        before = data(old)
        upgrades.change(old, DIES.reference, UNREHEARSED)
        undone_with_a_log(trial, migration(s) + 2 * s + SLACK)
        assert old.run(["ls", HALF_DONE]).stdout, "rows were gone from the database"
        assert upgrades.sha256(old, DATABASE) == upgrades.copied_sha256(old)
        assert_as_before(old, machine, before)
    old.reboot()
    assert_stays(old, s, DIES.reference)


def test_58_a_migration_that_is_killed_from_outside_is_rolled_back(old: Guest, machine: Prepared, s: float) -> None:
    with Trial(old, restarts=None) as trial:
        before = data(old)
        upgrades.change(old, HANGS.reference, UNREHEARSED)
        old.run(f"until test -e {HALF_DONE}; do sleep 0.05; done; docker kill $({MIGRATING})")
        undone_with_a_log(trial, migration(s) + 2 * s + SLACK)
        assert upgrades.sha256(old, DATABASE) == upgrades.copied_sha256(old)
        assert_as_before(old, machine, before)


def test_58_a_migration_that_dies_in_its_rehearsal_costs_no_outage(old: Guest, machine: Prepared) -> None:
    with Trial(old) as trial:
        before = data(old)
        upgrades.change(old, DIES.reference)
        assert "rehearsal" in undone_with_a_log(trial, 60)
        assert trial.prober.outage() == 0
        assert old.run(["ls", HALF_DONE], check=False).returncode != 0
        assert_as_before(old, machine, before)


# --- a daemon that dies ----------------------------------------------------------------------------


EARLY = {"stop": NEW, "copy": NEW, "migrate": HANGS.reference, "revert": EXITS.reference}


@pytest.mark.parametrize("step", EARLY)
def test_59_an_upgrade_whose_daemon_is_killed_before_the_data_are_complete_is_reverted(
    old: Guest, machine: Prepared, s: float, step: str
) -> None:
    half_way = HALF_DONE if step == "migrate" else "/"
    with Trial(old, restarts=None, daemon_stays=False) as trial, killer(old, step, half_way) as kill:
        before = data(old)
        upgrades.change(old, EARLY[step], UNREHEARSED)
        assert kill.step() == step
        killed = time.monotonic()
        undone(trial, 60)
        assert time.monotonic() - killed < 2 * s + 10 + SLACK
        assert_as_before(old, machine, before)


def test_59_a_daemon_killed_in_a_rehearsal_rehearses_again(old: Guest, machine: Prepared, s: float) -> None:
    with Trial(old, restarts=None, daemon_stays=False) as trial, killer(old, "-", upgrades.REHEARSED) as kill:
        upgrades.change(old, NEW)
        assert kill.step() == "gone"
        assert trial.prober.outage() == 0
        assert outcome(trial, 2 * migration(s) + s + SLACK)["MLFLOWD_EVENT"] == "UPGRADE_DONE"
        assert_settled(old)
        assert data(old).revision != OLD_REVISION
    assert_all_is_read(old, machine)


@pytest.mark.parametrize(("step", "image"), list(zip(("start", "gate", "commit"), NEXT, strict=True)))
def test_59_an_upgrade_whose_daemon_is_killed_once_the_data_are_complete_is_finished(
    host: Guest, machine: Prepared, s: float, step: str, image: Variant
) -> None:
    """Each goes on from what the one before has left: the images' schemas build on each other."""
    with Trial(host, restarts=None, daemon_stays=False) as trial, killer(host, step) as kill:
        upgrades.change(host, image.reference, UNREHEARSED)
        assert kill.step() == step
        killed = time.monotonic()
        assert outcome(trial, 60)["MLFLOWD_EVENT"] == "UPGRADE_DONE"
        trial.wait_recovered(120)
        assert time.monotonic() - killed < 2 * s + 10 + SLACK
        assert_settled(host)
        assert upgrades.serving_image(host) == old_image.image_id(host, image.reference)
        assert data(host).revision == old_image.REVISIONS[image.name]
    assert_all_is_read(host, machine)
