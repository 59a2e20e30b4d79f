"""The engines that the contract suite runs on.

MLFLOWD_TEST_ENGINE names the real engine's socket; with MLFLOWD_TEST_REQUIRE_ENGINE=1 its absence fails.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import docker
import pytest

from contract.worlds import FakeWorld, RealWorld, busybox_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.worlds import World


@pytest.fixture(scope="session")
def engine_socket() -> str:
    """The real engine's socket; skips, or fails where an engine is required."""
    path = os.environ.get("MLFLOWD_TEST_ENGINE", "unix:///run/docker.sock").removeprefix("unix://")
    if os.geteuid() != 0:
        _without("the real engine's tests need root")
    if not Path(path).is_socket():
        _without(f"no container engine at {path} (MLFLOWD_TEST_ENGINE)")
    if not shutil.which("busybox"):
        _without("no busybox to make an image of: apt-get install busybox-static")
    return path


@pytest.fixture(scope="session")
def busybox(engine_socket: str) -> Iterator[str]:
    """The id of an image that holds a static busybox and nothing else."""
    api = docker.APIClient(f"unix://{engine_socket}", version="1.41")
    tag = uuid.uuid4().hex[:12]
    api.import_image_from_data(busybox_root(), repository="mlflowd-contract/busybox", tag=tag)
    image_id = str(api.inspect_image(f"mlflowd-contract/busybox:{tag}")["Id"])
    yield image_id
    api.remove_image(image_id, force=True)
    api.close()


@pytest.fixture
def real(engine_socket: str, busybox: str, tmp_path: Path) -> Iterator[RealWorld]:
    world = RealWorld(engine_socket, busybox, tmp_path)
    yield world
    world.clean()


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.engine)])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        return FakeWorld()
    found: World = request.getfixturevalue("real")
    return found


def _without(reason: str) -> NoReturn:
    if os.environ.get("MLFLOWD_TEST_REQUIRE_ENGINE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
