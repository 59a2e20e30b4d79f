from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mlflowd.cli import backup, backup_list
from mlflowd.cli.main import main
from mlflowd.cli.terminal import Progress
from mlflowd.errors import MlflowdError
from mlflowd.events import Event
from mlflowd.host.restic import DamagedRepositoryError, Snapshot
from mlflowd.operations.backup.manifest import Manifest
from mlflowd.operations.backup.record import Record, Verified
from mlflowd.operations.backup.repository import Backup
from mlflowd.operations.copies import Copy, DamagedError, Kind, Part

if TYPE_CHECKING:
    from pathlib import Path

COPY = Copy((Part("backend", Kind.SQLITE, "backend.db", 2_000_000, "00" * 32, "dc11669786a5"),))
HELD = Manifest("2026-11-20T21:00:00Z", "host", "0.5", "3.17.2", "mlflow:v3.17.2", "", COPY, "/srv/a", {"runs": 12})


def made(letter: str, wrong: str = "") -> Backup:
    at = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
    return Backup(Snapshot(letter * 64, at, "host", ("/x/backup/staging",)), None if wrong else HELD, wrong)


def test_the_list_shows_what_can_be_restored_and_apart_what_cannot() -> None:
    known = Record(last_verify=Verified(1.0, "aaaaaaaa", 60.0))
    shown = backup_list.table([made("a"), made("b"), made("c", "its data are damaged")], known, "/mnt/x")
    good, bad = shown.split("Not to be restored:")
    assert "2 backups that can be restored" in good
    assert "aaaaaaaa  2026-11-20 21:00  3.17.2    12      2.0 MB       verified" in good
    assert "cccccccc" not in good
    assert "cccccccc" in bad
    assert "its data are damaged" in bad


def test_the_document_says_the_same() -> None:
    told = json.loads(backup_list.document([made("a"), made("c", "lost")], Record(), "/mnt/x"))
    assert told["schema"] == 1
    assert [each["restorable"] for each in told["backups"]] == [True, False]
    assert told["backups"][0]["counts"] == {"runs": 12}
    assert told["backups"][1]["wrong"] == "lost"


@pytest.fixture
def unconfigured(tmp_path: Path) -> list[str]:
    (tmp_path / "mlflowd.toml").write_text("")
    return ["--config", str(tmp_path / "mlflowd.toml")]


def test_without_a_repository_it_says_what_to_set(unconfigured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*unconfigured, "backup"]) == 78
    assert "backup.repository" in capsys.readouterr().err
    for part in ([], ["check"], ["verify"], ["list"]):
        assert main([*unconfigured, "backup", "--if-configured", *part]) == 0
    assert capsys.readouterr().err == ""


def test_damage_is_an_event_of_its_own() -> None:
    assert backup.event_of(DamagedError("x")) is Event.BACKUP_DAMAGED
    assert backup.event_of(DamagedRepositoryError("x")) is Event.BACKUP_DAMAGED
    assert backup.event_of(MlflowdError("x")) is Event.BACKUP_FAILED


def test_counts_are_paced_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    for sentence in ("copying", "1 of 9 files", "2 of 9 files", "saving"):
        progress(sentence)
    progress.end()
    assert [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "copying", "1 of 9 files", "saving",
    ]  # fmt: skip
