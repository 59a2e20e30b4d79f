"""How a deployment is reached, and how it reaches others: published port, networks, further hosts. No effects."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from mlflowd.model import Address
from mlflowd.operations.adoption.databases import HOST

if TYPE_CHECKING:
    from mlflowd.operations.adoption.draft import Draft

_PORT = 5000
"""MLflow's own."""
_NO_NETWORK = frozenset({"bridge", "default", "host", "none", "podman"})
"""Networks in which no container has a name."""


def read(draft: Draft) -> None:
    """Take over where it is reached, and the network with its neighbours."""
    mode = draft.container.network_mode
    if mode == "none" or mode.startswith(("container:", "ns:")):
        draft.reason(f"Its network is {mode}, which mlflowd's container cannot have.", "give it a network of its own")
        return
    listen = _host(draft) if mode == "host" else _published(draft)
    if listen:
        draft.set("server", "listen", str(listen))
    _network(draft)


def _host(draft: Draft) -> Address | None:
    """Return where it listens on the machine's own network."""
    host, port = draft.told.get("--host") or "127.0.0.1", _port(draft)
    host = {"localhost": "127.0.0.1", "*": "0.0.0.0"}.get(host, host)  # noqa: S104 - as it was
    return _numeric(draft, Address(host, port))


def _published(draft: Draft) -> Address | None:
    port = _port(draft)
    found = list(dict.fromkeys(each.address for each in draft.container.published if each.port == port))
    others = [each for each in draft.container.published if each.port != port]
    if others:
        draft.note(
            f"Published ports beside MLflow's are not carried over: {', '.join(str(each.port) for each in others)}."
        )
    # Docker publishes on every interface by IPv4 and IPv6, as two.
    if len(found) > 1:
        found = [each for each in found if each.host not in {"::", "0.0.0.0"}] or found[:1]  # noqa: S104 - as it was
    if not found:
        draft.reason(f"Its port {port} is not published: only containers of its network reach it.",
                     f"publish it (-p 127.0.0.1:5000:{port}), make it anew, and adopt then")  # fmt: skip
        return None
    if len(found) > 1:
        draft.reason(f"It is published at {', '.join(map(str, found))}; mlflowd publishes at one address.",
                     "publish it at one of them, or at 0.0.0.0")  # fmt: skip
        return None
    if not found[0].port:
        draft.reason("The engine chooses its port anew at each start.", f"publish it at one: -p 5000:{port}")
        return None
    return _numeric(draft, found[0])


def _port(draft: Draft) -> int:
    text = draft.told.get("--port") or str(_PORT)
    return int(text) if text.isdigit() else _PORT


def _numeric(draft: Draft, address: Address) -> Address | None:
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        draft.reason(f"It listens at {address}, and mlflowd publishes at IP addresses alone.", "name the address")
        return None
    return address


def _network(draft: Draft) -> None:
    """Join the network in which the stores have their names; else mlflowd's container has one of its own."""
    mine = [each for each in draft.container.networks if each.network not in _NO_NETWORK]
    wanted = {host for host in draft.hosts if host and host != HOST}
    for host in sorted(wanted & {each.partition(":")[0] for each in draft.container.extra_hosts}):
        draft.reason(f"The host {host} is known to this container alone (--add-host).",
                     f"name its address, or {HOST} for this machine, in the store's URI")  # fmt: skip
    neighbours = {each.network: _names(draft, each.network) & wanted for each in mine}
    joined = [network for network, found in neighbours.items() if found]
    if len(joined) > 1 and not any(set().union(*neighbours.values()) == neighbours[one] for one in joined):
        draft.reason(f"Its stores are in several networks ({', '.join(joined)}); mlflowd's container joins one.",
                     "put them into one network")  # fmt: skip
        return
    chosen = max(joined, key=lambda one: len(neighbours[one]), default="")
    if not chosen:
        _beside(draft, [each.network for each in mine])
        return
    draft.set("container", "network", chosen)
    stores = ", ".join(sorted(neighbours[chosen]))
    draft.note(f"mlflowd's container joins the network {chosen}, for {stores}: what runs there goes on, and must run "
               "before MLflow can serve.")  # fmt: skip
    _beside(draft, [chosen])


def _beside(draft: Draft, networks: list[str]) -> None:
    """Say who may have reached MLflow by a name that it will not have any more."""
    names = sorted({draft.container.name} | {name for each in draft.container.networks for name in each.names})
    others = [
        other.name
        for other in draft.facts.others
        if any(each.network in networks for each in other.networks) and other.up
    ]
    if others:
        draft.note(f"Other containers ({', '.join(others)}) that reach MLflow as {' or '.join(names)} have to be told "
                   "anew: its container is called mlflowd.")  # fmt: skip


def _names(draft: Draft, network: str) -> set[str]:
    """Return the names that other containers have in a network."""
    return {
        name
        for other in draft.facts.others
        for each in other.networks
        if each.network == network
        for name in (other.name, *each.names)
    }
