from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflowd.config.masking import mask, mask_entry, mask_uri
from mlflowd.config.notation import shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://mlflow:hunter2@db/mlflow",
        "postgresql://mlflow:p/a?s#hunter2@db/mlflow",
        "postgresql://mlflow:a@b hunter2@db/mlflow",
        "git+https://hunter2@example.org/repository",
        "postgresql://db/mlflow?user=x&password=hunter2",
        "https://bucket/x?X-Amz-Signature=hunter2",
        "--admin-password=hunter2",
        "--limit-concurrency 2 --token hunter2",
        "--header x-token:hunter2",
        "--header 'Authorization: Bearer hunter2'",
        "https://host/x?a=b&access_token=h?hunter2",
    ],
)
def test_a_password_in_a_text_is_masked(text: str) -> None:
    assert "hunter2" not in mask(text)
    assert "***" in mask(text)


@pytest.mark.parametrize("text", ["127.0.0.1:5000", "sqlite:////srv/mlflow/mlflow.db", "--allowed-hosts", "a@b"])
def test_a_text_without_a_secret_stays(text: str) -> None:
    assert mask(text) == text


@given(st.text(alphabet=st.characters(exclude_characters="*"), min_size=1).filter(lambda text: "@db" not in text))
def test_no_password_survives_whatever_its_characters(password: str) -> None:
    assert mask(f"postgresql://mlflow:{password}@db/x") == "postgresql://***@db/x"


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD", "GH_TOKEN", "MLFLOW_CRYPTO_KEK_PASSPHRASE"]
)
def test_an_entry_whose_name_sounds_secret_is_masked(name: str) -> None:
    assert mask_entry(name, "hunter2") == "***"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://mlflow:hunter2@db/x?password=hunter2&a=b", "postgresql://mlflow:***@db/x?password=***&a=b"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3Dhunter2", "mssql+pyodbc:///?odbc_connect=***"),
        ("sftp://me:hunter2@nas/a@b", "sftp://me:***@nas/a@b"),
        ("postgresql://mlflow@db/x", "postgresql://mlflow@db/x"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("/srv/a", "/srv/a"),
    ],
)
def test_the_uri_of_a_store_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert mask_uri(uri) == shown


def test_other_entries_are_masked_only_where_a_uri_holds_a_password() -> None:
    assert mask_entry("TZ", "Europe/Berlin") == "Europe/Berlin"
    assert mask_entry("HTTPS_PROXY", "http://me:hunter2@proxy:3128") == "http://***@proxy:3128"


@pytest.mark.parametrize("text", ["://" * 80_000, "key" * 1300, "?key" * 1000, " -" * 2000 + "pass", "-key" * 1000])
def test_a_long_text_is_masked_at_once(text: str) -> None:
    start = time.process_time()
    assert len(shown(text)) < 100
    assert time.process_time() - start < 1
