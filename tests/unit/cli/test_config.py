from __future__ import annotations

import argparse
import tomllib
from typing import TYPE_CHECKING

import pytest

from mlflowd.cli import config
from mlflowd.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


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
