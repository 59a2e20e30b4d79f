"""CIS Docker Benchmark 1.6.0, section 5 (container runtime): each item, read back from the engine.

The numbers and titles are those that Docker Bench for Security 1.6.0 prints; docs/security.md has the same table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.podman import SAYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.conftest import MakeWorld

pytestmark = pytest.mark.engine

DOCS = Path(__file__).parents[2] / "docs/security.md"
UNPRIVILEGED = 1024
"""The first port that every user may listen on."""
PROPAGATED = {"shared", "rshared", "slave", "rslave"}


@dataclass(frozen=True)
class Item:
    """One recommendation, and whether an inspect answer meets it."""

    title: str
    met: Callable[[Any], bool]


def capabilities_restricted(found: Any) -> bool:
    host = found["HostConfig"]
    return not host["CapAdd"] and host["CapDrop"] in (["ALL"], SAYS["every capability is dropped"])


def bindings(found: Any) -> list[dict[str, str]]:
    return [one for several in found["HostConfig"]["PortBindings"].values() for one in several]


def seccomp(found: Any) -> list[str]:
    return [option for option in found["HostConfig"]["SecurityOpt"] if option.startswith("seccomp")]


def sockets(found: Any) -> list[str]:
    return [mount["Source"] for mount in found["Mounts"] if mount["Source"].endswith(".sock")]


ITEMS = {
    "5.4": Item("capabilities are restricted", capabilities_restricted),
    "5.5": Item("not privileged", lambda found: found["HostConfig"]["Privileged"] is False),
    "5.8": Item(
        "no privileged port of the host", lambda f: all(int(b["HostPort"]) >= UNPRIVILEGED for b in bindings(f))
    ),
    "5.10": Item("not in the host's network", lambda found: found["HostConfig"]["NetworkMode"] != "host"),
    "5.11": Item("memory is limited", lambda found: found["HostConfig"]["Memory"] > 0),
    "5.12": Item("a CPU weight is set", lambda found: found["HostConfig"]["CpuShares"] > 0),
    "5.13": Item("the root file system is read-only", lambda found: found["HostConfig"]["ReadonlyRootfs"] is True),
    "5.14": Item(
        "incoming traffic is bound to one interface", lambda f: [b["HostIp"] for b in bindings(f)] == ["127.0.0.1"]
    ),
    "5.15": Item("no endless restarts", lambda found: found["HostConfig"]["RestartPolicy"]["Name"] == "no"),
    "5.16": Item("not in the host's processes", lambda found: found["HostConfig"]["PidMode"] != "host"),
    "5.17": Item("not in the host's shared memory", lambda found: found["HostConfig"]["IpcMode"] != "host"),
    "5.18": Item("no device of the host", lambda found: not found["HostConfig"]["Devices"]),
    "5.20": Item("no mount is propagated", lambda f: not PROPAGATED & {m["Propagation"] for m in f["Mounts"]}),
    "5.21": Item("not the host's name", lambda found: found["HostConfig"]["UTSMode"] != "host"),
    "5.22": Item("the default seccomp profile holds", lambda found: seccomp(found) == []),
    "5.26": Item("no additional privileges", lambda f: "no-new-privileges" in f["HostConfig"]["SecurityOpt"]),
    "5.27": Item("health is checked at runtime", lambda found: found["Config"]["Healthcheck"]["Test"] != ["NONE"]),
    "5.29": Item("processes are limited", lambda found: found["HostConfig"]["PidsLimit"] > 0),
    "5.30": Item(
        "the default bridge is not used", lambda f: not {"bridge", "podman"} & set(f["NetworkSettings"]["Networks"])
    ),
    "5.31": Item("not in the host's users", lambda found: found["HostConfig"]["UsernsMode"] != "host"),
    "5.32": Item("the engine's socket is not mounted", lambda found: sockets(found) == []),
}
OTHERWISE = {"5.27"}
"""Not met, on purpose: an audit reports it. mlflowd probes from outside, which the engine does not know of."""


@pytest.fixture(scope="module")
def found(make_real: MakeWorld, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the inspect answer of a running container."""
    world = make_real(tmp_path_factory.mktemp("backend"))
    try:
        container_id = world.engine.create(world.spec)
        world.engine.start(container_id)
        return world.api.inspect_container(container_id)
    finally:
        world.clean()


@pytest.mark.parametrize("number", ITEMS)
def test_the_container_meets_the_cis_docker_benchmark(found: Any, number: str) -> None:
    assert ITEMS[number].met(found) is (number not in OTHERWISE), ITEMS[number].title


def test_the_docs_tell_of_each_item_whether_it_is_met() -> None:
    rows = re.findall(r"^\| (5\.\d+) \|.*\| (yes|no)\b", DOCS.read_text(), re.MULTILINE)
    assert dict(rows) == {number: "no" if number in OTHERWISE else "yes" for number in ITEMS}
