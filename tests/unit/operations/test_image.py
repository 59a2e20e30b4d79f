from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any, cast

import pytest

from mlflowd.errors import ConfigurationError, MlflowdError, RefusedError
from mlflowd.host.disk import Space
from mlflowd.model import LABEL_NAME, LABEL_STANDS_FOR, EngineInfo, Image
from mlflowd.operations import room
from mlflowd.operations.derived import LABEL_PACKAGES
from mlflowd.operations.image import Wanted, build, wanted
from mlflowd.operations.index_settings import IndexSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflowd.engine.api import Engine

REFERENCE = "ghcr.io/mlflow/mlflow:v3.17.2"
SECRET = "hunter2"  # noqa: S105 (what must not leak)
SETTINGS = IndexSettings(
    pip_conf=f"[global]\nindex-url = https://u:{SECRET}@h/simple\n",
    ca_bundle=b"PEM",
    proxies={"https_proxy": f"http://u:{SECRET}@p"},
)


class Shelf:
    """An engine's images, and builds that make one."""

    def __init__(self, *references: str, answer: str = "3.17.2 3.13") -> None:
        self.kept = {name: Image(f"sha256:{name}", (name,), {}) for name in references}
        self.answer = answer
        self.built: list[dict[str, Any]] = []

    def info(self) -> EngineInfo:
        return EngineInfo("docker", "28", "1.51", "/")

    def image(self, reference: str) -> Image | None:
        return self.kept.get(reference)

    def build(self, context: bytes, *, tag: str, labels: Mapping[str, str], **rest: Any) -> Image:
        self.built.append({"context": context, "tag": tag, "labels": labels, **rest})
        self.kept[tag] = Image(f"sha256:{len(self.built)}", (tag,), labels)
        return self.kept[tag]

    def ask(self, image_id: str, argv: Sequence[str], limit: float) -> str:  # noqa: ARG002 (the protocol's)
        return self.answer

    def engine(self) -> Engine:
        return cast("Engine", self)


def plan(**changes: Any) -> Wanted:
    arguments: dict[str, Any] = {"version": None, "packages": (), "base": "python:3.13", "python": None} | changes
    return wanted(arguments.pop("reference", REFERENCE), **arguments)


def ignore(_: str) -> None:
    pass


def test_the_version_is_that_of_the_pinned_reference() -> None:
    what = plan()
    assert (what.version, what.stands_for, what.tag) == ("3.17.2", REFERENCE, "mlflowd/mlflow:v3.17.2")
    assert what.requirements == ("mlflow==3.17.2", "uvloop", "httptools")


def test_another_version_stands_for_its_own_tag() -> None:
    assert plan(version="v3.10.1").stands_for == "ghcr.io/mlflow/mlflow:v3.10.1"


def test_a_given_version_stands_for_a_reference_without_one() -> None:
    assert plan(reference="registry:5000/mlflow", version="3.17.2").stands_for == "registry:5000/mlflow"


def test_an_image_in_place_of_a_full_one_has_the_drivers_of_all_stores() -> None:
    what = plan(reference=f"{REFERENCE}-full")
    assert (what.version, what.stands_for, what.tag) == ("3.17.2", f"{REFERENCE}-full", "mlflowd/mlflow:v3.17.2-full")
    assert what.requirements[0] == "mlflow[extras,azure,db,gateway,genai,auth]==3.17.2"
    assert plan(reference=f"{REFERENCE}-full", version="3.10.1").stands_for == "ghcr.io/mlflow/mlflow:v3.10.1-full"


def test_a_digest_does_not_hide_the_version() -> None:
    pinned = f"{REFERENCE}@sha256:{'0' * 64}"
    assert (plan(reference=pinned).version, plan(reference=pinned).stands_for) == ("3.17.2", pinned)


@pytest.mark.parametrize("reference", ["ghcr.io/mlflow/mlflow:latest", "mlflow", "registry:5000/mlflow"])
def test_a_version_that_nobody_named_is_asked_for(reference: str) -> None:
    with pytest.raises(ConfigurationError, match="version"):
        plan(reference=reference)


def test_extra_packages_change_the_name_whatever_their_order() -> None:
    one, two = plan(packages=("boto3", "psycopg2-binary")), plan(packages=("psycopg2-binary", "boto3", "boto3"))
    assert one.tag == two.tag
    assert one.tag.startswith("mlflowd/mlflow:v3.17.2-")


@pytest.mark.parametrize("good", ["boto3", "psycopg[binary]", "boto3>=1.34,<2", "mlflow-extra==1.0.*", "a_b~=1.0"])
def test_names_with_versions_are_packages(good: str) -> None:
    assert plan(packages=(good,)).packages == (good,)


@pytest.mark.parametrize(
    "bad",
    [f"git+https://u:{SECRET}@h/x", f"x @ https://u:{SECRET}@h/x", "--pre", "-r file", "../wheel", "", "a\nb", "a;b"],
)
def test_what_is_no_name_is_refused_without_a_password_in_the_message(bad: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan(packages=(bad,))
    assert SECRET not in str(caught.value)


def test_a_base_image_brings_its_own_python() -> None:
    with pytest.raises(ConfigurationError, match="Python"):
        plan(python="3.11")


def test_a_missing_base_image_is_named_with_the_remedy() -> None:
    with pytest.raises(MlflowdError) as caught:
        build(Shelf().engine(), plan(), SETTINGS, ignore)
    assert "docker pull python:3.13" in caught.value.hint


def test_secrets_go_into_the_context_and_the_proxy_arguments_alone() -> None:
    shelf = Shelf("python:3.13")
    build(shelf.engine(), plan(), SETTINGS, ignore)
    (built,) = shelf.built
    assert built["build_args"] == {"BASE": "python:3.13", **SETTINGS.proxies}
    assert SECRET not in str(built["labels"])
    with tarfile.open(fileobj=io.BytesIO(built["context"])) as tar:
        names = tar.getnames()
        dockerfile = tar.extractfile("Dockerfile")
        assert dockerfile is not None
        final = dockerfile.read().decode().rpartition("FROM ")[2]
    assert sorted(name for name in names if not name.startswith("build/turns/")) == [
        "Dockerfile", "build/ca.pem", "build/make-venv.sh", "build/pip.conf", "build/requirements.txt",
    ]  # fmt: skip
    assert "/build" not in final


def test_the_image_says_what_it_stands_for_and_what_is_in_it() -> None:
    shelf = Shelf("python:3.13")
    build(shelf.engine(), plan(packages=("boto3",)), SETTINGS, ignore)
    labels = shelf.built[0]["labels"]
    assert labels[LABEL_STANDS_FOR] == REFERENCE
    assert labels[LABEL_NAME] == plan(packages=("boto3",)).tag
    assert labels[LABEL_PACKAGES] == "mlflow==3.17.2 uvloop httptools boto3"
    assert labels["org.opencontainers.image.version"] == "3.17.2"
    assert labels["org.opencontainers.image.base.name"] == "python:3.13"


def test_the_same_inputs_are_built_once() -> None:
    shelf, said = Shelf("python:3.13"), list[str]()
    first = build(shelf.engine(), plan(), SETTINGS, said.append)
    assert build(shelf.engine(), plan(), SETTINGS, said.append) == first
    assert len(shelf.built) == 1
    assert said[-1] == "mlflowd/mlflow:v3.17.2 is there already, made from the same inputs"


def test_force_and_another_base_build_anew() -> None:
    shelf = Shelf("python:3.13")
    build(shelf.engine(), plan(), SETTINGS, ignore)
    build(shelf.engine(), plan(), SETTINGS, ignore, force=True)
    shelf.kept["python:3.13"] = Image("sha256:other", ("python:3.13",), {})
    build(shelf.engine(), plan(), SETTINGS, ignore)
    assert len(shelf.built) == 3


def test_what_a_build_cannot_see_is_said() -> None:
    said: list[str] = []
    build(Shelf("python:3.13").engine(), plan(), IndexSettings(left_out=("left out: x",)), said.append)
    assert "left out: x" in said


def test_too_little_room_refuses_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> Space:
        return Space(device=1, free=2_100_000_000, total=9, inodes_free=9, inodes=9, read_only=False)

    monkeypatch.setattr(room, "space", full)
    shelf = Shelf("python:3.13")
    with pytest.raises(RefusedError, match=r"needs 3 GB for a while; / has 2\.1 GB left"):
        build(shelf.engine(), plan(), SETTINGS, ignore)
    assert not shelf.built


def test_an_image_with_another_version_in_it_is_an_error() -> None:
    with pytest.raises(MlflowdError, match=r"3\.10\.1 instead of 3\.17\.2"):
        build(Shelf("python:3.13", answer="noise\n3.10.1 3.13").engine(), plan(), SETTINGS, ignore)
