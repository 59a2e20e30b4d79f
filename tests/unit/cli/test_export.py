"""`mlflowd export compose`: what it prints, what it writes beside it, and whom it refuses."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from fakes.engine import FakeEngine
from mlflowd.cli import export, main
from mlflowd.host.paths import Identity
from mlflowd.model import Image

if TYPE_CHECKING:
    from pathlib import Path

REFERENCE = "registry/mlflow:v3.17.2"
ANSWER = json.dumps({"python": "3.11.2", "packages": {"mlflow": "3.17.2", "uvicorn": "0.40", "flask-wtf": "1.2"}})
CONFIGURATION = """
[image]
reference = "registry/mlflow:v3.17.2"
[server]
secrets = {{API_TOKEN = "file:{token}"}}
[login]
enabled = true
admin_password = "file:{password}"
[backend_store]
uri = "sqlite:///{top}/backend/mlflow.db"
[artifact_store]
uri = "{top}/artifacts"
"""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    engine.answer = ANSWER
    engine.add_image(Image("sha256:" + "1" * 64, (REFERENCE,), {}, ("registry/mlflow@sha256:" + "2" * 64,)))
    monkeypatch.setattr(export, "DockerEngine", lambda *_: engine)
    who = Identity(os.geteuid(), os.getegid(), "me")
    monkeypatch.setattr(export, "identity", lambda: who)
    return engine


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in {"token": "the-token", "password": "a-long-password"}.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    state = tmp_path / "state"
    (state / "state").mkdir(parents=True)
    for name in ("login-secret-key", "login-probe-password"):
        (state / "state" / name).write_text("0123456789abcdef")
        (state / "state" / name).chmod(0o600)
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    path = tmp_path / "mlflowd.toml"
    path.write_text(
        CONFIGURATION.format(token=tmp_path / "token", password=tmp_path / "password", top=tmp_path / "mlflow")
    )
    return path


def call(config: Path, *arguments: str) -> int:
    return main.main(["--config", str(config), "export", "compose", *arguments])


@pytest.mark.usefixtures("engine")
def test_it_prints_the_file_and_names_what_belongs_beside_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(config) == 0
    printed = capsys.readouterr()
    assert 'image: "registry/mlflow@sha256:' in printed.out
    assert "the-token" not in printed.out + printed.err
    assert "a-long-password" not in printed.out + printed.err
    assert ".env beside it has to hold API_TOKEN, MLFLOW_FLASK_SERVER_SECRET_KEY" in printed.err
    assert "basic_auth.ini" in printed.err


@pytest.mark.usefixtures("engine")
def test_it_writes_all_of_it_for_its_user_alone(config: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    assert call(config, "--to", str(to)) == 0
    modes = {path.relative_to(to).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in to.rglob("*")}
    assert modes["compose.yaml"] & 0o444
    assert (modes[".env"], modes["private"], modes["private/basic_auth.ini"]) == (0o600, 0o700, 0o400)
    assert "API_TOKEN='the-token'\n" in (to / ".env").read_text()
    assert "a-long-password" in (to / "private" / "basic_auth.ini").read_text()
    assert "the-token" not in (to / "compose.yaml").read_text()


@pytest.mark.usefixtures("engine")
def test_nothing_that_is_there_is_written_over(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".env").write_text("mine")
    assert call(config, "--to", str(tmp_path / "out")) == 1
    assert "is there already" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".env"]


@pytest.mark.usefixtures("engine")
def test_a_login_that_has_no_key_yet_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state" / "state" / "login-secret-key").unlink()
    assert call(config) == 1
    assert "has not run with this configuration" in capsys.readouterr().err


def test_an_image_that_is_not_here_is_said(
    engine: FakeEngine, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.images.clear()
    assert call(config) == 1
    assert "mlflowd image pull" in capsys.readouterr().err


@pytest.mark.usefixtures("engine")
def test_another_user_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert call(config) == 77
    assert "sudo mlflowd export compose" in capsys.readouterr().err
