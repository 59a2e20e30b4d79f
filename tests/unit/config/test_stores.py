from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mlflowd.config import Settings


def given(section: str, uri: str) -> str:
    more: dict[str, Any] = {"known_hosts": "/etc/hosts", "password": "env:P"} if uri.startswith("sftp") else {}
    return str(getattr(Settings.model_validate({section: {"uri": uri, **more}}), section).uri)


def refusal(section: str, uri: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({section: {"uri": uri}})
    fault = caught.value.errors()[0]["ctx"]["error"].faults[0]
    return f"{fault.reason} | {fault.hint}"


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("postgresql://mlflow@db.example/mlflow", "postgresql://mlflow@db.example/mlflow"),
        ("postgres://mlflow@db.example:5433/mlflow", "postgresql://mlflow@db.example:5433/mlflow"),
        ("mariadb://mlflow@db/mlflow?ssl_ca=/etc/ca.pem", "mysql://mlflow@db/mlflow?ssl_ca=/etc/ca.pem"),
        ("mysql+mysqldb://mlflow:p@ss@db/mlflow", "mysql+mysqldb://mlflow:p%40ss@db/mlflow"),
        ("postgresql+psycopg://mlflow@[2001:db8::7]/mlflow", "postgresql+psycopg://mlflow@[2001:db8::7]/mlflow"),
        ("postgresql://mlflow@/mlflow?host=/run/postgresql", "postgresql://mlflow@/mlflow?host=/run/postgresql"),
        ("mssql+pyodbc:///?odbc_connect=DSN%3Dx", "mssql+pyodbc:///?odbc_connect=DSN%3Dx"),
        ("postgresql://mlflow@host.docker.internal/mlflow", "postgresql://mlflow@host.docker.internal/mlflow"),
    ],
)
def test_databases_of_servers_are_named_by_their_usual_dialect(uri: str, kept: str) -> None:
    assert given("backend_store", uri) == kept
    assert Settings.model_validate({"backend_store": {"uri": uri}}).backend_store.file is None


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql+asyncpg://u@db/x", "one of psycopg2, psycopg, or none"),
        ("mysql+aiomysql://u@db/x", "one of pymysql, mysqldb, mysqlconnector, or none"),
        ("sqlite+aiosqlite:////srv/mlflow/x.db", 'begin with "sqlite:///"'),
        ("postgresql://u@db", "the name of the database is missing"),
        ("postgresql://u@db/?sslmode=require", "the name of the database is missing"),
        ("postgresql://u@/x", "the host is missing"),
        ("postgresql:///x?sslmode=require", "the host is missing"),
        ("postgresql://u@localhost/x", "host.docker.internal is this machine"),
        ("postgresql://u@127.0.0.1:5432/x", "host=/run/postgresql"),
        ("postgresql://u@/x?host=localhost", "the host is the container itself"),
        ("mysql://u@[::1]/x", "unix_socket=/run/mysqld/mysqld.sock"),
        ("mssql://u@localhost/x", "host.docker.internal is this machine"),
        ("postgresql://u:a/b@db/x", "backend_store.password takes a password as it is"),
        (5, "put it into quotes"),
    ],
)
def test_a_database_of_a_server_that_cannot_be_is_refused_in_a_sentence(uri: object, said: str) -> None:
    assert said in refusal("backend_store", uri)


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("s3://models/mlflow/", "s3://models/mlflow"),
        ("S3://models", "s3://models"),
        ("gs://models/a", "gs://models/a"),
        ("wasbs://c-1@account.blob.core.windows.net", "wasbs://c-1@account.blob.core.windows.net"),
        ("sftp://me@nas:2222/srv/a", "sftp://me@nas:2222/srv/a"),
        ("ftp://me:p%40ss@nas/a", "ftp://me:p%40ss@nas/a"),
    ],
)
def test_artifact_stores_elsewhere_are_taken(uri: str, kept: str) -> None:
    assert given("artifact_store", uri) == kept


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://AKIA:hunter2@models", "credentials have keys of their own in [artifact_store]"),
        ("s3://", "the name of the bucket"),
        ("sftp:///a", "the host is missing"),
        ("sftp://me@localhost/a", "host.docker.internal is this machine"),
        ("abfss://c@a.dfs.core.windows.net", "abfss is not among the artifact stores"),
        ("hf://x", 'a store of the kind "hf" is not supported'),
        ("a b://x", "a store of the kind that is not supported"),
    ],
)
def test_an_artifact_store_elsewhere_that_cannot_be_is_refused_in_a_sentence(uri: str, said: str) -> None:
    assert said in refusal("artifact_store", uri)


@pytest.mark.parametrize("endpoint", ["", "https://minio.example:9000", "http://[::1]:9000/", "https://s3.local/"])
def test_an_endpoint_is_a_url_of_a_host_alone(endpoint: str) -> None:
    store = {"uri": "s3://models", "endpoint": endpoint}
    if "[::1]" in endpoint:
        with pytest.raises(ValidationError, match=r"artifact_store\.endpoint: the host is the container itself"):
            Settings.model_validate({"artifact_store": store})
    else:
        assert Settings.model_validate({"artifact_store": store}).artifact_store.endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint", ["minio:9000", "https://me:hunter2@minio", "https://minio/a", "ftp://x", "http://["]
)
def test_an_endpoint_with_more_or_less_is_refused(endpoint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"artifact_store": {"uri": "s3://models", "endpoint": endpoint}})
    assert "hunter2" not in str(caught.value)
