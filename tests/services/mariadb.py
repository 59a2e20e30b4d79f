"""A real MariaDB of the tests: Debian's binaries, its own data directory, no unit.

    with running_mariadb("127.0.0.1") as mariadb:
        mariadb.uri                     # mysql://mlflow:…@127.0.0.1:PORT/mlflow
        mariadb.sql("SELECT 1")         # as its root
        mariadb.make("other", "word", "theirs")

Needs the package `mariadb-server`, and root: the server runs as Debian's user `mysql`.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from services.process import ServiceError, as_user, free_port, run, running, workplace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCOUNT = "mysql"
NAME = "mlflow"
PROGRAM = "/usr/sbin/mariadbd"
# Nothing of it outlives the test: a crash of the machine may cost it.
QUICK = ("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=32M")


@dataclass(frozen=True)
class Mariadb:
    """A running server and the account that a test gives to MLflow."""

    address: str
    port: int
    socket: Path
    user: str
    password: str
    database: str

    @property
    def uri(self) -> str:
        return self.uri_as(self.password)

    @property
    def uri_without_password(self) -> str:
        return f"mysql://{self.user}@{self.address}:{self.port}/{self.database}"

    def uri_as(self, password: str) -> str:
        return f"mysql://{self.user}:{quote(password, safe='')}@{self.address}:{self.port}/{self.database}"

    def sql(self, statements: str, database: str = "mysql") -> str:
        """Run statements as root and return the values, one row a line, tabs between columns."""
        how = ["--no-defaults", f"--socket={self.socket}", "--user=root", "--batch", "--skip-column-names"]
        return run(["mariadb", *how, database], stdin=statements).strip()

    def make(self, user: str, password: str, database: str) -> None:
        """Make an account and an empty database that is its own."""
        word = password.replace("\\", "\\\\").replace("'", "''")
        self.sql(f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4")
        self.sql(f"CREATE USER '{user}'@'%' IDENTIFIED BY '{word}'; GRANT ALL ON `{database}`.* TO '{user}'@'%'")


@contextlib.contextmanager
def running_mariadb(
    address: str = "127.0.0.1", *, password: str | None = None, port: int | None = None
) -> Iterator[Mariadb]:
    """Run one with an account `mlflow`, its password, and a database `mlflow` of its own. Raises ServiceError."""
    word, chosen = password or f"my-{secrets.token_hex(12)}", port or free_port(address)
    with workplace("mariadb", ACCOUNT) as place:
        data = make_data(place)
        server = Mariadb(address, chosen, place / "socket", NAME, word, NAME)
        where = [f"--bind-address={address}", f"--port={chosen}", f"--socket={server.socket}"]
        names = [f"--pid-file={place}/pid", f"--tmpdir={place}", "--skip-name-resolve"]
        command = as_user(ACCOUNT, [PROGRAM, "--no-defaults", f"--datadir={data}", *where, *names, *QUICK])
        with running(command, place / "log", lambda: ready(server)):
            server.make(server.user, word, server.database)
            yield server


def make_data(place: Path) -> Path:
    data = place / "data"
    how = ["--auth-root-authentication-method=socket", "--auth-root-socket-user=root", "--skip-test-db"]
    run(["mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={ACCOUNT}", *how])
    return data


def ready(server: Mariadb) -> bool:
    try:
        return server.sql("SELECT 1") == "1"
    except ServiceError:
        return False
