"""What a try of a remote database means for a start: the inquiry's answer as findings, with the remedy. No effects.

A database that is away may come back, so the daemon waits for it; one that says no wants a person. No sentence repeats
a password, nor anything of the URI but host, port, user and name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mlflowd.config.uris import PORTS, Dialect
from mlflowd.server import schema
from mlflowd.server.inquiry import PATIENCE, Answer, Kind
from mlflowd.stores import fingerprint
from mlflowd.stores.database import ACCEPT
from mlflowd.stores.findings import fine, of_schema, refused, warning

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.config.uris import DatabaseUri
    from mlflowd.model import ContainerSpec, Finding
    from mlflowd.server.abilities import Abilities
    from mlflowd.stores.fingerprint import Fingerprint

_NAME: Final = "backend store"
_WAIT: Final = "mlflowd goes on trying"

_SENTENCES: Final = {
    Kind.NO_HOST: ("host", "There is no host named {host} (backend_store.uri).", f"getent hosts {{host}}; {_WAIT}"),
    Kind.NO_NAMES: (
        "host",
        "The name {host} cannot be looked up: no name server answers the container.",
        f"getent hosts {{host}}; cat /etc/resolv.conf; {_WAIT}",
    ),
    Kind.REFUSED: (
        "host",
        "{where} refuses connections: no database listens there.",
        f"see whether it runs and listens on this address (backend_store.uri); {_WAIT}",
    ),
    Kind.NO_ROUTE: ("host", "There is no route to {where}.", f"ip route get {{host}}; {_WAIT}"),
    Kind.SILENT: (
        "host",
        f"{{where}} does not answer within {PATIENCE} s.",
        f"see whether it runs, and whether a firewall drops what goes there: nc -vz {{host}} {{port}}; {_WAIT}",
    ),
    Kind.CLOSED: (
        "host",
        "{where} closes the connection before it has answered.",
        f"see the database's own log, and whether it is a {{product}} that listens there; {_WAIT}",
    ),
    Kind.BUSY: (
        "host",
        "The database at {where} takes no connection now: {said}.",
        f"see its own log, and its limit of connections; {_WAIT}",
    ),
    Kind.READ_ONLY: (
        "rights",
        "The database {name} at {where} is read-only.",
        f"name the primary server in backend_store.uri, if this is a standby; {_WAIT}",
    ),
    Kind.LOGIN: (
        "login",
        "The database at {where} refuses the password of the user {user}.",
        "put the right one where backend_store.password says, or correct the user in backend_store.uri; then: {start}",
    ),
    Kind.NO_LOGIN: (
        "login",
        "The database at {where} wants a password of the user {user}, and there is none.",
        'set backend_store.password = "credential:database" in /etc/mlflowd.toml (docs/secrets.md); then: {start}',
    ),
    Kind.NOT_ADMITTED: (
        "login",
        "The database at {where} does not let the user {user} in from this machine: {said}.",
        "{admit}; then: {start}",
    ),
    Kind.ABSENT: (
        "database",
        "The database {name} does not exist at {where}.",
        "make it there, {create}, or correct its name in backend_store.uri; then: {start}",
    ),
    Kind.DENIED: (
        "rights",
        "The user {user} may not use the database {name} at {where}: {said}.",
        "as its owner or administrator: {grant}; then: {start}",
    ),
    Kind.TLS: (
        "TLS",
        "There is no encrypted connection to {where}: {said}.",
        "the driver's options stand behind backend_store.uri, such as {tls}; then: {start}",
    ),
    Kind.DRIVER: (
        "driver",
        "The image lacks what the database needs: {said}.",
        "name the driver's package in image.packages, or use an image that has it; then: {start}",
    ),
    Kind.OTHER: ("login", "The database at {where} cannot be used: {said}.", f"see the database's own log; {_WAIT}"),
}
_GRANTS: Final = {
    Dialect.POSTGRESQL: "ALTER DATABASE {name} OWNER TO {user}; or, for the schema alone, in {name}: "
    "GRANT USAGE, CREATE ON SCHEMA public TO {user}",
    Dialect.MYSQL: "GRANT ALL ON {name}.* TO '{user}'@'%'",
    Dialect.MSSQL: "ALTER ROLE db_owner ADD MEMBER {user}",
}
_CREATE: Final = {
    Dialect.POSTGRESQL: "CREATE DATABASE {name} OWNER {user}",
    Dialect.MYSQL: "CREATE DATABASE {name} CHARACTER SET utf8mb4",
    Dialect.MSSQL: "CREATE DATABASE {name}",
}
_ADMIT: Final = {
    Dialect.POSTGRESQL: "add a line for it to the database's pg_hba.conf and reload it: host {name} {user} ADDRESS/32 "
    "scram-sha-256",
    Dialect.MYSQL: "CREATE USER '{user}'@'%' IDENTIFIED BY …; or, after many failed logins: mysqladmin flush-hosts",
    Dialect.MSSQL: "CREATE LOGIN {user} WITH PASSWORD = …",
}
_TLS: Final = {
    Dialect.POSTGRESQL: "?sslmode=verify-full&sslrootcert=/etc/mlflowd/database-ca.pem",
    Dialect.MYSQL: "?ssl_ca=/etc/mlflowd/database-ca.pem",
    Dialect.MSSQL: "?encryption=require",
}
_PRODUCTS: Final = {Dialect.POSTGRESQL: "PostgreSQL", Dialect.MYSQL: "MySQL or MariaDB", Dialect.MSSQL: "SQL Server"}


def check(
    settings: Settings, answer: Answer, served: Fingerprint | None, able: Abilities, spec: ContainerSpec
) -> list[Finding]:
    """Return what is to be said of a database that was tried; `served` is the one that was served last."""
    if answer.kind is not Kind.OK:
        return [_told(settings.backend_store.database, answer)]
    place = settings.backend_store.database
    found = [
        fine(_NAME, f"the database {place.name} at {_where(place)} answers the user {place.user} ({answer.version})"),
        compare(identified(settings, answer), served),
    ]
    return [*found, *of_schema(schema.judge(answer.revision, able, spec))]


def identified(settings: Settings, answer: Answer) -> Fingerprint:
    """Return what identifies a database that answered; the tables of others beside MLflow's do not count."""
    known = fingerprint.remote(settings.backend_store.database, answer.identity)
    return replace(known, revision=answer.revision, tables=answer.tables if answer.ours else 0)


def compare(found: Fingerprint, served: Fingerprint | None) -> Finding:
    """Return whether the database that answered may stand where the one served last was."""
    name, path = "database: fingerprint", found.place.path
    if not found.tables:
        if served is not None and served.tables:
            return refused(name, _lost(path, served.place.path), _way_out(path))
        return fine(name, f"{path} is empty; the server fills it at its first start")
    if served is None:
        return fine(name, f"{path} was not served before")
    if served.database and found.database != served.database:
        message = f"{path} is another database than the one served last: its oldest experiment differs."
        return warning(name, message, f"nothing to do where that is wanted; else name {served.place.path} again")
    return fine(name, f"{path} is the database served last")


def _lost(path: str, before: str) -> str:
    where = "one with data was served from there before" if path == before else f"the one served last is {before}"
    return f"The database {path} is empty, but {where}: an empty one would hide the loss."


def _way_out(path: str) -> str:
    return f"restore it at {path}, or start anew with an empty one: {ACCEPT}; then: sudo systemctl restart mlflowd"


def _told(place: DatabaseUri, answer: Answer) -> Finding:
    if answer.kind is Kind.UNASKED:
        message = "The image took too long to load what it needs to try the database."
        return warning(_NAME, message, "see what keeps this machine busy: top")
    check, sentence, remedy = _SENTENCES[answer.kind]
    words = _words(place, answer)
    if answer.kind is Kind.SILENT and answer.step in {"look", "create"}:
        sentence = "The database {name} at {where} lets the user {user} in and then does not answer."
    if answer.kind is Kind.DENIED and answer.step == "login" and place.dialect is Dialect.MYSQL:
        sentence = "The database {name} does not exist at {where}, or the user {user} may not use it."
        remedy = "as its administrator: {create}; {grant}; then: {start}"
    found = refused(f"{_NAME}: {check}", sentence.format_map(words), remedy.format_map(words))
    passing = answer.kind.away or answer.kind is Kind.OTHER
    return replace(found, transient=passing)


def _words(place: DatabaseUri, answer: Answer) -> dict[str, str]:
    host, port = place.host or "localhost", str(place.port or PORTS.get(place.dialect, 0))
    words = {
        "host": host,
        "port": port,
        "where": _where(place),
        "user": place.user or "without a name",
        "name": place.name,
        "said": answer.said.rstrip("."),
        "product": _PRODUCTS[place.dialect],
        "start": schema.RESTART,
        "tls": _TLS[place.dialect],
    }
    more = {"grant": _GRANTS, "create": _CREATE, "admit": _ADMIT}
    return words | {key: table[place.dialect].format_map(words) for key, table in more.items()}


def _where(place: DatabaseUri) -> str:
    return place.address if place.host else "its socket on this machine"
