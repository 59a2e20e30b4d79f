from __future__ import annotations

import argparse
import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fakes import databases
from fakes.engine import FakeEngine
from mlflowd.cli import check, prepare
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.model import Finding, Image, Level, Mend, MendKind
from mlflowd.stores import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    fake.add_image(Image("sha256:0", ("ghcr.io/mlflow/mlflow:v3.17.2",), {}))
    packages = {"mlflow": "3.17.2", "psycopg2-binary": "2.9.13"}
    known = {"revisions": ["1b5f0d9ad7c1", databases.REVISION], "heads": [databases.REVISION]}
    fake.answer = json.dumps({"python": "3.13.5", "packages": packages, "purelib": "/usr/lib", **known})
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


def test_an_image_that_is_not_here_is_told_and_is_no_failure(
    engine: FakeEngine, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.images.clear()
    assert run(config, "check") == ExitStatus.OK
    assert "warning  image: The image ghcr.io/mlflow/mlflow:v3.17.2 is not here yet" in capsys.readouterr().out


def test_an_engine_that_is_away_is_told_once(
    engine: FakeEngine, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.unreachable = True
    assert run(config, "check") == ExitStatus.FAILURE
    assert "image:" not in capsys.readouterr().out


@pytest.mark.usefixtures("engine")
def test_a_database_of_an_older_schema_is_told_with_the_command_that_rehearses(
    config: Path, ground: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = databases.make(ground / "backend" / "mlflow.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '1b5f0d9ad7c1'")
    assert run(config, "check") == ExitStatus.OK
    said = capsys.readouterr().out
    assert "warning  database: schema: The database's schema is revision 1b5f0d9ad7c1" in said
    assert "remedy: nothing to do; to try the migration on a copy first: sudo mlflowd upgrade --rehearse" in said


def test_a_remote_database_is_tried_in_a_container_like_the_server_s(
    engine: FakeEngine, config: Path, ground: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = ground / "password"
    secret.touch(mode=0o600)
    secret.write_text("geheimnis-4711")
    text = config.read_text().replace(f"sqlite:///{ground}/backend/mlflow.db", "postgresql://mlflow@db1/models")
    config.write_text(f'{text}backend_store.password = "file:{secret}"\n')
    said = 'OperationalError: connection to server at "db1" failed: FATAL: password authentication failed for user "m"'
    answer = {"kind": "error", "said": said, "step": "login", "seconds": 0.5}
    engine.stores = json.dumps({"backend": answer})
    assert run(config, "check") == ExitStatus.REFUSED
    told = capsys.readouterr().out
    assert "FAIL     backend store: login: The database at db1:5432 refuses the password of the user mlflow." in told
    assert "geheimnis" not in told
    (like,) = engine.liked
    assert "geheimnis-4711" in dict(like.environment)["MLFLOW_BACKEND_STORE_URI"]
    assert [mount.target for mount in like.mounts] == []


def test_an_image_that_lacks_the_driver_is_told(
    engine: FakeEngine, config: Path, ground: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.read_text().replace(f"sqlite:///{ground}/backend/mlflow.db", "mysql://mlflow@db1/models")
    config.write_text(text)
    assert run(config, "check") == ExitStatus.OK
    assert "lacks PyMySQL[rsa], which the start installs" in capsys.readouterr().out
    config.write_text(f"{text}image.build = false\n")
    assert run(config, "check") == ExitStatus.REFUSED
    assert engine.liked == []


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
