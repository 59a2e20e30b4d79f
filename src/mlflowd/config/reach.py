"""How the container reaches the stores: by which hosts, by which sockets of this machine. No effects."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from mlflowd.config.uris import Dialect, StoreKind

if TYPE_CHECKING:
    from mlflowd.config.settings import ArtifactStoreSettings
    from mlflowd.config.uris import DatabaseUri


def database_hosts(database: DatabaseUri) -> tuple[str, ...]:
    """Return the names of the database's hosts; libpq takes further ones as the option host=, with their ports."""
    further = (name.rpartition(":")[0] or name for name in _hosts(database) if not name.startswith("/"))
    return tuple(name for name in (database.host, *further) if name)


def socket_directories(database: DatabaseUri) -> tuple[str, ...]:
    """Return the directories of this machine with the database's sockets; most databases have none."""
    if database.dialect is Dialect.POSTGRESQL:
        found = [name for name in _hosts(database) if name.startswith("/")]
    else:
        found = [str(PurePosixPath(file).parent) for option, file in _options(database) if option == "unix_socket"]
    return tuple(dict.fromkeys(str(PurePosixPath(name)) for name in found))


def artifact_host(store: ArtifactStoreSettings) -> str:
    """Return the name of the store's host, "" where it is the one that its kind implies."""
    place = store.place
    return (urlsplit(store.endpoint).hostname or "") if place.kind is StoreKind.S3 else place.host


def _hosts(database: DatabaseUri) -> tuple[str, ...]:
    return tuple(name for option, value in _options(database) if option == "host" for name in value.split(","))


def _options(database: DatabaseUri) -> list[tuple[str, str]]:
    return parse_qsl(database.query)
