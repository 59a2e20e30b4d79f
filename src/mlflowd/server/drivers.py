"""Which Python packages a configuration needs in the image, by its URIs and its login. No effects.

Facts: METADATA of MLflow 3.17.2 and of the packages; the versions that work were tried on Python 3.11 and 3.13.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from mlflowd.config.uris import Dialect, StoreKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mlflowd.config import Settings


class Package(NamedTuple):
    """One requirement, as pip takes it, and what has to be in the image for it to be fulfilled."""

    requirement: str
    """Such as "psycopg[binary]"; a bound of the version stands here too."""
    names: frozenset[str]
    """Packages by their normalised names (PEP 503)."""
    driver: str = ""
    """Of a database's driver: SQLAlchemy's name for it."""


Need = tuple[Package, ...]
"""Alternatives, any of which will do; the first is installed where the image has none."""


def _package(requirement: str, *names: str, driver: str = "") -> Package:
    return Package(requirement, frozenset(names or (normal(requirement),)), driver)


def normal(requirement: str) -> str:
    """Return the normalised name (PEP 503) of the package that a requirement names."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0]).lower().strip("-") if found else ""


_DATABASES: Final[dict[Dialect, Need]] = {
    Dialect.SQLITE: (),
    Dialect.POSTGRESQL: (
        _package("psycopg2-binary", driver="psycopg2"),
        _package("psycopg2", driver="psycopg2"),
        # psycopg alone wants the operating system's libpq, which images of Python do not have.
        _package("psycopg[binary]", "psycopg", "psycopg-binary", driver="psycopg"),
        _package("psycopg[c]", "psycopg", "psycopg-c", driver="psycopg"),
    ),
    Dialect.MYSQL: (
        # MySQL 8's caching_sha2_password encrypts the password by the server's RSA key where there is no TLS.
        _package("PyMySQL[rsa]", "pymysql", "cryptography", driver="pymysql"),
        _package("mysqlclient", driver="mysqldb"),  # no wheels: it is compiled against the system's libmysqlclient
        _package("mysql-connector-python", driver="mysqlconnector"),
    ),
    Dialect.MSSQL: (
        _package("pymssql", driver="pymssql"),
        _package("pyodbc", driver="pyodbc"),  # wants an ODBC driver of the operating system too
    ),
}
_STORES: Final[dict[StoreKind, tuple[Need, ...]]] = {
    StoreKind.S3: ((_package("boto3"),),),
    StoreKind.GCS: ((_package("google-cloud-storage>=1.30.0"),),),
    StoreKind.AZURE: ((_package("azure-storage-blob>=12"),),),
    # pysftp's only and last release imports DSSKey, which paramiko 4 removed.
    StoreKind.SFTP: ((_package("pysftp"),), (_package("paramiko<4"),)),
}
_AZURE_ROLE: Final = (_package("azure-identity>=1.6.1"),)
_LOGIN: Final = (_package("Flask-WTF<2"),)


def needed(settings: Settings) -> tuple[Need, ...]:
    """Return what the image must have beside MLflow; a driver that the URI names leaves no choice."""
    return tuple(_needed(settings))


def missing(settings: Settings, packages: Collection[str]) -> tuple[str, ...]:
    """Return what has to be installed beside `packages` (names as in Abilities), as pip takes it, sorted.

    What a person asks for in image.packages counts as there for the needs of the stores, so that nothing is
    installed twice, and is missing itself until it is there. Versions are not looked at.
    """
    have = {normal(name) for name in packages}
    asked = [each for each in settings.image.packages if normal(each) not in have]
    have |= {name for each in settings.image.packages for name in _brings(each)}
    chosen = (_chosen(need, have) for need in needed(settings))
    return tuple(sorted({each.requirement for each in chosen if not each.names <= have} | set(asked), key=str.lower))


def database_driver(settings: Settings, packages: Collection[str]) -> str:
    """Return SQLAlchemy's name of the driver to write into the URI ("psycopg2"), "" for SQLite."""
    need = _of_database(settings)
    return _chosen(need, {normal(name) for name in packages}).driver if need else ""


def _needed(settings: Settings) -> Iterator[Need]:
    store = settings.artifact_store
    if need := _of_database(settings):
        yield need
    yield from _STORES.get(store.place.kind, ())
    if store.place.kind is StoreKind.AZURE and not (store.secret_key or store.connection_string):
        yield _AZURE_ROLE
    if settings.login.enabled:
        yield _LOGIN


def _of_database(settings: Settings) -> Need:
    database = settings.backend_store.database
    every = _DATABASES[database.dialect]
    return tuple(each for each in every if each.driver == database.driver) or every


def _chosen(need: Need, have: Collection[str]) -> Package:
    return next((each for each in need if each.names <= set(have)), need[0])


def _brings(requirement: str) -> Iterator[str]:
    """Yield what a requirement puts into the image, as far as its words tell: psycopg[binary] has psycopg-binary."""
    name = normal(requirement)
    yield name
    extras = re.search(r"\[([^\]]*)\]", requirement)
    yield from (f"{name}-{normal(extra)}" for extra in extras[1].split(",")) if extras else ()
