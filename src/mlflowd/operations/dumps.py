"""Copies of a database server's database, by its own tools on this machine: taken, looked at, put back, tried out.

Effects: runs the tools (host/dump_tools.py) as the service user; `scratch_database` makes a database and removes it.
docs/backup-databases.md says which tools, which rights, and what is MLflow's in a database that others use too.
"""

from __future__ import annotations

import hashlib
import re
import secrets as randomness
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, Self
from urllib.parse import parse_qsl

from mlflowd.config.uris import Dialect
from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import redaction
from mlflowd.host.dump_tools import Session, ToolError
from mlflowd.operations import dump_mysql, dump_postgres
from mlflowd.operations.dump_mysql import Mysql
from mlflowd.operations.dump_postgres import Postgres
from mlflowd.server import inquiry
from mlflowd.server.inquiry import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.config.uris import DatabaseUri
    from mlflowd.host.paths import Identity
    from mlflowd.model import Secrets
    from mlflowd.operations.copies import Databases, Part

SUFFIXES: Final = {Dialect.POSTGRESQL: dump_postgres.SUFFIX, Dialect.MYSQL: dump_mysql.SUFFIX}
"""What the files of copies end with; databases of other dialects are not copied."""
SCRATCH: Final = "mlflowd_scratch_"
"""Begins the names of databases that are tried out and removed."""
_SAID: Final = 300
"""Characters of a tool's words that a person is shown."""

_FROM_HERE: Final = "the tools run on this machine, not in the container (docs/backup-databases.md)"
_ADMIT: Final = {
    Dialect.POSTGRESQL: "add a line for this machine to its pg_hba.conf and reload it: host {name} {user} ADDRESS/32 "
    "scram-sha-256",
    Dialect.MYSQL: "the user needs an entry for this machine as well: CREATE USER '{user}'@'ADDRESS' … and GRANT ALL",
}
_RIGHTS: Final = {
    Dialect.POSTGRESQL: "ALTER DATABASE {name} OWNER TO {user}, and the tables have to be its own",
    Dialect.MYSQL: "GRANT ALL ON {name}.* TO the user",
}
_WORDS: Final = {
    Kind.NO_HOST: ("This machine knows no host {host}: {from_here}.", "getent hosts {host}"),
    Kind.NO_NAMES: ("The name {host} cannot be looked up.", "getent hosts {host}; cat /etc/resolv.conf"),
    Kind.REFUSED: ("{where} refuses this machine's connections.", "see whether the database runs; {from_here}"),
    Kind.SILENT: ("{where} does not answer this machine.", "see whether a firewall is between: nc -vz {host} {port}"),
    Kind.NO_ROUTE: ("There is no route to {where}.", "ip route get {host}"),
    Kind.CLOSED: ("{where} closes the connection: {said}.", "see the database's own log"),
    Kind.BUSY: ("{where} takes no connection now: {said}.", "see the database's limit of connections"),
    Kind.LOGIN: ("{where} refuses the password of {user} from this machine: {said}.", "{admit}"),
    Kind.NO_LOGIN: ("{where} wants a password of {user}, and there is none.", "set backend_store.password"),
    Kind.NOT_ADMITTED: ("{where} does not let {user} in from this machine: {said}.", "{admit}"),
    Kind.DENIED: ("{user} may not do it in the database {name} at {where}: {said}.", "{rights}"),
    Kind.ABSENT: ("The database {name} does not exist at {where}.", "make it there, or correct backend_store.uri"),
    Kind.TLS: ("There is no encrypted connection to {where}: {said}.", "the options stand behind backend_store.uri"),
}
_LOCKED: Final = re.compile(r"lock timeout|[Ll]ock wait timeout")
_BUILT_UPON: Final = re.compile(r"DETAIL: +(?P<what>.+? depends on [^\n]+)")
_NO_CONNECTION: Final = re.compile(r"Can't connect to (?:\w+ )*server .*\((?P<number>\d+)")
_NUMBERS: Final = {"110": Kind.SILENT, "113": Kind.NO_ROUTE}
"""Of errno(3), as MariaDB's tools say why there is no connection; the others mean that nobody listens."""


class RehearsalImpossibleError(MlflowdError):
    """The database's user may not make a scratch database; the hint is the statement that allows it."""


class Tools(Protocol):
    """What Postgres and Mysql do, each in its way. What fails raises ToolError, or RefusedError with its remedy."""

    def facts(self) -> dict[str, Any]:
        """Return at least how many "tables" and "bytes" there are to copy."""

    def revision(self, facts: dict[str, Any]) -> str:
        """Return the schema's alembic revision, "" where there is none."""

    def dump(self, target: Path, facts: dict[str, Any]) -> None:
        """Write a copy, as of one moment, whatever a server writes meanwhile."""

    def check(self, path: Path) -> None:
        """Read a copy to its end."""

    def restore(self, path: Path) -> None:
        """Put a copy in the place of what is there; may be done again after it was cut short."""

    def create(self, name: str) -> Self:
        """Make an empty database beside the own one, and return it."""

    def fill(self, path: Path, like: Self) -> None:
        """Restore a copy into what `create` made; `like` is the own database."""

    def leftovers(self, prefix: str) -> list[str]:
        """Return the databases of the user whose names begin so."""

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""

    def right_to_create(self) -> str:
        """Return the statement that lets the user make databases."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a database holds that is to be copied."""

    bytes: int
    tables: int


class Server:
    """The database of one configuration, at its server."""

    def __init__(
        self, settings: Settings, secrets: Secrets, who: Identity, limit: float, tell: Callable[[], None] | None = None
    ) -> None:
        self.database = settings.backend_store.database
        password = secrets.get("backend_store.password") or self.database.password or _behind(self.database)
        self.tools = _tools(self.database, password, Session(who, limit, tell=tell or (lambda: None)))

    def found(self) -> Found:
        """Return what there is to copy. Raises RefusedError."""
        with self._translated():
            facts = self.tools.facts()
        return Found(facts["bytes"], facts["tables"])

    def dump(self, target: Path) -> str:
        """Write a copy to `target`, look through it, and return the schema's revision. Raises RefusedError."""
        with self._translated():
            facts = self.tools.facts()
            self.tools.dump(target, facts)
            self.tools.check(target)
            return self.tools.revision(facts)

    def restore(self, path: Path) -> None:
        """Make the database what it was when the copy was taken. Raises RefusedError."""
        with self._translated():
            self.tools.restore(path)

    @contextmanager
    def scratch(self, path: Path) -> Iterator[str]:
        """Yield the name of a new database that holds the copy, and remove it whatever happens.

        What a run that was killed has left is removed first: the names tell whose they are. The caller sees to it that
        there is one at a time (host/occupation.py). Raises RehearsalImpossibleError and RefusedError.
        """
        mark = hashlib.sha256(f"{self.database.user}@{self.database.name}".encode()).hexdigest()[:8]
        prefix = f"{SCRATCH}{mark}_"
        with self._translated():
            for name in self.tools.leftovers(prefix):
                self.tools.drop(name)
        name = prefix + randomness.token_hex(4)
        try:
            self._fill(self._create(name), path)
            yield name
        finally:
            with suppress(MlflowdError):  # the next one removes it
                self.tools.drop(name)

    def _create(self, name: str) -> Tools:
        try:
            return self.tools.create(name)
        except ToolError as error:
            if _kind(error.said) is not Kind.DENIED:
                raise self._told(error) from None
            message = f"{self.database.user} may make no scratch database at {self.database.address}."
            hint = f"as an administrator there: {self.tools.right_to_create()}"
            raise RehearsalImpossibleError(message, hint) from None

    def _fill(self, scratch: Tools, path: Path) -> None:
        try:
            scratch.fill(path, self.tools)
        except ToolError as error:
            if _kind(error.said) is not Kind.NOT_ADMITTED:
                raise self._told(error) from None
            message = f"{self.database.user} is not let into a scratch database: {_words(error.said)}."
            hint = 'in its pg_hba.conf, "all" in place of the database\'s name in the lines for this user'
            raise RehearsalImpossibleError(message, hint) from None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ToolError as error:
            raise self._told(error) from None

    def _told(self, error: ToolError) -> RefusedError:
        """Return what a tool's words mean to a person; they may hold anything but, by then, no known secret."""
        at, said = self.database, _words(error.said)
        where = at.address if at.host else f"the {at.dialect} server of this machine"
        if built := _BUILT_UPON.search(error.said):
            message = f"Something else in the database {at.name} was built upon MLflow's tables: {built['what']}."
            return RefusedError(message, "remove it (DROP VIEW …) and make it again afterwards; nothing was changed")
        if _LOCKED.search(error.said):
            message = f"Another session holds MLflow's tables in {at.name} at {where}: {said}."
            return RefusedError(message, "end it: see pg_stat_activity, or SHOW PROCESSLIST, there")
        other = f"{error.tool} failed at {{where}}: {{said}}.", "see the database's own log"
        sentence, remedy = _WORDS.get(_kind(error.said), other)
        names = {"where": where, "said": said, "host": at.host, "port": at.address.rpartition(":")[2], "name": at.name}
        names |= {"user": at.user or "the user", "from_here": _FROM_HERE}
        names |= {key: rules[at.dialect].format_map(names) for key, rules in (("admit", _ADMIT), ("rights", _RIGHTS))}
        return RefusedError(sentence.format_map(names), remedy.format_map(names))


def wrong(dialect: Dialect, path: Path, who: Identity, limit: float) -> str:
    """Return what is wrong with a copy of a database of this dialect, "" for one that can be read to its end.

    Its server need not be there. Raises RefusedError where the tool that reads it is missing.
    """
    check = dump_postgres.check if dialect is Dialect.POSTGRESQL else dump_mysql.check
    try:
        check(Session(who, limit), path)
    except ToolError as error:
        return _words(error.said)
    return ""


@contextmanager
def scratch_database(databases: Databases, part: Part, path: Path, uri: str) -> Iterator[str]:
    """Restore a part, the file at `path`, into a scratch database on the same server, and remove it afterwards.

    Yield `uri`, which is a container's MLFLOW_BACKEND_STORE_URI, with that database's name in place of its own. Raises
    RehearsalImpossibleError where the user may not make one, and RefusedError.
    """
    server = Server(databases.settings, databases.secrets, databases.who, databases.time_limit)
    if part.kind.value != server.database.dialect.value:
        raise RefusedError(f"{path} is no copy of a database of {server.database.dialect}.")
    with server.scratch(path) as name:
        yield renamed(uri, name)


def renamed(uri: str, name: str) -> str:
    """Return the URI of a database server with another database's name."""
    place, question, query = uri.partition("?")
    scheme, _, rest = place.partition("://")
    kept = [option for option in query.split("&") if option.partition("=")[0] not in dump_postgres.NAMES]
    query = "&".join(kept)
    return f"{scheme}://{rest.partition('/')[0]}/{name}" + (f"{question}{query}" if query else "")


def _tools(database: DatabaseUri, password: str, session: Session) -> Tools:
    if database.dialect is Dialect.POSTGRESQL:
        environment = dump_postgres.environment(password)
        return Postgres(database, replace(session, environment=environment, private=dump_postgres.service(database)))
    if database.dialect is Dialect.MYSQL:
        return Mysql(database, replace(session, private=dump_mysql.options(database, password)))
    message = f"mlflowd cannot copy a database of {database.dialect}."
    raise RefusedError(message, "use the tools of the database server")


def _behind(database: DatabaseUri) -> str:
    """Return the password that stands behind the "?" of the URI."""
    options = dict(parse_qsl(database.query))
    return options.get("password") or options.get("passwd") or ""


def _kind(said: str) -> Kind:
    if found := _NO_CONNECTION.search(said):
        return _NUMBERS.get(found["number"], Kind.REFUSED)
    return inquiry.of_database(said)


def _words(said: str) -> str:
    """Return the lines of a tool's words that tell what is wrong, on one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"error|fatal|detail", line, re.IGNORECASE)] or lines
    text = redaction.redact(" ".join(wrong)).rstrip(".")
    return text if len(text) <= _SAID else text[:_SAID] + " …"
