from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.config import load
from mlflowd.model import Level
from mlflowd.operations import plain_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.model import Finding

PLAIN = """\
[backend_store]
uri = "postgresql://mlflow:hunter2@db/mlflow"
[artifact_store]
uri = "s3://models"
access_key = "credential:key-id"
secret_key = "hunter2"
[server.environment]
HTTPS_PROXY = "http://me:hunter2@proxy:3128"
TZ = "Europe/Berlin"
GOOGLE_APPLICATION_CREDENTIALS = "/mlflow/private/key.json"
"""


def findings(file: Path, text: str, mode: int = 0o640, **environ: str) -> list[Finding]:
    file.write_text(text)
    file.chmod(mode)
    return plain_secrets.check(load(file, environ))


def test_each_secret_in_the_file_is_a_warning_with_key_line_and_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "mlflowd.toml"
    found = findings(file, PLAIN)
    assert [(each.check, each.level, each.message) for each in found] == [
        ("secrets", Level.WARNING, f"{key}: the secret stands in the configuration itself ({file}:{line}).")
        for key, line in (
            ("backend_store.uri", 2),
            ("artifact_store.secret_key", 6),
            ("server.environment.HTTPS_PROXY", 8),
        )
    ]
    remedies = [each.remedy for each in found]
    assert "backend_store.password" in remedies[0]
    assert "docs/secrets.md" in remedies[1]
    assert remedies[2].startswith("move it to server.secrets, as HTTPS_PROXY = ")
    assert "hunter2" not in str(found)


def test_a_file_with_secrets_that_everybody_can_read_is_one_more(tmp_path: Path) -> None:
    file = tmp_path / "mlflowd.toml"
    *_, last = findings(file, PLAIN, 0o644)
    assert "0644: every user of this machine can read it" in last.message
    assert last.remedy == f"sudo chmod o= {file}"


def test_places_of_secrets_and_secrets_of_the_environment_are_no_warning(tmp_path: Path) -> None:
    text = '[artifact_store]\nuri = "s3://models"\naccess_key = "env:ID"\nsecret_key = "file:/etc/x"\n'
    environ = {"MLFLOWD_BACKEND_STORE__URI": "postgresql://mlflow:hunter2@db/mlflow"}
    assert findings(tmp_path / "mlflowd.toml", text, 0o644, **environ) == []


def test_nothing_is_said_of_a_file_that_is_not_there() -> None:
    assert plain_secrets.check(load(None, {})) == []
