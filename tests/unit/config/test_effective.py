from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflowd.config import Loaded, Settings, load
from mlflowd.config.catalogue import KEYS
from mlflowd.config.effective import as_toml, has_secrets

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = """\
[server]
extra_arguments = ["--app-name", "basic-auth", "--some-token", "hunter2", "--password=hunter2"]
uvicorn_options = "--header x-token:hunter2"
[server.environment]
TZ = "Europe/Berlin"
AWS_SECRET_ACCESS_KEY = "hunter2"
HTTPS_PROXY = "http://me:hunter2@proxy:3128"
[image]
packages = ["x @ git+https://hunter2@example.org/x"]
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    file = tmp_path / "mlflowd.toml"
    file.write_text(SECRETS)
    return load(file, {"MLFLOWD_LOG__LEVEL": "debug"})


def test_there_is_a_row_for_every_key_with_its_origin(loaded: Loaded) -> None:
    rows = {row.key: row for row in loaded.rows()}
    names = {f"{section}.{key}" for section, key in KEYS}
    assert names - set(rows) == {"server.environment"}
    assert rows["log.level"] == ("log.level", '"debug"', "MLFLOWD_LOG__LEVEL")
    assert rows["health.interval"] == ("health.interval", '"6s"', "default")
    assert rows["server.environment.TZ"].value == '"Europe/Berlin"'
    assert rows["server.environment.TZ"].origin.endswith("mlflowd.toml:5")


def test_no_row_shows_a_secret(loaded: Loaded) -> None:
    shown = [row for row in loaded.rows() if "***" in row.value]
    assert "hunter2" not in str(list(loaded.rows()))
    assert [row.key for row in shown] == [
        "server.uvicorn_options",
        "server.extra_arguments",
        "server.environment.AWS_SECRET_ACCESS_KEY",
        "server.environment.HTTPS_PROXY",
        "image.packages",
    ]


def test_the_rows_show_secrets_to_who_asks_for_them(loaded: Loaded) -> None:
    assert str(list(loaded.rows(secrets=True))).count("hunter2") == 6


def again(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "again.toml"
    file.write_text("\n".join(as_toml(settings, secrets=True)))
    return load(file, {}).settings


def test_the_settings_as_toml_give_themselves_again(loaded: Loaded, tmp_path: Path) -> None:
    assert again(loaded.settings, tmp_path) == loaded.settings
    assert has_secrets(loaded.settings)
    assert not has_secrets(Settings())


@given(st.text(), st.integers(1, 10**12), st.integers(1, 2**53), st.none() | st.integers(1, 64))
def test_any_settings_give_themselves_again(
    tmp_path_factory: pytest.TempPathFactory, text: str, microseconds: int, size: int, workers: int | None
) -> None:
    text = text.encode("utf-8", "replace").decode().replace("\0", "")
    settings = Settings.model_validate(
        {
            "server": {"environment": {"A": text}, "workers": workers or "auto"},
            "health": {"artifact_interval": microseconds / 1e6 + 0.01},
            "container": {"memory": str(size), "tmp_size": "12.5%"},
        }
    )
    assert again(settings, tmp_path_factory.getbasetemp()) == settings
