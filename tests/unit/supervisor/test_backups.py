from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fakes.engine import FakeEngine
from mlflowd.config.settings import Settings
from mlflowd.events import Event
from mlflowd.model import Layer
from mlflowd.operations.backup.record import Checked, Failure, Record, RecordFile, Success, Verified
from mlflowd.supervisor.backups import BackupWatch, document, troubles
from mlflowd.supervisor.narrate import _trouble
from mlflowd.supervisor.place import Place

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity

HOUR = 3600.0
NOW = 1_000_000.0
GOOD = Record("/mnt/x", NOW - 100 * HOUR, "id", Success(NOW - HOUR, "ab" * 32, 5.0, 10, 100))
FAILED = Failure(NOW - 60, "backup", "There is no room left at /mnt/x.", "make room")


def told(record: Record) -> list[tuple[Event, str]]:
    found = troubles(record, 36 * HOUR, NOW)
    assert all(each.layer is Layer.BACKUP and not each.critical and not each.restart_cures for each in found)
    assert all(each.remedy for each in found)
    return [(_trouble(each), each.message) for each in found]


def test_a_fresh_backup_is_no_trouble() -> None:
    assert told(GOOD) == []


def test_an_old_backup_is_stale_and_so_is_a_first_one_that_never_came() -> None:
    old = replace(GOOD, last_success=Success(NOW - 37 * HOUR, "ab" * 32, 5.0, 10, 100))
    assert [event for event, _ in told(old)] == [Event.BACKUP_STALE]
    assert [event for event, _ in told(replace(GOOD, last_success=None))] == [Event.BACKUP_STALE]
    assert told(Record("/mnt/x", NOW - HOUR)) == []


def test_the_sentence_stays_the_same_while_it_lasts() -> None:
    old = replace(GOOD, last_success=None)
    assert troubles(old, HOUR, NOW) == troubles(old, HOUR, NOW + 60)


def test_a_failed_attempt_is_told_until_one_goes_well() -> None:
    assert told(replace(GOOD, last_failure=FAILED)) == [
        (Event.BACKUP_FAILED, "the last backup failed: There is no room left at /mnt/x")
    ]
    later = replace(GOOD, last_failure=FAILED, last_success=Success(NOW, "cd" * 32, 5.0, 1, 1))
    assert told(later) == []


def test_a_failed_verification_is_told_as_such() -> None:
    verification = replace(FAILED, what="verification")
    assert told(replace(GOOD, last_failure=verification))[0][1].startswith("the last verification of the backups")


def test_damage_is_told_as_damage() -> None:
    damaged = replace(FAILED, damaged=True, message="The database is damaged: page 3.")
    assert [event for event, _ in told(replace(GOOD, last_failure=damaged))] == [Event.BACKUP_DAMAGED]
    condemned = replace(GOOD, bad={"ab" * 32: "x"}, last_failure=replace(damaged, what="check"))
    assert told(condemned) == [(Event.BACKUP_DAMAGED, "1 backups in /mnt/x are damaged")]


def test_the_document_has_instants_and_ids_for_people() -> None:
    record = replace(GOOD, last_verify=Verified(NOW, "ab" * 32, 60.0), last_check=Checked(NOW, "all"))
    assert document(record) == {
        "repository": "/mnt/x",
        "last": "1970-01-12T12:46:40Z",
        "snapshot": "abababab",
        "verified": "1970-01-12T13:46:40Z",
        "verified_snapshot": "abababab",
        "checked": "1970-01-12T13:46:40Z",
        "damaged": 0,
    }
    assert document(Record("/mnt/x", NOW))["last"] is None


def test_nothing_is_looked_for_where_no_repository_is_set(tmp_path: Path, who: Identity) -> None:
    watch = BackupWatch(Settings(), Place(FakeEngine(), tmp_path, tmp_path, who))
    assert watch.look() == ()
    assert watch.document is None
    assert not RecordFile(tmp_path, who).path.exists()


def test_the_watch_notes_since_when_a_repository_is_set(tmp_path: Path, who: Identity) -> None:
    settings = Settings.layered({"backup": {"repository": "/mnt/x", "password": "env:X"}})
    watch = BackupWatch(settings, Place(FakeEngine(), tmp_path, tmp_path, who))
    assert watch.look() == ()
    assert RecordFile(tmp_path, who).read().since > 0
    assert watch.document is not None
