"""Which container is meant: by name, by id, by compose file, or because it is the only one; and what is beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fakes.engine import FakeEngine
from mlflowd.errors import EngineError, EngineUnreachableError, RefusedError
from mlflowd.model import LABEL_SPEC, Image
from mlflowd.operations.adoption.deployed import RETIRED, facts, find
from mlflowd.operations.adoption.deployment import NotUnderstoodError
from unit.operations.adoption.deployments import PLAIN, bind, told

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.model.deployed import Deployed

ANSWER = json.dumps({"python": "3.11.2", "packages": {"mlflow": "3.17.2", "Flask-WTF": "1.2"}})
POSTGRES = replace(PLAIN, name="db", image="postgres:15", command=("postgres",))


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.answer = ANSWER
    engine.add_image(Image("sha256:1", ("registry/mlflow:v3.17.2",), {}))
    return engine


def deploy(engine: FakeEngine, *made: Deployed, start: bool = True) -> list[str]:
    ids = [engine.deploy(replace(each, published=())) for each in made]
    for each in ids if start else ():
        engine.start(each)
    return ids


# --- which one ----------------------------------------------------------------------------------


def test_the_only_server_is_found_without_a_name(engine: FakeEngine) -> None:
    deploy(engine, PLAIN, POSTGRES)
    assert find(engine, None).name == "tracking"


def test_one_that_runs_is_preferred_to_stopped_ones(engine: FakeEngine) -> None:
    deploy(engine, replace(PLAIN, name="old"), start=False)
    deploy(engine, PLAIN)
    assert find(engine, None).name == "tracking"


def test_a_stopped_one_is_found_too(engine: FakeEngine) -> None:
    deploy(engine, PLAIN, start=False)
    assert find(engine, None).name == "tracking"


def test_mlflowds_own_and_those_that_it_took_over_are_none(engine: FakeEngine) -> None:
    deploy(engine, replace(PLAIN, name="mlflowd", labels={LABEL_SPEC: "x"}), replace(PLAIN, name=f"x{RETIRED}"))
    with pytest.raises(NotUnderstoodError, match="no container that runs an MLflow server"):
        find(engine, None)


def test_of_several_one_has_to_be_named(engine: FakeEngine) -> None:
    deploy(engine, PLAIN, replace(PLAIN, name="other"))
    with pytest.raises(NotUnderstoodError, match="2 containers that run MLflow: other, tracking") as caught:
        find(engine, None)
    assert "mlflowd adopt other" in caught.value.hint
    assert find(engine, "other").name == "other"


def test_a_container_is_found_by_its_id_and_by_the_ids_beginning(engine: FakeEngine) -> None:
    (container_id,) = deploy(engine, PLAIN)
    assert find(engine, container_id).name == find(engine, container_id[:12]).name == "tracking"


def test_what_is_not_there_is_refused_with_what_there_is(engine: FakeEngine) -> None:
    deploy(engine, PLAIN)
    with pytest.raises(RefusedError, match=r"no container nothing.*: tracking"):
        find(engine, "nothing")


# --- compose ------------------------------------------------------------------------------------


def composed(file: str, directory: Path, **labels: str) -> dict[str, str]:
    named = {
        "project.config_files": file,
        "project.working_dir": str(directory),
        "service": "mlflow",
        "oneoff": "False",
        **labels,
    }
    return {f"com.docker.compose.{name}": value for name, value in named.items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "docker-compose.yml"
    path.write_text("services: {}\n")
    return path


@pytest.mark.parametrize(
    "written",
    [
        "{top}/docker-compose.yml",
        "docker-compose.yml",
        "./docker-compose.yml",
        "{top}/docker-compose.yml,{top}/override.yml",
    ],
    ids=["a whole path, as version 2 tells", "a name, as version 1", "a relative path", "several files"],
)
def test_a_compose_file_means_what_was_made_from_it(engine: FakeEngine, file: Path, written: str) -> None:
    labels = composed(written.format(top=file.parent), file.parent)
    deploy(engine, replace(PLAIN, labels=labels), replace(PLAIN, name="other"), replace(POSTGRES, labels=labels))
    assert find(engine, str(file)).name == "tracking"
    assert find(engine, str(file.parent)).name == "tracking"


def test_a_relative_path_and_a_link_are_the_file(
    engine: FakeEngine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(engine, replace(PLAIN, labels=composed(str(file), file.parent)))
    monkeypatch.chdir(file.parent)
    (file.parent / "link.yml").symlink_to(file)
    assert find(engine, "docker-compose.yml").name == find(engine, "link.yml").name == "tracking"


def test_a_file_without_containers_is_to_be_brought_up_first(engine: FakeEngine, file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    deploy(engine, replace(PLAIN, labels=composed("docker-compose.yml", tmp_path / "other")))
    with pytest.raises(RefusedError, match="reads what runs, not what is written") as caught:
        find(engine, str(file))
    assert f"docker compose -f {file} up -d" in caught.value.hint


def test_a_project_without_mlflow_is_refused(engine: FakeEngine, file: Path) -> None:
    deploy(engine, replace(POSTGRES, labels=composed(str(file), file.parent)))
    with pytest.raises(NotUnderstoodError, match="no container that runs an MLflow server"):
        find(engine, str(file))


def test_replicas_are_refused(engine: FakeEngine, file: Path) -> None:
    labels = composed(str(file), file.parent)
    deploy(engine, replace(PLAIN, name="p-1", labels=labels), replace(PLAIN, name="p-2", labels=labels))
    with pytest.raises(NotUnderstoodError, match=r"mlflow has 2 replicas \(p-1, p-2\)"):
        find(engine, str(file))


def test_a_one_off_run_is_none_of_the_project(engine: FakeEngine, file: Path) -> None:
    labels = composed(str(file), file.parent)
    run = replace(PLAIN, name="run", labels={**labels, "com.docker.compose.oneoff": "True"})
    deploy(engine, replace(PLAIN, labels=labels), run)
    assert find(engine, str(file)).name == "tracking"


# --- what is beside it --------------------------------------------------------------------------


def test_the_image_is_asked_what_it_can_do(engine: FakeEngine) -> None:
    deploy(engine, PLAIN)
    able = facts(engine, find(engine, None)).able
    assert able
    assert (able.mlflow, "flask-wtf" in able.packages) == ("3.17.2", True)


def test_an_image_that_cannot_answer_has_no_mlflow(engine: FakeEngine) -> None:
    deploy(engine, PLAIN)
    engine.fail("ask", EngineError("no python"))
    assert facts(engine, find(engine, None)).able is None


def test_an_engine_that_does_not_answer_is_no_image_without_mlflow(engine: FakeEngine) -> None:
    deploy(engine, PLAIN)
    engine.fail("ask", EngineUnreachableError("down"))
    with pytest.raises(EngineUnreachableError):
        facts(engine, find(engine, None))


def test_a_tag_that_moved_is_not_the_image(engine: FakeEngine) -> None:
    deploy(engine, PLAIN)
    assert facts(engine, find(engine, None)).reference == "registry/mlflow:v3.17.2"
    engine.add_image(Image("sha256:2", ("registry/mlflow:v3.17.2",), {}))
    assert facts(engine, find(engine, None)).reference == "sha256:1"


def test_other_containers_are_told(engine: FakeEngine) -> None:
    deploy(engine, PLAIN, POSTGRES)
    assert [each.name for each in facts(engine, find(engine, None)).others] == ["db"]


def test_sources_that_are_gone_are_told(engine: FakeEngine, tmp_path: Path) -> None:
    deploy(engine, replace(PLAIN, mounts=(bind(str(tmp_path), "/a"), bind(f"{tmp_path}/gone", "/b"))))
    assert facts(engine, find(engine, None)).gone == {f"{tmp_path}/gone"}


def test_mlflows_default_places_are_told_where_they_hold_something(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlartifacts").mkdir()
    deploy(engine, replace(told(), working_dir="/data", mounts=(bind(str(tmp_path), "/data"),)))
    assert facts(engine, find(engine, None)).holding == frozenset()
    (tmp_path / "mlruns" / "0" / "meta.yaml").touch()
    (tmp_path / "mlartifacts" / "0" / "run").mkdir(parents=True)
    assert facts(engine, find(engine, None)).holding == {"/data/mlruns", "/data/mlartifacts"}


def test_they_are_also_looked_for_inside(engine: FakeEngine) -> None:
    (container_id,) = deploy(engine, replace(told(), working_dir="/data", mounts=()))
    engine.inside[container_id, "/data/mlruns/0/meta.yaml"] = b"x"
    assert facts(engine, find(engine, None)).holding == {"/data/mlruns"}


def test_files_that_variables_name_are_read_on_this_machine_and_inside(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "auth.ini").write_text("[mlflow]\n")
    environment = {"MLFLOW_AUTH_CONFIG_PATH": "/data/auth.ini", "GOOGLE_APPLICATION_CREDENTIALS": "/keys/key.json"}
    (container_id,) = deploy(engine, replace(told(**environment), mounts=(bind(str(tmp_path), "/data"),)))
    engine.inside[container_id, "/keys/key.json"] = b"{}"
    found = facts(engine, find(engine, None))
    assert dict(found.files) == {"/data/auth.ini": "[mlflow]\n", "/keys/key.json": "{}"}
    assert "[mlflow]" not in repr(found)
