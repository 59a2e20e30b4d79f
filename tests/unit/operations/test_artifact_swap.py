"""The exchange of the artifact directory's contents, cut short after every single change of a name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflowd.errors import RefusedError
from mlflowd.operations import artifact_swap as swap

if TYPE_CHECKING:
    from collections.abc import Callable

TODAY = {"0/run/artifacts/a.txt": "today a", "7/run/artifacts/b.txt": "today b", ".hidden": "today h", "z": "today z"}
BACKUP = {"0/run/artifacts/a.txt": "backup a", "3/models/m": "backup m", "y": "backup y"}
OWN = {".mlflowd-probe/x": "of the probe", "lost+found/#1": "of the file system"}


class CutError(Exception):
    """The power went."""


class Power:
    """Lets so many changes of names through, and no more."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for name in ("rename", "mkdir", "rmdir"):
            patch.setattr(Path, name, self._bounded(getattr(Path, name)))

    def _bounded(self, change: Callable[..., object]) -> Callable[..., object]:
        def bounded(*given: object, **named: object) -> object:
            if self.left is not None:
                if self.left == 0:
                    raise CutError
                self.left -= 1
            return change(*given, **named)

        return bounded


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Power:
    return Power(monkeypatch)


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    artifacts = tmp_path / "artifacts"
    write(artifacts, TODAY | OWN)
    write(swap.staged_in(artifacts, "T"), BACKUP)
    return artifacts


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def held(directory: Path) -> dict[str, str]:
    """Return the files, those of mlflowd's own beside."""
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in found.items() if not name.startswith((swap.OWN, "lost+found"))}


def forward(artifacts: Path) -> None:
    swap.set_aside(artifacts, swap.aside_in(artifacts, "T"))
    swap.place(swap.staged_in(artifacts, "T"), artifacts)


def back(artifacts: Path) -> None:
    swap.undo_place(artifacts, swap.staged_in(artifacts, "T"))
    swap.undo_aside(swap.aside_in(artifacts, "T"), artifacts)


def cuts(power: Power, work: Callable[[Path], None], artifacts: Path) -> bool:
    """Do it until the power goes; whether it went."""
    try:
        work(artifacts)
    except CutError:
        return True
    finally:
        power.left = None
    return False


def changes(power: Power, work: Callable[[Path], None], artifacts: Path) -> int:
    power.left = 1000
    work(artifacts)
    count, power.left = 1000 - power.left, None
    return count


def test_today_s_go_aside_and_the_backup_s_come(artifacts: Path) -> None:
    forward(artifacts)
    assert held(artifacts) == BACKUP
    assert held(swap.aside_in(artifacts, "T")) == TODAY


def test_back_again_everything_is_where_it_was(artifacts: Path) -> None:
    forward(artifacts)
    back(artifacts)
    assert held(artifacts) == TODAY
    assert held(swap.staged_in(artifacts, "T")) == BACKUP
    assert not swap.aside_in(artifacts, "T").exists()


def test_what_is_mlflowd_s_or_the_file_system_s_stays(artifacts: Path) -> None:
    forward(artifacts)
    assert {name: (artifacts / name).read_text() for name in OWN} == OWN


def test_a_cut_at_any_point_of_the_way_there_is_made_good_by_going_on(tmp_path: Path, power: Power) -> None:
    count = changes(power, forward, made(tmp_path / "whole"))
    assert count > len(TODAY) + len(BACKUP)
    for after in range(count):
        artifacts = made(tmp_path / f"cut-{after}")
        power.left = after
        assert cuts(power, forward, artifacts)
        forward(artifacts)
        assert held(artifacts) == BACKUP, after
        assert held(swap.aside_in(artifacts, "T")) == TODAY, after


def test_a_cut_at_any_point_of_the_way_there_is_made_good_by_going_back(tmp_path: Path, power: Power) -> None:
    count = changes(power, forward, made(tmp_path / "whole"))
    for after in range(count):
        artifacts = made(tmp_path / f"cut-{after}")
        power.left = after
        assert cuts(power, forward, artifacts)
        back(artifacts)
        assert held(artifacts) == TODAY, after
        assert held(swap.staged_in(artifacts, "T")) == BACKUP, after


def test_two_cuts_one_there_and_one_on_the_way_back_are_made_good(tmp_path: Path, power: Power) -> None:
    count = changes(power, forward, made(tmp_path / "whole"))
    for after in range(count + 1):
        again = 0
        while True:
            artifacts = made(tmp_path / f"cut-{after}-{again}")
            power.left = after
            cuts(power, forward, artifacts)
            power.left = again
            was_cut = cuts(power, back, artifacts)
            back(artifacts)
            assert held(artifacts) == TODAY, (after, again)
            assert held(swap.staged_in(artifacts, "T")) == BACKUP, (after, again)
            if not was_cut:
                break
            again += 1


def test_what_a_server_on_trial_wrote_goes_with_the_backup_s(artifacts: Path) -> None:
    forward(artifacts)
    write(artifacts, {"9/new": "of the trial"})
    back(artifacts)
    assert held(artifacts) == TODAY
    assert held(swap.staged_in(artifacts, "T")) == BACKUP | {"9/new": "of the trial"}


def test_taking_back_before_anything_was_done_does_nothing(artifacts: Path) -> None:
    back(artifacts)
    assert held(artifacts) == TODAY


def test_a_backup_s_artifacts_that_are_gone_are_refused_and_never_taken_for_placed(artifacts: Path) -> None:
    swap.clear(swap.staged_in(artifacts, "T"))
    with pytest.raises(RefusedError, match="is gone"):
        forward(artifacts)
    back(artifacts)
    assert held(artifacts) == TODAY


def test_a_name_that_is_taken_is_never_written_over(artifacts: Path) -> None:
    swap.set_aside(artifacts, swap.aside_in(artifacts, "T"))
    write(artifacts, {"y": "came meanwhile"})
    with pytest.raises(RefusedError, match="there is"):
        swap.place(swap.staged_in(artifacts, "T"), artifacts)
    assert (artifacts / "y").read_text() == "came meanwhile"


def test_nothing_stays_of_the_staged_directory_in_the_end(artifacts: Path) -> None:
    forward(artifacts)
    swap.clear(swap.staged_in(artifacts, "T"))
    assert held(artifacts) == BACKUP
    assert {path.name for path in artifacts.glob(".mlflowd-*")} == {".mlflowd-probe", ".mlflowd-aside-T"}


def made(artifacts: Path) -> Path:
    write(artifacts, TODAY | OWN)
    write(swap.staged_in(artifacts, "T"), BACKUP)
    return artifacts
