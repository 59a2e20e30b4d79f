"""An artifact directory that must be mounted, as NFS's: nothing starts, and nothing is written, while it is not.

The kernel of a guest is the outer machine's, which may have neither NFS's server nor its client: a bind mount
stands in. What mlflowd looks at is the mount table, where both are one entry each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e import stores
from e2e.trial import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.guest import Guest

pytestmark = pytest.mark.timeout(1500)
EXPORTED, MOUNT_POINT = "/srv/exported", "/srv/nfs/mlflow"
TOML = f'[artifact_store]\nuri = "{MOUNT_POINT}"\nmounted = true\n'


@pytest.fixture(scope="module", autouse=True)
def directories(host: Guest) -> Iterator[None]:
    """Another file system's directory of the service user, and an empty mount point that anybody may write."""
    host.run(f"install -d -o mlflowd -g mlflowd -m 700 {EXPORTED} && install -d -m 777 {MOUNT_POINT}")
    stores.write(host, stores.Store(TOML))
    host.run("systemctl stop mlflowd", timeout=90)
    yield
    host.run(f"umount {MOUNT_POINT} || true")


def test_a_directory_that_is_not_mounted_is_refused_and_stays_empty(host: Guest) -> None:
    cursor = host.journal_end()
    host.run("systemctl start --no-block mlflowd")
    said = host.wait_journal(
        lambda entry: entry.get("MLFLOWD_EVENT") == "PREFLIGHT_FAILED", unit="mlflowd", cursor=cursor, timeout=60
    )
    assert MOUNT_POINT in said["MESSAGE"]
    assert "mounted" in said["MESSAGE"]
    assert not host.serving()
    assert host.run(f"find {MOUNT_POINT} -mindepth 1").stdout == ""


def test_a_mounted_one_takes_artifacts(host: Guest) -> None:
    host.run(f"mount --bind {EXPORTED} {MOUNT_POINT}")
    stores.restart(host)
    path = "/api/2.0/mlflow-artifacts/artifacts/0/there.txt"
    assert host.http("PUT", path, b"bytes", timeout=30)[0] == 200
    assert host.read(f"{EXPORTED}/0/there.txt") == "bytes"
    assert ask(host, "GET", "experiments/get?experiment_id=0")


def test_one_that_is_taken_away_meanwhile_degrades_and_nothing_is_written_below(host: Guest) -> None:
    cursor = host.journal_end()
    host.run(f"umount --lazy {MOUNT_POINT}")
    host.wait_journal(
        lambda entry: entry.get("MLFLOWD_EVENT") == "DEGRADED" and MOUNT_POINT in entry["MESSAGE"],
        unit="mlflowd", cursor=cursor, timeout=60,
    )  # fmt: skip
    assert host.run(f"find {MOUNT_POINT} -mindepth 1").stdout == ""
