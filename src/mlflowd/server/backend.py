"""How the server is given its database: the URI with driver and password, the mount of a local file. No effects.

Facts are of MLflow 3.17.2 (store/db/utils.py) and SQLAlchemy 2.1. The model registry is in the same database.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, unquote_plus

from mlflowd.config import reach
from mlflowd.config.inventory import PRIVATE_OPTIONS, PUBLIC_OPTIONS
from mlflowd.model import Mount, PrivateFile
from mlflowd.server import drivers, patience
from mlflowd.server.wiring import BACKEND, PRIVATE, THIS_MACHINE, Wiring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.config import Settings
    from mlflowd.config.uris import DatabaseUri
    from mlflowd.model import Secrets
    from mlflowd.server.abilities import Abilities

TURNS_PACKAGE = "mlflowd-turns"
"""On an image of `mlflowd image build`: its writers of SQLite take turns, which keeps the slowest of eight clients'
requests at 0.6 of MLflow's own p99 instead of 2.4 times it (docs/performance.md)."""
_TURNS = "?plugin=mlflowd_turns"
_VARIABLE = "MLFLOW_BACKEND_STORE_URI"
_FILES: Final = PUBLIC_OPTIONS | PRIVATE_OPTIONS
_POOL = {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "10", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "32"}
"""Connections of a worker to a database server: ten are kept, 42 at most.

A worker has 40 threads, and some requests take a second connection while they hold one: with fewer than 41 all
threads can wait for each other. Two workers stay below the 97 that PostgreSQL's default of max_connections leaves,
where SQLite's figure (command.py) would let each of them take 85. Seen: 96 clients that create runs on two workers
take 44 at once, and 18 stay. MLflow sets no pool_recycle and does not need one: pool_pre_ping, which it does set,
notices the connections that MySQL's wait_timeout has closed.
"""


def wiring(settings: Settings, abilities: Abilities, secrets: Secrets) -> Wiring:
    """Return what the backend store needs."""
    file = settings.backend_store.file
    if file is None:
        return _server(settings, abilities, secrets)
    turns = _TURNS if TURNS_PACKAGE in abilities.packages else ""
    return Wiring(
        environment={_VARIABLE: f"sqlite:///{BACKEND}/{file.name}{turns}"}, mounts=(Mount(str(file.parent), BACKEND),)
    )


def _server(settings: Settings, abilities: Abilities, secrets: Secrets) -> Wiring:
    database = settings.backend_store.database
    files = {option: PrivateFile(f"backend-{option}", text) for option, text in _files(database, secrets)}
    options = "&".join(_pointed(option, files) for option in database.query.split("&") if option)
    driver = drivers.database_driver(settings, abilities.packages)
    options = patience.bounded(options, driver)
    password = _encoded(secrets.get("backend_store.password") or database.password, driver)
    uri = replace(database, query=options, password="").written(driver, password)
    return Wiring(
        environment={_VARIABLE: uri, **_POOL},
        files=tuple(files.values()),
        # A socket takes connections through a read-only mount too: no file is written.
        mounts=tuple(Mount(directory, directory, read_only=True) for directory in reach.socket_directories(database)),
        host_names=(THIS_MACHINE,) if THIS_MACHINE in reach.database_hosts(database) else (),
    )


def _encoded(password: str, driver: str) -> str:
    """Return the password as this driver must be given it: PyMySQL sends Latin-1, where others send UTF-8."""
    return password.encode().decode("latin-1") if driver == "pymysql" else password


def _files(database: DatabaseUri, secrets: Secrets) -> Iterator[tuple[str, str]]:
    """Yield the options of the URI that name a file, and what host/secrets.py read there."""
    for option, _ in parse_qsl(database.query):
        if option in _FILES and (text := secrets.get(f"backend_store.uri.{option}")):
            yield option, text


def _pointed(written: str, files: dict[str, PrivateFile]) -> str:
    """Return an option as it is written, or with its file's place in the container."""
    option = unquote_plus(written.partition("=")[0])
    return f"{option}={quote(f'{PRIVATE}/{files[option].name}')}" if option in files else written
