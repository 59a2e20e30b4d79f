"""Runs inside the image and not in mlflowd: tries the stores that the environment names, prints one line of JSON.

`python -c SOURCE` in a container that is like the server's own, so that what is tried is what the server will do:
the same variables, files, network, user, driver, and for artifacts MLflow's own repository class. For each remote
store it tells how far it came, the error and what caused it without any secret, and, of a database, what identifies
it; server/inquiry.py reads that. Standard library, and of the image SQLAlchemy and MLflow; Python 3.9 and newer.

Effects: a table that is rolled back in an empty PostgreSQL or SQL Server database; a small object below
.mlflowd-probe/ of the artifact store, written, read and deleted.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid
from importlib import import_module
from pathlib import Path
from typing import Any

PATIENCE = 10
"""Seconds for a connection, and for an answer on it."""
LIMIT = 22.0
"""Seconds for one store as a whole, the loading of libraries aside."""
LOADING = 75.0
"""Seconds for that: MLflow takes 3 s, from a cold disk 30."""
MOST = 2000
"""Characters of an error."""
DIRECTORY = ".mlflowd-probe"
LOAD = "load"
_loading = threading.Lock()
"""Only one thread imports at a time: two that wait for each other's modules may get half of one."""
_SECRET = re.compile("pass|pwd|secret|token|key|credential|auth|dsn|connection_string|private", re.IGNORECASE)


class Trouble(Exception):  # noqa: N818 - it is the outcome, as a value that is raised
    """A kind of outcome and words, where it is known without an error to read it from."""


class Inquiry(threading.Thread):
    """One store's: its facts and, when it has ended, its outcome."""

    def __init__(self, uri: str) -> None:
        super().__init__(daemon=True)
        self.uri = uri
        self.step = "begin"
        self.began = time.monotonic()
        self.until, self.left = self.began + LIMIT, LIMIT
        self.facts: dict[str, Any] = {}
        self.outcome: tuple[str, str] | None = None

    def at(self, step: str) -> None:
        """Remember how far it came; while libraries are loaded the store's own time stands still."""
        now = time.monotonic()
        if step == LOAD:
            self.left, self.until = self.until - now, now + LOADING
        elif self.step == LOAD:
            self.until = now + self.left
        self.step = step

    def run(self) -> None:
        """Look, and keep what came of it."""
        try:
            self.look()
            self.outcome = ("ok", "")
        except Trouble as trouble:
            self.outcome = (trouble.args[0], trouble.args[1])
        except BaseException as error:  # noqa: BLE001 - whatever a driver raises is the outcome
            self.outcome = ("error", words_of(error))
        self.facts["seconds"] = self.seconds()

    def seconds(self) -> float:
        """Return how long it has taken."""
        return round(time.monotonic() - self.began, 2)

    def look(self) -> None:
        """Try the store; raises whatever happens."""
        raise NotImplementedError

    def told(self) -> dict[str, Any]:
        """Return the outcome; of one that hangs the step that it hangs at."""
        kind, said = self.outcome or ("unasked" if self.step == LOAD else "silent", "")
        told = {"kind": kind, "said": hidden(said)[:MOST], "step": self.step, "seconds": self.seconds()}
        return {**told, **self.facts}


class Database(Inquiry):
    """A database server, by SQLAlchemy and the driver that the URI names."""

    def look(self) -> None:
        """Connect, read what identifies the database, and see whether an empty one can be filled."""
        self.at(LOAD)
        with _loading:
            alchemy: Any = import_module("sqlalchemy")
            url = alchemy.make_url(self.uri)
            engine = alchemy.create_engine(url, poolclass=alchemy.pool.NullPool, connect_args=patience_of(url))
        self.at("login")
        try:
            connection = engine.connect()
        except Exception:
            if url.get_backend_name() == "mssql" and url.host:
                reach(self, url.host, url.port or 1433)  # FreeTDS does not say why
            raise
        with connection:
            self.at("look")
            self.facts["version"] = version_of(connection.dialect)
            self.read(alchemy, connection)

    def read(self, alchemy: Any, connection: Any) -> None:  # noqa: ANN401 - the image's SQLAlchemy
        """Read what identifies the database."""
        tables = set(alchemy.inspect(connection).get_table_names())
        ours = tables & {"alembic_version", "experiments"}
        self.facts.update(tables=len(tables), ours=len(ours))
        if "alembic_version" in ours:
            self.facts["revision"] = first(alchemy, connection, "alembic_version", "version_num")
        if "experiments" in ours:
            self.facts["identity"] = first(alchemy, connection, "experiments", "experiment_id", "creation_time")
        if connection.dialect.name == "postgresql":
            if connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on":
                raise Trouble("read-only", "")
        elif connection.dialect.name != "mssql":
            return  # MySQL commits what makes a table
        if not ours:
            self.at("create")
            connection.exec_driver_sql("CREATE TABLE mlflowd_probe (probe INTEGER)")
            connection.rollback()


class Artifacts(Inquiry):
    """An artifact store, by the class that MLflow's server takes for it."""

    def look(self) -> None:
        """List, write, read and delete a small object."""
        if place := endpoint_of(self.uri):
            reach(self, *place)
        self.at(LOAD)
        with _loading:
            if self.uri.startswith("s3:"):
                hasten_boto()
            registry: Any = import_module("mlflow.store.artifact.artifact_repository_registry")
        self.at("login")
        registry.ArtifactRepository.max_workers = property(lambda _: 1)  # SFTP logs in once for each
        repository = registry.get_artifact_repository(self.uri)
        self.at("list")
        repository.list_artifacts(DIRECTORY)
        self.round_trip(repository, Path(tempfile.mkdtemp()))

    def round_trip(self, repository: Any, place: Path) -> None:  # noqa: ANN401 - MLflow's ArtifactRepository
        """Write an object of a name that nobody has, read it, delete it; `place` goes with the container."""
        name = f"check-{uuid.uuid4().hex}"
        (place / name).write_text(name)
        self.at("write")
        repository.log_artifact(str(place / name), DIRECTORY)
        self.at("read")
        read = repository.download_artifacts(f"{DIRECTORY}/{name}", tempfile.mkdtemp())
        if Path(read).read_text() != name:
            raise Trouble("other", "what was read is not what was written")
        self.at("delete")
        if self.uri.startswith("ftp:"):  # MLflow's own cannot
            with repository.get_ftp_client() as client:
                client.delete(f"{repository.path.rstrip('/')}/{DIRECTORY}/{name}")
        else:
            repository.delete_artifacts(f"{DIRECTORY}/{name}")


def reach(inquiry: Inquiry, host: str, port: int) -> None:
    """Connect and hang up: OSError tells an unknown name from a closed port and from silence."""
    inquiry.at("name")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    inquiry.at("connect")
    for number, (family, kind, protocol, _, address) in enumerate(found, 1):
        with socket.socket(family, kind, protocol) as tried:
            tried.settimeout(PATIENCE)
            try:
                tried.connect(address)
            except OSError:
                if number == len(found):
                    raise
            else:
                return


def endpoint_of(uri: str) -> tuple[str, int] | None:
    """Return host and port of an artifact store, None where they are not known or lie behind a proxy."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme in {"sftp", "ftp"}:
        return str(parts.hostname), parts.port or {"sftp": 22, "ftp": 21}[parts.scheme]
    url = "https://storage.googleapis.com" if parts.scheme == "gs" else ""
    if parts.scheme == "s3":
        url = os.environ.get("MLFLOW_S3_ENDPOINT_URL", "")
    elif parts.scheme == "wasbs":
        found = re.search(r"BlobEndpoint=([^;]+)", os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
        url = found[1] if found else f"https://{parts.hostname}"
    parts = urllib.parse.urlsplit(url)
    proxied = urllib.request.getproxies().get(parts.scheme) and not urllib.request.proxy_bypass(parts.netloc)
    if proxied or not parts.hostname:
        return None
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def hasten_boto() -> None:
    """Let boto3 give up soon: its default is five tries of a minute each."""
    config = import_module("botocore.config").Config(
        connect_timeout=PATIENCE, read_timeout=PATIENCE, retries={"total_max_attempts": 1}
    )
    session = import_module("botocore.session").get_session()
    session.set_default_client_config(config)
    import_module("boto3").setup_default_session(botocore_session=session)


def patience_of(url: Any) -> dict[str, Any]:  # noqa: ANN401 - SQLAlchemy's URL
    """Return the arguments by which this driver gives up soon, and those that MLflow itself gives."""
    whole = {
        "psycopg2": ("connect_timeout",),
        "psycopg": ("connect_timeout",),
        "pymysql": ("connect_timeout", "read_timeout", "write_timeout"),
        "mysqldb": ("connect_timeout", "read_timeout", "write_timeout"),
        "mysqlconnector": ("connection_timeout",),
        "pymssql": ("login_timeout", "timeout"),
        "pyodbc": ("timeout",),
    }.get(url.get_driver_name(), ())
    tls = {name: os.environ.get(f"MLFLOW_MYSQL_{name.upper()}") for name in ("ssl_ca", "ssl_cert", "ssl_key")}
    mysql = url.get_backend_name() == "mysql"
    return {**dict.fromkeys(whole, PATIENCE), **{name: value for name, value in tls.items() if value and mysql}}


def version_of(dialect: Any) -> str:  # noqa: ANN401 - SQLAlchemy's dialect
    """Return the server's product and version, such as "PostgreSQL 15.3"."""
    names = {"postgresql": "PostgreSQL", "mysql": "MySQL", "mssql": "SQL Server"}
    product = "MariaDB" if getattr(dialect, "is_mariadb", False) else names.get(dialect.name, dialect.name)
    return f"{product} {'.'.join(str(part) for part in dialect.server_version_info or ())}".strip()


def first(alchemy: Any, connection: Any, table: str, *columns: str) -> str:  # noqa: ANN401 - SQLAlchemy's
    """Return the first row by its last column, joined by "@"; "" where there is none."""
    named = [alchemy.column(name) for name in columns]
    query = alchemy.select(*named).select_from(alchemy.table(table, *(alchemy.column(name) for name in columns)))
    row = connection.execute(query.order_by(*reversed(named)).limit(1)).first()
    return "" if row is None or None in row else "@".join(str(value) for value in row)


def chain_of(error: BaseException) -> list[BaseException]:
    """Return the error and what lies beneath it, as cause, context, reason or SQLAlchemy's original."""
    links: list[BaseException] = []
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if link not in links:
            links.append(link)
            names = ("orig", "__cause__", "__context__", "reason", "inner_exception")
            waiting += [found for name in names if isinstance(found := getattr(link, name, None), BaseException)]
    return links


def words_of(error: BaseException) -> str:
    """Return the error and its causes, a line each as "TypeName: text"."""
    return "\n".join(f"{type(link).__name__}: {' '.join(str(link).split())}" for link in chain_of(error))


def hidden(text: str) -> str:
    """Return the text without any secret of the environment."""
    secrets = {value for name, value in os.environ.items() if _SECRET.search(name)}
    for value in os.environ.values():
        secrets |= set(re.findall(r"://[^\s/:@]*:([^\s@]+)@", value))
    for secret in sorted(secrets | {urllib.parse.unquote(secret) for secret in secrets}, key=len, reverse=True):
        text = text.replace(secret, "***") if len(secret) > 2 else text  # noqa: PLR2004 - "on" is no secret
    return text


def main() -> None:
    """Ask every remote store at once and tell what came of it; a thread that hangs is left behind."""
    socket.setdefaulttimeout(PATIENCE)
    database = os.environ.get("MLFLOW_BACKEND_STORE_URI", "")
    artifacts = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION") or os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT", "")
    asked: dict[str, Inquiry] = {}
    if database and not database.startswith("sqlite"):
        asked["backend"] = Database(database)
    if "://" in artifacts and not artifacts.startswith("file:"):
        asked["artifacts"] = Artifacts(artifacts)
    for inquiry in asked.values():
        inquiry.start()
    for inquiry in asked.values():
        while inquiry.is_alive() and (left := inquiry.until - time.monotonic()) > 0:
            inquiry.join(left)
    sys.stdout.write(json.dumps({name: inquiry.told() for name, inquiry in asked.items()}) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
