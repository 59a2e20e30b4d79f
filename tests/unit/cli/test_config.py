from __future__ import annotations

import argparse
import os
import pwd
import tomllib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mlflowd.cli import config
from mlflowd.errors import ConfigurationError
from mlflowd.host import secrets

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mlflowd.toml"
    file.write_text('[server.environment]\nMY_TOKEN = "hunter2"\n[container]\npids = 99\n')
    return file


def run(file: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    config.add_parser(parser.add_subparsers())
    args = parser.parse_args(["config", *words], argparse.Namespace(config=file))
    return int(args.run(args))


def test_the_table_has_key_value_and_origin(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["key", "value", "origin"]
    assert ["container.pids", "99", f"{file}:4"] in rows
    assert ["server.listen", '"127.0.0.1:5000"', "default"] in rows


def test_the_environment_counts(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOWD_CONTAINER__PIDS", "77")
    assert run(file) == 0
    assert ["container.pids", "77", "MLFLOWD_CONTAINER__PIDS"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


@pytest.mark.parametrize("words", [(), ("--toml",)])
def test_secrets_are_shown_on_request_alone(file: Path, capsys: pytest.CaptureFixture[str], words: tuple[str]) -> None:
    run(file, *words)
    masked = capsys.readouterr().out
    assert "hunter2" not in masked
    assert "***" in masked
    run(file, *words, "--show-secrets")
    assert "hunter2" in capsys.readouterr().out


def test_toml_is_valid_and_says_that_secrets_are_masked(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, "--toml") == 0
    out = capsys.readouterr().out
    assert out.startswith("# Secrets are masked")
    assert tomllib.loads(out)["container"]["pids"] == 99


def test_validate_prints_nothing_where_all_is_right(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, "--validate") == 0
    assert capsys.readouterr() == ("", "")


def test_validate_raises_every_problem(file: Path) -> None:
    file.write_text("[container]\npids = 1\nx = 1\n")
    with pytest.raises(ConfigurationError) as caught:
        run(file, "--validate")
    assert str(caught.value).count("\n") == 1


# --- secrets ----------------------------------------------------------------------------------------


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, who: Identity, tmp_path: Path) -> None:
    """A machine whose service user runs the tests."""
    user = SimpleNamespace(pw_uid=who.uid, pw_gid=who.gid, pw_name=who.name)
    monkeypatch.setattr(pwd, "getpwnam", lambda _: user)
    monkeypatch.setattr(config, "identity", lambda: who)
    monkeypatch.setattr(secrets, "_UNIT", tmp_path / "no-unit")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def needs(file: Path, source: str) -> None:
    file.write_text(f'[backend_store]\nuri = "postgresql://mlflow@db/mlflow"\npassword = "{source}"\n')


@pytest.mark.usefixtures("service")
def test_a_reload_with_a_missing_credential_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    needs(file, "credential:database")
    with pytest.raises(ConfigurationError, match=r"the unit has no credential database\.") as caught:
        run(file, "--validate")
    assert caught.value.exit_status == 78
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "database").write_text("hunter2")
    assert run(file, "--validate") == 0


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("source", ["credential:database", "env:NO_SUCH_VARIABLE"])
def test_a_person_s_shell_has_no_credentials_which_is_told_and_no_error(
    file: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    needs(file, source)
    assert run(file, "--validate") == 0
    assert "mlflowd.service may have it" in capsys.readouterr().err


@pytest.mark.usefixtures("service")
def test_a_private_file_that_others_may_read_is_refused_in_a_shell_too(file: Path, tmp_path: Path) -> None:
    needs(file, f"file:{tmp_path}/password")
    (tmp_path / "password").write_text("hunter2")
    (tmp_path / "password").chmod(0o644)
    with pytest.raises(ConfigurationError, match="has the mode 0644"):
        run(file, "--validate")


@pytest.mark.usefixtures("service")
def test_a_password_that_mlflow_would_refuse_is_refused_at_the_reload(file: Path) -> None:
    file.write_text('[login]\nenabled = true\nadmin_password = "short"\n')
    with pytest.raises(ConfigurationError, match=r"login\.admin_password"):
        run(file, "--validate")


def test_who_may_read_no_secrets_hears_of_the_configuration_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 61235)
    needs(file, "credential:database")
    assert run(file, "--validate") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("service")
def test_the_settings_as_toml_have_the_places_of_secrets(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs(file, "credential:database")
    assert run(file, "--toml") == 0
    out = capsys.readouterr().out
    assert tomllib.loads(out)["backend_store"]["password"] == "credential:database"  # noqa: S105 - its place
    assert "masked" not in out
