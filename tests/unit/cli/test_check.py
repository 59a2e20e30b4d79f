from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

import pytest

from fakes import databases
from fakes.engine import FakeEngine
from mlflowd.cli import check, prepare
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.model import Finding, Level, Mend, MendKind
from mlflowd.stores import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(fake, "close", lambda: None)  # each command makes its own connection
    monkeypatch.setattr(check, "DockerEngine", lambda *_: fake)
    return fake


@pytest.fixture
def config(ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose stores lie on the ground, for whoever runs the tests."""
    for module in (check, prepare):
        monkeypatch.setattr(module, "identity", lambda: who)
    monkeypatch.setenv("STATE_DIRECTORY", str(ground / "state"))
    for name in ("state", "state/state", "backend", "artifacts"):
        (ground / name).mkdir(mode=0o700)
    path = ground / "mlflowd.toml"
    path.write_text(
        f'backend_store.uri = "sqlite:///{ground}/backend/mlflow.db"\n'
        f'artifact_store.uri = "{ground}/artifacts"\n'
        'server.listen = "127.0.0.1:47611"\n'
        'disk = { warn = "0", critical = "0", require_free = "0" }\n'
    )
    return path


def run(config: Path, *words: str) -> int:
    top = argparse.ArgumentParser()
    top.add_argument("--config", type=type(config))
    subparsers = top.add_subparsers()
    check.add_parser(subparsers)
    prepare.add_parser(subparsers)
    args = top.parse_args(["--config", str(config), *words])
    return int(args.run(args))


@pytest.mark.usefixtures("engine")
def test_healthy_machine_passes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "check") == ExitStatus.OK
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert any("engine: docker 20.10.24 answers" in line for line in lines)


@pytest.mark.usefixtures("engine")
def test_failure_is_printed_with_its_remedy_and_gives_its_status(
    config: Path, ground: Path, who: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    path = databases.make(ground / "backend" / "mlflow.db")
    fingerprint.record(path, ground / "state", who)
    path.unlink()
    assert run(config, "check") == ExitStatus.REFUSED
    lines = capsys.readouterr().out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("FAIL")]
    assert "--accept-database" in lines[at + 1]


@pytest.mark.usefixtures("engine")
def test_accepting_a_lost_database_lets_the_next_start_pass(
    config: Path, ground: Path, who: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    path = databases.make(ground / "backend" / "mlflow.db")
    fingerprint.record(path, ground / "state", who)
    path.unlink()
    assert run(config, "check", "--accept-database") == ExitStatus.OK
    assert run(config, "check") == ExitStatus.OK
    assert "takes" in capsys.readouterr().out


@pytest.mark.usefixtures("engine")
def test_json_holds_every_finding(config: Path, ground: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ground / "artifacts").chmod(0o777)
    assert run(config, "check", "--json") == ExitStatus.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["exit_status"], told["fixed"]) == (1, 0, [])
    (warned,) = [each for each in told["findings"] if each["level"] == "warning"]
    assert warned["mend"]["kind"] == "mode"


@pytest.mark.usefixtures("engine")
def test_repairs_need_root(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 61234)
    with pytest.raises(MlflowdError, match="need root") as caught:
        run(config, "check", "--fix")
    assert caught.value.exit_status is ExitStatus.PERMISSION


@pytest.mark.usefixtures("engine")
def test_user_who_cannot_see_the_stores_is_sent_to_root(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 61234)
    with pytest.raises(MlflowdError, match="belongs to another user") as caught:
        run(config, "check")
    assert caught.value.hint == "sudo mlflowd check"


@pytest.mark.skipif(os.geteuid() != 0, reason="repairs need root")
@pytest.mark.usefixtures("engine")
def test_fix_mends_owner_and_mode_and_checks_again(
    config: Path,
    ground: Path,
    other: Identity,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(check, "identity", lambda: other)
    databases.make(ground / "backend" / "mlflow.db").with_name("mlflow.db-wal").touch()
    (ground / "artifacts").chmod(0o000)
    assert run(config, "check") == ExitStatus.PERMISSION
    assert run(config, "check", "--fix") == ExitStatus.OK
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("fixed") and f"gave {ground}/backend to 61234:61234" in line for line in lines)
    assert any(line.startswith("fixed") and f"changed the mode of {ground}/artifacts to 0700" in line for line in lines)
    assert {entry.stat().st_uid for entry in (ground / "backend").iterdir()} == {other.uid}


@pytest.mark.usefixtures("config")
def test_running_server_is_left_alone(config: Path, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.unreachable = True
    assert run(config, "check") == ExitStatus.FAILURE
    assert "FAIL     engine" in capsys.readouterr().out


def test_repair_that_fails_is_told_and_not_tried_twice(ground: Path) -> None:
    mend = Mend(MendKind.MODE, str(ground / "missing"))
    finding = Finding("x", Level.FAILURE, "m", "r", 77, mend)
    done = check.repair([finding], lambda: [finding])
    assert len(done) == 1
    assert done[0].startswith("nothing at")


@pytest.mark.parametrize(
    ("statuses", "expected"), [([], 0), ([1], 1), ([69, 1], 69), ([77, 69], 69), ([77, 78, 69], 78), ([0], 1)]
)
def test_exit_status_is_that_of_the_worst_failure(statuses: list[int], expected: int) -> None:
    found = [Finding("x", Level.FAILURE, "m", "r", status) for status in statuses]
    assert check.exit_status([*found, Finding("y", Level.WARNING, "m")]) == expected


def test_prepare_makes_the_stores_and_never_fails(
    config: Path, ground: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ground / "artifacts").rmdir()
    assert run(config, "prepare") == ExitStatus.OK
    assert (ground / "artifacts").is_dir()
    assert f"made {ground}/artifacts" in capsys.readouterr().err
    assert run(ground / "no-such-file", "prepare") == ExitStatus.OK
