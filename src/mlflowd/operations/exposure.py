"""Who can reach the server, and what is known against letting them. Pure.

The findings never keep the server from starting: what a person publishes is the person's to decide.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from mlflowd.server import advisories, names
from mlflowd.stores.findings import fine, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.config import Settings
    from mlflowd.model import Address, Finding
    from mlflowd.server.abilities import Abilities

_LOGIN = 'set login.enabled = true and login.admin_password = "credential:admin-password" (docs/login.md)'


def check(settings: Settings, able: Abilities | None) -> list[Finding]:
    """Return what is to be said of who can reach the server; `able` is None while the image is not known."""
    return [*_reach(settings), *_wildcards(settings), *(_holes(settings, able.mlflow) if able else ())]


def _reach(settings: Settings) -> Iterator[Finding]:
    listen, login = settings.server.listen, settings.login.enabled
    if ipaddress.ip_address(listen.host).is_loopback:
        yield fine("exposure", f"{listen} is reached from this machine alone")
    elif login:
        message = f"{listen} is published without TLS: passwords cross the network in the clear with each request."
        remedy = (
            f'put a reverse proxy with TLS before it and publish on loopback: server.listen = "127.0.0.1:{listen.port}"'
            ' and server.allowed_hosts = ["the proxy\'s name"] (docs/login.md)'
        )
        yield warning("exposure", message, remedy)
    else:
        message = (
            f"{_whoever(listen)} can read, change and delete everything: it is published to the network without a "
            "login. A firewall such as ufw does not close the ports of containers."
        )
        tunnel = f"ssh -L {listen.port}:127.0.0.1:{listen.port} HOST"
        remedy = f'{_LOGIN}, or server.listen = "127.0.0.1:{listen.port}" and reach it by: {tunnel}'
        yield warning("exposure", message, remedy)


def _whoever(listen: Address) -> str:
    everywhere = ipaddress.ip_address(listen.host).is_unspecified
    return f"Whoever reaches {f'port {listen.port} of this machine' if everywhere else listen}"


def _wildcards(settings: Settings) -> Iterator[Finding]:
    server = settings.server
    if names.ANY in server.allowed_hosts:
        message = 'server.allowed_hosts = ["*"] lets any web page reach the server through a visitor\'s browser.'
        yield warning("exposure: hosts", message, "name the hosts under which clients reach it")
    if names.ANY in server.cors_origins:
        message = 'server.cors_origins = ["*"] lets scripts of any web page use the server.'
        yield warning("exposure: origins", message, "name the pages that may")


def _holes(settings: Settings, version: str) -> Iterator[Finding]:
    found = advisories.concerning(settings, version)
    for one in found:
        message = f"MLflow {version} has a known hole, {one.name}: {one.opens} can {one.what}."
        fixed = ".".join(map(str, one.fixed))
        jobs = "; until then set server.jobs = false" if one.jobs else ""
        yield warning("exposure: MLflow", message, f"set image.reference to MLflow {fixed} or newer{jobs}")
    if not found:
        yield fine("exposure: MLflow", f"no hole of MLflow {version} that is left open is known ({advisories.AS_OF})")
