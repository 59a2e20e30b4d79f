"""Where backups go and which of them stay: what the configuration takes, and what it says of the rest."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlflowd.config import Settings

PASSWORD = {"password": "file:/etc/mlflowd/backup-password"}


@pytest.mark.parametrize(
    "repository",
    [
        "/mnt/backup/mlflow",
        "sftp:backup@nas.example:/srv/mlflow",
        "sftp:nas:mlflow",
        "sftp://backup@nas.example:2222//srv/mlflow",
        "s3:https://s3.example/bucket/mlflow",
        "s3:http://127.0.0.1:9000/bucket",
        "s3:s3.amazonaws.com/bucket",
    ],
)
def test_a_repository_that_restic_knows_is_taken(repository: str) -> None:
    assert Settings.model_validate({"backup": {"repository": repository, **PASSWORD}}).backup.repository == repository


@pytest.mark.parametrize(
    ("repository", "said"),
    [
        ("backup", "such as"),
        ("/", "not a directory of the repository's own"),
        ("/mnt/../etc", "not a directory of the repository's own"),
        ("s3:https://key:secret@s3.example/bucket", "holds a password"),
        ("rest:http://host/", "such as"),
    ],
)
def test_another_repository_is_refused(repository: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"backup": {"repository": repository, **PASSWORD}})
    assert said in "".join(str(fault) for error in caught.value.errors() for fault in error["ctx"]["error"].faults)


def test_what_stays_is_restics_policy() -> None:
    keep = {"last": 3, "daily": 7, "within": "1y6m"}
    assert Settings.model_validate({"backup": {"keep": keep}}).backup.keep == keep


@pytest.mark.parametrize(
    "keep", [{}, {"dayly": 7}, {"daily": 0}, {"daily": True}, {"within": 7}, {"within": "soon"}, []]
)
def test_a_policy_that_restic_has_not_is_refused(keep: object) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"backup": {"keep": keep}})
