"""The two worlds of the contract suite: the fake engine, and the real one with what others do to it."""

from __future__ import annotations

import io
import os
import shutil
import socket
import tarfile
import uuid
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import docker
from docker.errors import APIError

from fakes.engine import FakeEngine
from mlflowd.engine.docker import DockerEngine
from mlflowd.model import Address, ContainerSpec, Image, Mount
from mlflowd.model.deployed import Attachment, Deployed, MountKind, Publication

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mlflowd.engine.api import Engine

BUSYBOX = "/bin/busybox"


class World(Protocol):
    """An engine, and what somebody else does to it."""

    spec: ContainerSpec

    @property
    def engine(self) -> Engine: ...

    def kill(self, name: str) -> None: ...
    def pause(self, name: str) -> None: ...
    def destroy(self, name: str) -> None: ...
    def foreign(self, name: str) -> str: ...
    def occupied(self, address: Address) -> AbstractContextManager[None]: ...
    def networks(self) -> set[str]: ...
    def saying(self, *lines: str) -> ContainerSpec: ...
    def saved(self, image: Image) -> Iterator[bytes]: ...
    def deploy(self, directory: Path) -> Deployed: ...
    def put_inside(self, container_id: str, path: str, content: bytes) -> None: ...


def a_spec(name: str, image_id: str, port: int) -> ContainerSpec:
    return ContainerSpec(
        slot=0,
        name=name,
        image="mlflowd-contract/busybox:1",
        image_id=image_id,
        argv=(BUSYBOX, "sleep", "300"),
        environment=(("HOME", "/tmp"), ("MLFLOW_X", "a=b c")),  # noqa: S108 - the container's own
        user="1234:2345",
        mounts=(),
        publish=Address("127.0.0.1", port),
        port=5000,
        network=f"{name}-net",
        memory=64 << 20,
        pids=64,
        tmpfs_size=8 << 20,
        shm_size=4 << 20,
        stop_grace=30.0,
    )


class FakeWorld:
    """The fake engine."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        image = self.engine.add_image(Image("sha256:" + "a" * 64, ("mlflowd-contract/busybox:1",), {}))
        self.spec = a_spec("contract", image.id, 5000)

    def kill(self, name: str) -> None:
        self.engine.kill(name)

    def pause(self, name: str) -> None:
        self.engine.pause(name)

    def destroy(self, name: str) -> None:
        self.engine.destroy(name)

    def foreign(self, name: str) -> str:
        return self.engine.foreign(name)

    @contextmanager
    def occupied(self, address: Address) -> Iterator[None]:
        self.engine.taken.add(address)
        yield
        self.engine.taken.discard(address)

    def networks(self) -> set[str]:
        return self.engine.networks

    def saying(self, *lines: str) -> ContainerSpec:
        self.engine.says(self.spec.name, *lines)
        return self.spec

    def saved(self, image: Image) -> Iterator[bytes]:
        """Return the archive of an image, as `docker save` makes it."""
        self.engine.archived = (image,)
        return iter([b"an archive"])

    def deploy(self, directory: Path) -> Deployed:
        wanted = a_deployment(self.spec, directory)
        return replace(wanted, id=self.engine.deploy(wanted))

    def put_inside(self, container_id: str, path: str, content: bytes) -> None:
        self.engine.inside[container_id, path] = content


class RealWorld:
    """A real engine; `api` is docker-py, as somebody else's client."""

    def __init__(self, socket_path: str, image_id: str, directory: Path) -> None:
        self.socket_path = socket_path
        self.engine = DockerEngine(socket_path, 20.0)
        self.api = docker.APIClient(f"unix://{socket_path}", version="1.41", timeout=30)
        self.directory = directory
        self.spec = a_spec(f"contract-{uuid.uuid4().hex[:10]}", image_id, free_port())
        self.spec = replace(self.spec, mounts=(Mount(str(directory), "/mlflow/backend"),))

    def kill(self, name: str) -> None:
        self.api.kill(name, 9)

    def pause(self, name: str) -> None:
        self.api.pause(name)

    def destroy(self, name: str) -> None:
        self.api.remove_container(name, force=True)

    def foreign(self, name: str) -> str:
        return str(self.api.create_container(self.spec.image_id, [BUSYBOX, "sleep", "300"], name=name)["Id"])

    @contextmanager
    def occupied(self, address: Address) -> Iterator[None]:
        with socket.socket() as holder:
            holder.bind((address.host, address.port))
            holder.listen()
            yield

    def networks(self) -> set[str]:
        return {network["Name"] for network in self.api.networks()}

    def saying(self, *lines: str) -> ContainerSpec:
        script = "".join(f"{line}\n" for line in lines)
        return self.running('printf %s "$0"; exec busybox sleep 300', script)

    def saved(self, image: Image) -> Iterator[bytes]:
        """Return the archive of an image, as `docker save` makes it."""
        pieces: Iterator[bytes] = self.api.get_image(image.references[0])
        return pieces

    def deploy(self, directory: Path) -> Deployed:
        """Make the container of `a_deployment` as `docker run -d` would make it, without a start."""
        wanted = a_deployment(self.spec, directory)
        policy, _, count = wanted.restart_policy.partition(":")
        host = self.api.create_host_config(
            binds=[
                f"{each.source}:{each.target}:{'ro' if each.read_only else 'rw'}"
                for each in wanted.mounts
                if each.source
            ],
            tmpfs={each.target: "" for each in wanted.mounts if each.kind is MountKind.TMPFS},
            port_bindings={each.port: (each.address.host, each.address.port) for each in wanted.published},
            restart_policy={"Name": policy, "MaximumRetryCount": int(count)},
            extra_hosts=dict(each.split(":", 1) for each in wanted.extra_hosts),
            mem_limit=wanted.size_limit,
        )
        made = self.api.create_container(
            wanted.image,
            name=wanted.name,
            entrypoint=list(wanted.entrypoint),
            command=list(wanted.command),
            environment=dict(wanted.environment),
            working_dir=wanted.working_dir,
            user=wanted.user,
            labels=dict(wanted.labels),
            ports=[each.port for each in wanted.published],
            host_config=host,
        )
        return replace(wanted, id=made["Id"])

    def put_inside(self, container_id: str, path: str, content: bytes) -> None:
        top, _, name = path.rpartition("/")
        self.api.put_archive(container_id, top, archive_of(name, content))

    def running(self, script: str, *arguments: str) -> ContainerSpec:
        """Return the spec of a container that runs this shell script."""
        return replace(self.spec, argv=(BUSYBOX, "sh", "-c", script, *arguments))

    def clean(self) -> None:
        self.engine.close()
        for name in [c["Id"] for c in self.api.containers(all=True, filters={"name": self.spec.name})]:
            with suppress(APIError):
                self.api.remove_container(name, force=True, v=True)
        for network in self.api.networks(names=[self.spec.network]):
            with suppress(APIError):
                self.api.remove_network(network["Id"])
        self.api.close()


def a_deployment(spec: ContainerSpec, directory: Path) -> Deployed:
    """Return what somebody else might have made."""
    return Deployed(
        id="",
        name=f"{spec.name}-theirs",
        image=spec.image_id,
        image_id=spec.image_id,
        entrypoint=(BUSYBOX, "sh"),
        command=("-c", "exec busybox sleep 300"),
        working_dir="/mlflow",
        user="1234",
        environment={"MLFLOW_BACKEND_STORE_URI": "sqlite:///mlflow.db", "EMPTY": "", "EQUALS": "a=b"},
        mounts=(
            Attachment(MountKind.BIND, str(directory), "/mlflow/mlruns"),
            Attachment(MountKind.BIND, str(directory), "/mlflow/seen", read_only=True),
            Attachment(MountKind.TMPFS, "", "/scratch"),
        ),
        published=(Publication(5000, spec.publish),),
        extra_hosts=("db.example:192.0.2.7",),
        restart_policy="on-failure:3",
        labels={"com.docker.compose.service": "mlflow"},
        size_limit=64 << 20,
    )


def archive_of(name: str, content: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def busybox_root() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("bin", "tmp", "mlflow"):
            entry = tarfile.TarInfo(name)
            # runc gives the tmpfs the mode of the image's own /tmp, whatever the option says.
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(os.path.realpath(shutil.which("busybox") or ""), "bin/busybox")
    return archive.getvalue()
