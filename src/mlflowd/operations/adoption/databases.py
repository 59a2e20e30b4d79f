"""The backend store that a deployment is told: SQLite's file, a file store, or the URI of a server. No effects.

Facts are of MLflow 3.3 to 3.17: without an option it is sqlite:///mlflow.db in the working directory since 3.7, unless
./mlruns holds data; before, it is ./mlruns.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote

from mlflowd.config import reach, uris
from mlflowd.config.inventory import PRIVATE_OPTIONS, PUBLIC_OPTIONS
from mlflowd.config.masking import mask
from mlflowd.config.uris import DIALECTS, Dialect

if TYPE_CHECKING:
    from mlflowd.config.uris import DatabaseUri
    from mlflowd.operations.adoption.draft import Draft

_SQLITE_SINCE = (3, 7)
HOST = "host.docker.internal"


def read(draft: Draft, version: tuple[int, ...]) -> None:
    """Take over the backend store."""
    uri = draft.told.get("--backend-store-uri") or _default(draft, version)
    for option, what in (
        ("--registry-store-uri", "The model registry has a database of its own"),
        ("--read-replica-backend-store-uri", "Reads go to a replica of the database"),
        ("--workspace-store-uri", "Workspaces have a database of their own"),
    ):
        if (other := draft.told.get(option)) and other != uri:
            draft.reason(f"{what} ({option}), which mlflowd cannot do.", "let it be the backend store")
    scheme = uri.partition(":")[0].lower() if re.match(r"[A-Za-z][\w+.-]*:", uri) else ""
    dialect = DIALECTS.get(scheme.partition("+")[0])
    if scheme in {"", "file"}:
        draft.store("file_store", local_path(uri), "The file store")
    elif dialect is Dialect.SQLITE:
        _file(draft, uri)
    elif dialect:
        _server(draft, uri)
    else:
        draft.reason(f"The backend store is of a kind that mlflowd does not know: {mask(uri)}.")


def local_path(uri: str) -> str:
    """Return the path of a local store, however it was written: "./x", "file:x", "file:///x"."""
    if not uri.startswith("file:"):
        return uri
    rest = uri.removeprefix("file:")
    rest = rest.removeprefix("//") if rest.startswith("//") else rest
    return unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest)


def this_machine(draft: Draft, host: str) -> str:
    """Return the host as mlflowd's container reaches it; a reason where it is the deployment's own container."""
    if not uris.is_this_machine(host):
        return host
    if draft.container.network_mode == "host":
        draft.note(f"{host} was this machine itself. mlflowd's server reaches it as {HOST}, so what listens there has "
                   "to listen beyond the loopback: docs/stores.md.")  # fmt: skip
        return HOST
    draft.reason(f"A store is at {host}, which is the container itself: its data would stay behind.",
                 "let the store run in a container of its own, or on this machine")  # fmt: skip
    return host


def _default(draft: Draft, version: tuple[int, ...]) -> str:
    files = str(draft.place("mlruns").path)
    return "./mlruns" if version < _SQLITE_SINCE or files in draft.facts.holding else "sqlite:///mlflow.db"


def _file(draft: Draft, uri: str) -> None:
    path, _, options = uri.partition("://")[2].partition("?")
    path = unquote(path.removeprefix("/"))
    if options:
        draft.note("Options behind the database's path are not carried over: mlflowd sets its own.")
    if not path or ":memory:" in path:
        draft.reason("The database is in memory, and lost at each stop.", "let it be a file")
        return
    draft.store("database", path, "The database")


def _server(draft: Draft, uri: str) -> None:
    try:
        database = uris.database(uri)
    except ValueError as error:
        draft.reason(f"The backend store's URI cannot be read: {error}.")
        return
    database = _without_secrets(draft, database)
    if database.host:
        database = replace(database, host=this_machine(draft, database.host))
    for directory in reach.socket_directories(database):
        if draft.file(directory, "The directory of the database's socket") not in {"", directory}:
            draft.reason(f"The database's socket is at {directory} in the container alone.",
                         "mount its directory at the same path as on this machine")  # fmt: skip
    draft.hosts += reach.database_hosts(database)
    draft.set("backend_store", "uri", database.written())


def _without_secrets(draft: Draft, database: DatabaseUri) -> DatabaseUri:
    """Return the URI without its password, and with the files of this machine that it names."""
    options, password = [], database.password
    for option, value in parse_qsl(database.query, keep_blank_values=True):
        if option in {"password", "passwd"}:
            password = password or value
        elif option == "odbc_connect":
            draft.reason(
                "The backend store's URI is ODBC's own (odbc_connect).", "write it as mssql+pyodbc://user@host/name"
            )
        elif option in PUBLIC_OPTIONS | PRIVATE_OPTIONS and value.startswith("/"):
            options.append(f"{option}={quote(draft.file(value, f'{option} of the database'), safe='/')}")
        else:
            options.append(f"{option}={quote(value, safe='/:,')}")
    if password:
        draft.secret("backend_store", "password", "database-password", password)
    return replace(database, password="", query="&".join(options))
