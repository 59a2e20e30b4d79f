from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflowd.config import uris
from mlflowd.config.uris import ArtifactUri, DatabaseUri, Dialect, StoreKind

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT = Path(os.environ.get("MLFLOWD_TEST_CACHE", "/var/cache/mlflowd-tests")) / "client/bin/python"

PASSWORDS = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(
    PASSWORDS, PASSWORDS, st.sampled_from(["db", "2001:db8::7", "h1,h2", "10.0.0.7"]), st.none() | st.integers(1, 65535)
)
def test_any_login_survives_being_written_and_read(user: str, password: str, host: str, port: int | None) -> None:
    uri = DatabaseUri(Dialect.POSTGRESQL, "psycopg2", user, password, host, port, "ml flow", "sslmode=require")
    assert uris.database(uri.written()) == uri
    store = ArtifactUri(StoreKind.SFTP, host=host, port=port, user=user, password=password, path="/srv/a")
    assert uris.artifacts(store.written()) == store


@given(PASSWORDS)
def test_any_password_takes_the_place_of_the_one_that_was_there(password: str) -> None:
    written = uris.database("postgresql://mlflow:old@db/mlflow").written("psycopg", password)
    assert written.startswith("postgresql+psycopg://mlflow:")
    assert uris.database(written).password == password
    assert written.isascii()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="@"), min_size=1))
def test_any_name_of_a_database_survives(name: str) -> None:
    uri = DatabaseUri(Dialect.MYSQL, user="u", host="db", name=name)
    assert uris.database(uri.written()) == uri


@given(st.text())
def test_any_text_is_a_uri_or_a_sentence_that_repeats_none_of_it(text: str) -> None:
    for read in (uris.database, uris.artifacts):
        for uri in (text, f"postgresql://{text}", f"sftp://hunter2:{text}@nas/x", f"s3://{text}", f"wasbs://{text}"):
            assert sentence(read, uri) in SENTENCES


def sentence(read: Callable[[str], object], uri: str) -> str:
    try:
        read(uri)
    except ValueError as error:
        return str(error)
    return "it is one"


SENTENCES = {
    "it is one",
    "not the URI of a database",
    "not the URI of an artifact store",
    "a login has no place in this URI",
    "the name of the bucket is missing or is none",
    "the password holds a character that has to be percent-encoded, such as %2F for /",
    "the host is missing",
    "the host is not a name or an address",
    "the port is not a number from 1 to 65535",
    "an IPv6 address stands in brackets, such as [2001:db8::7]:5432",
    "an Azure store reads wasbs://CONTAINER@ACCOUNT.blob.core.windows.net/PATH",
}


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("postgres://u:p@db/x", DatabaseUri(Dialect.POSTGRESQL, "", "u", "p", "db", None, "x")),
        ("PostgreSQL+psycopg://db:1/x", DatabaseUri(Dialect.POSTGRESQL, "psycopg", host="db", port=1, name="x")),
        ("mariadb://u@db/x", DatabaseUri(Dialect.MYSQL, user="u", host="db", name="x")),
        ("mysql://u:p@ss:w@db/x", DatabaseUri(Dialect.MYSQL, "", "u", "p@ss:w", "db", None, "x")),
        ("postgresql://u@[::1]:5433/x", DatabaseUri(Dialect.POSTGRESQL, "", "u", "", "::1", 5433, "x")),
        (
            "postgresql:///x?host=/run/postgresql",
            DatabaseUri(Dialect.POSTGRESQL, name="x", query="host=/run/postgresql"),
        ),
        ("sqlite:////srv/m.db", DatabaseUri(Dialect.SQLITE, name="/srv/m.db")),
        (
            "postgresql://u:p@db/x?sslrootcert=/etc/a@b.pem",
            DatabaseUri(Dialect.POSTGRESQL, "", "u", "p", "db", None, "x", "sslrootcert=/etc/a@b.pem"),
        ),
    ],
)
def test_the_parts_of_a_database_s_uri(uri: str, read: DatabaseUri) -> None:
    assert uris.database(uri) == read


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://u:a/b@db/x", "percent-encoded"),
        ("postgresql://u:a?b@db/x", "percent-encoded"),
        ("postgresql://u:a@b/c@db/x", "percent-encoded"),
        ("postgresql://db:abc/x", "the port"),
        ("postgresql://db:0/x", "the port"),
        ("postgresql://db:65536/x", "the port"),
        ("postgresql://::1/x", "in brackets"),
        ("postgresql://[::1/x", "in brackets"),
        ("postgresql://u@d b/x", "the host"),
        ("postgresql://u@%2Frun/x", "the host"),
        ("oracle://db/x", "not the URI of a database"),
        ("postgresql:db/x", "not the URI of a database"),
    ],
)
def test_an_odd_uri_of_a_database_is_a_sentence(uri: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        uris.database(uri)


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("/srv/a", ArtifactUri(StoreKind.LOCAL, path="/srv/a")),
        ("s3://models", ArtifactUri(StoreKind.S3, bucket="models")),
        ("S3://models/a/b/", ArtifactUri(StoreKind.S3, bucket="models", path="/a/b")),
        ("gs://my_bucket.org/a", ArtifactUri(StoreKind.GCS, bucket="my_bucket.org", path="/a")),
        (
            "wasbs://models@account1.blob.core.windows.net/a",
            ArtifactUri(StoreKind.AZURE, bucket="models", host="account1.blob.core.windows.net", path="/a"),
        ),
        ("sftp://me@nas:2222/srv/a@b", ArtifactUri(StoreKind.SFTP, host="nas", port=2222, user="me", path="/srv/a@b")),
        ("sftp://[::1]/a", ArtifactUri(StoreKind.SFTP, host="::1", path="/a")),
        ("ftp://me:p%40ss@nas", ArtifactUri(StoreKind.FTP, host="nas", user="me", password="p@ss")),  # noqa: S106
    ],
)
def test_the_parts_of_an_artifact_store_s_uri_survive_being_written(uri: str, read: ArtifactUri) -> None:
    assert uris.artifacts(uri) == read
    assert uris.artifacts(read.written()) == read


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://key:secret@models", "a login has no place"),
        ("s3://", "the bucket"),
        ("gs:///a", "the bucket"),
        ("wasbs://models.blob.core.windows.net", "an Azure store reads"),
        ("sftp:///a", "the host is missing"),
        ("sftp://me:a/b@nas/c", "percent-encoded"),
        ("ftp://nas:x/a", "the port"),
        ("hdfs://x", "not the URI of an artifact store"),
    ],
)
def test_an_odd_uri_of_an_artifact_store_is_a_sentence(uri: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        uris.artifacts(uri)


def test_people_are_told_the_port_too() -> None:
    assert uris.database("postgresql://db/x").address == "db:5432"
    assert uris.database("mysql://[::1]/x").address == "[::1]:3306"
    assert uris.database("mssql://db:1444/x").address == "db:1444"
    assert uris.artifacts("sftp://nas/x").address == "nas:22"
    assert uris.artifacts("s3://models/x").address == "models"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.1", "::1", "::", "0.0.0.0"])  # noqa: S104
def test_hosts_that_mean_the_container_itself(host: str) -> None:
    assert uris.is_this_machine(host)


@pytest.mark.parametrize("host", ["", "db", "localhost.example.org", "10.0.0.1", "host.docker.internal"])
def test_other_hosts_do_not(host: str) -> None:
    assert not uris.is_this_machine(host)


REAL_WORLD = [
    "postgresql://mlflow@db.example/mlflow",
    "postgresql+psycopg2://mlflow:p%40ss%2Fword@db.example:5432/mlflow?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    "postgresql://mlflow:a:b+c%25d@db/mlflow",
    "postgresql://mlflow%40tenant:p@srv.postgres.database.azure.com:5432/mlflow?sslmode=require",
    "postgresql://mlflow@/mlflow?host=/run/postgresql",
    "postgresql:///mlflow?host=/run/postgresql&user=mlflow",
    "postgresql://u:p@/x?host=h1:5432&host=h2:5433&target_session_attrs=read-write",
    "postgresql://u:p@h1,h2:5433/x",
    "postgresql://u:p@[2001:db8::7]:5432/x",
    "postgresql://u:p@DB.Example/X",
    "postgresql://u:p%C3%A4%20%22@db/my%20db",
    "postgresql://u:p@db/x?options=-c%20search_path%3Dml",
    "mysql+pymysql://u:p@db:3306/x?charset=utf8mb4&ssl_ca=/etc/ca.pem",
    "mysql://u:p@/x?unix_socket=/run/mysqld/mysqld.sock",
    "mssql+pymssql://u:p@host:1433/db?charset=utf8",
    "mssql+pyodbc://u:p@host:1433/db?driver=ODBC+Driver+18+for+SQL+Server&TrustServerCertificate=yes",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BODBC%7D%3BUID%3Du%3BPWD%3Dx",
]

PARSE = """
import json, sys
from sqlalchemy.engine import make_url
urls = [make_url(uri) for uri in json.load(sys.stdin)]
told = [[u.username or "", u.password or "", u.host or "", u.port, u.database or "", dict(u.query)] for u in urls]
print(json.dumps(told))
"""


@pytest.mark.skipif(not CLIENT.exists(), reason="needs the environment of tests/e2e/client.py, with SQLAlchemy")
def test_sqlalchemy_reads_what_we_write_as_it_reads_what_people_write() -> None:
    written = [uris.database(uri).written() for uri in REAL_WORLD]
    done = subprocess.run(
        [CLIENT, "-c", PARSE], input=json.dumps([*REAL_WORLD, *written]), capture_output=True, text=True, check=True
    )
    read = json.loads(done.stdout)
    for uri, theirs, ours in zip(REAL_WORLD, read, read[len(REAL_WORLD) :], strict=False):
        assert theirs == ours, uri
        parts = uris.database(uri)
        assert theirs[:5] == [parts.user, parts.password, parts.host, parts.port, parts.name], uri
