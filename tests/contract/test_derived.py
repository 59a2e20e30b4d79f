"""Images that mlflowd derives from one of MLflow, on a real Docker, with a package index as this machine reaches it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import docker
import pytest

from mlflowd.engine.docker import DockerEngine
from mlflowd.engine.images import LABEL_BUILD
from mlflowd.errors import EngineError, MlflowdError
from mlflowd.model import LABEL_STANDS_FOR
from mlflowd.operations import derived_build
from mlflowd.operations.derived import Derived, present
from mlflowd.operations.index_settings import index_settings
from mlflowd.server import abilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflowd.model import Image

pytestmark = pytest.mark.engine

ADDED = ("PyMySQL", "psycopg2-binary")
_FREEZE = (
    "import importlib.metadata as m; print(*sorted({d.metadata['Name']+'=='+d.version for d in m.distributions()}))"
)
_COMPILED = """
import importlib.util, os, struct, sys
for name in ("pymysql", "psycopg2"):
    path = importlib.util.find_spec(name).origin
    with open(importlib.util.cache_from_source(path), "rb") as file:
        flags, time = struct.unpack("<II", file.read(12)[4:])
    assert (flags, time) == (0, int(os.stat(path).st_mtime)), path
    __import__(name)
    assert sys.modules[name].__file__ == path
where = sys.modules["psycopg2"].connect.__code__.co_filename
assert where == importlib.util.find_spec("psycopg2").origin, where
print(os.getuid())
"""


@dataclass
class Bench:
    """A real Docker, and the image that others are derived from."""

    api: docker.APIClient
    engine: DockerEngine
    base: Image

    def what(self, *packages: str) -> Derived:
        able = abilities.parse(self.engine.ask(self.base.id, abilities.QUESTION, 60), "base")
        return Derived(self.base, self.base.references[0], able, tuple(sorted(packages)))

    def packages(self, image: Image) -> set[str]:
        return set(self.engine.ask(image.id, ["python", "-c", _FREEZE], 60).split())

    def stages(self) -> list[object]:
        return list(self.api.images(all=True, filters={"label": LABEL_BUILD}))


@pytest.fixture(scope="module")
def bench(engine_socket: str, mlflow_image: Image) -> Iterator[Bench]:
    bench = Bench(
        docker.APIClient(f"unix://{engine_socket}", version="1.41"), DockerEngine(engine_socket, 180.0), mlflow_image
    )
    yield bench
    bench.engine.close()
    bench.api.close()


@pytest.fixture(scope="module")
def image(image_with: Callable[..., Image]) -> Image:
    return image_with(*ADDED)


def test_the_packages_are_there_and_all_else_is_as_it_was(bench: Bench, image: Image) -> None:
    before, after = bench.packages(bench.base), bench.packages(image)
    assert before <= after
    assert {one.partition("==")[0].lower() for one in after - before} == {"pymysql", "psycopg2-binary"}


def test_what_was_added_is_imported_from_compiled_files_by_the_bases_user(bench: Bench, image: Image) -> None:
    assert image.user == bench.base.user
    assert bench.engine.ask(image.id, ["python", "-c", _COMPILED], 60) == bench.base.user.partition(":")[0]


def test_it_stands_in_for_nothing_although_its_base_does(bench: Bench, image: Image) -> None:
    reference = bench.base.labels[LABEL_STANDS_FOR]
    stand_in = bench.engine.stand_in(reference)
    assert stand_in is not None
    assert stand_in.id != image.id
    assert image in (replaced(bench, one) for one in bench.engine.made("io.mlflowd.derived-from"))


def replaced(bench: Bench, listed: Image) -> Image | None:
    """Return the image of a list as a look at it tells it: with its user."""
    return bench.engine.image(listed.id)


def test_a_second_time_nothing_is_built(bench: Bench, image: Image) -> None:
    found = present(bench.engine, bench.what(*ADDED))
    assert found is not None
    assert found.id == image.id
    assert present(bench.engine, bench.what("PyMySQL")) is None


def test_what_a_person_gave_a_version_for_is_replaced_whole(bench: Bench) -> None:
    what = bench.what("requests==2.32.3")
    image, _ = derived_build.build(bench.engine, what, derived_build.machine_settings(), lambda _: None)
    try:
        before, after = bench.packages(bench.base), bench.packages(image)
        assert after - before == {"requests==2.32.3"}
        assert {one.partition("==")[0] for one in before - after} == {"requests"}
        files = bench.engine.ask(image.id, ["sh", "-c", f"ls {what.able.purelib} | grep '^requests'"], 30).split()
        assert files == ["requests", "requests-2.32.3.dist-info"]
    finally:
        bench.api.remove_image(image.id)


def test_nothing_of_the_machines_settings_is_in_the_image(bench: Bench, tmp_path: Path) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    bundle = tmp_path / "ca.pem"
    own = derived_build.machine_settings()
    bundle.write_bytes(own.ca_bundle + f"# {secret}\n".encode())
    (tmp_path / "pip.conf").write_text(f"{own.pip_conf}trusted-host = {secret}.example\n".replace("/build/ca.pem", ""))
    environ = {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_CERT": str(bundle),
        "no_proxy": f"{secret},127.0.0.1",
        **own.proxies,
    }
    what = bench.what("iniconfig")
    image, _ = derived_build.build(bench.engine, what, index_settings(environ, tmp_path), lambda _: None)
    try:
        told = json.dumps([bench.api.inspect_image(image.id), bench.api.history(image.id)])
        assert "mlflowd_added" in told
        assert secret not in told
        find = f"ls -d /build /additions /tmp/* /root/.cache 2>/dev/null; grep -rl {secret} /opt /etc /tmp 2>/dev/null"
        assert bench.engine.ask(image.id, ["sh", "-c", f"{find}; true"], 120) == ""
        assert bench.stages() == []
    finally:
        bench.api.remove_image(image.id)


def test_a_package_that_cannot_be_had_is_named_with_pips_words_and_nothing_is_left(bench: Bench) -> None:
    what = bench.what("mlflowd-has-no-such-package")
    with pytest.raises(MlflowdError, match="No matching distribution found") as caught:
        derived_build.build(bench.engine, what, derived_build.machine_settings(), lambda _: None)
    assert caught.value.message.startswith("mlflowd-has-no-such-package could not be added to the image")
    assert bench.engine.image(what.tag) is None
    assert bench.stages() == []


def test_an_image_that_others_are_made_from_is_not_removed(bench: Bench, image: Image) -> None:
    with pytest.raises(EngineError, match="child images"):
        bench.engine.remove_image(bench.base.id)
    assert bench.engine.image(image.id) is not None
