"""A real PostgreSQL of the tests: Debian's binaries, its own data directory, passwords by SCRAM, no unit, no cluster.

    with running_postgres(("127.0.0.1",)) as postgres:
        postgres.uri                        # postgresql://mlflow:…@127.0.0.1:PORT/mlflow
        postgres.sql("SELECT 1")            # as its superuser
        postgres.make("other", "word", "theirs")

Needs root (initdb refuses it, so the server runs as Debian's user `postgres`) and the package `postgresql`.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from services.process import ServiceError, as_user, free_port, run, running, workplace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ACCOUNT = "postgres"
NAME = "mlflow"
RULES = """\
local all postgres peer
local all all scram-sha-256
host all all 0.0.0.0/0 scram-sha-256
host all all ::/0 scram-sha-256
"""
# Nothing of it outlives the test: a crash of the machine may cost it.
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "32MB"}


@dataclass(frozen=True)
class Postgres:
    """A running server and the account that a test gives to MLflow."""

    binaries: Path
    address: str
    """The first address that it listens on."""
    port: int
    socket_directory: Path
    user: str
    password: str
    database: str

    @property
    def uri(self) -> str:
        return self.uri_as(self.password)

    @property
    def uri_without_password(self) -> str:
        return f"postgresql://{self.user}@{self.address}:{self.port}/{self.database}"

    def uri_as(self, password: str) -> str:
        return f"postgresql://{self.user}:{quote(password, safe='')}@{self.address}:{self.port}/{self.database}"

    def sql(self, statements: str, database: str = "postgres") -> str:
        """Run statements as the superuser and return the values, one row a line, `|` between columns."""
        where = ["-h", str(self.socket_directory), "-p", str(self.port), "-d", database]
        how = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        return run(as_user(ACCOUNT, [str(self.binaries / "psql"), *where, *how]), stdin=statements).strip()

    def make(self, user: str, password: str, database: str) -> None:
        """Make an account and an empty database that it owns."""
        word = password.replace("'", "''")
        self.sql(f"CREATE ROLE \"{user}\" LOGIN PASSWORD '{word}'")
        self.sql(f'CREATE DATABASE "{database}" OWNER "{user}"')


@contextlib.contextmanager
def running_postgres(
    addresses: Sequence[str] = ("127.0.0.1",), *, password: str | None = None, port: int | None = None
) -> Iterator[Postgres]:
    """Run one with an account `mlflow`, its password, and a database `mlflow` of its own. Raises ServiceError."""
    binaries, word = installed_binaries(), password or f"pg-{secrets.token_hex(12)}"
    chosen = port or free_port(addresses[0])
    with workplace("postgres", ACCOUNT) as place:
        data = make_cluster(binaries, place)
        server = Postgres(binaries, addresses[0], chosen, place, NAME, word, NAME)
        options = {
            "listen_addresses": ",".join(addresses),
            "port": str(chosen),
            "unix_socket_directories": str(place),
            **QUICK,
        }
        words = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = as_user(ACCOUNT, [str(binaries / "postgres"), "-D", str(data), *words])
        # SIGINT: sessions of a server that is still connected are ended, not waited for
        with running(command, place / "log", lambda: ready(server), stop=signal.SIGINT):
            server.make(server.user, word, server.database)
            yield server


def installed_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise ServiceError("PostgreSQL's server is not installed: apt-get install postgresql")
    return found[-1]


def make_cluster(binaries: Path, place: Path) -> Path:
    data = place / "data"
    how = ["--auth=peer", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", f"--username={ACCOUNT}"]
    run(as_user(ACCOUNT, [str(binaries / "initdb"), "-D", str(data), *how]))
    (data / "pg_hba.conf").write_text(RULES)
    return data


def ready(server: Postgres) -> bool:
    try:
        return server.sql("SELECT 1") == "1"
    except ServiceError:
        return False
