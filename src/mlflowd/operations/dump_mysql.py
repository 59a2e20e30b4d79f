"""MySQL's and MariaDB's part of operations/dumps.py: the statements that make a database again, and the way back.

MySQL knows no owners: all that is in the database is MLflow's. Its DDL is in no transaction, so a way back that was
cut short is gone again from its beginning. Effects: those of mariadb-dump (mysqldump) and mariadb (mysql). Options:
mariadb.com/kb/en/mariadb-dump, dev.mysql.com/doc/refman/8.4/en/mysqldump.html; how a driver reads the URI:
sqlalchemy/dialects/mysql/mysqldb.py and pymysql.py.
"""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from mlflowd.config.uris import PORTS
from mlflowd.host import dump_tools
from mlflowd.host.dump_tools import PRIVATE, Session, ToolError
from mlflowd.server import patience
from mlflowd.server.wiring import THIS_MACHINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.config.uris import DatabaseUri

PACKAGE: Final = "mariadb-client"
SUFFIX: Final = "sql"
_LOCK: Final = 60
"""Seconds to wait for others' locks; the server's own default is a year."""
_END: Final = "-- Dump completed"
"""The last line of a dump that was written to its end."""
_SANDBOX: Final = "1{/enable the sandbox mode/d}"
"""For sed: leaves out MariaDB's first line, which MySQL's client does not know."""
_DEFINER: Final = r"s|^\(/\*!50003 CREATE\*/\) /\*!50017 DEFINER=`[^`]*`@`[^`]*`\*/|\1|"
"""For sed: triggers are made by whoever restores them; for another's name a user would need SUPER."""
_NO: Final = frozenset({"", "0", "false", "no", "off", "disabled"})
_TLS_FILES: Final = ("ssl_ca", "ssl_cert", "ssl_key", "ssl_capath", "ssl_cipher")

_FACTS: Final = resources.files("mlflowd.operations") / "statements" / "mysql_facts.sql"
_KEYS: Final = ("version", "user", "tables", "bytes", "revisions", "characters")
# A view first: as a table it could not be dropped. The names are quoted by the server.
_DROPS = """SELECT CONCAT('DROP ', IF(TABLE_TYPE LIKE '%VIEW', 'VIEW', 'TABLE'), ' IF EXISTS `',
    REPLACE(TABLE_NAME, '`', '``'), '`;') FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()
    ORDER BY TABLE_TYPE LIKE '%VIEW' DESC, TABLE_NAME"""
# Sessions that a killed container has left hold locks on the tables they have read.
_OTHERS = """SELECT CONCAT('KILL ', ID, ';') FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()
    AND USER = SUBSTRING_INDEX(USER(), '@', 1) AND DB = DATABASE()"""
_HEAD = f"SET lock_wait_timeout = {_LOCK}; SET foreign_key_checks = 0;\n"


@dataclass(frozen=True, slots=True)
class Mysql:
    """A database of a MySQL or MariaDB server, and the tools at work on it."""

    database: DatabaseUri
    session: Session

    def facts(self) -> dict[str, Any]:
        """Return what there is, by _KEYS."""
        facts: dict[str, Any] = dict(
            zip(_KEYS, self._ask(_FACTS.read_text(encoding="utf-8")).rstrip("\n").split("\t"), strict=True)
        )
        return facts | {key: int(facts[key]) for key in ("tables", "bytes", "revisions")}

    def revision(self, facts: dict[str, Any]) -> str:
        """Return the schema's alembic revision, "" where there is none."""
        return self._ask("SELECT version_num FROM alembic_version").strip() if facts["revisions"] else ""

    def dump(self, target: Path, facts: dict[str, Any]) -> None:
        """Write statements, as of one moment, whatever a server writes meanwhile."""
        del facts
        tool = _tool("mariadb-dump", "mysqldump")
        # Without the date two dumps of the same data are the same.
        how = ["--single-transaction", "--quick", "--routines", "--triggers", "--hex-blob", "--skip-dump-date"]
        how += ["--no-tablespaces", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"]
        if not self._mariadb(tool):
            how += ["--set-gtid-purged=OFF", "--column-statistics=0"]
        self.session.ask(tool, f"--defaults-file={PRIVATE}", *how, f"--result-file={target}", self.database.name)
        with target.open("rb") as stream:
            os.fsync(stream.fileno())

    def check(self, path: Path) -> None:
        """Look whether a dump was written to its end. Raises ToolError where it was not."""
        check(self.session, path)

    def restore(self, path: Path) -> None:
        """Put what the dump holds in the place of all that is there."""
        with suppress(ToolError):  # one that has ended meanwhile
            self._ask(self._ask(_OTHERS))
        self._fill(path, self._ask(_DROPS))

    def fill(self, path: Path, like: Mysql) -> None:
        """Restore a dump into a scratch database."""
        del like
        self._fill(path, "")

    # --- scratch databases ----------------------------------------------------------------------

    def create(self, name: str) -> Mysql:
        """Make an empty database of the same kind, and return it."""
        self._ask(f"CREATE DATABASE {_quoted(name)} CHARACTER SET {self.facts()['characters']}")
        return replace(self, database=replace(self.database, name=name))

    def leftovers(self, prefix: str) -> list[str]:
        """Return the databases whose names begin so."""
        names = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE LEFT(SCHEMA_NAME, {0}) = '{1}'"
        return self._ask(names.format(len(prefix), prefix)).split()

    def drop(self, name: str) -> None:
        """Remove a database."""
        self._ask(f"{_HEAD}DROP DATABASE IF EXISTS {_quoted(name)}")

    def right_to_create(self) -> str:
        """Return the statement that lets the user make databases of such names."""
        name, _, host = self._ask("SELECT CURRENT_USER()").strip().rpartition("@")
        return rf"GRANT ALL ON `mlflowd\_scratch\_%`.* TO '{name}'@'{host}'"

    # --- the tools ------------------------------------------------------------------------------

    def _fill(self, path: Path, drops: str) -> None:
        mariadb = self._mariadb(_tool("mariadb", "mysql"))
        script = [*(() if mariadb else ("-e", _SANDBOX)), "-e", _DEFINER]
        self.session.feed([["sed", *script, str(path)]], self._client(), _HEAD + drops, "")

    def _ask(self, statements: str) -> str:
        return self.session.ask(*self._client(), text=statements)

    def _client(self) -> list[str]:
        how = ["--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"]
        time = f"--connect-timeout={patience.CONNECT}"
        return [_tool("mariadb", "mysql"), f"--defaults-file={PRIVATE}", *how, time, self.database.name]

    def _mariadb(self, tool: str) -> bool:
        return "MariaDB" in self.session.ask(tool, "--version")


def check(session: Session, path: Path) -> None:
    """Look whether a dump was written to its end. Raises ToolError where it was not."""
    if not session.ask("tail", "--lines=1", str(path)).startswith(_END):
        raise ToolError("the copy", 1, "it does not end as a dump does")


def options(database: DatabaseUri, password: str) -> str:
    """Return an option file that leads to the database, as the server's driver is led there."""
    query = dict(parse_qsl(database.query))
    entries = {"user": query.get("user", database.user), "password": password, **_place(database, query)}
    lines = [f"{key}={_value(each)}" for key, each in entries.items() if each]
    return "\n".join(["[client]", *lines, *_tls(database, query), ""])


def _place(database: DatabaseUri, query: dict[str, str]) -> dict[str, str]:
    if name := query.get("unix_socket"):
        return {"protocol": "SOCKET", "socket": name}
    port = database.port or int(query.get("port", PORTS[database.dialect]))
    host = database.host or query.get("host", "")
    return {"protocol": "TCP", "host": _this_machine(port) if host == THIS_MACHINE else host, "port": str(port)}


def _this_machine(port: int) -> str:
    """Return the address at which the server is heard: the tools take one alone."""
    for address in dump_tools.this_machine():
        with suppress(OSError), socket.create_connection((address, port), patience.CONNECT):
            return address
    return dump_tools.this_machine()[0]


def _tls(database: DatabaseUri, query: dict[str, str]) -> Iterator[str]:
    """Yield the lines about encryption: PyMySQL checks the server's name where it is given an authority."""
    for option in _TLS_FILES:
        if option in query:
            yield f"{option.replace('_', '-')}={_value(query[option])}"
    authority = bool(query.keys() & {"ssl_ca", "ssl_capath"})
    wanted = authority and query.get("ssl_check_hostname", "true").lower() not in _NO
    wanted = wanted or query.get("ssl_verify_identity", "").lower() not in _NO
    # This machine is reached by its address: its certificate has the name that containers have for it.
    named = wanted and database.host != THIS_MACHINE
    # The two families have options of their own; an unknown one is passed over where it is called loose.
    yield f"loose-ssl-verify-server-cert={int(named)}"
    if authority or named:
        yield f"loose-ssl-mode={'VERIFY_IDENTITY' if named else 'VERIFY_CA'}"
    yield "loose-get-server-public-key=1"


def _tool(name: str, other: str) -> str:
    """Return MariaDB's tool, or MySQL's where that is the one there is."""
    return dump_tools.found(name if shutil.which(name) or not shutil.which(other) else other, PACKAGE)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _value(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
