"""Images on a real engine: pulled from a registry on the loopback address, built from Debian packages.

The package index of these builds is a small one that asks for a password, so that a leak of it shows; that MLflow
itself builds and serves is shown by the tests of the whole.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import docker
import pytest

from fakes.package_index import PackageIndex
from fakes.registry import Registry, error
from mlflowd.engine.docker import DockerEngine
from mlflowd.engine.images import LABEL_BUILD
from mlflowd.errors import EngineError, ImageMissingError
from mlflowd.model import LABEL_STANDS_FOR
from mlflowd.operations import debian_base, image, recipe
from mlflowd.operations.image import build, wanted
from mlflowd.operations.index_settings import index_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.model import Image
    from mlflowd.operations.image import Wanted
    from mlflowd.operations.index_settings import IndexSettings

pytestmark = pytest.mark.engine

SECRET = f"secret-{uuid.uuid4().hex}"
PACKAGES = {"mlflow": "9.9.9", "uvloop": "1.0", "httptools": "1.0", "extra": "1.0"}


@pytest.fixture(scope="module")
def api(engine_socket: str) -> Iterator[docker.APIClient]:
    client = docker.APIClient(f"unix://{engine_socket}", version="1.41")
    yield client
    client.close()


@pytest.fixture(scope="module")
def engine(engine_socket: str) -> Iterator[DockerEngine]:
    door = DockerEngine(engine_socket, 10.0)
    yield door
    door.close()


@pytest.fixture(scope="module")
def base(engine: DockerEngine) -> str:
    """A base image from Debian packages, kept for the next run."""
    if shutil.which("debootstrap") is None:
        pytest.skip("no debootstrap")
    return debian_base.debian_base(engine, "trixie", ignore).references[0]


@pytest.fixture(scope="module")
def what(base: str, api: docker.APIClient) -> Iterator[Wanted]:
    """A build whose images are removed after the tests."""
    repository = f"mlflowd-contract/{uuid.uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image, "REPOSITORY", repository)
        yield wanted(f"{repository}-pinned:v9.9.9", version=None, packages=("extra",), base=base, python=None)
    for made in api.images(filters={"label": f"{LABEL_STANDS_FOR}={repository}-pinned:v9.9.9"}):
        api.remove_image(made["Id"], force=True)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexSettings]:
    """Settings with a secret in every one of them."""
    place = tmp_path_factory.mktemp("settings")
    bundle = place / "ca.pem"
    bundle.write_text(f"# {SECRET}\n")
    with PackageIndex(PACKAGES, SECRET) as index:
        environ = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": index.url,
            "PIP_TRUSTED_HOST": f"{SECRET}.example",
            "PIP_CERT": str(bundle),
            "https_proxy": f"http://user:{SECRET}@127.0.0.1:9",
            "no_proxy": f"127.0.0.1,{SECRET}",
        }
        yield index_settings(environ, place)


def ignore(_: str) -> None:
    pass


def stages(api: docker.APIClient) -> list[Any]:
    found: list[Any] = api.images(all=True, filters={"label": LABEL_BUILD})
    return found


# --- build --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(engine: DockerEngine, what: Wanted, settings: IndexSettings) -> Image:
    return build(engine, what, settings, ignore)


def test_a_built_image_holds_no_trace_of_the_settings_of_the_build(
    api: docker.APIClient, built: Image, tmp_path: Path
) -> None:
    told = json.dumps([api.inspect_image(built.id), api.history(built.id)])
    assert "compileall" in told
    assert SECRET not in told
    saved = tmp_path / "saved.tar"
    with saved.open("wb") as file:
        file.writelines(api.get_image(built.id))
    assert SECRET.encode() not in saved.read_bytes()
    for layer in _compressed_layers(saved, tmp_path):
        assert SECRET.encode() not in layer
    assert b"mlflow-9.9.9.dist-info" in saved.read_bytes()


def _compressed_layers(saved: Path, tmp_path: Path) -> Iterator[bytes]:
    """Yield the layers that an engine saves compressed (those with the containerd image store do)."""
    place = tmp_path / "saved"
    place.mkdir()
    subprocess.run(["tar", "-C", place, "-xf", saved], check=True)
    for path in place.rglob("*"):
        if path.is_file() and path.read_bytes()[:2] == b"\x1f\x8b":
            yield gzip.decompress(path.read_bytes())


def test_nothing_of_the_first_stage_stays_on_the_engine(api: docker.APIClient, built: Image) -> None:
    assert built.id
    assert stages(api) == []


def test_any_user_can_use_a_built_image(api: docker.APIClient, engine: DockerEngine, built: Image) -> None:
    config = api.inspect_image(built.id)["Config"]
    assert config["User"] == "10001:10001"
    assert "PYTHONUNBUFFERED=1" in config["Env"]
    program = "import os, mlflow, extra; print(os.getuid(), os.access(mlflow.__path__[0], os.W_OK), extra.__cached__)"
    uid, writable, cached = engine.ask(built.id, ["python3", "-c", program], 30).split()
    assert (uid, writable) == ("10001", "False")
    assert engine.ask(built.id, ["test", "-s", cached], 30) == ""


def test_a_stand_in_is_found_by_what_it_stands_for(engine: DockerEngine, what: Wanted, built: Image) -> None:
    assert engine.stand_in(what.stands_for) == built
    assert engine.stand_in("mlflowd-contract/nonesuch:v1") is None


def test_what_somebody_makes_from_a_stand_in_stands_in_for_nothing(
    api: docker.APIClient, engine: DockerEngine, what: Wanted, built: Image
) -> None:
    name = f"{what.tag.partition(':')[0]}-theirs:1"
    files = recipe.context({"Dockerfile": f"FROM {built.id}\nENV THEIRS=1\n".encode()})
    theirs = engine.build(files, tag=name, labels={}, build_args={}, progress=ignore)
    try:
        assert theirs.labels[LABEL_STANDS_FOR] == what.stands_for
        assert engine.stand_in(what.stands_for) == built
    finally:
        api.remove_image(name)


def test_the_same_inputs_are_built_once_and_force_builds_again(
    engine: DockerEngine, what: Wanted, settings: IndexSettings, built: Image
) -> None:
    assert build(engine, what, settings, ignore).id == built.id
    again = build(engine, what, settings, ignore, force=True)
    assert again.id != built.id
    assert engine.image(built.id) is None
    assert engine.stand_in(what.stands_for) == again


def test_a_build_that_fails_says_why_and_leaves_nothing(
    api: docker.APIClient, engine: DockerEngine, what: Wanted, settings: IndexSettings
) -> None:
    missing = wanted(what.stands_for, version=None, packages=("nonesuch",), base=what.base, python=None)
    with pytest.raises(EngineError, match="No matching distribution found for nonesuch") as caught:
        build(engine, missing, settings, ignore)
    assert SECRET not in str(caught.value)
    assert stages(api) == []
    assert engine.image(missing.tag) is None


def test_a_build_that_is_interrupted_leaves_nothing(
    api: docker.APIClient, engine: DockerEngine, what: Wanted, settings: IndexSettings
) -> None:
    def progress(sentence: str) -> None:
        if "installing" in sentence:
            raise KeyboardInterrupt

    other = wanted(what.stands_for, version=None, packages=("extra==1.0",), base=what.base, python=None)
    with pytest.raises(KeyboardInterrupt):
        build(engine, other, settings, progress)
    assert stages(api) == []
    assert api.containers(all=True, filters={"label": LABEL_BUILD}) == []
    assert engine.image(other.tag) is None


def test_a_terminated_build_from_debian_packages_leaves_nothing(engine_socket: str, tmp_path: Path) -> None:
    program = (
        "import signal, sys\n"
        "from mlflowd.engine.docker import DockerEngine\n"
        "from mlflowd.operations.debian_base import debian_base\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        f"debian_base(DockerEngine({engine_socket!r}, 10), 'trixie', lambda s: print(s, flush=True), fresh=True)\n"
    )
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline().startswith("fetching Debian trixie")
        assert any(tmp_path.iterdir())
        run.terminate()
    assert list(tmp_path.iterdir()) == []
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running


# --- pull ---------------------------------------------------------------------------------------


def test_a_pull_shows_how_much_of_it_is_done(api: docker.APIClient, engine: DockerEngine) -> None:
    said: list[str] = []
    with Registry({}) as registry:
        reference = f"{registry.repository}:good"
        try:
            assert reference in engine.pull(reference, said.append).references
        finally:
            api.remove_image(reference, force=True)
    assert said[0] == f"pulling {reference}"


@pytest.mark.parametrize(
    ("tag", "plain"),
    [
        ("v9.9.9", "There is no tag v9.9.9 in 127.0.0.1:"),
        ("denied", "denies access to 127.0.0.1:"),
        ("unauthorized", "denies access to 127.0.0.1:"),
        ("limited", "has had too many requests"),
        ("elsewhere", "is not made for this machine's processor"),
    ],
)
def test_a_registrys_refusal_is_in_plain_words(engine: DockerEngine, tag: str, plain: str) -> None:
    answers = {
        "denied": error(403, "DENIED"),
        "unauthorized": error(401, "UNAUTHORIZED", "authentication required"),
        "limited": error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit."),
    }
    with Registry(answers) as registry, pytest.raises(ImageMissingError) as caught:
        engine.pull(f"{registry.repository}:{tag}", ignore)
    assert plain in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1:1", "registry.invalid"])
def test_a_registry_that_cannot_be_reached_leads_to_a_build(engine: DockerEngine, host: str) -> None:
    with pytest.raises(ImageMissingError, match=f"The registry {host} cannot be reached") as caught:
        engine.pull(f"{host}/mlflow/mlflow:v3.17.2", ignore)
    assert "sudo mlflowd image build" in caught.value.hint
