"""What the settings name beside themselves: secrets and files, each by a key under which Secrets has it. No effects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from mlflowd.config.masking import mask_entry
from mlflowd.config.secret_sources import Origin, SecretSource
from mlflowd.config.uris import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.config.settings import Settings
    from mlflowd.config.uris import DatabaseUri

PUBLIC_OPTIONS: Final = frozenset({"sslrootcert", "sslcert", "sslcrl", "ssl_ca", "ssl_cert"})
"""Options behind the database's URI that name a file: of libpq (its manual, "SSL Support"), and those that SQLAlchemy
hands to PyMySQL, mysqlclient and MySQL Connector as their `ssl` (sqlalchemy/dialects/mysql/mysqldb.py)."""
PRIVATE_OPTIONS: Final = frozenset({"sslkey", "passfile", "ssl_key"})
"""Options likewise whose file is a secret."""
_NO_SECRETS: Final = frozenset({"", "true", "false", "yes", "no", "0", "1", "none"})


def secret_sources(settings: Settings) -> dict[str, SecretSource]:
    """Return where each secret is to be read, by its key.

    Such as "backend_store.password", "server.secrets.NAME", and "backend_store.uri.sslkey" for a private file that
    the URI names. What can have no meaning for the store that the settings name is never asked for: agreement.py
    refuses it.
    """
    found = {
        f"{section}.{name}": value
        for section in type(settings).model_fields
        for name in type(getattr(settings, section)).model_fields
        if isinstance(value := getattr(getattr(settings, section), name), SecretSource)
    }
    keys = {key: SecretSource(Origin.FILE, path) for key, path in _of_query(settings, PRIVATE_OPTIONS)}
    return found | {f"server.secrets.{name}": source for name, source in settings.server.secrets.items()} | keys


def public_files(settings: Settings) -> dict[str, str]:
    """Return the absolute paths of the files that the server reads and anybody may, by their keys.

    They are "artifact_store.ca_file", "artifact_store.known_hosts", the same of "backup", and for a file that
    the database's URI names "backend_store.uri.OPTION", such as "backend_store.uri.sslrootcert".
    """
    store, backup = settings.artifact_store, settings.backup
    named = {
        "artifact_store.ca_file": store.ca_file,
        "artifact_store.known_hosts": store.known_hosts,
        "backup.ca_file": backup.ca_file,
        "backup.known_hosts": backup.known_hosts,
    }
    return {key: path for key, path in named.items() if path} | dict(_of_query(settings, PUBLIC_OPTIONS))


def plain_secrets(settings: Settings) -> dict[str, str]:
    """Return the secrets that stand in the settings themselves, by the key where they do.

    Keys are as above, and "backend_store.uri", "artifact_store.uri", "server.environment.NAME".
    """
    written = {key: source.place for key, source in secret_sources(settings).items() if source.origin is Origin.TEXT}
    environment = {
        f"server.environment.{name}": secret
        for name, value in settings.server.environment.items()
        if (secret := _in_variable(name, value))
    }
    in_uris = {
        "backend_store.uri": _in_database(settings.backend_store.database),
        "artifact_store.uri": settings.artifact_store.place.password,
    }
    return written | environment | {key: secret for key, secret in in_uris.items() if secret}


def _in_database(database: DatabaseUri) -> str:
    """Return the password of a database's URI, wherever it stands: also behind "?" (libpq) and in ODBC's own text."""
    options = dict(parse_qsl(database.query)) if database.dialect is not Dialect.SQLITE else {}
    odbc = re.search(r"(?:^|;)\s*PWD\s*=\s*(\{[^}]*\}|[^;]*)", options.get("odbc_connect", ""), re.IGNORECASE)
    return database.password or options.get("password") or options.get("passwd") or (odbc[1] if odbc else "")


def _in_variable(name: str, value: str) -> str:
    """Return the secret that an entry of server.environment holds, by its name or as a URI's password; "" for none."""
    if mask_entry(name, value) == value or value.startswith("/") or value.lower() in _NO_SECRETS:
        return ""
    login = re.search(r"://[^\s/:@]*:([^\s]+)@", value)
    return login[1] if login else value


def _of_query(settings: Settings, options: frozenset[str]) -> Iterator[tuple[str, str]]:
    database = settings.backend_store.database
    if database.dialect is Dialect.SQLITE:
        return
    for option, value in parse_qsl(database.query):
        if option in options and value.startswith("/"):  # sslrootcert=system names none
            yield f"backend_store.uri.{option}", value
