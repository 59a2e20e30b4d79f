"""Each contradiction between keys that are right by themselves, and what is none."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mlflowd.config import Settings

S3: dict[str, Any] = {"uri": "s3://models"}
DATABASE: dict[str, Any] = {"uri": "postgresql://mlflow@db/mlflow"}
AZURE: dict[str, Any] = {"uri": "wasbs://c-1@account.blob.core.windows.net"}
REPOSITORY: dict[str, Any] = {"repository": "/mnt/backup", "password": "credential:x"}
SECRET = "credential:x"  # noqa: S105 - where one is


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"artifact_store": {"endpoint": "http://minio:9000"}}, "artifact_store.endpoint: has no meaning"),
        ({"artifact_store": {"region": "eu-central-1"}}, "artifact_store.region: has no meaning"),
        ({"artifact_store": {"addressing": "path"}}, "artifact_store.addressing: has no meaning"),
        ({"artifact_store": {"access_key": SECRET}}, "artifact_store.access_key: has no meaning"),
        ({"artifact_store": {"ca_file": "/x"}}, "artifact_store.ca_file: has no meaning"),
        ({"artifact_store": {"secret_key": SECRET}}, "artifact_store.secret_key: has no meaning"),
        ({"artifact_store": {**S3, "connection_string": SECRET}}, "artifact_store.connection_string: has no meaning"),
        ({"artifact_store": {**S3, "password": SECRET}}, "artifact_store.password: has no meaning"),
        ({"artifact_store": {**S3, "key_file": SECRET}}, "artifact_store.key_file: has no meaning"),
        ({"artifact_store": {**S3, "known_hosts": "/x"}}, "artifact_store.known_hosts: has no meaning"),
        ({"artifact_store": {**S3, "mounted": True}}, "artifact_store.mounted: has no meaning"),
        ({"artifact_store": {"proxied": False}}, "artifact_store.proxied: clients on other machines"),
        ({"artifact_store": {**S3, "access_key": SECRET}}, "artifact_store.access_key: is of no use without"),
        ({"artifact_store": {**S3, "secret_key": SECRET}}, "artifact_store.secret_key: is of no use without"),
        ({"artifact_store": {**S3, "endpoint": "http://localhost:9000"}}, "artifact_store.endpoint: the host is"),
        (
            {"artifact_store": {**AZURE, "secret_key": SECRET, "connection_string": SECRET}},
            "artifact_store.connection_string: takes the place of",
        ),
        (
            {"artifact_store": {"uri": "ftp://me:p@nas/a", "password": SECRET}},
            "artifact_store.password: the URI has a password too",
        ),
        ({"backend_store": {"password": SECRET}}, "backend_store.password: has no meaning for SQLite"),
        (
            {"backend_store": {"uri": "postgresql://mlflow:p@db/mlflow", "password": SECRET}},
            "backend_store.password: the URI has a password too",
        ),
        (
            {"backend_store": {"uri": "postgresql://db/mlflow", "password": SECRET}},
            "backend_store.password: the URI names no user",
        ),
        ({"login": {"enabled": True}}, "login.admin_password: is missing"),
        ({"backup": {"repository": "/mnt/backup"}}, "backup.password: is missing"),
        ({"backup": {**REPOSITORY, "secret_key": SECRET}}, "backup.secret_key: has no meaning for this repository"),
        ({"backup": {**REPOSITORY, "key_file": SECRET}}, "backup.key_file: has no meaning for this repository"),
        (
            {"backup": {"repository": "/var/lib/mlflowd/artifacts/backup", "password": SECRET}},
            "backup.repository: lies within /var/lib/mlflowd/artifacts",
        ),
        (
            {"backup": {"repository": "/var/lib/mlflowd", "password": SECRET}},
            "backup.repository: lies within /var/lib/mlflowd/backend",
        ),
        ({"server": {"environment": {"A": "x"}, "secrets": {"A": SECRET}}}, "server.secrets: A stands in both"),
    ],
)
def test_a_contradiction_is_refused_at_the_key_to_change(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(sections)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "sections",
    [
        {"artifact_store": {**S3, "access_key": SECRET, "secret_key": SECRET, "region": "x", "addressing": "path"}},
        {"artifact_store": {**S3, "ca_file": "/x", "endpoint": "https://minio:9000", "proxied": False}},
        {"artifact_store": S3},
        {"artifact_store": {**AZURE, "secret_key": SECRET}},
        {"artifact_store": {**AZURE, "connection_string": SECRET}},
        {"artifact_store": {"uri": "gs://models", "key_file": SECRET}},
        {"artifact_store": {"uri": "ftp://me@nas/a", "password": SECRET}},
        {"artifact_store": {"mounted": True}},
        {"backend_store": {**DATABASE, "password": SECRET}},
        {"backend_store": {"uri": "postgresql://db/mlflow?user=mlflow", "password": SECRET}},
        {"backend_store": {"uri": "postgresql://mlflow:p@db/mlflow"}},
        {"login": {"enabled": True, "admin_password": SECRET}},
        {"server": {"environment": {"A": "x"}, "secrets": {"B": SECRET}}},
    ],
)
def test_keys_that_go_together_are_taken(sections: dict[str, Any]) -> None:
    Settings.model_validate(sections)
