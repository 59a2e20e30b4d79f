"""How the two stores are named: which URIs this version takes, and why it refuses the others. No effects."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import unquote

from mlflowd.config.notation import quoted
from mlflowd.config.values import Kind, Wrong, text_of, wrong

_DATABASES: Final = frozenset({"postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "cockroachdb"})
_OBJECT_STORES: Final = frozenset(
    {"s3", "gs", "wasb", "wasbs", "abfs", "abfss", "hdfs", "viewfs", "ftp", "sftp", "b2", "r2", "oss", "dbfs"}
)
_SHARED: Final = re.compile(
    r"/(?:(?:bin|boot|dev|etc|home|lib|lib32|lib64|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp)?"
    r"|usr(?:/local|/share)?|var(?:/(?:backups|cache|lib|local|log|opt|spool|tmp))?)"
)
"""Directories of the Filesystem Hierarchy Standard that belong to everybody."""
_VIRTUAL: Final = ("/dev/", "/proc/", "/sys/")


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
    hint = 'such as "sqlite:////var/lib/mlflowd/backend/mlflow.db"'
    if not scheme and uri.startswith("/"):
        return wrong("a database is named by a URI, not by a path", f"write {quoted('sqlite:///' + uri)}")
    if scheme.partition("+")[0] in _DATABASES:
        return wrong(f"{scheme} is not supported by this version, which keeps the backend store in SQLite", hint)
    if scheme == "file":
        return wrong("MLflow's file store takes no new data since MLflow 3.13; SQLite takes its place", hint)
    return wrong("not the URI of an SQLite database", hint)


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
    if scheme != "sqlite":
        raise _refused_database(scheme, uri)
    path = _sqlite_path(rest)
    directory, _, name = path.rpartition("/")
    _own(directory or "/", f"write {quoted(f'sqlite:///{directory}/mlflow/{name}')}")
    return f"sqlite:///{path}"


def _artifacts(value: object) -> str:
    """Return the directory's path, whichever way it was written."""
    uri = text_of(value)
    scheme, rest = _scheme(uri)
    hint = 'such as "/var/lib/mlflowd/artifacts"'
    if scheme in _OBJECT_STORES:
        raise wrong(f"{scheme} is not supported by this version, which keeps artifacts in a local directory", hint)
    if scheme not in {"", "file"}:
        raise wrong(f"a store of the kind {quoted(scheme)} is not supported, artifacts lie in a local directory", hint)
    if not rest.startswith("/"):
        raise wrong("the path must be absolute", f'{hint} or "file:///srv/mlflow/artifacts"')
    path = _clean(text_of(unquote(rest, errors="surrogateescape")) if scheme else rest)
    _own(path, f"write {quoted(path.rstrip('/') + '/mlflow')}")
    return path


Backend = Annotated[str, Kind('the URI of an SQLite database such as "sqlite:////srv/mlflow/mlflow.db"', _backend)]
Artifacts = Annotated[
    str, Kind('a directory such as "/srv/mlflow/artifacts" or "file:///srv/mlflow/artifacts"', _artifacts)
]
