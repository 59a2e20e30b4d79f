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
extra_arguments = ["--static-prefix", "/mlflow", "--some-token", "hunter2", "--password=hunter2"]
uvicorn_options = "--header x-token:hunter2"
[server.environment]
TZ = "Europe/Berlin"
AWS_SECRET_ACCESS_KEY = "hunter2"
HTTPS_PROXY = "http://me:hunter2@proxy:3128"
[server.secrets]
AWS_SESSION_TOKEN = "credential:session"
OTHER = "hunter2"
[image]
packages = ["x @ git+https://hunter2@example.org/x"]
[backend_store]
uri = "postgresql://mlflow:hunter2@db/mlflow?sslmode=require"
[artifact_store]
uri = "s3://models"
access_key = "file:/etc/mlflowd/key-id"
secret_key = "hunter2"
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    file = tmp_path / "mlflowd.toml"
    file.write_text(SECRETS)
    return load(file, {"MLFLOWD_LOG__LEVEL": "debug"})


def test_there_is_a_row_for_every_key_with_its_origin(loaded: Loaded) -> None:
    rows = {row.key: row for row in loaded.rows()}
    names = {f"{section}.{key}" for section, key in KEYS}
    assert names - set(rows) == {"server.environment", "server.secrets"}
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
        "server.secrets.OTHER",
        "image.packages",
        "backend_store.uri",
        "artifact_store.secret_key",
    ]


def test_where_a_secret_is_may_be_seen(loaded: Loaded) -> None:
    rows = {row.key: row for row in loaded.rows()}
    assert rows["server.secrets.AWS_SESSION_TOKEN"].value == '"credential:session"'
    assert rows["server.secrets.AWS_SESSION_TOKEN"].origin.endswith("mlflowd.toml:9")
    assert rows["artifact_store.access_key"].value == '"file:/etc/mlflowd/key-id"'
    assert rows["login.admin_password"].value == '"none"'
    assert rows["backend_store.uri"].value == '"postgresql://mlflow:***@db/mlflow?sslmode=require"'


def test_the_rows_show_secrets_to_who_asks_for_them(loaded: Loaded) -> None:
    assert str(list(loaded.rows(secrets=True))).count("hunter2") == 9


def again(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "again.toml"
    file.write_text("\n".join(as_toml(settings, secrets=True)))
    return load(file, {}).settings


def test_the_settings_as_toml_give_themselves_again(loaded: Loaded, tmp_path: Path) -> None:
    assert again(loaded.settings, tmp_path) == loaded.settings
    assert has_secrets(loaded.settings)
    assert not has_secrets(Settings())


def test_secrets_of_the_file_are_named_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "mlflowd.toml"
    file.write_text(SECRETS)
    found = load(file, {"MLFLOWD_BACKEND_STORE__PASSWORD": "none", "MLFLOWD_LOGIN__ADMIN_PASSWORD": "correct horse"})
    assert found.plain_secrets == (
        ("server.environment.AWS_SECRET_ACCESS_KEY", f"{file}:6"),
        ("server.environment.HTTPS_PROXY", f"{file}:7"),
        ("server.secrets.OTHER", f"{file}:10"),
        ("backend_store.uri", f"{file}:14"),
        ("artifact_store.secret_key", f"{file}:18"),
    )


def test_secrets_of_the_environment_are_nobody_else_s_to_read(tmp_path: Path) -> None:
    file = tmp_path / "mlflowd.toml"
    file.write_text('[backend_store]\nuri = "postgresql://mlflow@db/mlflow"\n')
    found = load(file, {"MLFLOWD_BACKEND_STORE__PASSWORD": "hunter2"})
    assert found.plain_secrets == ()
    assert str(found.settings.backend_store.password) == "***"


def test_no_repr_of_the_settings_shows_a_value(loaded: Loaded) -> None:
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in str(loaded.settings)
    assert "hunter2" not in repr(loaded.settings.backend_store.database)


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
