"""How the container reaches the stores, and what cannot be reached as it is written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mlflowd.config import Settings, reach
from mlflowd.config.uris import database

SFTP = {
    "uri": "sftp://mlflow@files.example/srv/mlflow",
    "known_hosts": "/etc/mlflowd/known_hosts",
    "key_file": "credential:key",
}


def refusal(**sections: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings(**sections)
    return str(caught.value)


@pytest.mark.parametrize(
    ("uri", "hosts", "sockets"),
    [
        ("postgresql://u@db.example:5433/d", ("db.example",), ()),
        ("postgresql://u@/d?host=/run/postgresql", (), ("/run/postgresql",)),
        ("postgresql://u@/d?host=one:5432,two", ("one", "two"), ()),
        ("postgresql://u@/d?host=%2Frun%2Fpg%2F,one", ("one",), ("/run/pg",)),
        ("mysql://u@/d?unix_socket=/run/mysqld/mysqld.sock", (), ("/run/mysqld",)),
        ("mysql://u@db.example/d?unix_socket=", ("db.example",), ()),
        ("mssql://u@db.example/d", ("db.example",), ()),
    ],
)
def test_a_database_is_reached_by_hosts_and_by_sockets(
    uri: str, hosts: tuple[str, ...], sockets: tuple[str, ...]
) -> None:
    assert reach.database_hosts(database(uri)) == hosts
    assert reach.socket_directories(database(uri)) == sockets


@pytest.mark.parametrize(
    ("store", "host"),
    [
        ({"uri": "s3://models"}, ""),
        ({"uri": "s3://models", "endpoint": "https://minio.example:9000"}, "minio.example"),
        (SFTP, "files.example"),
    ],
)
def test_an_artifact_store_has_the_host_of_its_uri_or_its_endpoint(store: dict[str, str], host: str) -> None:
    assert reach.artifact_host(Settings(artifact_store=store).artifact_store) == host


@pytest.mark.parametrize("directory", ["/tmp", "/run", "/var/run"])  # noqa: S108 - refused
def test_a_directory_that_is_everybodys_is_not_mounted_for_a_socket(directory: str) -> None:
    text = refusal(backend_store={"uri": f"mysql://u@/d?unix_socket={directory}/mysql.sock"})
    assert f"{directory} would be mounted" in text


def test_sftp_names_a_user_a_host_key_and_one_way_to_log_in() -> None:
    assert Settings(artifact_store=SFTP).artifact_store.key_file
    assert "names no user" in refusal(artifact_store=SFTP | {"uri": "sftp://files.example/srv"})
    assert "no host key, no connection" in refusal(artifact_store={**SFTP, "known_hosts": "none"})
    assert "is missing, and so is a password" in refusal(artifact_store={**SFTP, "key_file": "none"})
    assert "of no use beside a password" in refusal(artifact_store=SFTP | {"password": "credential:word"})


@pytest.mark.parametrize("uri", ["ftp://mlflow@files.example/srv", "ftp://mlflow:word@files.example/srv"])
def test_a_password_in_a_uri_that_clients_are_given_is_refused(uri: str) -> None:
    secret = {} if "word" in uri else {"password": "credential:word"}
    assert "every client would see the password" in refusal(artifact_store={"uri": uri, "proxied": False, **secret})


def test_links_are_for_stores_that_can_sign_them() -> None:
    assert Settings(artifact_store={"uri": "s3://models", "signed_links": True}).artifact_store.signed_links
    assert "has no meaning" in refusal(artifact_store=SFTP | {"signed_links": True})
