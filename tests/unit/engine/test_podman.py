"""What Podman does otherwise, and a rootless engine; the rest is shown by tests/contract with a real Podman."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from contract.worlds import a_spec
from fakes.unix_http import UnixHttp
from mlflowd.engine import answers, podman
from mlflowd.engine.client import Client
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import EngineUnreachableError
from mlflowd.model import Container, ContainerStatus, Mount

if TYPE_CHECKING:
    from pathlib import Path

SPEC = a_spec("mlflowd", "sha256:" + "1" * 64, 5000)
DOCKER = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Components": []}
PODMAN = {**DOCKER, "Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}
NETWORK = {"IPAM": {"Config": [{"Subnet": "10.89.0.0/24", "Gateway": "10.89.0.1"}]}}
LIMIT = 10.0


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman, "_LOOK", 0.001)


class Stream:
    """What a watch knows of a stream."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.closed = threading.Event()

    def close(self) -> None:
        self.ended.set()
        self.closed.set()


def container(started_at: str, status: ContainerStatus = ContainerStatus.RUNNING) -> Container:
    return Container("1", "mlflowd", status, "sha256:1", {}, started_at, 0, False, "", None)


def watched(*seen: Container | Exception | None) -> Stream:
    """Watch a container that looks like each of these in turn, then for ever like the last of them."""
    stream, looks = Stream(), iter(seen)
    last: list[Container | Exception | None] = [None]

    def look() -> Container | None:
        last[0] = found = next(looks, last[0])
        if isinstance(found, Exception):
            raise found
        return found

    podman.LogWatch(look, stream).start()  # type: ignore[arg-type]  # as much of a stream as it takes
    return stream


@pytest.mark.parametrize(
    "end",
    [
        container("1", ContainerStatus.EXITED),
        container("2"),
        None,
        EngineUnreachableError("The container engine is not running."),
    ],
    ids=["ended", "started again", "removed", "unreachable"],
)
def test_the_log_of_a_run_that_is_over_is_closed(end: Container | Exception | None) -> None:
    assert watched(container("1"), container("1"), end).closed.wait(LIMIT)


def test_the_log_of_a_container_that_does_not_run_is_closed() -> None:
    assert watched(container("", ContainerStatus.CREATED)).closed.wait(LIMIT)


def test_the_log_of_a_running_or_paused_container_stays_open() -> None:
    paused = container("1", ContainerStatus.PAUSED)
    stream = watched(container("1"), paused, None, container("1"))
    assert not stream.closed.wait(0.1)
    stream.ended.set()
    assert stream.closed.wait(LIMIT)


@pytest.mark.parametrize(
    ("host", "rootless"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, True),
        ({"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": True}, True),
        ({"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": False}, False),
        ({"SecurityOptions": None}, False),
    ],
    ids=["Docker", "Podman", "Podman of root", "neither"],
)
def test_a_rootless_engine_is_known(host: dict[str, object], rootless: bool) -> None:
    assert answers.is_rootless(host) is rootless


@pytest.fixture
def created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that lets an engine of these words create a spec, and returns the arguments of its call."""
    asked: dict[str, Any] = {}

    def create(_: Client, **arguments: Any) -> dict[str, str]:
        asked.update(arguments)
        return {"Id": "1"}

    def run(version: object, host: object, spec: Any = SPEC) -> dict[str, Any]:
        def answer(_: str, path: str) -> tuple[int, bytes]:
            found = {"version": version, "info": host, "create": {"Id": "net"}}.get(path.rsplit("/", 1)[-1], NETWORK)
            return 200, json.dumps(found).encode()

        with UnixHttp(tmp_path / "engine.sock", answer):
            engine = DockerEngine(str(tmp_path / "engine.sock"), 5)
            engine.create(spec)
            engine.close()
        return asked

    monkeypatch.setattr(Client, "create_container", create)
    return run


def test_a_rootless_engine_runs_the_server_as_its_own_user(created: Any) -> None:
    asked = created(DOCKER, {"SecurityOptions": ["name=rootless"]})
    assert asked["user"] == "0:0"
    assert asked["labels"]["io.mlflowd.spec"] == SPEC.digest


def test_every_other_engine_runs_it_as_the_user_of_the_spec(created: Any) -> None:
    assert created(DOCKER, {"SecurityOptions": []})["user"] == SPEC.user


@pytest.mark.parametrize(("version", "address"), [(DOCKER, "host-gateway"), (PODMAN, "10.89.0.1")])
def test_podman_gets_the_address_of_this_machine_for_its_names(created: Any, version: object, address: str) -> None:
    asked = created(version, {}, replace(SPEC, host_names=("db.example",)))
    assert asked["host_config"]["ExtraHosts"] == [f"db.example:{address}"]


def test_a_mount_that_only_the_engine_may_look_at_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.exists", denied)
    podman.require_sources(replace(SPEC, mounts=(Mount(str(tmp_path / "store"), "/mlflow/backend"),)))
