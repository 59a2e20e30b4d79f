"""The Python packages that a configuration needs in the image."""

from __future__ import annotations

from typing import Any

import pytest

from mlflowd.config import Settings
from mlflowd.server.drivers import database_driver, missing, needed, normal

POSTGRESQL = {"uri": "postgresql://mlflow@db.example/mlflow"}
MYSQL = {"uri": "mysql://mlflow@db.example/mlflow"}
MSSQL = {"uri": "mssql://mlflow@db.example/mlflow"}
AZURE = "wasbs://models@account.blob.core.windows.net/mlflow"
SFTP = {
    "uri": "sftp://mlflow@files.example/srv/mlflow",
    "password": "env:FILES",
    "known_hosts": "/etc/mlflowd/known_hosts",
}


def settings(**sections: Any) -> Settings:
    return Settings(**sections)


def test_sqlite_and_a_directory_need_nothing() -> None:
    assert needed(settings()) == ()
    assert missing(settings(), ()) == ()
    assert database_driver(settings(), ()) == ""


@pytest.mark.parametrize(
    ("store", "packages", "wanted", "driver"),
    [
        (POSTGRESQL, (), ("psycopg2-binary",), "psycopg2"),
        (POSTGRESQL, ("psycopg2",), (), "psycopg2"),
        (POSTGRESQL, ("psycopg", "psycopg-binary"), (), "psycopg"),
        (POSTGRESQL, ("psycopg", "psycopg-c"), (), "psycopg"),
        (POSTGRESQL, ("psycopg", "psycopg2-binary"), (), "psycopg2"),
        (POSTGRESQL, ("psycopg",), ("psycopg2-binary",), "psycopg2"),
        (MYSQL, (), ("PyMySQL[rsa]",), "pymysql"),
        (MYSQL, ("pymysql",), ("PyMySQL[rsa]",), "pymysql"),
        (MYSQL, ("pymysql", "cryptography"), (), "pymysql"),
        (MYSQL, ("mysqlclient",), (), "mysqldb"),
        (MYSQL, ("mysql-connector-python",), (), "mysqlconnector"),
        (MSSQL, (), ("pymssql",), "pymssql"),
        (MSSQL, ("pyodbc",), (), "pyodbc"),
    ],
)
def test_a_database_takes_the_driver_that_the_image_has(
    store: dict[str, str], packages: tuple[str, ...], wanted: tuple[str, ...], driver: str
) -> None:
    chosen = settings(backend_store=store)
    assert missing(chosen, packages) == wanted
    assert database_driver(chosen, packages) == driver


@pytest.mark.parametrize(
    ("uri", "packages", "wanted", "driver"),
    [
        ("postgresql+psycopg://u@h/d", ("psycopg2-binary",), ("psycopg[binary]",), "psycopg"),
        ("postgresql+psycopg2://u@h/d", ("psycopg", "psycopg-binary"), ("psycopg2-binary",), "psycopg2"),
        ("mysql+mysqldb://u@h/d", ("pymysql", "cryptography"), ("mysqlclient",), "mysqldb"),
        ("mysql+mysqlconnector://u@h/d", (), ("mysql-connector-python",), "mysqlconnector"),
        ("mssql+pyodbc://u@h/d?driver=ODBC+Driver+18+for+SQL+Server", ("pymssql",), ("pyodbc",), "pyodbc"),
    ],
)
def test_the_driver_that_the_uri_names_is_the_one(
    uri: str, packages: tuple[str, ...], wanted: tuple[str, ...], driver: str
) -> None:
    chosen = settings(backend_store={"uri": uri})
    assert missing(chosen, packages) == wanted
    assert database_driver(chosen, packages) == driver


@pytest.mark.parametrize(
    ("store", "wanted"),
    [
        ({"uri": "s3://models/mlflow"}, ("boto3",)),
        ({"uri": "gs://models/mlflow"}, ("google-cloud-storage>=1.30.0",)),
        ({"uri": AZURE, "secret_key": "env:AZURE_KEY"}, ("azure-storage-blob>=12",)),
        ({"uri": AZURE, "connection_string": "env:AZURE"}, ("azure-storage-blob>=12",)),
        ({"uri": AZURE}, ("azure-identity>=1.6.1", "azure-storage-blob>=12")),
        (SFTP, ("paramiko<4", "pysftp")),
        ({"uri": "ftp://mlflow@files.example/srv"}, ()),
    ],
)
def test_each_kind_of_artifact_store_has_its_packages(store: dict[str, str], wanted: tuple[str, ...]) -> None:
    chosen = settings(artifact_store=store)
    assert missing(chosen, ()) == wanted
    assert missing(chosen, [normal(each) for each in wanted]) == ()


def test_a_login_needs_flask_wtf() -> None:
    login = {"enabled": True, "admin_password": "env:ADMIN"}
    assert missing(settings(login=login), ()) == ("Flask-WTF<2",)
    assert missing(settings(login=login), ("flask-wtf",)) == ()


def test_packages_that_a_person_wants_are_missing_until_they_are_there() -> None:
    chosen = settings(image={"packages": ["polars", "Ruamel.YAML>=0.18"]})
    assert missing(chosen, ()) == ("polars", "Ruamel.YAML>=0.18")
    assert missing(chosen, ("polars", "ruamel-yaml")) == ()


def test_a_driver_among_the_wanted_packages_is_not_installed_twice() -> None:
    for package in ("psycopg2-binary==2.9.9", "psycopg[binary]>=3.2"):
        chosen = settings(backend_store=POSTGRESQL, image={"packages": [package]})
        assert missing(chosen, ()) == (package,)


def test_what_is_missing_is_sorted_and_stands_once() -> None:
    chosen = settings(backend_store=MYSQL, artifact_store=SFTP, image={"packages": ["boto3", "pysftp"]})
    assert missing(chosen, ()) == ("boto3", "paramiko<4", "PyMySQL[rsa]", "pysftp")


@pytest.mark.parametrize("written", ["Ruamel.YAML", "ruamel-yaml[x]>=1", " ruamel__yaml ==2"])
def test_names_are_normalised(written: str) -> None:
    assert normal(written) == "ruamel-yaml"
