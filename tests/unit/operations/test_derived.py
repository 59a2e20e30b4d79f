"""What an image lacks, and the image that is made from it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from fakes.engine import FakeEngine
from mlflowd.config import Settings
from mlflowd.errors import ConfigurationError, EngineError, EngineUnreachableError, ExitStatus, MlflowdError
from mlflowd.model import LABEL_ADDED, LABEL_DERIVED, LABEL_STANDS_FOR, Image
from mlflowd.operations import derived, derived_build, room
from mlflowd.operations.derived import LABEL_PACKAGES, Derived
from mlflowd.operations.index_settings import IndexSettings
from mlflowd.server.abilities import Abilities

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflowd.engine.api import Progress

REFERENCE = "ghcr.io/mlflow/mlflow:v3.17.2"
PURELIB = "/opt/mlflow/lib/python3.13/site-packages"
SECRET = "hunter2"  # noqa: S105 (what must not leak)
INDEX = IndexSettings(
    pip_conf=f"[global]\nindex-url = https://u:{SECRET}@h/simple\n",
    ca_bundle=b"PEM",
    proxies={"https_proxy": f"http://u:{SECRET}@p"},
    left_out=("left out: x",),
)
BASE = Image("sha256:" + "ab" * 32, (REFERENCE,), {LABEL_STANDS_FOR: REFERENCE}, user="10001:10001")
ABLE = Abilities("3.17.2", "3.13.5", True, True, frozenset({"mlflow", "requests", "boto3"}), purelib=PURELIB)


class Builder(FakeEngine):
    """A fake engine that keeps what a build was given."""

    def __init__(self, *added: str, mlflow: str = "3.17.2") -> None:
        super().__init__()
        self.given: dict[str, Any] = {}
        packages = dict.fromkeys((*ABLE.packages, *added), "1") | {"mlflow": mlflow}
        self.answer = json.dumps({"python": "3.13.5", "packages": packages, "purelib": PURELIB})

    def build(
        self, context: bytes, *, tag: str, labels: Mapping[str, str], build_args: Mapping[str, str], progress: Progress
    ) -> Image:
        self.given = {"context": context, "labels": labels, "build_args": build_args}
        return super().build(context, tag=tag, labels=labels, build_args=build_args, progress=progress)


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "space", lambda _: type("", (), {"free": 10**12})())


def settings(*packages: str, uri: str = "sqlite:////srv/mlflow/mlflow.db", **image: Any) -> Settings:
    told = {"reference": REFERENCE, "packages": list(packages), **image}
    return Settings.layered({"image": told, "backend_store": {"uri": uri}})


def what(*packages: str) -> Derived:
    return Derived(BASE, REFERENCE, ABLE, packages)


def build(engine: FakeEngine, *packages: str) -> tuple[Image, Abilities]:
    return derived_build.build(engine, what(*packages), INDEX, ignore)


def ignore(_: str) -> None:
    pass


def context(engine: Builder) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(engine.given["context"])) as tar:
        return {one.name: file.read() for one in tar if (file := tar.extractfile(one))}


# --- what is lacking ----------------------------------------------------------------------------


def test_an_image_that_has_everything_is_used_as_it_is() -> None:
    assert derived.plan(settings("boto3", "Requests"), BASE, ABLE) is None


def test_a_driver_that_the_uri_needs_is_lacking() -> None:
    uri = "postgresql://u@db/mlflow"
    assert derived.lacking(settings(uri=uri), BASE, ABLE) == ("psycopg2-binary",)
    assert derived.lacking(settings("psycopg2-binary==2.9.9", uri=uri), BASE, ABLE) == ("psycopg2-binary==2.9.9",)


def test_a_listed_package_is_lacking_until_an_image_was_made_with_it() -> None:
    wished = settings("boto3 >= 1.34", "PyMySQL")
    assert derived.lacking(wished, BASE, ABLE) == ("PyMySQL", "boto3>=1.34")
    made = Image("sha256:1", (), {LABEL_PACKAGES: "mlflow==3.17.2 boto3>=1.34"})
    assert derived.lacking(wished, made, ABLE) == ("PyMySQL",)


def test_its_name_tells_the_version_the_base_and_the_packages() -> None:
    assert what("PyMySQL").tag.startswith("mlflowd/mlflow:v3.17.2-abababababab-")
    assert len({what("PyMySQL").tag, what("boto3").tag, what("boto3", "PyMySQL").tag}) == 3


def test_a_forbidden_build_names_the_packages_and_every_way_out() -> None:
    error = derived.refusal(what("PyMySQL", "boto3>=1"))
    assert error.exit_status == ExitStatus.REFUSED
    assert "lacks PyMySQL and boto3>=1" in error.message
    for way in ("sudo mlflowd image build --packages-only", "image.build = true", f'"{REFERENCE}-full"'):
        assert way in error.hint


# --- the build ----------------------------------------------------------------------------------


def test_what_was_built_is_found_again_by_name_and_labels() -> None:
    engine = Builder("pymysql")
    assert derived.present(engine, what("PyMySQL")) is None
    image, able = build(engine, "PyMySQL")
    assert "pymysql" in able.packages
    assert derived.present(engine, what("PyMySQL")) == image
    engine.add_image(Image("sha256:stranger", (what("boto3").tag,), {}))
    assert derived.present(engine, what("boto3")) is None


def test_it_says_what_it_is_made_from_and_stands_in_for_nothing() -> None:
    engine = Builder("pymysql")
    image, _ = build(engine, "PyMySQL")
    assert (image.labels[LABEL_DERIVED], image.labels[LABEL_ADDED]) == (BASE.id, "PyMySQL")
    assert image.labels[LABEL_STANDS_FOR] == ""
    assert engine.stand_in(REFERENCE) is None


def test_the_settings_of_the_machine_reach_the_first_stage_alone() -> None:
    engine = Builder("pymysql")
    build(engine, "PyMySQL")
    arguments = dict(engine.given["build_args"])
    assert arguments.pop("https_proxy") == INDEX.proxies["https_proxy"]
    assert arguments == {"BASE": BASE.id, "PURELIB": PURELIB, "BASE_USER": "10001:10001"}
    assert SECRET not in str(engine.given["labels"])
    files = context(engine)
    assert SECRET.encode() in files["build/pip.conf"]
    last = files["Dockerfile"].decode().rpartition("FROM ")[2]
    assert "build" not in last
    assert last.rstrip().endswith("USER ${BASE_USER}")


def test_only_what_a_person_gave_a_version_for_may_change_what_is_there() -> None:
    engine = Builder("pymysql", "requests")
    build(engine, "PyMySQL", "Requests==2.32.3")
    files = context(engine)
    assert files["build/requirements.txt"] == b"PyMySQL\nRequests==2.32.3\n"
    assert files["build/exempt.txt"] == b"requests\n"


def test_steps_and_settings_that_a_build_cannot_use_are_told() -> None:
    said: list[str] = []
    derived_build.build(Builder("pymysql"), what("PyMySQL"), INDEX, said.append)
    assert said[:2] == ["left out: x", f"adding PyMySQL to {REFERENCE}"]
    assert said[-1].endswith(f"is ready: {REFERENCE} with PyMySQL")


def test_a_url_is_refused_before_anything_is_built() -> None:
    engine = Builder()
    with pytest.raises(ConfigurationError, match="URL") as caught:
        build(engine, f"x@https://u:{SECRET}@h/x")
    assert SECRET not in str(caught.value)
    assert not engine.given


def test_too_little_room_is_said_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "space", lambda _: type("", (), {"free": 1})())
    engine = Builder()
    with pytest.raises(MlflowdError, match="Adding packages to an image needs 1 GB"):
        build(engine, "PyMySQL")
    assert not engine.given


def test_a_failure_names_the_packages_and_pips_last_lines() -> None:
    engine = Builder()
    engine.fail(
        "build", EngineError("The build failed. Its last lines:\n  No matching distribution found for nonesuch")
    )
    with pytest.raises(MlflowdError, match="No matching distribution found for nonesuch") as caught:
        build(engine, "nonesuch", "PyMySQL")
    assert caught.value.message.startswith(f"nonesuch, PyMySQL could not be added to the image {REFERENCE}.")
    assert "/etc/pip.conf" in caught.value.hint
    assert caught.value.exit_status == ExitStatus.FAILURE


def test_versions_that_contradict_each_other_are_not_tried_again_and_again() -> None:
    engine = Builder()
    engine.fail("build", EngineError("ERROR: ResolutionImpossible: for help visit …"))
    with pytest.raises(MlflowdError) as caught:
        build(engine, "Flask==1.0")
    assert caught.value.exit_status == ExitStatus.REFUSED


def test_an_engine_that_goes_away_is_no_failure_of_the_packages() -> None:
    engine = Builder()
    engine.fail("build", EngineUnreachableError("The container engine is not running."))
    with pytest.raises(EngineUnreachableError):
        build(engine, "PyMySQL")


@pytest.mark.parametrize(
    ("engine", "problem"),
    [(Builder(), "lacks pymysql"), (Builder("pymysql", mlflow="3.18.0"), r"has MLflow 3\.18\.0 instead of 3\.17\.2")],
)
def test_an_image_that_does_not_prove_itself_is_removed(engine: Builder, problem: str) -> None:
    with pytest.raises(MlflowdError, match=problem):
        build(engine, "PyMySQL")
    assert not engine.images


# --- the programs inside the image --------------------------------------------------------------


def package(place: Path, name: str, version: str, *files: str) -> None:
    information = f"{name}-{version}.dist-info"
    written = {
        **dict.fromkeys(files, f"# {version}\n"),
        f"{information}/METADATA": f"Name: {name}\nVersion: {version}\n",
    }
    record = "".join(f"{path},,\n" for path in (*written, f"{information}/RECORD", "../bin/program"))
    for path, text in {**written, f"{information}/RECORD": record}.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)


def test_a_replaced_package_leaves_no_file_of_its_old_version(tmp_path: Path) -> None:
    place, program = tmp_path / "lib", tmp_path / "bin" / "program"
    program.parent.mkdir()
    program.touch()
    package(place, "Some_Package", "1.0", "some/__init__.py", "some/old.py")
    package(place, "other", "1.0", "other.py")
    package(place, "some-package", "2.0", "some/__init__.py", "some/new.py")
    (place / "mlflowd_added.txt").write_text("some-package==2.0\n")
    script = resources.files("mlflowd.operations").joinpath("added/mlflowd_added.py").read_text()
    (place / "mlflowd_added.py").write_text(script)
    subprocess.run([sys.executable, str(place / "mlflowd_added.py")], check=True)
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*.py") if path.name != "mlflowd_added.py") == [
        "other.py",
        "some/__init__.py",
        "some/new.py",
    ]
    assert sorted(path.name for path in place.glob("*.dist-info")) == [
        "other-1.0.dist-info",
        "some-package-2.0.dist-info",
    ]
    assert program.exists()
