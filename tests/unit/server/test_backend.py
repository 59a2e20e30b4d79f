"""How the server is given its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from mlflowd.config import Settings
from mlflowd.model import Mount, PrivateFile, Secrets
from mlflowd.server import backend
from mlflowd.server.abilities import Abilities

if TYPE_CHECKING:
    from mlflowd.server.wiring import Wiring

ODD = "p@ss:w/o%rd#+ ?&=ü"


def wired(uri: str, packages: tuple[str, ...] = (), **secrets: str) -> Wiring:
    section: dict[str, Any] = {"uri": uri} | {name: "env:DATABASE" for name in secrets if name == "password"}
    values = {f"backend_store.{name}": value for name, value in secrets.items()}
    able = Abilities("3.17.2", "3.13.5", True, True, frozenset(packages), "0.54.0")
    return backend.wiring(Settings(backend_store=section), able, Secrets(values))


def uri_of(wiring: Wiring) -> str:
    return wiring.environment["MLFLOW_BACKEND_STORE_URI"]


def options_of(wiring: Wiring) -> dict[str, str]:
    return dict(parse_qsl(uri_of(wiring).partition("?")[2]))


def encoded_password(wiring: Wiring) -> str:
    return urlsplit(uri_of(wiring)).netloc.rpartition("@")[0].partition(":")[2]


@pytest.mark.parametrize(
    ("written", "packages", "given"),
    [
        ("postgresql://mlflow@db.example/mlflow", (), "postgresql+psycopg2://mlflow@db.example/mlflow"),
        ("postgres://mlflow@db.example/mlflow", (), "postgresql+psycopg2://mlflow@db.example/mlflow"),
        (
            "postgresql://mlflow@db.example:5433/mlflow",
            ("psycopg", "psycopg-binary"),
            "postgresql+psycopg://mlflow@db.example:5433/mlflow",
        ),
        ("mariadb://mlflow@db.example/mlflow", (), "mysql+pymysql://mlflow@db.example/mlflow"),
        ("mysql://mlflow@[2001:db8::1]:3307/mlflow", (), "mysql+pymysql://mlflow@[2001:db8::1]:3307/mlflow"),
        ("mssql://mlflow@db.example/mlflow", (), "mssql+pymssql://mlflow@db.example/mlflow"),
        (
            "mssql+pyodbc://mlflow@db.example/mlflow?driver=ODBC+Driver+18+for+SQL+Server",
            (),
            "mssql+pyodbc://mlflow@db.example/mlflow",
        ),
    ],
)
def test_the_driver_that_the_image_has_stands_in_the_uri(written: str, packages: tuple[str, ...], given: str) -> None:
    assert uri_of(wired(written, packages)).partition("?")[0] == given


def test_what_stands_behind_the_question_mark_stays() -> None:
    made = wired("mssql+pyodbc://mlflow@db.example/mlflow?driver=ODBC+Driver+18+for+SQL+Server")
    assert options_of(made)["driver"] == "ODBC Driver 18 for SQL Server"


@pytest.mark.parametrize("dialect", ["postgresql", "mysql+mysqldb", "mssql"])
def test_a_password_arrives_exactly(dialect: str) -> None:
    word = encoded_password(wired(f"{dialect}://mlflow@db.example/mlflow", password=ODD))
    assert unquote(word) == ODD
    assert not set("@ /#+?") & set(word)


def test_pymysql_sends_latin_1_and_is_given_what_becomes_utf_8() -> None:
    word = encoded_password(wired("mysql://mlflow@db.example/mlflow", password=ODD))
    assert unquote(word).encode("latin-1") == ODD.encode()


def test_a_password_in_the_uri_is_taken_too() -> None:
    assert unquote(encoded_password(wired("postgresql://mlflow:w%2Frd@db.example/mlflow"))) == "w/rd"


def test_a_password_stands_in_the_environment_alone() -> None:
    made = wired("postgresql://mlflow@db.example/mlflow", password="s3cret-word")  # noqa: S106 - the test's
    assert "s3cret-word" in uri_of(made)
    assert "s3cret-word" not in repr(made)
    assert made.arguments == ()


def test_a_database_on_another_host_needs_no_mount_and_no_name() -> None:
    made = wired("postgresql://mlflow@db.example/mlflow")
    assert (made.mounts, made.host_names, made.files) == ((), (), ())


def test_this_machine_gets_its_name() -> None:
    assert wired("mysql://mlflow@host.docker.internal/mlflow").host_names == ("host.docker.internal",)
    second = wired("postgresql://mlflow@db.example/mlflow?host=db.example:5432,host.docker.internal:5433")
    assert second.host_names == ("host.docker.internal",)


@pytest.mark.parametrize(
    ("uri", "option", "place", "directory"),
    [
        ("postgresql://mlflow@/mlflow?host=/run/postgresql", "host", "/run/postgresql", "/run/postgresql"),
        ("postgresql://mlflow@/mlflow?host=%2Frun%2Fpg%2F", "host", "/run/pg/", "/run/pg"),
        ("mysql://u@/mlflow?unix_socket=/run/mysqld/m.sock", "unix_socket", "/run/mysqld/m.sock", "/run/mysqld"),
    ],
)
def test_the_directory_of_a_socket_is_mounted_where_it_is(uri: str, option: str, place: str, directory: str) -> None:
    made = wired(uri)
    assert made.mounts == (Mount(directory, directory, read_only=True),)
    assert made.host_names == ()
    assert options_of(made)[option] == place


def test_files_that_the_uri_names_reach_the_container() -> None:
    made = wired(
        "postgresql://mlflow@db.example/mlflow?sslmode=verify-full&sslrootcert=%2Fetc%2Fssl%2Fdb.pem&sslkey=/etc/k",
        (),
        **{"uri.sslrootcert": "the authority", "uri.sslkey": "the key"},
    )
    assert made.files == (
        PrivateFile("backend-sslrootcert", "the authority"),
        PrivateFile("backend-sslkey", "the key"),
    )
    assert options_of(made).items() >= {
        ("sslmode", "verify-full"),
        ("sslrootcert", "/mlflow/private/backend-sslrootcert"),
        ("sslkey", "/mlflow/private/backend-sslkey"),
    }


def test_an_authority_that_is_no_file_stays_as_it_is() -> None:
    made = wired("postgresql://mlflow@db.example/mlflow?sslmode=verify-full&sslrootcert=system")
    assert options_of(made)["sslrootcert"] == "system"
    assert made.files == ()


def test_two_workers_stay_below_the_connections_that_postgresql_gives_away() -> None:
    values = wired("postgresql://mlflow@db.example/mlflow").environment
    most = int(values["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"]) + int(values["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"])
    assert most >= 41  # a worker's 40 threads, and one that can go on
    assert 2 * most <= 97


def test_sqlite_keeps_its_file_and_its_pool() -> None:
    made = wired("sqlite:////srv/ml flow/tracking.sqlite")
    assert made.environment == {"MLFLOW_BACKEND_STORE_URI": "sqlite:////mlflow/backend/tracking.sqlite"}
    assert made.mounts == (Mount("/srv/ml flow", "/mlflow/backend"),)
