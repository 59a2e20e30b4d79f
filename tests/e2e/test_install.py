"""`./install.sh` on fresh machines: what it leaves behind, run twice, taken away again."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from e2e.disks import SUITES
from e2e.guest import Guest
from e2e.installation import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.installation import Installation

INSTALL = f"cd {CHECKOUT} && ./install.sh"
CONTAINERS = "docker ps --all --format '{{.Names}} {{.State}}'"
pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module", params=SUITES)
def installed(request: pytest.FixtureRequest, installation: Callable[[str], Installation]) -> Installation:
    return installation(request.param)


@pytest.fixture(scope="module")
def machine(installed: Installation) -> Iterator[Guest]:
    """The installed machine after a boot, serving."""
    with installed.boot() as guest:
        yield guest


@pytest.fixture
def spare(installation: Callable[[str], Installation]) -> Iterator[Guest]:
    """An installed machine that the test may ruin."""
    with installation("bookworm").boot() as guest:
        yield guest


@pytest.fixture(scope="module")
def container_like(installation: Callable[[str], Installation]) -> Iterator[Guest]:
    """A fresh machine without systemd as PID 1, mlflowd installed; its engine had the image already."""
    with Guest.make("bookworm", images_of=installation("bookworm").snapshot) as guest:
        guest.boot_without_systemd()
        guest.copy_checkout(CHECKOUT)
        guest.run(INSTALL, timeout=600)
        yield guest


def status(guest: Guest) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(guest.run("mlflowd status --json", check=False).stdout)
    return document


def test_a_fresh_machine_serves_after_install(installed: Installation) -> None:
    assert installed.health == "OK"
    assert "MLflow answers" in installed.output


def test_an_installed_machine_serves_after_a_boot(machine: Guest) -> None:
    assert machine.serving()
    assert machine.run("systemctl is-active mlflowd").stdout.strip() == "active"
    assert machine.run("systemctl is-enabled mlflowd").stdout.strip() == "enabled"


def test_only_loopback_reaches_the_server(machine: Guest) -> None:
    listening = machine.run("ss -Hltn 'sport = :5000'").stdout.split()
    assert "127.0.0.1:5000" in listening
    assert not [word for word in listening if word.startswith(("0.0.0.0:5000", "[::]:5000", "*:5000"))]


def test_the_status_verb_says_serving(machine: Guest) -> None:
    machine.wait_journal(lambda entry: entry.get("MLFLOWD_PHASE") == "serving" or "answers" in entry["MESSAGE"])
    assert machine.run("mlflowd status").returncode == 0
    assert status(machine)["phase"] == "serving"


def test_a_user_without_rights_may_ask_for_the_status(machine: Guest) -> None:
    machine.run("setpriv --reuid nobody --regid nogroup --clear-groups mlflowd status")


def test_the_daemon_and_the_container_run_as_the_service_user(machine: Guest) -> None:
    uid = machine.run("id -u mlflowd").stdout.strip()
    daemon = machine.run("systemctl show -p MainPID --value mlflowd").stdout.strip()
    assert machine.run(f"stat -c %u /proc/{daemon}").stdout.strip() == uid
    assert machine.run("docker inspect -f '{{.Config.User}}' mlflowd").stdout.startswith(f"{uid}:")


def test_the_unit_file_verifies_without_a_word(machine: Guest) -> None:
    assert machine.run("systemd-analyze verify mlflowd.service").stdout == ""


def test_the_unit_is_exposed_at_most_1_5(machine: Guest) -> None:
    told = machine.run("systemd-analyze security --no-pager mlflowd.service").stdout
    found = re.search(r"Overall exposure level for mlflowd\.service: ([\d.]+)", told)
    assert found is not None
    assert float(found[1]) <= 1.5, told


def test_the_journal_holds_both_voices_and_explains(machine: Guest) -> None:
    entries = machine.journal(unit="mlflowd")
    ours = [entry for entry in entries if entry.get("SYSLOG_IDENTIFIER") == "mlflowd" and "MESSAGE_ID" in entry]
    assert {"mlflowd", "the server answers"} <= {
        entry["MESSAGE"].removesuffix(" started").split(" 0.")[0] for entry in ours
    }
    assert [entry for entry in entries if entry.get("SYSLOG_IDENTIFIER") == "mlflow"]
    explained = machine.run(f"journalctl -x --no-pager -n 1 MESSAGE_ID={ours[0]['MESSAGE_ID']}").stdout
    assert "░░" in explained


def test_a_second_install_changes_nothing_and_keeps_an_edited_configuration(machine: Guest) -> None:
    machine.run("echo '# a note of mine' >>/etc/mlflowd.toml")
    look = "stat -c '%n %a %U %G %Y' /etc/mlflowd.toml /usr/local/bin/mlflowd; sha256sum /etc/mlflowd.toml"
    before = machine.run(
        f"{look}; systemctl show -p MainPID mlflowd; docker inspect -f '{{{{.State.StartedAt}}}}' mlflowd"
    )
    machine.run(INSTALL, timeout=300)
    after = machine.run(
        f"{look}; systemctl show -p MainPID mlflowd; docker inspect -f '{{{{.State.StartedAt}}}}' mlflowd"
    )
    assert "/etc/mlflowd.toml 640 root mlflowd" in after.stdout
    assert before.stdout == after.stdout


def test_a_reload_takes_an_edit_without_a_restart(machine: Guest) -> None:
    started = "docker inspect -f '{{.State.StartedAt}}' mlflowd"
    before = machine.run(started).stdout
    machine.run('sed -i \'s/^#interval = "6s"$/interval = "5s"/\' /etc/mlflowd.toml && mlflowd config --validate')
    machine.run("systemctl reload mlflowd")
    assert machine.serving()
    assert machine.run(started).stdout == before
    assert machine.run("systemctl is-active mlflowd").stdout.strip() == "active"


def test_a_stop_stops_mlflow_and_a_start_brings_it_back(machine: Guest) -> None:
    machine.run("systemctl stop mlflowd", timeout=90)
    assert not machine.serving()
    assert machine.run("mlflowd status", check=False).returncode == 3
    assert "running" not in machine.run(CONTAINERS).stdout
    machine.run("systemctl enable --now mlflowd", timeout=120)
    assert machine.serving()
    assert machine.run("mlflowd status").returncode == 0


def test_uninstall_keeps_data_and_configuration_and_purge_takes_them(spare: Guest) -> None:
    spare.run(f"{INSTALL} uninstall", timeout=120)
    assert not spare.serving()
    assert spare.run(CONTAINERS).stdout == ""
    kept = "test -f /etc/mlflowd.toml && test -f /var/lib/mlflowd/backend/mlflow.db && id mlflowd"
    spare.run(kept)
    gone = "test ! -e /opt/mlflowd && test ! -e /usr/local/bin/mlflowd && ! systemctl cat mlflowd.service"
    spare.run(gone)
    assert "docker" in spare.run("systemctl is-active docker && command -v docker").stdout
    spare.run(f"{INSTALL} uninstall --purge", timeout=120)
    spare.run("test ! -e /etc/mlflowd.toml && test ! -e /var/lib/mlflowd && ! id mlflowd")


def test_an_upgrade_replaces_the_environment_and_serves(spare: Guest) -> None:
    before = spare.run("readlink /opt/mlflowd/current").stdout
    spare.run(f"echo '# another version' >>{CHECKOUT}/src/mlflowd/model.py && {INSTALL}", timeout=300)
    after = spare.run("readlink /opt/mlflowd/current").stdout
    assert after != before
    assert spare.run("ls -d /opt/mlflowd/env-*").stdout == after
    assert spare.serving()


def test_an_upgrade_that_the_configuration_does_not_fit_changes_nothing(spare: Guest) -> None:
    running = "readlink /opt/mlflowd/current; systemctl show -p MainPID mlflowd"
    before = spare.run(running).stdout
    spare.run("echo 'levle = 1' >>/etc/mlflowd.toml")
    refused = spare.run(f"echo '# next' >>{CHECKOUT}/src/mlflowd/model.py && {INSTALL}", check=False, timeout=300)
    assert refused.returncode == 1
    assert "Nothing was changed" in refused.stdout
    assert spare.run(running).stdout == before
    assert spare.serving()


def test_install_after_uninstall_finds_the_old_data(spare: Guest) -> None:
    request = json.dumps({"name": "kept"}).encode()
    assert spare.http("POST", "/api/2.0/mlflow/experiments/create", request)[0] == 200
    spare.run(f"{INSTALL} uninstall", timeout=120)
    spare.run(INSTALL, timeout=300)
    assert spare.http("GET", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=kept")[0] == 200


def test_an_unknown_argument_is_refused_with_the_usage(container_like: Guest) -> None:
    refused = container_like.run(f"{INSTALL} --bogus", check=False)
    assert refused.returncode == 2
    assert "Usage:" in refused.stdout
    assert "--bogus" in refused.stdout


def test_a_user_without_sudo_is_told_to_become_root(container_like: Guest) -> None:
    container_like.run(f"cp -r {CHECKOUT} /tmp/checkout && chmod -R a+rX /tmp/checkout")
    refused = container_like.run(
        "setpriv --reuid nobody --regid nogroup --clear-groups /tmp/checkout/install.sh", check=False
    )
    assert refused.returncode == 77
    assert "su -c" in refused.stdout


def test_without_systemd_it_runs_in_the_background_as_the_service_user(container_like: Guest) -> None:
    assert container_like.serving()
    assert container_like.run("mlflowd status").returncode == 0
    assert container_like.run("ps -o user= -p $(cat /run/mlflowd/pid)").stdout.strip() == "mlflowd"
    assert "the server answers" in container_like.read("/var/log/mlflowd.log")


def test_without_systemd_a_second_install_leaves_the_running_one_alone(container_like: Guest) -> None:
    before = container_like.run("cat /run/mlflowd/pid").stdout
    container_like.run(INSTALL, timeout=300)
    assert container_like.run("cat /run/mlflowd/pid").stdout == before
    assert container_like.serving()


def test_without_systemd_the_printed_command_stops_it_and_install_starts_it_again(container_like: Guest) -> None:
    container_like.run("pid=$(cat /run/mlflowd/pid); kill $pid; timeout 60 tail --pid=$pid -f /dev/null", timeout=90)
    assert not container_like.serving()
    container_like.run(INSTALL, timeout=300)
    assert container_like.serving()
