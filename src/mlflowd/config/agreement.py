"""What is wrong between keys that are right each by itself. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mlflowd.config.uris import StoreKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.config.settings import DiskSettings, Settings


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
    yield from _secrets(settings)
    database, artifacts = settings.backend_store.file, settings.artifact_store.directory
    if database and artifacts and database.parent.is_relative_to(artifacts):
        yield Contradiction(
            ("artifact_store.uri", "backend_store.uri"),
            f"the database would lie in the artifact directory {artifacts}, where every client can fetch it",
            "give artifacts a directory of their own, beside that of the database or below it",
        )


_OF_KIND: Final[dict[str, set[StoreKind]]] = {
    "endpoint": {StoreKind.S3},
    "region": {StoreKind.S3},
    "access_key": {StoreKind.S3},
    "ca_file": {StoreKind.S3, StoreKind.AZURE, StoreKind.GCS},
    "secret_key": {StoreKind.S3, StoreKind.AZURE},
    "connection_string": {StoreKind.AZURE},
    "password": {StoreKind.SFTP, StoreKind.FTP},
    "key_file": {StoreKind.SFTP, StoreKind.GCS},
    "known_hosts": {StoreKind.SFTP},
    "mounted": {StoreKind.LOCAL},
}
"""Keys of [artifact_store] and the kinds of stores that use them."""


def _secrets(settings: Settings) -> Iterator[Contradiction]:
    """Yield what is given and would not be used, and what is asked for and cannot be had."""
    store, login, backend = settings.artifact_store, settings.login, settings.backend_store
    kind = store.place.kind
    for name, kinds in _OF_KIND.items():
        if getattr(store, name) and kind not in kinds:
            takes = ", ".join(sorted(kinds))
            keys = (f"artifact_store.{name}", "artifact_store.uri")
            yield Contradiction(keys, f"has no meaning for a store of the kind {kind}", f"it is for: {takes}")
    if not store.proxied and kind is StoreKind.LOCAL:
        yield Contradiction(
            ("artifact_store.proxied", "artifact_store.uri"),
            "clients on other machines would write artifacts to their own disks",
            "leave it true, or name a store that every client reaches",
        )
    if backend.password and backend.file:
        keys = ("backend_store.password", "backend_store.uri")
        yield Contradiction(keys, "has no meaning for SQLite", "leave it out")
    if login.enabled and login.admin_password is None:
        yield Contradiction(
            ("login.admin_password", "login.enabled"),
            "is missing, and MLflow starts without none",
            'such as admin_password = "credential:admin-password"',
        )
    if both := sorted(set(settings.server.environment) & set(settings.server.secrets)):
        yield Contradiction(
            ("server.secrets", "server.environment"), f"{both[0]} stands in both", "leave one of them out"
        )


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
