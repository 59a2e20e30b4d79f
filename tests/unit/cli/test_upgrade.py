from __future__ import annotations

import argparse
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fakes import databases
from fakes.engine import FakeEngine
from fakes.web import web
from mlflowd.cli import upgrade
from mlflowd.errors import AskedError, ConfigurationError, ExitStatus
from mlflowd.host.occupation import OccupiedError, occupied
from mlflowd.host.paths import Identity
from mlflowd.model import Image
from mlflowd.operations.images_kept import ImagesKept, Served
from mlflowd.operations.migration import MigrationError

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.model import ContainerSpec

NEXT = "e5f6a7b8c9d0"
OLD, NEW = "ghcr.io/mlflow/mlflow:v3.10.1", "ghcr.io/mlflow/mlflow:v3.17.2"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    for number, reference in enumerate((OLD, NEW)):
        fake.add_image(Image(f"sha256:{number}", (reference,), {}))
    known = {"revisions": [databases.REVISION, NEXT], "heads": [NEXT]}
    fake.answer = json.dumps({"python": "3.13", "packages": {"mlflow": "3.9.0"}, "purelib": "/x", **known})

    def migrated(like: ContainerSpec) -> str:
        (backend,) = (mount.source for mount in like.mounts if mount.target == "/mlflow/backend")
        with closing(sqlite3.connect(f"{backend}/mlflow.db")) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", [NEXT])
        return f"The schema is revision {NEXT}"

    fake.work = migrated
    monkeypatch.setattr(fake, "close", lambda: None)
    monkeypatch.setattr(upgrade, "DockerEngine", lambda *_: fake)
    return fake


@pytest.fixture
def config(ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mlflowd.host.paths.identity", lambda: who)
    monkeypatch.setenv("STATE_DIRECTORY", str(ground / "state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(ground / "run"))
    for name in ("state", "state/state", "backend", "artifacts", "run"):
        (ground / name).mkdir(mode=0o700)
    databases.make(ground / "backend" / "mlflow.db")
    path = ground / "mlflowd.toml"
    path.write_text(
        f'backend_store.uri = "sqlite:///{ground}/backend/mlflow.db"\n'
        f'artifact_store.uri = "{ground}/artifacts"\n'
        f'server.listen = "127.0.0.1:47613"\nimage.reference = "{OLD}"\ndisk.require_free = "0"\n'
    )
    return path


def run(config: Path, *words: str) -> int:
    top = argparse.ArgumentParser()
    top.add_argument("--config", type=type(config))
    upgrade.add_parser(top.add_subparsers())
    args = top.parse_args(["--config", str(config), "upgrade", *words])
    return int(args.run(args))


@pytest.mark.usefixtures("engine")
def test_a_rehearsal_tells_what_the_upgrade_would_do_and_leaves_the_database(
    config: Path, ground: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (ground / "backend" / "mlflow.db").read_bytes()
    assert run(config, "--rehearse", "3.17.2") == ExitStatus.OK
    said = capsys.readouterr().out
    assert f"image        {NEW}: MLflow 3.9.0, the first one to serve\n" in said
    assert f"migration    The migration of the database from revision {databases.REVISION} to {NEXT} succeeded" in said
    assert "MB for a while; " in said
    assert "downtime     about 12 s: the copy, the migration and the start" in said
    assert "active runs  not known: the server does not answer" in said
    assert "advisory     CVE-2026-2614 (GHSA-42h5-h8qh-vv9v): whoever reaches the server can read every file" in said
    assert f'to upgrade   set image.reference = "{NEW}" in /etc/mlflowd.toml,' in said
    assert (ground / "backend" / "mlflow.db").read_bytes() == before
    assert not (ground / "state" / "rehearsal").exists()


def test_an_image_that_serves_already_needs_no_upgrade(
    engine: FakeEngine, config: Path, ground: Path, who: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    del engine
    ImagesKept(ground / "state", who).serve(Served("sha256:0", "sha256:0"))
    assert run(config, "--rehearse") == ExitStatus.OK
    assert "to upgrade   nothing: this image serves already" in capsys.readouterr().out
    assert run(config, "--rehearse", "3.17.2") == ExitStatus.OK
    assert f"{NEW}: MLflow 3.9.0, in place of 3.9.0\n" in capsys.readouterr().out


def test_without_a_version_the_configured_image_is_rehearsed(engine: FakeEngine, config: Path) -> None:
    assert run(config, "--rehearse") == ExitStatus.OK
    assert {like.image for like in engine.liked} == {OLD}


def test_a_whole_reference_is_taken_as_it_is(engine: FakeEngine, config: Path) -> None:
    engine.add_image(Image("sha256:2", ("registry:5000/own:next",), {}))
    config.write_text(config.read_text() + 'image.archive = "/srv/old.tar"\n')
    assert run(config, "--rehearse", "registry:5000/own:next") == ExitStatus.OK
    assert {like.image_id for like in engine.liked} == {"sha256:2"}


@pytest.mark.usefixtures("engine")
def test_active_runs_are_named(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tuple(f"run {number}" for number in range(7))
    monkeypatch.setattr("mlflowd.server.active_runs.active", lambda *_, **__: found)
    with web(lambda *_: (200, b"OK")) as address:
        config.write_text(config.read_text().replace(":47613", f":{address.port}"))
        assert run(config, "--rehearse", "3.17.2") == ExitStatus.OK
    said = capsys.readouterr().out
    assert "active runs  7\n             run 0\n" in said
    assert "             and 2 more\n" in said


def test_an_upgrade_that_would_fail_is_refused_with_the_reason(engine: FakeEngine, config: Path, ground: Path) -> None:
    error = AskedError("ended with status 1")
    error.said = "sqlalchemy.exc.OperationalError: duplicate column name: x"
    engine.fail("ask", error)  # what the image can do
    with pytest.raises(AskedError):
        run(config, "--rehearse", "3.17.2")
    engine.work = lambda _: _raise(error)
    with pytest.raises(MigrationError, match="duplicate column name: x") as caught:
        run(config, "--rehearse", "3.17.2")
    assert caught.value.exit_status is ExitStatus.REFUSED
    assert not (ground / "state" / "rehearsal").exists()


def _raise(error: Exception) -> str:
    raise error


@pytest.mark.usefixtures("engine")
def test_one_operation_at_a_time(config: Path, ground: Path) -> None:
    with occupied(ground / "state", "a backup"), pytest.raises(OccupiedError, match="a backup") as caught:
        run(config, "--rehearse", "3.17.2")
    assert caught.value.exit_status is ExitStatus.LOCKED


@pytest.mark.usefixtures("engine")
def test_a_version_for_a_tag_that_is_none_is_a_mistake(config: Path) -> None:
    config.write_text(config.read_text().replace(OLD, "registry:5000/own:stable"))
    with pytest.raises(ConfigurationError, match="no version"):
        run(config, "--rehearse", "3.17.2")


def test_the_upgrade_itself_is_no_command(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config) == ExitStatus.USAGE
    assert "sudo systemctl reload mlflowd" in capsys.readouterr().err


def test_a_stranger_is_told_to_use_sudo(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    monkeypatch.setattr("mlflowd.host.paths.identity", lambda: Identity(4711, 4711, "eve"))
    with pytest.raises(Exception, match="belongs to another user") as caught:
        run(config, "--rehearse")
    assert getattr(caught.value, "exit_status", None) is ExitStatus.PERMISSION
