"""How the two stores are named: which URIs are taken, and why the others are refused. No effects."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import parse_qsl, unquote

from mlflowd.config import uris
from mlflowd.config.masking import mask
from mlflowd.config.notation import quoted
from mlflowd.config.uris import DIALECTS, Dialect, StoreKind
from mlflowd.config.values import Kind, Wrong, matching, text_of, wrong

_DRIVERS: Final = {
    Dialect.POSTGRESQL: ("psycopg2", "psycopg"),
    Dialect.MYSQL: ("pymysql", "mysqldb", "mysqlconnector"),
    Dialect.MSSQL: ("pymssql", "pyodbc"),
}
"""Drivers that MLflow works with, by SQLAlchemy's names; asynchronous ones are none of them."""
_OTHER_STORES: Final = frozenset(
    {"abfs", "abfss", "wasb", "hdfs", "viewfs", "b2", "r2", "oss", "dbfs", "http", "https"}
)
_SHARED: Final = re.compile(
    r"/(?:(?:bin|boot|dev|etc|home|lib|lib32|lib64|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp)?"
    r"|usr(?:/local|/share)?|var(?:/(?:backups|cache|lib|local|log|opt|spool|tmp))?)"
)
"""Directories of the Filesystem Hierarchy Standard that belong to everybody."""
_VIRTUAL: Final = ("/dev/", "/proc/", "/sys/")
_NAMES: Final = frozenset({"dbname", "database", "db", "odbc_connect", "service"})
_HOSTS: Final = ("host", "unix_socket", "odbc_connect", "service", "hostaddr")
"""Options behind "?" by which drivers are told the database and the host, where the URI itself does not."""
HOST: Final = "host.docker.internal"
_THE_CONTAINER: Final = "the host is the container itself, not this machine"
_SOCKETS: Final = {
    Dialect.POSTGRESQL: "; or name its socket: postgresql://mlflow@/mlflow?host=/run/postgresql",
    Dialect.MYSQL: "; or name its socket: mysql://mlflow@/mlflow?unix_socket=/run/mysqld/mysqld.sock",
}


def _clean(path: str) -> str:
    """Return an absolute path without empty and "." parts; raises Wrong for others."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if not path.startswith("/") or not parts:
        raise wrong("the path must be absolute")
    if ".." in parts:
        raise wrong('the path must not hold ".."')
    return "/" + "/".join(parts)


def _own(directory: str, hint: str) -> None:
    """Refuse a directory that others use: the store's one goes to the service user and into the container."""
    if _SHARED.fullmatch(directory) or directory.startswith(_VIRTUAL):
        raise wrong(f"{directory} is not a directory of the store's own", hint)


def _scheme(uri: str) -> tuple[str, str]:
    scheme, separator, rest = uri.partition("://")
    return (scheme.lower(), rest) if separator else ("", uri)


def _refused_database(scheme: str, uri: str) -> Wrong:
    hint = 'such as "sqlite:////var/lib/mlflowd/backend/mlflow.db" or "postgresql://mlflow@db.example/mlflow"'
    if not scheme and uri.startswith("/"):
        return wrong("a database is named by a URI, not by a path", f"write {quoted(mask('sqlite:///' + uri))}")
    if scheme == "file":
        return wrong("MLflow's file store takes no new data since MLflow 3.13; SQLite takes its place", hint)
    return wrong("not the URI of a database that MLflow knows (SQLite, PostgreSQL, MySQL, MariaDB, SQL Server)", hint)


def _sqlite_path(rest: str) -> str:
    if ":memory:" in rest or rest in {"", "/", "//"}:
        raise wrong("a database in memory is lost at each restart", "name a file by its absolute path, four slashes")
    if "?" in rest or "#" in rest:
        raise wrong("options behind the path ('?', '#') are not supported")
    if not rest.startswith("//"):
        slashes = "sqlite:////" + rest.lstrip("/")
        raise wrong("the path of the database must be absolute, with four slashes", f"write {quoted(slashes)}")
    if rest.endswith("/"):
        raise wrong("names a directory, not a file")
    return _clean(rest[1:])


def _backend(value: object) -> str:
    uri = text_of(value)
    scheme, rest = _scheme(uri)
    dialect = DIALECTS.get(scheme.partition("+")[0])
    if dialect is None:
        raise _refused_database(scheme, uri)
    if dialect is not Dialect.SQLITE:
        return _server(uri)
    if scheme != "sqlite":
        raise wrong("SQLite is used by Python's own driver", 'begin with "sqlite:///"')
    path = _sqlite_path(rest)
    directory, _, name = path.rpartition("/")
    _own(directory or "/", f"write {quoted(f'sqlite:///{directory}/mlflow/{name}')}")
    return f"sqlite:///{path}"


def _server(uri: str) -> str:
    """Check the URI of a database server and return it with the dialect's usual name."""
    try:
        read = uris.database(uri)
    except ValueError as error:
        raise wrong(str(error), "backend_store.password takes a password as it is") from None
    drivers, options = _DRIVERS[read.dialect], dict(parse_qsl(read.query))
    such = f"such as {quoted(f'{read.dialect}://mlflow@db.example/mlflow')}"
    if read.driver and read.driver not in drivers:
        raise wrong('behind "+" stands no driver that MLflow works with', f"one of {', '.join(drivers)}, or none")
    if not read.name and options.keys().isdisjoint(_NAMES):
        raise wrong("the name of the database is missing", such)
    host = read.host or next((options[key] for key in _HOSTS if key in options), "")
    if not host:
        raise wrong("the host is missing", such)
    if uris.is_this_machine(host):
        raise wrong(_THE_CONTAINER, f"{HOST} is this machine as the container sees it{_SOCKETS.get(read.dialect, '')}")
    return read.written()


def _artifacts(value: object) -> str:
    """Return the directory's path, whichever way it was written, or the store's URI."""
    uri = text_of(value)
    scheme, rest = _scheme(uri)
    if scheme in set(StoreKind) - {StoreKind.LOCAL}:
        return _remote(uri)
    hint = 'such as "/var/lib/mlflowd/artifacts" or "s3://bucket/mlflow"'
    if scheme in _OTHER_STORES:
        raise wrong(f"{scheme} is not among the artifact stores that mlflowd serves (s3, gs, wasbs, sftp, ftp)", hint)
    if scheme not in {"", "file"}:
        known = quoted(scheme) if re.fullmatch(r"[a-z][a-z0-9+.-]{0,19}", scheme) else "that"
        raise wrong(f"a store of the kind {known} is not supported", hint)
    if not rest.startswith("/"):
        raise wrong("the path must be absolute", f'{hint} or "file:///srv/mlflow/artifacts"')
    path = _clean(text_of(unquote(rest, errors="surrogateescape")) if scheme else rest)
    _own(path, f"write {quoted(path.rstrip('/') + '/mlflow')}")
    return path


def _remote(uri: str) -> str:
    try:
        read = uris.artifacts(uri)
    except ValueError as error:
        raise wrong(str(error), "credentials have keys of their own in [artifact_store]") from None
    if uris.is_this_machine(read.host):
        raise wrong(_THE_CONTAINER, f"{HOST} is this machine as the container sees it")
    return read.written()


Backend = Annotated[
    str,
    Kind(
        'the URI of a database such as "sqlite:////srv/mlflow/mlflow.db" or "postgresql://mlflow@db.example/mlflow"',
        _backend,
        secret=True,
    ),
]
Artifacts = Annotated[
    str,
    Kind('a directory such as "/srv/mlflow/artifacts", or a URI such as "s3://bucket/mlflow"', _artifacts, secret=True),
]
StoreEndpoint = Annotated[
    str,
    matching(
        'a URL such as "https://minio.example:9000", or ""', r"|https?://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:[0-9]{1,5})?/?"
    ),
]
Region = Annotated[str, matching('a region such as "eu-central-1", or ""', r"[a-z0-9-]*")]
