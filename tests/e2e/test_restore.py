"""Backups brought back on real hosts: on a second machine from the repository alone, after damage, and cut short.

A real client's runs, metrics, model and artifacts are the measure: whatever happens, it reads back what it wrote.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from e2e.client_environment import Client, client_python
from e2e.machine import GuestCommandError
from e2e.trial import NAME
from e2e.upgrades import TRANSACTION, killer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.guest import Guest
    from e2e.installation import Installation

pytestmark = pytest.mark.timeout(1500)  # the first test may have to install

STATE = "/var/lib/mlflowd"
REPOSITORY, PASSWORD = "/srv/backup", "/etc/mlflowd-backup-password"
CONFIGURE = f"""
install -d -o mlflowd -g mlflowd -m 0700 {REPOSITORY}
printf %s 'correct horse battery staple' >{PASSWORD} && chown mlflowd {PASSWORD} && chmod 600 {PASSWORD}
sed -i 's#^\\[backup\\]#[backup]\\nrepository = "{REPOSITORY}"\\npassword = "file:{PASSWORD}"#' /etc/mlflowd.toml
sed -i 's/^\\[health\\]/[health]\\ninterval = "1s"/' /etc/mlflowd.toml
systemctl reload mlflowd
"""
LIMIT = 300.0
DAMAGE = f"""
find {REPOSITORY}/data -type f -size +1M | while read -r pack; do
  chmod u+w "$pack" && dd if=/dev/zero of="$pack" bs=1k seek=300 count=64 conv=notrunc status=none
done
"""
FINGER = (
    f"cd {STATE} && find backend artifacts -type f -not -name '*-shm' -not -name '*-wal' -exec sha256sum {{}} + | sort"
)


@pytest.fixture(scope="module")
def first(installation: Callable[[str], Installation]) -> Iterator[Guest]:
    with installation("bookworm").boot() as guest:
        guest.run(CONFIGURE)
        yield guest


@pytest.fixture(scope="module")
def second(installation: Callable[[str], Installation], first: Guest, written: dict[str, Any]) -> Iterator[Guest]:
    """Another fresh machine with a copy of the first one's repository, and nothing else of it."""
    assert written
    with installation("bookworm").boot() as guest:
        guest.run(CONFIGURE)
        copy = first.popen(["tar", "-C", REPOSITORY, "-c", "."], stdout=subprocess.PIPE)
        with copy, guest.popen(["tar", "-C", REPOSITORY, "-x"], stdin=copy.stdout) as unpacked:
            assert unpacked.wait(LIMIT) == 0
        guest.run(f"chown -R mlflowd:mlflowd {REPOSITORY}")
        yield guest


@pytest.fixture(scope="module")
def written(first: Guest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the client wrote on the first machine, and what was backed up there."""
    document = client(first, tmp_path_factory.mktemp("writer")).run("write")
    first.run("mlflowd backup", timeout=LIMIT)
    return document


def client(host: Guest, home: Path) -> Client:
    return Client(host, client_python(), home)


def assert_all_is_read(host: Guest, home: Path, written: dict[str, Any]) -> None:
    found = client(host, home).run("read", written)
    assert {**found, "seconds": 0} == {**written, "seconds": 0}


def assert_nothing_half_done(host: Guest) -> None:
    left = f"ls -d {TRANSACTION} {STATE}/artifacts/.mlflowd-restore-* {STATE}/transactions/*/staged"
    assert host.run(f"{left} 2>/dev/null", check=False).stdout == ""
    assert host.run("docker ps --all --format '{{.Names}}'").stdout.split() == [NAME]


def outcome(host: Guest) -> dict[str, Any]:
    """Return what became of the last restore."""
    return dict(json.loads(host.read(f"{STATE}/state/transactions.json"))["outcomes"][0])


def refused(host: Guest, command: str) -> GuestCommandError:
    with pytest.raises(GuestCommandError) as caught:
        host.run(f"{command} 2>&1", timeout=LIMIT)
    return caught.value


def test_a_backup_is_tried_out_by_its_service_beside_the_server_that_runs(
    first: Guest, written: dict[str, Any]
) -> None:
    assert written
    started = first.run(f"docker inspect -f '{{{{.State.StartedAt}}}}' {NAME}").stdout
    first.run("systemctl start mlflowd-backup-verify", timeout=LIMIT)
    said = first.wait_journal(lambda entry: entry.get("MLFLOWD_EVENT") == "BACKUP_VERIFIED", timeout=10)
    assert "is good: restored and read" in said["MESSAGE"]
    assert first.run(f"docker inspect -f '{{{{.State.StartedAt}}}}' {NAME}").stdout == started
    assert first.run(f"ls {STATE}/backup", check=False).stdout.split() == ["cache", "manifests"]
    assert_nothing_half_done(first)


def test_a_second_fresh_machine_has_everything_from_the_repository_alone(
    second: Guest, written: dict[str, Any], tmp_path: Path
) -> None:
    output = second.run("mlflowd restore --yes 2>&1", timeout=LIMIT).stdout
    assert "as many as were backed up" in output
    assert_all_is_read(second, tmp_path, written)
    assert_nothing_half_done(second)
    assert second.serving()


def test_a_rehearsal_compares_what_it_restored_with_the_manifest(second: Guest) -> None:
    before = second.run(FINGER).stdout
    output = second.run("mlflowd restore --to /root/rehearsal", timeout=LIMIT).stdout
    assert output.count("as backed up") == 5
    assert second.run("ls -A /root/rehearsal").stdout.split() == [
        "artifacts",
        "database",
        "manifest.json",
        "mlflowd.toml",
    ]
    assert second.run(FINGER).stdout == before


@pytest.mark.parametrize("step", ["place", "gate"])
def test_59_mlflowd_killed_in_the_middle_of_a_restore_finishes_or_reverts_it(
    second: Guest, written: dict[str, Any], tmp_path: Path, step: str
) -> None:
    second.copy_in(Path(__file__).with_name("step_killer.py"), "/root/step_killer.py")
    # The killer looks without a pause, so it begins when restic, which works at the lowest priority, is through.
    with second.popen("mlflowd restore --yes 2>&1", stdout=subprocess.PIPE) as command:
        second.run(f"until test -e {TRANSACTION}; do sleep 0.05; done", timeout=LIMIT)
        with killer(second, step) as killing:
            assert killing.step() == step
        output = command.communicate(timeout=LIMIT)[0].decode()
    assert outcome(second)["ok"] is ("is in place" in output), output
    second.wait_serving(60)
    assert_all_is_read(second, tmp_path, written)
    assert_nothing_half_done(second)


def test_after_the_database_and_the_artifacts_are_lost_a_restore_brings_both_back(
    first: Guest, written: dict[str, Any], tmp_path: Path
) -> None:
    first.run(f"systemctl stop mlflowd && head -c 100000 /dev/urandom >{STATE}/backend/mlflow.db", timeout=90)
    first.run(f"rm -rf {STATE}/artifacts/*")
    assert first.run("systemctl start mlflowd", check=False, timeout=90).returncode != 0
    assert first.run("systemctl show -p ExecMainStatus --value mlflowd").stdout.strip() == "69"
    output = first.run("mlflowd restore --yes 2>&1", timeout=LIMIT).stdout
    assert "is in place" in output
    assert_all_is_read(first, tmp_path, written)
    assert_nothing_half_done(first)
    garbage = f"{STATE}/transactions/{outcome(first)['id']}"
    assert first.run(f"find {garbage} -type f -size +90k").stdout != ""


def test_a_damaged_backup_is_named_and_nothing_changes(second: Guest) -> None:
    snapshot = json.loads(second.run("mlflowd backup list --json", timeout=LIMIT).stdout)["backups"][0]["id"]
    before = second.run(FINGER).stdout
    second.run(DAMAGE)
    for command in ("mlflowd restore --yes", "mlflowd restore --to /root/damaged"):
        error = refused(second, command)
        assert error.returncode == 69
        assert snapshot[:8] in str(error)
    assert second.run("test -e /root/damaged", check=False).returncode == 1
    assert second.run(FINGER).stdout == before
    assert second.serving()
    assert_nothing_half_done(second)
