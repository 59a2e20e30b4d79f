"""How long the server's driver waits for a database server that has gone silent. No effects.

Without a limit a request that waits for lost packets hangs until the kernel gives up, some 15 minutes later
(tcp_retries2 of tcp(7)), and each of the pool's connections takes another request with it: pool_pre_ping, which MLflow
sets, waits just as long. Measured with packets dropped and with connections that a firewall has forgotten:
docs/stores.md. libpq's options: postgresql.org/docs/current/libpq-connect.html; PyMySQL's: its Connection class.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT: Final = 10
"""Seconds for a new connection, PyMySQL's own default. After a connection that was lost, a new one is tried in the
same request: with SILENCE it stays below health.database_timeout, so that the probe is told the reason."""
SILENCE: Final = 10
"""Seconds until what was sent must be acknowledged."""
ANSWER: Final = 120
"""Seconds that a statement may take with PyMySQL, which knows no other limit: MLflow's clients have given up then."""

_LIBPQ: Final = MappingProxyType(
    {
        "connect_timeout": str(CONNECT),
        "tcp_user_timeout": str(SILENCE * 1000),
        # Also keeps firewalls from forgetting a connection that rests in the pool.
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
    }
)
_MYSQL: Final = MappingProxyType(
    {"connect_timeout": str(CONNECT), "read_timeout": str(ANSWER), "write_timeout": str(ANSWER)}
)
_STATEMENT: Final = frozenset({"read_timeout", "write_timeout"})
"""PyMySQL's limits on a statement."""
_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {"psycopg2": _LIBPQ, "psycopg": _LIBPQ, "pymysql": _MYSQL}
)


def bounded(query: str, driver: str) -> str:
    """Return the options of a database's URI with the limits of this driver that a person has not set."""
    given = {unquote_plus(option.partition("=")[0]) for option in query.split("&")}
    added = [f"{name}={value}" for name, value in _OPTIONS.get(driver, {}).items() if name not in given]
    return "&".join([*([query] if query else []), *added])


def unhurried(uri: str) -> str:
    """Return a database's URI without the limits on how long a statement may take: one of a migration may take hours.

    Also without such as a person has set, who thought of requests. That a connection is lost is noticed as before.
    """
    address, mark, query = uri.partition("?")
    options = [option for option in query.split("&") if unquote_plus(option.partition("=")[0]) not in _STATEMENT]
    return address + mark * bool(options) + "&".join(options) if mark else uri
