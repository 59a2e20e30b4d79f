"""Which Host headers and which web pages the server takes: what a person adds to MLflow's own lists. No effects.

MLflow compares the Host header, its port included, with a list (mlflow/server/security_utils.py of 3.17.2): an entry
with a "*" by fnmatch, in which "[" opens a set of characters and is written "[[]", any other by equality. A list of
one's own replaces MLflow's, so that its defaults are repeated here. Web pages are judged likewise by the Origin header
of what changes something, which a browser sends to the page's own server as well: without its origin on the list,
MLflow's own pages get 403 for each search (measured) wherever they are not opened as localhost.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mlflowd.server.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflowd.config import Settings
    from mlflowd.model import Address

ANY = "*"
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "0.0.0.0")  # noqa: S104 - header values, nothing is bound
_SECOND = range(16, 32)
_PRIVATE = ("192.168.*", "10.*", *(f"172.{second}.*" for second in _SECOND), "fc00:*", "fd00:*")
_DIGITS = ("[0-9]", "[0-9][0-9]", "[0-9][0-9][0-9]")
_NETWORKS = (("192.168", 2), ("10", 3), *((f"172.{second}", 2) for second in _SECOND))
"""The private networks and how many numbers of an address follow."""


def wiring(settings: Settings) -> Wiring:
    """Return the variables of MLflow's security middleware; none where nothing is added."""
    environment = {}
    if hosts := allowed_hosts(settings):
        environment["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(hosts)
    if origins := allowed_origins(settings):
        environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(origins)
    return Wiring(environment)


def allowed_hosts(settings: Settings) -> tuple[str, ...]:
    """Return the whole list of Host headers; empty where MLflow's own does."""
    given, listen = settings.server.allowed_hosts, settings.server.listen
    if ANY in given:
        return (ANY,)
    defaults = (*_LOCAL, *(f"{_escaped(host)}:*" for host in _LOCAL), *_PRIVATE)
    more = [entry for name in given for entry in _with_any_port(name)]
    if not _unspecific(listen) and not matches(defaults, str(listen)):
        more += _with_any_port(str(listen).removesuffix(f":{listen.port}"))
    return tuple(dict.fromkeys((*defaults, *more))) if more else ()


def allowed_origins(settings: Settings) -> tuple[str, ...]:
    """Return the list of web pages beside those of localhost, which MLflow takes in any case."""
    server = settings.server
    if ANY in server.cors_origins:
        return (ANY,)
    own = [
        f"{scheme}://{entry}"
        for name in server.allowed_hosts
        if name != ANY
        for entry in _with_any_port(name)
        for scheme in ("https", "http")
    ]
    return tuple(dict.fromkeys((*server.cors_origins, *own, *_own_pages(server.listen))))


def matches(allowed: Iterable[str], header: str) -> bool:
    """Return whether MLflow takes this header, as its is_allowed_host_header does."""
    return any(entry == ANY or (fnmatchcase(header, entry) if ANY in entry else header == entry) for entry in allowed)


def _own_pages(listen: Address) -> tuple[str, ...]:
    """Return the origins of the server's pages where it is published itself, not through a proxy or a tunnel.

    On all interfaces these are the private addresses, spelt by digits: "10.*" would match 10.example.com as well.
    An entry without "*" would be compared by equality, hence the "*" behind the port.
    """
    if not _unspecific(listen):
        return () if ipaddress.ip_address(listen.host).is_loopback else (f"http://{listen}",)
    return tuple(
        f"http://{'.'.join((network, *digits))}:{listen.port}*"
        for network, count in _NETWORKS
        for digits in itertools.product(_DIGITS, repeat=count)
    )


def _unspecific(listen: Address) -> bool:
    return ipaddress.ip_address(listen.host).is_unspecified


def _with_any_port(name: str) -> tuple[str, ...]:
    """Return a name alone and with any port; one with a port or a wildcard stands for itself.

    In lower case, as browsers and MLflow's client send it.
    """
    name = name.lower()
    if ANY in name:
        return (_escaped(name),)
    return (name,) if re.search(r":[0-9]+$", name.rpartition("]")[2]) else (name, f"{_escaped(name)}:*")


def _escaped(host: str) -> str:
    return host.replace("[", "[[]", 1)
