"""What the engine is asked to create: the body of a create call from a ContainerSpec. No effects.

docs/design.md, "The container", says why each item is there; tests/contract reads each back from an inspect.
"""

from __future__ import annotations

import ipaddress
import math
import socket
from typing import TYPE_CHECKING, Any

from docker.types import LogConfig, Mount

from mlflowd.errors import EngineError
from mlflowd.model import LABEL_SLOT, LABEL_SPEC

if TYPE_CHECKING:
    from docker import APIClient

    from mlflowd.model import Address, ContainerSpec
    from mlflowd.model import Mount as MountSpec

LABEL_IMAGE = "io.mlflowd.image"
"""The reference that the configuration named, for people."""
LABEL_NETWORK = "io.mlflowd.network"
"""On a network that mlflowd made: its name."""

HOST_GATEWAY = "host-gateway"
"""What Docker, since 20.10, puts this machine's own address in place of."""
_LOG = {"max-size": "10m", "max-file": "3"}
"""The journal is where the log is kept; this only bridges a daemon that is away."""


def of(spec: ContainerSpec, api: APIClient, machine: str = HOST_GATEWAY) -> dict[str, Any]:
    """Return the arguments of APIClient.create_container; `machine` is the address of the spec's host names.

    Raises EngineError for an unknown name to publish on.
    """
    return {
        "name": spec.name,
        "image": spec.image_id,
        # Both halves are given, so that neither an entrypoint nor a command of the image has a say.
        "entrypoint": list(spec.argv[:1]),
        "command": list(spec.argv[1:]),
        "user": spec.user,
        "environment": dict(spec.environment),
        "working_dir": "/tmp",  # noqa: S108  (the container's own tmpfs)
        "labels": {LABEL_SLOT: str(spec.slot), LABEL_SPEC: spec.digest, LABEL_IMAGE: spec.image},
        "ports": [spec.port],
        "stop_signal": "SIGTERM",
        "stop_timeout": math.ceil(spec.stop_grace),
        # The image's own health check would be an exec each time; mlflowd probes from outside.
        "healthcheck": {"test": ["NONE"]},
        "host_config": _host_config(spec, api, machine),
        # ~/.docker/config.json must not add proxies that the spec hash knows nothing of.
        "use_config_proxy": False,
    }


def _host_config(spec: ContainerSpec, api: APIClient, machine: str) -> dict[str, Any]:
    return api.create_host_config(
        init=True,
        read_only=True,
        tmpfs={"/tmp": f"rw,nosuid,nodev,noexec,mode=1777,size={spec.tmpfs_size}"},  # noqa: S108  (the tmpfs)
        cap_drop=["ALL"],
        # Nothing about seccomp or AppArmor: the engine's default profiles hold.
        security_opt=["no-new-privileges", *(f"label={label}" for label in spec.security_labels)],
        ipc_mode="private",  # An engine may be told to make /dev/shm shareable by default.
        cpu_shares=spec.cpu_weight,
        pids_limit=spec.pids,
        mem_limit=spec.memory,
        memswap_limit=spec.memory,  # Memory and swap together: no swap.
        shm_size=spec.shm_size,
        restart_policy={"Name": "no"},
        log_config=LogConfig(type=LogConfig.types.JSON, config=_LOG),
        network_mode=spec.network,
        port_bindings={spec.port: (_ip(spec.publish), spec.publish.port)},
        extra_hosts=dict.fromkeys(spec.host_names, machine),
        # Not `binds`: those make a missing source directory, as root.
        mounts=[_mount(m) for m in spec.mounts],
    )


def _mount(mount: MountSpec) -> Mount:
    # rprivate: what the host mounts below later is not seen inside, nor the other way round.
    return Mount(mount.target, mount.source, type="bind", read_only=mount.read_only, propagation="rprivate")


def _ip(address: Address) -> str:
    """Return the address as a number: the engine takes a name that it cannot read for every interface."""
    try:
        return str(ipaddress.ip_address(address.host))
    except ValueError:
        pass
    try:
        return socket.gethostbyname(address.host)
    except OSError as error:
        raise EngineError(f"The name {address.host} is unknown to this machine.", "change server.listen") from error
