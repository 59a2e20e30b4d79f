from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host.occupation import OccupiedError
from mlflowd.operations.backup import manifest
from mlflowd.operations.backup.check import NEXT, _cleared, _subset
from mlflowd.operations.backup.create import _literal, noted
from mlflowd.operations.backup.manifest import Manifest
from mlflowd.operations.backup.record import Checked, Failure, Record, RecordFile, Success, Verified
from mlflowd.operations.copies import Copy, Kind, Part

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity

DONE = Success(1000.0, "ab" * 32, 5.0, 10, 100)
FAILED = Failure(2000.0, "backup", "the disk is full.", "df -h")


def test_what_is_noted_is_read_again(tmp_path: Path, who: Identity) -> None:
    file = RecordFile(tmp_path, who)
    assert file.read() == Record()
    file.begin("/mnt/x", 900.0)
    file.succeeded(DONE)
    file.failed(FAILED)
    file.verified(Verified(1500.0, "ab" * 32, 60.0))
    file.condemn({"cd" * 32: "its data are damaged"})
    record = file.read()
    assert (record.repository, record.since) == ("/mnt/x", 900.0)
    assert (record.last_success, record.last_failure) == (DONE, FAILED)
    assert record.bad == {"cd" * 32: "its data are damaged"}


def test_another_repository_begins_another_record(tmp_path: Path, who: Identity) -> None:
    file = RecordFile(tmp_path, who)
    file.begin("/mnt/x", 900.0)
    file.succeeded(DONE)
    assert file.begin("/mnt/x", 950.0).since == 900.0
    assert file.begin("/mnt/y", 960.0) == Record("/mnt/y", 960.0)


def test_a_new_repository_at_the_same_place_leaves_the_old_damage_behind() -> None:
    known = Record("/mnt/x", 1.0, "one", last_success=DONE, bad={"a": "damaged"}, packs=("b",))
    assert known.of("one") == known
    assert known.of("two") == Record("/mnt/x", 1.0, "two")


def test_a_damaged_record_is_as_none(tmp_path: Path, who: Identity) -> None:
    file = RecordFile(tmp_path, who)
    file.begin("/mnt/x", 900.0)
    file.path.write_text("{")
    assert file.read() == Record()
    file.path.write_text(json.dumps({"schema": 99}))
    assert file.read() == Record()


def test_a_failure_counts_until_an_attempt_of_its_kind_goes_well() -> None:
    assert Record(last_failure=FAILED).failing == FAILED
    assert Record(last_failure=FAILED, last_success=DONE).failing == FAILED
    assert Record(last_failure=FAILED, last_success=replace(DONE, at=3000.0)).failing is None
    checked = replace(FAILED, what="check")
    assert Record(last_failure=checked, last_success=replace(DONE, at=3000.0)).failing == checked
    assert Record(last_failure=checked, last_check=Checked(2500.0, "")).failing is None


def test_what_is_busy_is_no_failure_and_an_interruption_is_one(tmp_path: Path, who: Identity) -> None:
    file = RecordFile(tmp_path, who)
    with pytest.raises(OccupiedError), noted(file, "backup"):
        raise OccupiedError("a check is at work")
    assert file.read().last_failure is None
    with pytest.raises(KeyboardInterrupt), noted(file, "backup"):
        raise KeyboardInterrupt
    assert "interrupted" in (file.read().failing or FAILED).message
    with pytest.raises(MlflowdError), noted(file, "backup"):
        raise MlflowdError("no room", "df -h")
    assert (file.read().failing or FAILED).remedy == "df -h"


def test_the_parts_that_are_read_go_round() -> None:
    assert _subset(NEXT, Record()) == "1/12"
    assert _subset(NEXT, Record(last_check=Checked(1.0, "1/12"))) == "2/12"
    assert _subset(NEXT, Record(last_check=Checked(1.0, "12/12"))) == "1/12"
    assert _subset(NEXT, Record(last_check=Checked(1.0, "all"))) == "1/12"
    assert _subset("5%", Record()) == "5%"


def test_damage_is_forgotten_only_after_everything_was_read() -> None:
    known = Record(bad={"a": "damaged"}, packs=("b",))
    assert _cleared(replace(known, last_check=Checked(1.0, "3/12"))).bad
    assert not _cleared(replace(known, last_check=Checked(1.0, "all"))).bad


def test_a_path_is_no_pattern() -> None:
    assert _literal("/srv/a*b[1]?") == "/srv/a\\*b\\[1\\]\\?"


def test_a_manifest_is_read_as_it_was_written() -> None:
    copy = Copy((Part("backend", Kind.SQLITE, "backend.db", 4096, "00" * 32, "dc11669786a5"),))
    held = Manifest(
        "2026-11-20T21:00:00Z", "host", "0.5", "3.17.2", "mlflow:v3.17.2", "sha256:1", copy, "/srv/a", {"runs": 3}
    )
    assert manifest.parse(held.text()) == held


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 2}', '{"schema": 1}'])
def test_another_text_is_no_manifest(text: str) -> None:
    with pytest.raises(RefusedError):
        manifest.parse(text)
