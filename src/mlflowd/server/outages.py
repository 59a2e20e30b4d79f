"""What an outage of a store means to a person while the server serves: the probe's answer as a Trouble. No effects.

What MLflow 3.17.2 answers (measured, docs/stores.md): for a database that is away status 503 with the driver's own
words; for an artifact store that is away status 500 and nothing else, so that its words are in the server's log alone.
No restart of the server cures any of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mlflowd.config.masking import mask
from mlflowd.config.uris import Dialect, StoreKind
from mlflowd.model import Layer, Trouble
from mlflowd.server import inquiry
from mlflowd.server.inquiry import Kind
from mlflowd.server.probe import Kind as Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflowd.config import Settings
    from mlflowd.config.settings import ArtifactStoreSettings
    from mlflowd.server.probe import Answer

_WAITS: Final = "the server goes on by itself as soon as it is back; see whether it runs and listens at {where}"
_NETWORK: Final = "see whether it runs, and whether a firewall or the network lets this machine reach {where}"
_CREDENTIALS: Final = "correct them there, or in /etc/mlflowd.toml, then: sudo systemctl reload mlflowd"
_NAMES: Final = "see whether the name is right and the name server of this machine answers: getent hosts {host}"

_WORDS: Final = {
    Kind.REFUSED: ("nothing listens at {where}", _WAITS),
    Kind.SILENT: ("{where} does not answer the server", _NETWORK),
    Kind.NO_ROUTE: ("{where} cannot be reached by the server: there is no route to it", _NETWORK),
    Kind.CLOSED: ("{where} closes the server's connections", _WAITS),
    Kind.NO_HOST: ("no such host: {host}", _NAMES),
    Kind.NO_NAMES: ("the name {host} cannot be looked up by the server", _NAMES),
    Kind.BUSY: ("{where} takes no further connections for now", "see its own log and load; the server tries again"),
    Kind.LOGIN: ("{where} refuses the server's credentials", _CREDENTIALS),
    Kind.NO_LOGIN: ("{where} wants credentials, and the server has none", _CREDENTIALS),
    Kind.NOT_ADMITTED: ("{where} does not let the server in from this machine", _CREDENTIALS),
    Kind.DENIED: ("{where} does not allow the server what it has to do", "give its user the rights that it lacks"),
    Kind.TLS: ("{where} and the server do not agree on an encrypted connection", "see its certificate and the CA file"),
    Kind.CLOCK: ("{where} says that the clock of this machine is wrong", "timedatectl status"),
    Kind.READ_ONLY: ("{where} takes no changes: it is read-only", "see whether it is a standby, or has a full disk"),
    Kind.ABSENT: ("{where} has no {name}", "see whether it was removed or renamed"),
}
_STARTING: Final = re.compile(r"system is (?:starting up|shutting down|in recovery)|administrator command")
_POOL: Final = re.compile(r"QueuePool limit")


def database(settings: Settings, answer: Answer) -> Trouble:
    """Return what an answer of the database probe that is not well means."""
    at = settings.backend_store.database
    if at.dialect is Dialect.SQLITE or answer.kind in {Outcome.LOCKED, Outcome.REJECTED, Outcome.FOREIGN}:
        return Trouble(Layer.DATABASE, mask(answer.sentence))
    where = at.address if at.host else at.dialect
    if answer.kind is Outcome.TIMEOUT:
        message = f"the database at {where} does not answer the server: {_limit(answer)}"
        return Trouble(Layer.DATABASE, message, _NETWORK.format(where=where))
    if _STARTING.search(answer.sentence):
        message = f"the database: {where} is starting or shutting down"
        return Trouble(Layer.DATABASE, message, "wait; the server goes on by itself as soon as it is back")
    if _POOL.search(answer.sentence):
        message = "all of the server's connections to the database are in use"
        return Trouble(Layer.DATABASE, message, f"see what keeps the database at {where} busy")
    kind = inquiry.of_database(_lost(answer.sentence))
    return _told(
        Layer.DATABASE, "the database", kind, answer, {"where": where, "host": at.host, "name": _name(at.name)}
    )


def artifacts(settings: Settings, answer: Answer, log: Sequence[str] = ()) -> Trouble:
    """Return what an answer of the artifact probe that is not well means; `log` is what the server said meanwhile."""
    store = settings.artifact_store
    if store.directory is not None or answer.kind in {Outcome.REJECTED, Outcome.FOREIGN}:
        return Trouble(Layer.ARTIFACTS, mask(answer.sentence))
    where = _place(store)
    if answer.kind is Outcome.TIMEOUT:
        message = f"the artifact store at {where} does not answer the server: {_limit(answer)}"
        return Trouble(Layer.ARTIFACTS, message, _NETWORK.format(where=where))
    kind = next((kind for line in reversed(log) if (kind := inquiry.of_artifacts(line)) is not Kind.OTHER), Kind.OTHER)
    host = re.sub(r"^\w+://|[:/].*$", "", where)
    return _told(
        Layer.ARTIFACTS,
        "the artifact store",
        kind,
        answer,
        {"where": where, "host": host, "name": _name(store.place.bucket)},
    )


def _told(layer: Layer, what: str, kind: Kind, answer: Answer, names: dict[str, str]) -> Trouble:
    if kind not in _WORDS:
        message = f"{what} at {names['where']}: {mask(answer.sentence)}"
        return Trouble(layer, message, "the server's own words: journalctl -t mlflow -n 50; then: sudo mlflowd check")
    sentence, remedy = _WORDS[kind]
    return Trouble(layer, f"{what}: {sentence.format_map(names)}", remedy.format_map(names))


def _lost(said: str) -> str:
    """Return libpq's words for an encrypted connection that was lost as it says them of a plain one."""
    said = said.replace("SSL SYSCALL error: EOF detected", "server closed the connection")
    said = said.replace("SSL connection has been closed unexpectedly", "server closed the connection")
    return said.replace("SSL SYSCALL error: ", "")


def _limit(answer: Answer) -> str:
    found = re.search(r"within [\d.]+ s", answer.sentence)
    return f"nothing came {found[0]}" if found else "nothing came in time"


def _name(name: str) -> str:
    return f"{name!r}" if name else "such place"


def _place(store: ArtifactStoreSettings) -> str:
    """Return host:port, or the endpoint, or the bucket where its kind implies the host."""
    place = store.place
    if place.kind is StoreKind.S3 and store.endpoint:
        return store.endpoint.rstrip("/")
    if place.kind in {StoreKind.S3, StoreKind.GCS}:
        return f"{place.kind}://{place.bucket}"
    return place.address if place.kind is not StoreKind.AZURE else place.host
