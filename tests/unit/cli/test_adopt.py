"""`mlflowd adopt` before it touches anything, and what it does with an adoption that was cut short."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import pytest

from mlflowd.cli import adopt, adopted, main
from mlflowd.config import Settings
from mlflowd.errors import ExitStatus, RefusedError
from mlflowd.operations.adoption import carry_out, ready
from mlflowd.operations.adoption.counts import Counts
from mlflowd.operations.adoption.extents import Extent
from mlflowd.operations.adoption.written import Book
from unit.operations.adoption_ground import Ground, build
from unit.operations.adoption_ground import ground as make_ground

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="adopting is root's")


@pytest.fixture
def machine(ground: Path, other: Identity, monkeypatch: pytest.MonkeyPatch) -> Ground:
    made = make_ground(ground, other)
    made.config.write_text('[engine]\nsocket = "/run/other.sock"\n[disk]\nwarn = "20%"\n')
    monkeypatch.setenv("STATE_DIRECTORY", str(made.state))
    monkeypatch.setattr(adopt, "identity", lambda: other)
    monkeypatch.setattr(adopt, "DockerEngine", lambda *_: made.engine)
    monkeypatch.setattr(adopt, "Service", lambda: made.service)
    monkeypatch.setattr(made.engine, "close", lambda: None)
    return made


def run(machine: Ground, *words: str) -> int:
    return main.main(["--config", str(machine.config), "adopt", *words])


def current(machine: Ground) -> Settings:
    """Return the configuration of an mlflowd without data."""
    return Settings.layered(
        {
            "backend_store": {"uri": f"sqlite:///{machine.state}/backend/mlflow.db"},
            "artifact_store": {"uri": f"{machine.state}/artifacts"},
        }
    )


def require(machine: Ground, **plan: object) -> None:
    made = dataclasses.replace(machine.plan(), **plan)  # type: ignore[arg-type]  # a field each
    ready.require(made, current(machine), machine.engine, machine.who, machine.state)


def test_another_user_than_root_is_refused(
    machine: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(machine) == ExitStatus.PERMISSION
    assert "sudo mlflowd adopt" in capsys.readouterr().err


def test_nothing_to_undo_is_fine(machine: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    before = machine.looks()
    assert run(machine, "--undo") == ExitStatus.OK
    assert "Nothing to undo" in capsys.readouterr().out
    assert machine.looks() == before


@pytest.mark.parametrize(("words", "status"), [(["--undo"], ExitStatus.OK), (["nobody"], ExitStatus.REFUSED)])
def test_an_adoption_that_was_cut_short_is_undone_by_the_next(
    machine: Ground, words: list[str], status: ExitStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    before = machine.looks()
    work = machine.work(machine.plan())
    carry_out.begin(work)
    carry_out.carry_out(work)
    assert run(machine, *words) == status
    assert "everything is as it was before; tracking is running" in capsys.readouterr().out
    after = machine.looks()
    assert {path for path in before if before[path] != after[path]} == set()
    assert Book(machine.state).pending() is None


def test_a_dry_run_changes_nothing_of_an_adoption_that_was_cut_short(
    machine: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    work = machine.work(machine.plan())
    carry_out.begin(work)
    carry_out.carry_out(work)
    before = machine.looks()
    assert run(machine, "--dry-run") == ExitStatus.REFUSED
    assert "adopt --undo" in capsys.readouterr().err
    assert machine.looks() == before
    assert Book(machine.state).pending() is not None


def test_what_is_ready_is_let_through(machine: Ground) -> None:
    require(machine)


def test_an_mlflowd_that_has_data_is_refused(machine: Ground) -> None:
    own = machine.state / "backend" / "mlflow.db"
    own.parent.mkdir()
    build(own)
    for path in (own.parent, own):
        os.chown(path, machine.who.uid, machine.who.gid)
    with pytest.raises(RefusedError, match="already has a database of its own"):
        require(machine)


def test_an_mlflowd_that_has_artifacts_is_refused(machine: Ground) -> None:
    (machine.state / "artifacts" / "7").mkdir(parents=True)
    with pytest.raises(RefusedError, match="already has artifacts of its own"):
        require(machine)


def test_a_container_of_an_adoption_before_is_refused(machine: Ground) -> None:
    machine.engine.deploy(dataclasses.replace(machine.deployed(), name="tracking-before-mlflowd"))
    with pytest.raises(RefusedError, match="tracking-before-mlflowd already"):
        require(machine)


def test_what_does_not_fit_is_refused(machine: Ground) -> None:
    with pytest.raises(RefusedError, match="are free there"):
        require(machine, counts=Counts(database=Extent(1, 1 << 60)))


def test_rewriting_without_a_directory_of_artifacts_is_refused(machine: Ground) -> None:
    with pytest.raises(RefusedError, match="cannot be rewritten"):
        require(machine, artifacts=None, counts=Counts(columns=(("runs.artifact_uri", 3),)))


def test_a_place_that_the_service_user_cannot_reach_is_refused(machine: Ground) -> None:
    machine.project.chmod(0o700)
    with pytest.raises(RefusedError, match="cannot reach"):
        require(machine, database=machine.project / "data" / "mlflow.db")


def test_what_the_configuration_says_of_mlflowd_itself_stays(machine: Ground) -> None:
    kept = adopted.with_former({"server": {"listen": "0.0.0.0:5000"}}, machine.config)
    assert kept == {
        "engine": {"socket": "/run/other.sock"},
        "disk": {"warn": "20%"},
        "server": {"listen": "0.0.0.0:5000"},
    }
