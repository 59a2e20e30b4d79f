"""A restored backup as a server shows it, compared with what was saved."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

import pytest

from mlflowd.operations.backup import trial
from mlflowd.operations.backup.manifest import Manifest
from mlflowd.operations.copies import Copy
from mlflowd.server.readback import Content, Holdings, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNTS = {"experiments": 2, "runs": 3, "registered_models": 1, "model_versions": 4}
TOLD = Manifest("", "host", "0.1.0", "3.17.2", "image", "", Copy(), "/srv/artifacts", COUNTS)


class Server:
    """Gives what a directory holds; `other` is what it gives otherwise."""

    def __init__(self, artifacts: Path) -> None:
        self.artifacts = artifacts
        self.other: dict[str, bytes] = {}

    def experiments(self) -> Iterator[str]:
        yield "1"

    def runs(self, _experiments: list[str]) -> Iterator[dict[str, Any]]:
        yield {"info": {"run_id": "r1", "artifact_uri": "mlflow-artifacts:/1/r1/artifacts"}}
        yield {"info": {"run_id": "r2", "artifact_uri": "s3://elsewhere/1/r2"}}

    def run_files(self, run: str, _most: int) -> list[str]:
        assert run == "r1"
        return ["a.txt", "data/b.bin"]

    def model_places(self, _most: int) -> Iterator[tuple[str, str]]:
        yield "model 1", "mlflow-artifacts:/1/models/m-1/artifacts"

    def content(self, path: str) -> Content:
        data = self.other.get(path) or (self.artifacts / path).read_bytes()
        return Content(path, len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    for name in ("1/r1/artifacts/a.txt", "1/r1/artifacts/data/b.bin", "1/models/m-1/artifacts/MLmodel"):
        path = tmp_path / "restored" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "restored"


def sample(artifacts: Path, server: Server | None = None, before: Path | None = None) -> trial.Sample:
    return trial.sample(cast("Reader", server or Server(artifacts)), artifacts, before or artifacts)


def test_what_comes_as_it_was_restored_is_counted(artifacts: Path) -> None:
    found = sample(artifacts)
    assert (found.files, found.wrong, found.absent) == (2, "", ())
    assert found.bytes == len("1/r1/artifacts/a.txt") + len("1/r1/artifacts/data/b.bin")


def test_an_artifact_that_comes_otherwise_is_wrong(artifacts: Path) -> None:
    server = Server(artifacts)
    server.other["1/r1/artifacts/data/b.bin"] = b"something else"
    assert "1/r1/artifacts/data/b.bin comes out of the server other" in sample(artifacts, server).wrong


def test_files_of_a_model_that_only_the_backup_lacks_are_lost(artifacts: Path, tmp_path: Path) -> None:
    live = tmp_path / "live"
    (live / "1/models/m-1").mkdir(parents=True)
    (artifacts / "1/models/m-1/artifacts").rename(live / "1/models/m-1/artifacts")
    assert "model 1 are not in the backup" in sample(artifacts, before=live).wrong


def test_files_of_a_model_that_were_never_there_are_only_told(artifacts: Path, tmp_path: Path) -> None:
    (artifacts / "1/models/m-1/artifacts").rename(tmp_path / "away")
    found = sample(artifacts)
    assert (found.wrong, found.absent) == ("", ("model 1",))


def test_equal_counts_differ_in_nothing() -> None:
    assert trial.differing(Holdings(2, 3, 1), TOLD) == ""


def test_other_counts_are_told_with_both_numbers() -> None:
    assert trial.differing(Holdings(2, 1, 1), TOLD) == "the server shows 1 runs in place of 3"
    assert trial.differing(Holdings(2, 4, 1), TOLD) != ""


def test_more_is_fine_beside_clients_that_write() -> None:
    assert trial.differing(Holdings(3, 9, 2), TOLD, at_least=True) == ""
    assert trial.differing(Holdings(2, 2, 1), TOLD, at_least=True) != ""


def test_a_count_that_ended_at_its_limit_is_no_difference() -> None:
    many = Manifest("", "host", "0.1.0", "3.17.2", "image", "", Copy(), "", {"runs": 900_000})
    assert trial.differing(Holdings(2, 5000, 1, complete=False), many) == ""
