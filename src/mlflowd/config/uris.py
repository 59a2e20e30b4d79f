"""The two stores' URIs as values: what each part is, and how it is written again. No effects.

`database` and `artifacts` read a URI that config/stores.py has accepted; what they raise (ValueError) is a sentence
for the person who wrote it, without the URI, which may hold a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import quote, unquote


class Dialect(StrEnum):
    """The kinds of databases that MLflow knows (mlflow/store/db/db_types.py), by SQLAlchemy's names."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    MYSQL = "mysql"
    MSSQL = "mssql"


class StoreKind(StrEnum):
    """The kinds of artifact stores that mlflowd serves, by their URI's scheme."""

    LOCAL = "file"
    S3 = "s3"
    GCS = "gs"
    AZURE = "wasbs"
    SFTP = "sftp"
    FTP = "ftp"


DIALECTS: Final = {
    "sqlite": Dialect.SQLITE,
    "postgresql": Dialect.POSTGRESQL,
    "postgres": Dialect.POSTGRESQL,
    "mysql": Dialect.MYSQL,
    "mariadb": Dialect.MYSQL,  # MLflow refuses SQLAlchemy's own word for it
    "mssql": Dialect.MSSQL,
}
PORTS: Final = {Dialect.POSTGRESQL: 5432, Dialect.MYSQL: 3306, Dialect.MSSQL: 1433}
_STORE_PORTS: Final = {StoreKind.SFTP: 22, StoreKind.FTP: 21}
_AZURE: Final = re.compile(
    r"(?P<bucket>[a-z0-9$][a-z0-9-]{1,62})@(?P<host>(?P<account>[a-z0-9]{3,24})\.blob\.core\."
    r"(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net))"
)
"""What MLflow's parse_wasbs_uri takes (mlflow/store/artifact/azure_blob_artifact_repo.py)."""
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_PLACE: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<name>[^\s:@/?#%\[\]]*))(?::(?P<port>[0-9]{0,5}))?"
)
_LAST_PORT: Final = 65535
_ENCODE: Final = "the password holds a character that has to be percent-encoded, such as %2F for /"
_LOOPBACK: Final = re.compile(r"(ip6-)?localhost(\.localdomain)?\.?|127\.[0-9.]+|0\.0\.0\.0|::1?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DatabaseUri:
    """The backend store's URI; texts are decoded."""

    dialect: Dialect
    driver: str = ""
    """SQLAlchemy's name of the driver that a person chose ("psycopg2"), "" where mlflowd chooses."""
    user: str = ""
    password: str = field(default="", repr=False)
    host: str = ""
    """Without the brackets of an IPv6 address; "" for a SQLite file."""
    port: int | None = None
    name: str = ""
    """The database; of SQLite the absolute path."""
    query: str = field(default="", repr=False)
    """Options behind "?", as they were written."""

    @property
    def address(self) -> str:
        """Return host:port for people, the usual port where none was given."""
        return _place(self.host, self.port or PORTS.get(self.dialect))

    def written(self, driver: str = "", password: str = "") -> str:
        """Return the URI with this driver and password in place of those it has; both may be empty."""
        scheme = f"{self.dialect}+{driver or self.driver}" if driver or self.driver else str(self.dialect)
        if self.dialect is Dialect.SQLITE:
            return f"{scheme}:///{self.name}"
        # SQLAlchemy decodes the name since 2.1 and not before: only what would end it is encoded.
        name = self.name.replace("%", "%25").replace("?", "%3F")
        place = f"{_login(self.user, password or self.password)}{_place(self.host, self.port)}"
        return f"{scheme}://{place}/{name}" + (f"?{self.query}" if self.query else "")


@dataclass(frozen=True, slots=True)
class ArtifactUri:
    """The artifact store's URI; texts are decoded."""

    kind: StoreKind
    bucket: str = ""
    """Of S3 and Google the bucket, of Azure the container."""
    host: str = ""
    """Of SFTP, FTP and Azure."""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    path: str = ""
    """Without the slash at its end; of a local store the absolute path, of an object store the prefix."""

    @property
    def address(self) -> str:
        """Return what people call the place: host:port, or the bucket."""
        port = self.port or _STORE_PORTS.get(self.kind)
        return _place(self.host, port) if port else self.bucket

    def written(self, password: str = "") -> str:
        """Return the URI as MLflow takes it, with this password in place of the one it has."""
        if self.kind is StoreKind.LOCAL:
            return self.path
        if self.kind is StoreKind.AZURE:
            return f"wasbs://{self.bucket}@{self.host}{self.path}"
        if self.bucket:
            return f"{self.kind}://{self.bucket}{self.path}"
        login = _login(self.user, password or self.password)
        return f"{self.kind}://{login}{_place(self.host, self.port)}{self.path}"


def database(uri: str) -> DatabaseUri:
    """Read the URI of a backend store. Raises ValueError with a sentence."""
    scheme, separator, rest = uri.partition("://")
    word, _, driver = scheme.lower().partition("+")
    if not separator or word not in DIALECTS:
        raise ValueError("not the URI of a database")
    if DIALECTS[word] is Dialect.SQLITE:
        return DatabaseUri(Dialect.SQLITE, name=rest.removeprefix("/"))
    before, _, query = rest.partition("?")
    place, _, name = before.partition("/")
    if "@" in name or ("@" in query and "@" not in place and not (name and _PLACE.fullmatch(place))):
        raise ValueError(_ENCODE)
    user, password, host, port = _authority(place)
    return DatabaseUri(DIALECTS[word], driver, user, password, host, port, unquote(name), query)


def artifacts(uri: str) -> ArtifactUri:
    """Read the URI (or the path) of an artifact store. Raises ValueError with a sentence."""
    if uri.startswith("/"):
        return ArtifactUri(StoreKind.LOCAL, path=uri)
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.lower() not in set(StoreKind):
        raise ValueError("not the URI of an artifact store")
    kind = StoreKind(scheme.lower())
    place, slash, path = rest.partition("/")
    path = f"{slash}{path}".rstrip("/")
    if kind in {StoreKind.S3, StoreKind.GCS}:
        if "@" in place:
            raise ValueError("a login has no place in this URI")
        if not _BUCKET.fullmatch(place):
            raise ValueError("the name of the bucket is missing or is none")
        return ArtifactUri(kind, bucket=place, path=path)
    if kind is StoreKind.AZURE:
        return _azure(place, path)
    if "@" in path and not _PLACE.fullmatch(place.rpartition("@")[2]):
        raise ValueError(_ENCODE)
    user, password, host, port = _authority(place)
    if not host:
        raise ValueError("the host is missing")
    return ArtifactUri(kind, host=host, port=port, user=user, password=password, path=path)


def _azure(place: str, path: str) -> ArtifactUri:
    found = _AZURE.fullmatch(place)
    if found is None:
        raise ValueError("an Azure store reads wasbs://CONTAINER@ACCOUNT.blob.core.windows.net/PATH")
    return ArtifactUri(StoreKind.AZURE, bucket=found["bucket"], host=found["host"], path=path)


def is_this_machine(host: str) -> bool:
    """Whether `host` means the machine itself, which inside a container is the container."""
    return _LOOPBACK.fullmatch(host) is not None


def _authority(text: str) -> tuple[str, str, str, int | None]:
    """Return user, password, host and port of what stands before the path; a password may hold any number of "@"."""
    login, at, place = text.rpartition("@")
    user, _, password = login.partition(":") if at else ("", "", "")
    found = _PLACE.fullmatch(place)
    if found is None or (found["port"] and not 0 < int(found["port"]) <= _LAST_PORT):
        raise ValueError(_unreadable(place))
    port = int(found["port"]) if found["port"] else None
    return unquote(user), unquote(password), found["six"] or found["name"] or "", port


def _unreadable(place: str) -> str:
    """Return what is wrong with a host and a port, without repeating them: a password may have got there."""
    if place.startswith("[") or place.count(":") > 1:
        return "an IPv6 address stands in brackets, such as [2001:db8::7]:5432"
    if re.fullmatch(r"[^:]*:[^:]*", place):
        return "the port is not a number from 1 to 65535"
    return "the host is not a name or an address"


def _login(user: str, password: str) -> str:
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"{login}@" if login else ""


def _place(host: str, port: int | None) -> str:
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
