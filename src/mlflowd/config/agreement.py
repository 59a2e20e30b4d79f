"""What is wrong between keys that are right each by itself. No effects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from mlflowd.config import reach
from mlflowd.config.uris import StoreKind, is_this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.config.settings import ArtifactStoreSettings, BackendStoreSettings, Settings
    from mlflowd.config.upkeep import DiskSettings


class Contradiction(NamedTuple):
    """Keys that are right each by itself and wrong together."""

    keys: tuple[str, ...]
    """The key to blame first."""
    reason: str
    hint: str


class ContradictionsError(ValueError):
    """All contradictions of some settings."""

    def __init__(self, found: tuple[Contradiction, ...]) -> None:
        super().__init__("; ".join(f"{each.keys[0]}: {each.reason}" for each in found))
        self.found = found


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Yield what is wrong between keys."""
    yield from _spans(settings)
    yield from _disk(settings.disk)
    yield from _backend(settings.backend_store)
    yield from _artifacts(settings.artifact_store)
    yield from _file_servers(settings.artifact_store)
    yield from _login(settings)
    yield from _backup(settings)
    if both := sorted(set(settings.server.environment) & set(settings.server.secrets)):
        keys = ("server.secrets", "server.environment")
        yield Contradiction(keys, f"{both[0]} stands in both", "leave one of them out")
    database, artifacts = settings.backend_store.file, settings.artifact_store.directory
    if database and artifacts and database.parent.is_relative_to(artifacts):
        yield Contradiction(
            ("artifact_store.uri", "backend_store.uri"),
            f"the database would lie in the artifact directory {artifacts}, where every client can fetch it",
            "give artifacts a directory of their own, beside that of the database or below it",
        )


_OF_KIND: Final[dict[str, tuple[StoreKind, ...]]] = {
    "endpoint": (StoreKind.S3,),
    "region": (StoreKind.S3,),
    "addressing": (StoreKind.S3,),
    "access_key": (StoreKind.S3,),
    "ca_file": (StoreKind.S3, StoreKind.AZURE, StoreKind.GCS),
    "secret_key": (StoreKind.S3, StoreKind.AZURE),
    "connection_string": (StoreKind.AZURE,),
    "password": (StoreKind.SFTP, StoreKind.FTP),
    "key_file": (StoreKind.SFTP, StoreKind.GCS),
    "known_hosts": (StoreKind.SFTP,),
    "mounted": (StoreKind.LOCAL,),
    "signed_links": (StoreKind.S3, StoreKind.AZURE, StoreKind.GCS),
}
"""Keys of [artifact_store] and the kinds of stores that use them, by the scheme of their URI."""
_UNSET: Final = (None, "", "auto", False)


def _backend(store: BackendStoreSettings) -> Iterator[Contradiction]:
    keys, database = ("backend_store.password", "backend_store.uri"), store.database
    if shared := [name for name in reach.socket_directories(database) if not _own(name)]:
        hint = "let the database have its socket in a directory of its own, such as /run/postgresql"
        yield Contradiction(("backend_store.uri",), f"{shared[0]} would be mounted for the socket in it", hint)
    if store.password is None:
        return
    if store.file:
        yield Contradiction(keys, "has no meaning for SQLite", "leave it out")
    elif database.password:
        yield Contradiction(keys, "the URI has a password too", "take the one in the URI out")
    elif not database.user and not re.search(r"(?:^|&)(?:user|odbc_connect)=", database.query):
        yield Contradiction(keys, "the URI names no user", f"such as {database.dialect}://mlflow@db.example/mlflow")


def _artifacts(store: ArtifactStoreSettings) -> Iterator[Contradiction]:
    """Yield what is given and would not be used, and what is asked for and cannot be had."""
    kind, uri = store.place.kind, "artifact_store.uri"
    for name, kinds in _OF_KIND.items():
        if getattr(store, name) not in _UNSET and kind not in kinds:
            reason = f"has no meaning for a store of the kind {kind}"
            yield Contradiction((f"artifact_store.{name}", uri), reason, f"it is for: {', '.join(kinds)}")
    if not store.proxied and kind is StoreKind.LOCAL:
        yield Contradiction(
            ("artifact_store.proxied", uri),
            "clients on other machines would write artifacts to their own disks",
            "leave it true, or name a store that every client reaches",
        )
    if is_this_machine(urlsplit(store.endpoint).hostname or ""):
        reason = "the host is the container itself, not this machine"
        hint = "host.docker.internal is this machine as the container sees it"
        yield Contradiction(("artifact_store.endpoint",), reason, hint)
    if store.password and store.place.password:
        keys = ("artifact_store.password", uri)
        yield Contradiction(keys, "the URI has a password too", "take the one in the URI out")
    if kind is StoreKind.S3 and (store.access_key is None) != (store.secret_key is None):
        keys = ("artifact_store.access_key", "artifact_store.secret_key")
        present, absent = keys if store.secret_key is None else reversed(keys)
        yield Contradiction((present, absent), f"is of no use without {absent}", "give both, or neither")
    if kind is StoreKind.AZURE and store.secret_key and store.connection_string:
        keys = ("artifact_store.connection_string", "artifact_store.secret_key")
        yield Contradiction(keys, "takes the place of artifact_store.secret_key", "leave one of them out")


def _file_servers(store: ArtifactStoreSettings) -> Iterator[Contradiction]:
    """Yield what SFTP and FTP lack: MLflow connects to SFTP by pysftp, which asks for each of these."""
    kind, uri, place = store.place.kind, "artifact_store.uri", store.place
    password = store.password or place.password
    if kind is StoreKind.SFTP:
        if not place.user:
            hint = f"such as sftp://mlflow@{place.host}{place.path or '/'}"
            yield Contradiction((uri,), "the URI names no user", hint)
        if bool(password) == bool(store.key_file):
            reason = "is of no use beside a password" if password else "is missing, and so is a password"
            hint = "give either artifact_store.key_file or artifact_store.password"
            yield Contradiction(("artifact_store.key_file", "artifact_store.password"), reason, hint)
        if not store.known_hosts:
            hint = f"ssh-keyscan -p {place.port or 22} {place.host} prints it; compare it with the server's own"
            yield Contradiction(("artifact_store.known_hosts",), "is missing: no host key, no connection", hint)
    if kind in {StoreKind.SFTP, StoreKind.FTP} and password and not store.proxied:
        keys = ("artifact_store.proxied", "artifact_store.password")
        hint = "leave it true, or use a private key, which each client then needs"
        yield Contradiction(keys, "every client would see the password in the URI of each run", hint)


def _own(directory: str) -> bool:
    """Whether a directory can be mounted for what one service keeps there, and nothing else comes with it."""
    return directory.count("/") > 1 and directory not in {"/var/run", "/var/tmp", "/var/lib", "/dev/shm"}  # noqa: S108 - refused


def _login(settings: Settings) -> Iterator[Contradiction]:
    login = settings.login
    if login.enabled and login.admin_password is None:
        yield Contradiction(
            ("login.admin_password", "login.enabled"),
            "is missing, and MLflow starts without none",
            'such as admin_password = "credential:admin-password"',
        )


_OF_REPOSITORY: Final = {
    "access_key": "s3:",
    "secret_key": "s3:",
    "region": "s3:",
    "ca_file": "s3:",
    "key_file": "sftp:",
    "known_hosts": "sftp:",
}
"""Keys of [backup] and the repositories that use them, by their beginning."""


def _backup(settings: Settings) -> Iterator[Contradiction]:
    backup, key = settings.backup, "backup.repository"
    if backup.repository and backup.password is None:
        hint = 'such as password = "file:/etc/mlflowd/backup-password", and keep a copy elsewhere'
        yield Contradiction(("backup.password", key), "is missing, and restic encrypts every repository", hint)
    for name, beginning in _OF_REPOSITORY.items():
        if getattr(backup, name) not in _UNSET and not backup.repository.startswith(beginning):
            reason = "has no meaning for this repository"
            yield Contradiction((f"backup.{name}", key), reason, f"it is for those that begin with {beginning}")
    if not backup.repository.startswith("/"):
        return
    repository, database = Path(backup.repository), settings.backend_store.file
    stores = {"artifact_store.uri": settings.artifact_store.directory}
    stores["backend_store.uri"] = database.parent if database else None
    for store, directory in stores.items():
        if directory and (repository.is_relative_to(directory) or directory.is_relative_to(repository)):
            reason = f"lies within {directory}, or the other way round: a store's disk and its backup's are two"
            yield Contradiction((key, store), reason, "name a directory elsewhere, best on another disk or machine")


def _spans(settings: Settings) -> Iterator[Contradiction]:
    server, container, health, restart = settings.server, settings.container, settings.health, settings.restart
    for shorter, short, longer, long in (
        ("health.timeout", health.timeout, "health.start_deadline", health.start_deadline),
        ("health.starting_interval", health.starting_interval, "health.start_deadline", health.start_deadline),
        ("server.graceful_timeout", server.graceful_timeout, "container.stop_grace", container.stop_grace),
    ):
        if short >= long:
            yield Contradiction((shorter, longer), f"must be shorter than {longer}", f"lower it or raise {longer}")
    if restart.backoff_first > restart.backoff_max:
        keys = ("restart.backoff_first", "restart.backoff_max")
        yield Contradiction(keys, f"must not be longer than {keys[1]}", f"lower it or raise {keys[1]}")


def _disk(disk: DiskSettings) -> Iterator[Contradiction]:
    """Compare the two limits where both are bytes or both are percentages; otherwise the disk decides."""
    warn, critical = disk.warn, disk.critical
    alike = (warn.percent is None) == (critical.percent is None)
    if alike and (critical.bytes, critical.percent or 0) > (warn.bytes, warn.percent or 0):
        yield Contradiction(
            ("disk.critical", "disk.warn"), "must not be more than disk.warn", "lower it or raise disk.warn"
        )
