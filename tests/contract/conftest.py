"""The engines that the contract suite runs on.

MLFLOWD_TEST_ENGINE names the socket of a real Docker, MLFLOWD_TEST_PODMAN that of a Podman; with
MLFLOWD_TEST_REQUIRE_ENGINE=1 the absence of either fails. What Podman cannot do stands in contract/podman.py.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import docker
import pytest

from contract.podman import GAPS
from contract.worlds import FakeWorld, RealWorld, busybox_root
from mlflowd.engine.docker import DockerEngine
from mlflowd.model import Image
from mlflowd.operations import derived_build
from mlflowd.operations import image as image_build
from mlflowd.operations.derived import Derived, present
from mlflowd.server import abilities

if TYPE_CHECKING:
    from contract.worlds import World
    from mlflowd.server.abilities import Abilities

MakeWorld = Callable[[Path], RealWorld]
"""Makes the world of a real engine, with a directory to mount."""
ImageWith = Callable[..., Image]
"""Takes the names of packages."""
OLD_MLFLOW = "ghcr.io/mlflow/mlflow:v3.10.1"
"""An older release, as people have it who upgrade."""
REAL = [pytest.param(name, marks=pytest.mark.engine) for name in ("docker", "podman")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what Podman cannot do, with the reason."""
    for item in items:
        name, _, rest = item.nodeid.rpartition("::")[2].partition("[")
        if rest.startswith("podman") and (reason := GAPS.get(name) or GAPS.get(f"{name}[{rest}")):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session")
def engine_socket() -> str:
    """The socket of a real Docker; skips, or fails where an engine is required."""
    return _socket("MLFLOWD_TEST_ENGINE", "/run/docker.sock")


@pytest.fixture(scope="session")
def podman_socket() -> str:
    """The socket of a Podman; skips, or fails where an engine is required."""
    return _socket("MLFLOWD_TEST_PODMAN", "/run/podman/podman.sock")


@pytest.fixture(scope="session")
def busybox(engine_socket: str) -> Iterator[str]:
    """The id of Docker's image that holds a static busybox and nothing else."""
    yield from _busybox(engine_socket)


@pytest.fixture(scope="session")
def podman_busybox(podman_socket: str) -> Iterator[str]:
    """The id of Podman's image of the same."""
    yield from _busybox(podman_socket)


@pytest.fixture(scope="session", params=REAL)
def make_real(request: pytest.FixtureRequest) -> MakeWorld:
    return _maker(request)


@pytest.fixture
def real(make_real: MakeWorld, tmp_path: Path) -> Iterator[RealWorld]:
    world = make_real(tmp_path)
    yield world
    world.clean()


@pytest.fixture(params=["fake", *REAL])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    world = _maker(request)(tmp_path)
    yield world
    world.clean()


@pytest.fixture(scope="session")
def mlflow_image(engine_socket: str) -> Image:
    """Docker's image of MLflow that the tests are run with; skips, or fails where an engine is required."""
    reference = os.environ.get("MLFLOWD_TEST_IMAGE", "mlflowd/mlflow:v3.17.2")
    engine = DockerEngine(engine_socket, 30.0)
    image = engine.image(reference)
    engine.close()
    if image is None:
        _without(f"no image {reference}: mlflowd --config etc/mlflowd.toml image build")
    return image


@pytest.fixture(scope="session")
def old_mlflow_image(engine_socket: str, mlflow_image: Image) -> Image:
    """Docker's image of MLflow 3.10.1, whose schema is 18 revisions behind 3.17.2's; it is built where it is not there.

    That takes a minute, and the base is the one of `mlflow_image`; it is kept for the next run.
    """
    del mlflow_image
    engine = DockerEngine(engine_socket, 180.0)
    what = image_build.wanted(OLD_MLFLOW, version=None, packages=(), base=None, python=None)
    try:
        return engine.image(what.tag) or image_build.build(
            engine, what, derived_build.machine_settings(), lambda _: None
        )
    finally:
        engine.close()


@pytest.fixture(scope="session")
def image_with(engine_socket: str, mlflow_image: Image) -> Iterator[ImageWith]:
    """Return an image of MLflow that has these packages too, as mlflowd itself makes one; `base`: of another release.

    `image_with("psycopg2-binary", "boto3")` takes some 5 s the first time; the image is kept for the next run. Its id
    is what a ContainerSpec's image_id wants, its name `references[0]`.
    """
    engine = DockerEngine(engine_socket, 180.0)

    def make(*packages: str, base: Image = mlflow_image) -> Image:
        answer = engine.ask(base.id, abilities.QUESTION, 60.0)
        able = abilities.parse(answer, base.references[0])
        what = Derived(base, base.references[0], able, tuple(sorted(packages)))
        settings = derived_build.machine_settings()
        return present(engine, what) or derived_build.build(engine, what, settings, lambda _: None)[0]

    yield make
    engine.close()


@pytest.fixture(scope="module")
def engine(engine_socket: str) -> Iterator[DockerEngine]:
    """The real Docker."""
    engine = DockerEngine(engine_socket, 60.0)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def image(mlflow_image: Image) -> Image:
    """The image of a module's servers; a module that needs packages has a fixture of its own."""
    return mlflow_image


@pytest.fixture(scope="module")
def able(engine: DockerEngine, image: Image) -> Abilities:
    """What that image can do."""
    return abilities.parse(engine.ask(image.id, abilities.QUESTION, 60.0), "the test's image")


@pytest.fixture(scope="module")
def network(engine_socket: str) -> Iterator[str]:
    """The name of a network that the module's first server makes; it is removed in the end."""
    name = f"mlflowd-test-{uuid.uuid4().hex[:8]}"
    yield name
    api = docker.APIClient(f"unix://{engine_socket}", version="1.41")
    with suppress(docker.errors.NotFound):
        api.remove_network(name)
    api.close()


def _maker(request: pytest.FixtureRequest) -> MakeWorld:
    names = ("podman_socket", "podman_busybox") if request.param == "podman" else ("engine_socket", "busybox")
    path, image_id = (str(request.getfixturevalue(name)) for name in names)
    return lambda directory: RealWorld(path, image_id, directory)


def _socket(variable: str, default: str) -> str:
    path = os.environ.get(variable, default).removeprefix("unix://")
    if os.geteuid() != 0:
        _without("the real engines' tests need root")
    if not Path(path).is_socket():
        _without(f"no container engine at {path} ({variable})")
    if not shutil.which("busybox"):
        _without("no busybox to make an image of: apt-get install busybox-static")
    return path


def _busybox(path: str) -> Iterator[str]:
    api = docker.APIClient(f"unix://{path}", version="1.41")
    # Podman takes a tag only as part of the name.
    reference = f"mlflowd-contract/busybox:{uuid.uuid4().hex[:12]}"
    api.import_image_from_data(busybox_root(), repository=reference)
    image_id = str(api.inspect_image(reference)["Id"])
    yield image_id
    api.remove_image(image_id, force=True)
    api.close()


def _without(reason: str) -> NoReturn:
    if os.environ.get("MLFLOWD_TEST_REQUIRE_ENGINE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
