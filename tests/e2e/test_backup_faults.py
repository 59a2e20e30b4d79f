"""Faults of backups on a real host: an interruption, a damaged database, a damaged repository, a full target.

A test's name begins with the number of its fault in docs/reliability.md. In each of them the server goes on serving,
and nothing is listed as restorable that is not.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from e2e import saving
from e2e.trial import DATABASE, Trial, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.guest import Guest

pytestmark = pytest.mark.timeout(1800)  # the first test may have to install
SLACK = 15.0
"""Seconds that a loaded machine may add to any bound."""
KEEP = "keep = {last = 20}"
REFUSED = 69
ROOT_PAGE = """
import sqlite3, sys
base = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(base.execute("SELECT rootpage FROM sqlite_master WHERE name = 'experiments'").fetchone()[0])
"""
LARGE = "/var/lib/mlflowd/artifacts/0/large"
AS_USER = "setpriv --reuid mlflowd --regid mlflowd --clear-groups"


@pytest.fixture(scope="module")
def filled(host: Guest) -> Guest:
    """A host whose artifacts take some seconds to save."""
    write_rows(host)
    host.run(f"{AS_USER} mkdir -p {LARGE} && {AS_USER} dd if=/dev/urandom of={LARGE}/data bs=1M count=400", timeout=120)
    return host


@pytest.fixture
def repository(filled: Guest, request: pytest.FixtureRequest) -> str:
    """A repository of the test's own, configured; nothing is in it yet."""
    name = f"/srv/{request.node.name}"
    saving.configure(filled, name, KEEP)
    filled.run(saving.RESTARTED, check=False)
    return name


def told(host: Guest, event: str, unit: str, cursor: str, timeout: float) -> dict[str, str]:
    return host.wait_journal(
        lambda entry: entry.get("MLFLOWD_EVENT") == event, unit=unit, cursor=cursor, timeout=timeout
    )


def test_27_a_backup_that_is_ended_midway_leaves_nothing_behind(filled: Guest, repository: str) -> None:
    with Trial(filled) as trial:
        filled.run("systemctl start --no-block mlflowd-backup")
        filled.run(
            f"timeout 60 sh -c 'until find {repository}/data -type f | grep -q .; do sleep 0.05; done'", timeout=70
        )
        began = time.monotonic()
        filled.run("systemctl stop mlflowd-backup", timeout=60)
        assert time.monotonic() - began <= 35
        assert "BACKUP_FAILED" in str(told(filled, "BACKUP_FAILED", "mlflowd-backup", trial.cursor, 10))
        assert saving.listed(filled) == []
        assert filled.run(f"test -e {saving.STAGING}", check=False).returncode != 0
        assert filled.run(f"ls {repository}/locks").stdout == ""
        assert filled.run("pgrep -x restic", check=False).stdout == ""
        assert saving.by_unit(filled) == 0
        assert len(saving.good(filled)) == 1


def test_27_a_killed_backup_is_no_hindrance_for_the_next_one(filled: Guest, repository: str) -> None:
    filled.run("systemctl start --no-block mlflowd-backup")
    filled.run(f"timeout 60 sh -c 'until find {repository}/data -type f | grep -q .; do sleep 0.05; done'", timeout=70)
    filled.run("systemctl kill --signal=KILL mlflowd-backup; systemctl stop mlflowd-backup", timeout=60)
    assert saving.by_unit(filled) == 0
    assert len(saving.good(filled)) == 1


def test_a_full_target_is_named_and_nothing_is_listed(filled: Guest, repository: str) -> None:
    cursor = filled.journal_end()
    filled.run(f"mkdir {repository} && mount -t tmpfs -o size=200m,uid=mlflowd,gid=mlflowd,mode=700 tmpfs {repository}")
    try:
        with Trial(filled):
            assert saving.by_unit(filled) == REFUSED
            said = told(filled, "BACKUP_FAILED", "mlflowd-backup", cursor, 10)
            assert "no room" in said["MESSAGE"]
            assert saving.listed(filled) == []
            said = told(filled, "BACKUP_FAILED", "mlflowd", cursor, 90)
            assert "no room" in said["MESSAGE"]
            assert filled.run("mlflowd status").returncode == 0
    finally:
        filled.run(f"umount {repository}")


@pytest.fixture
def sound_again(filled: Guest) -> Iterator[Guest]:
    """The database as it was, after the test has damaged it."""
    filled.run(f"systemctl stop mlflowd && cp -a {DATABASE} /srv/sound.db && systemctl start mlflowd", timeout=180)
    filled.wait_serving(120)
    yield filled
    filled.run(
        f"systemctl stop mlflowd; rm -f {DATABASE}-wal {DATABASE}-shm; cp -a /srv/sound.db {DATABASE}", timeout=90
    )
    filled.run("systemctl reset-failed mlflowd; systemctl start mlflowd", timeout=180)
    filled.wait_serving(120)


def test_44_a_flipped_page_is_told_and_gets_no_good_backup(sound_again: Guest, repository: str) -> None:
    host = sound_again
    first = saving.backup(host)
    size = int(host.run(f"stat -c %s {DATABASE}").stdout)
    page = int(host.run(["python3", "-c", ROOT_PAGE, DATABASE]).stdout)
    cursor, began = host.journal_end(), time.monotonic()
    flip = f"head -c 4096 /dev/zero | tr '\\0' '\\377' | dd of={DATABASE} bs=4096 seek={page - 1} conv=notrunc"
    host.run(flip)
    assert saving.by_unit(host) == REFUSED
    said = told(host, "BACKUP_DAMAGED", "mlflowd-backup", cursor, 10)
    assert time.monotonic() - began <= 2 + size / 0.9e9 + SLACK
    assert DATABASE in said["MESSAGE"]
    assert saving.good(host) == [first]
    assert saving.record(host)["last_failure"]["damaged"]
    told(host, "BACKUP_DAMAGED", "mlflowd", cursor, 90)
    assert repository


def test_a_damaged_repository_is_named_and_what_it_lost_is_not_restorable(filled: Guest, repository: str) -> None:
    with Trial(filled) as trial:
        saving.backup(filled)
        largest = f"$(find {repository}/data -type f -printf '%s %p\\n' | sort -rn | head -1 | cut -d' ' -f2)"
        filled.run(f"rm -f {largest}")
        assert saving.good(filled) == [], "the list looks for missing packs itself"
        assert "Not to be restored" in filled.run("mlflowd backup list").stdout
        assert saving.by_unit(filled, "mlflowd-backup-check") == REFUSED
        assert (
            "Not to be restored" in told(filled, "BACKUP_DAMAGED", "mlflowd-backup-check", trial.cursor, 10)["MESSAGE"]
        )
        told(filled, "BACKUP_DAMAGED", "mlflowd", trial.cursor, 90)
        assert saving.by_unit(filled) == REFUSED, "what was lost is not saved again: restic believes its index"
        filled.run(f"mv {repository} {repository}.damaged && mlflowd backup --init", timeout=120)
        assert len(saving.good(filled)) == 1


def test_flipped_bytes_are_found_by_reading_the_data(filled: Guest, repository: str) -> None:
    saving.backup(filled)
    largest = f"$(find {repository}/data -type f -printf '%s %p\\n' | sort -rn | head -1 | cut -d' ' -f2)"
    filled.run(f"printf '\\377\\376\\375\\374' | dd of={largest} bs=1 seek=100000 conv=notrunc")
    done = filled.run("mlflowd backup check --read-data", check=False, timeout=120)
    assert done.returncode == REFUSED
    assert "damaged" in done.stdout
    assert saving.good(filled) == []
