"""PostgreSQL's part of operations/dumps.py: what of a database is MLflow's, its archive, and the way back.

MLflow's is what the database's user owns (by itself or by a role it belongs to) in the first schema of its search
path: that is where MLflow makes its tables. What others own there is neither copied nor touched. Effects: those of
pg_dump, pg_restore and psql. libpq's options: postgresql.org/docs/current/libpq-connect.html.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from importlib import resources
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from mlflowd.errors import RefusedError
from mlflowd.host import dump_tools
from mlflowd.host.dump_tools import PRIVATE, Session
from mlflowd.server import patience
from mlflowd.server.wiring import THIS_MACHINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.config.uris import DatabaseUri

PACKAGE: Final = "postgresql-client"
SUFFIX: Final = "pgdump"
_LOCK: Final = 60
"""Seconds to wait for others' locks."""
_OPTIONS: Final = frozenset(
    {
        *("require_auth", "channel_binding", "connect_timeout", "options", "keepalives", "keepalives_idle", "passfile"),
        *("keepalives_interval", "keepalives_count", "tcp_user_timeout", "gssencmode", "sslmode", "sslnegotiation"),
        *("sslcert", "sslkey", "sslpassword", "sslcertmode", "sslrootcert", "sslcrl", "sslcrldir", "sslsni"),
        *("requirepeer", "ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gssdelegation"),
        *("target_session_attrs", "load_balance_hosts", "hostaddr"),
    }
)
"""Of the URI, what libpq knows as well; the rest is SQLAlchemy's."""
NAMES: Final = ("dbname", "database", "db")
"""Options of the URI that name the database in place of its path."""

_STATEMENTS: Final = resources.files("mlflowd.operations") / "statements"
_FACTS: Final = "postgres_facts.sql"
_CLEAR: Final = "postgres_clear.sql"
_FILL: Final = "SET client_min_messages = error; SET statement_timeout = 0;\nBEGIN;\n"
_NO_TIMEOUTS: Final = r"1,60{/^SET [a-z_]*timeout = 0;$/d}"
"""For sed: leaves out what a newer pg_restore sets and an older server does not know; ours sets what counts."""
_GRANTS: Final = re.compile(r"^\d+; \d+ \d+ ACL (?!- )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A database of a PostgreSQL server, and the tools at work on it."""

    database: DatabaseUri
    session: Session

    def facts(self) -> dict[str, Any]:
        """Return what postgres_facts.sql tells. Raises RefusedError for what cannot be copied and put back."""
        facts: dict[str, Any] = json.loads(self._ask(_statements(_FACTS)))
        if facts["schema"] is None:
            raise RefusedError(
                f"No schema of the search path ({facts['path']}) exists in the database {self.database.name}.",
                f"as its owner: CREATE SCHEMA mlflow AUTHORIZATION {facts['user']}",
            )
        if facts["owner"] and not facts["revisions"]:
            raise RefusedError(
                f"MLflow's tables in {self._where(facts)} belong to {facts['owner']}: {facts['user']} could not put "
                "them back.",
                f"as an administrator, in that database: REASSIGN OWNED BY {facts['owner']} TO {facts['user']}",
            )
        if facts["strange"]:
            raise RefusedError(
                f"{self._where(facts)} holds what is not MLflow's: {', '.join(facts['strange'][:3])}.",
                "give MLflow a database of its own, or a schema (docs/backup-databases.md)",
            )
        return facts

    def revision(self, facts: dict[str, Any]) -> str:
        """Return the schema's alembic revision, "" where there is none."""
        return self._ask("SELECT version_num FROM alembic_version").strip() if facts["revisions"] else ""

    def dump(self, target: Path, facts: dict[str, Any]) -> None:
        """Write an archive, as of one moment, whatever a server writes meanwhile."""
        tool = dump_tools.found("pg_dump", PACKAGE)
        self._new_enough(tool, facts)
        schema = _pattern(facts["schema"])
        left_out = [f"--exclude-table={schema}.{_pattern(name)}" for name in facts["others"]]
        # Not compressed: restic does that, after it has found what two copies have in common.
        how = ["--format=custom", "--compress=0", "--no-password", f"--lock-wait-timeout={_LOCK * 1000}"]
        self.session.ask(tool, *how, f"--schema={schema}", *left_out, f"--file={target}")

    def check(self, path: Path) -> None:
        """Read an archive to its end. Raises ToolError where that cannot be done."""
        check(self.session, path)

    def restore(self, path: Path) -> None:
        """Put what the archive holds in the place of what is there, in one transaction: all of it or nothing."""
        tool, facts = dump_tools.found("pg_restore", PACKAGE), self.facts()
        contents = self.session.ask(tool, "--list", str(path))
        if f" TABLE {facts['schema']} " not in contents:
            raise RefusedError(
                f"The copy holds no table of the schema {facts['schema']}, where {facts['user']} keeps MLflow's now.",
                f"ALTER ROLE {facts['user']} SET search_path = the schema of before",
            )
        whole = [tool, "--file=-", "--no-owner", "--no-privileges", f"--schema={facts['schema']}", str(path)]
        stages = [whole, ["sed", "-e", _NO_TIMEOUTS]]
        self.session.feed(stages, self._psql(), _statements(_CLEAR), "\nCOMMIT;\nANALYZE;\n")
        self._grant(tool, path, contents)

    def fill(self, path: Path, like: Postgres) -> None:
        """Restore an archive into a scratch database, whose search path becomes that of the other one."""
        tool, facts = dump_tools.found("pg_restore", PACKAGE), like.facts()
        schema, name = _pattern(facts["schema"]), _pattern(self.database.name)
        self._ask(f"CREATE SCHEMA IF NOT EXISTS {schema}; ALTER DATABASE {name} SET search_path = {schema}")
        whole = [tool, "--file=-", "--no-owner", "--no-privileges", f"--schema={facts['schema']}", str(path)]
        self.session.feed([whole, ["sed", "-e", _NO_TIMEOUTS]], self._psql(), _FILL, "\nCOMMIT;\n")

    # --- scratch databases ----------------------------------------------------------------------

    def create(self, name: str) -> Postgres:
        """Make an empty database of the same kind, and return it."""
        encoding, collation, kinds = (_literal(each) for each in self.facts()["locale"])
        how = f"TEMPLATE template0 ENCODING {encoding} LC_COLLATE {collation} LC_CTYPE {kinds}"
        self._ask(f"CREATE DATABASE {_pattern(name)} {how}")
        database = replace(self.database, name=name, query=_without_name(self.database.query))
        return replace(self, database=database, session=replace(self.session, private=service(database)))

    def leftovers(self, prefix: str) -> list[str]:
        """Return the databases of this user whose names begin so."""
        mine = "pg_has_role(datdba, 'USAGE')"
        named = f"starts_with(datname, {_literal(prefix)})"
        return self._ask(f"SELECT datname FROM pg_database WHERE {named} AND {mine}").split()  # noqa: S608 - quoted

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        others = f"FROM pg_stat_activity WHERE datname = {_literal(name)}"
        self._ask(f"SELECT pg_terminate_backend(pid) {others};\nDROP DATABASE IF EXISTS {_pattern(name)};")

    def right_to_create(self) -> str:
        """Return the statement that lets the user make databases."""
        return f"ALTER ROLE {_pattern(self._ask('SELECT current_user').strip())} CREATEDB"

    # --- the tools ------------------------------------------------------------------------------

    def _ask(self, statements: str) -> str:
        return self.session.ask(*self._psql(), text=statements)

    def _psql(self) -> list[str]:
        how = ["--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        return [dump_tools.found("psql", PACKAGE), *how, "--file=-"]

    def _grant(self, tool: str, path: Path, contents: str) -> None:
        """Give others the rights that they had; those whom this server does not know are passed over."""
        grants = [line for line in contents.splitlines() if _GRANTS.match(line)]
        if not grants:
            return
        said = self.session.ask(tool, "--file=-", "--use-list=/dev/stdin", str(path), text="\n".join(grants))
        statements = [line for line in said.splitlines() if line.startswith(("GRANT ", "REVOKE "))]
        self._ask("\\set ON_ERROR_STOP off\nSET client_min_messages = fatal;\n" + "\n".join(statements))

    def _new_enough(self, tool: str, facts: dict[str, Any]) -> None:
        version = re.search(r"(\d+)(\.\d+)*", self.session.ask(tool, "--version"))
        newest = facts["number"] // 10000
        if version and int(version[1]) < newest:
            raise RefusedError(
                f"The database's server is PostgreSQL {facts['version']}, and this machine's pg_dump is {version[0]}, "
                "which cannot read it.",
                f"sudo apt-get install postgresql-client-{newest} (from apt.postgresql.org where Debian has none)",
            )

    def _where(self, facts: dict[str, Any]) -> str:
        return f"the schema {facts['schema']} of the database {self.database.name}"


def check(session: Session, path: Path) -> None:
    """Read an archive to its end; its list alone stands at its beginning. Raises ToolError where that fails."""
    session.ask(dump_tools.found("pg_restore", PACKAGE), "--file=/dev/null", str(path))


def environment(password: str) -> dict[str, str]:
    """Return what tells the tools where the rest stands."""
    given = {"PGSERVICEFILE": PRIVATE, "PGSERVICE": "mlflowd", "PGAPPNAME": "mlflowd", "PGCLIENTENCODING": "UTF8"}
    return {**given, "PGPASSWORD": password} if password else given


def service(database: DatabaseUri) -> str:
    """Return a service file of libpq that leads to the database, as the server's driver is led there."""
    query = dict(parse_qsl(patience.bounded(database.query, "psycopg2")))
    hosts, ports = zip(*_places(database), strict=True)
    if THIS_MACHINE in hosts:
        hosts, ports, query["hostaddr"] = _this_machine(hosts, ports)
    name = next((query[each] for each in NAMES if each in query), database.name)
    entries = {"host": ",".join(hosts), "port": ",".join(ports), "user": query.get("user", database.user)}
    entries |= {"dbname": name} | {key: value for key, value in query.items() if key in _OPTIONS}
    lines = [f"{key}={value}" for key, value in entries.items() if value.strip(",")]
    return "\n".join(["[mlflowd]", *lines, ""])


def _places(database: DatabaseUri) -> Iterator[tuple[str, str]]:
    """Yield the hosts (or sockets' directories) and their ports, as SQLAlchemy reads them."""
    options = parse_qsl(database.query)
    named = [host for key, value in options if key == "host" for host in value.split(",")]
    ports = [port for key, value in options if key == "port" for port in value.split(",")]
    if not named:
        yield database.host, str(database.port or ",".join(ports) or "")
        return
    usual = ports[0] if len(ports) == 1 else str(database.port or "")
    for host, port in zip_longest(named, ports if len(ports) == len(named) else [], fillvalue=usual):
        with_port = re.fullmatch(r"([A-Za-z0-9.-]+):(\d*)", host)
        yield (with_port[1], with_port[2]) if with_port else (host, port)


def _this_machine(hosts: tuple[str, ...], ports: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return hosts, ports and addresses with this machine's own in place of the name that containers have for it."""
    tried = [
        (host, port, address)
        for host, port in zip(hosts, ports, strict=True)
        for address in (dump_tools.this_machine() if host == THIS_MACHINE else ("",))
    ]
    names, numbers, addresses = zip(*tried, strict=True)
    return names, numbers, ",".join(addresses)


def _without_name(query: str) -> str:
    return "&".join(option for option in query.split("&") if option.partition("=")[0] not in NAMES)


def _statements(name: str) -> str:
    return (_STATEMENTS / name).read_text(encoding="utf-8")


def _pattern(name: str) -> str:
    """Return a name quoted, as SQL and pg_dump's patterns take it."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
