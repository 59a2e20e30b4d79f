"""How much data there is: read from a real SQLite file, wherever it lies, and without a change to it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fakes.engine import FakeEngine
from mlflowd.model import ContainerStatus, Image
from mlflowd.operations.adoption import count_script, relocate_script
from mlflowd.operations.adoption.counts import count
from unit.operations.adoption.deployments import PLAIN, bind, told, understood

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.operations.adoption.counts import Counts
    from mlflowd.operations.adoption.deployment import Deployment

RUN = "0123456789abcdef0123456789abcdef"
SCHEMA = """
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, artifact_uri TEXT);
CREATE TABLE logged_models (model_id TEXT PRIMARY KEY, artifact_location TEXT);
CREATE TABLE registered_models (name TEXT PRIMARY KEY);
CREATE TABLE model_versions (name TEXT, version INTEGER, source TEXT, storage_location TEXT);
CREATE TABLE trace_tags (request_id TEXT, key TEXT, value TEXT);
"""
ROWS: dict[str, list[tuple[Any, ...]]] = {
    "experiments": [
        (0, "/data/mlruns/0"),
        (1, "file:///data/mlruns/1"),
        (2, "mlflow-artifacts:/2"),
        (3, "/mnt/nas/team"),
    ],
    "runs": [
        (RUN, f"/data/mlruns/1/{RUN}/artifacts"),
        ("b", "mlflow-artifacts:/2/b/artifacts"),
        ("c", "/mnt/nas/team/c/artifacts"),
        ("d", f"/older/root/7/{RUN}/artifacts"),
    ],
    "logged_models": [("m-1", "file:///data/mlruns/1/models/m-1/artifacts")],
    "registered_models": [("model",)],
    "model_versions": [
        ("model", 1, f"/data/mlruns/1/{RUN}/artifacts/model", "models:/m-1"),
        ("model", 2, "/home/ann/model.pkl", None),
        ("model", 3, "s3://bucket/model", None),
    ],
    "trace_tags": [
        ("t", "mlflow.artifactLocation", "/data/mlruns/1/traces/t/artifacts"),
        ("t", "path", "/data/mlruns/1"),
    ],
}


def fill(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA)
        for table, rows in ROWS.items():
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - names of the test


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    fill(tmp_path / "mlflow.db")
    (tmp_path / "mlruns" / "1" / RUN / "artifacts").mkdir(parents=True)
    (tmp_path / "mlruns" / "1" / RUN / "artifacts" / "a.txt").write_text("twelve bytes")
    container = told("--backend-store-uri", "sqlite:////data/mlflow.db", "--default-artifact-root", "/data/mlruns")
    return understood(replace(container, mounts=(bind(str(tmp_path), "/data"),)))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def counted(deployment: Deployment, engine: FakeEngine) -> Counts:
    """Count, with a container of this id on the engine, for what is copied out of it."""
    container_id = engine.deploy(replace(deployment.container, published=()))
    for (of, path), content in list(engine.inside.items()):
        if of == "inside":
            engine.inside[container_id, path] = content
    return count(replace(deployment, container=replace(deployment.container, id=container_id)), engine)


def test_what_the_database_holds_is_counted(deployment: Deployment, engine: FakeEngine) -> None:
    found = counted(deployment, engine)
    assert (found.known, found.experiments, found.runs, found.models, found.damaged) == (True, 4, 4, 1, "")


def test_every_column_with_server_paths_is_counted(deployment: Deployment, engine: FakeEngine) -> None:
    assert dict(counted(deployment, engine).columns) == {
        "experiments.artifact_location": 3,
        "runs.artifact_uri": 3,
        "logged_models.artifact_location": 1,
        "model_versions.source": 1,
        "trace_tags.value": 1,
    }


def test_the_counts_are_what_a_rewrite_changes(deployment: Deployment, engine: FakeEngine, tmp_path: Path) -> None:
    found = counted(deployment, engine)
    prefixes = [(each.path, "mlflow-artifacts:") for each in found.prefixes]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
        schema = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}
        rows = list(
            relocate_script.find(lambda sql, values: connection.execute(sql, values).fetchall(), schema, prefixes)
        )
    assert len(rows) == found.paths


def test_prefixes_are_roots_and_places_of_one_experiment(deployment: Deployment, engine: FakeEngine) -> None:
    found = {each.path: (each.experiment, each.values, each.used) for each in counted(deployment, engine).prefixes}
    assert found == {"/data/mlruns": ("", 6, 4), "/mnt/nas/team": ("3", 2, 1), "/older/root": ("", 1, 1)}


def test_the_longest_prefix_comes_first(deployment: Deployment, engine: FakeEngine) -> None:
    lengths = [len(each.path) for each in counted(deployment, engine).prefixes]
    assert lengths == sorted(lengths, reverse=True)


def test_what_users_gave_as_a_source_is_no_prefix(deployment: Deployment, engine: FakeEngine) -> None:
    assert counted(deployment, engine).others == 1


def test_the_files_below_a_prefix_are_counted_on_this_machine(deployment: Deployment, engine: FakeEngine) -> None:
    extents = {each.path: each.extent for each in counted(deployment, engine).prefixes}
    assert (extents["/data/mlruns"].files, extents["/data/mlruns"].bytes) == (1, 12)
    assert not extents["/older/root"].there


def test_what_others_may_write_is_counted(deployment: Deployment, engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "mlruns").chmod(0o777)
    (tmp_path / "mlruns" / "1" / RUN / "artifacts" / "a.txt").chmod(0o666)
    (tmp_path / "mlflow.db").chmod(0o666)
    found = counted(deployment, engine)
    assert (found.database.loose, {each.path: each.extent.loose for each in found.prefixes}["/data/mlruns"]) == (1, 2)


def test_what_lies_beside_the_database_is_told(deployment: Deployment, engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").touch()
    assert counted(deployment, engine).beside == ("compose.yml", "mlruns")


@pytest.mark.parametrize("status", [ContainerStatus.RUNNING, ContainerStatus.EXITED])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_counting_changes_nothing(
    deployment: Deployment, engine: FakeEngine, tmp_path: Path, status: ContainerStatus, mode: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    before = (tmp_path / "mlflow.db").read_bytes()
    names = sorted(each.name for each in tmp_path.iterdir())
    stopped = replace(deployment, container=replace(deployment.container, status=status))
    assert counted(stopped, engine).runs == 4
    assert (tmp_path / "mlflow.db").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == names


def torn(tmp_path: Path) -> tuple[bytes, bytes]:
    """A database in mid-transaction, and its hot journal, as a SIGKILL leaves them."""
    path = tmp_path / "torn" / "mlflow.db"
    path.parent.mkdir()
    fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM runs")
        blobs = [(str(number), "x" * 4000) for number in range(200)]
        connection.executemany("INSERT INTO runs VALUES (?, ?)", blobs)  # more than the cache: pages go to the file
        return path.read_bytes(), path.with_name("mlflow.db-journal").read_bytes()


def test_a_hot_journal_inside_a_stopped_container_is_rolled_back_in_a_copy(engine: FakeEngine, tmp_path: Path) -> None:
    database, journal = torn(tmp_path)
    (tmp_path / "alone.db").write_bytes(database)
    container = told("--backend-store-uri", "sqlite:////data/mlflow.db")
    container = replace(
        container, mounts=(bind(f"{tmp_path}/alone.db", "/data/mlflow.db"),), status=ContainerStatus.EXITED
    )
    engine.inside["inside", "/data/mlflow.db-journal"] = journal
    found = counted(understood(container), engine)
    assert (found.runs, found.damaged) == (4, "")
    assert found.journal == ("-journal (inside the container)",)
    assert (tmp_path / "alone.db").read_bytes() == database


def test_a_hot_journal_beside_the_database_is_too(engine: FakeEngine, tmp_path: Path) -> None:
    database, journal = torn(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(database)
    (tmp_path / "mlflow.db-journal").write_bytes(journal)
    container = replace(PLAIN, mounts=(bind(str(tmp_path), "/data"),), status=ContainerStatus.EXITED)
    found = counted(understood(container), engine)
    assert (found.runs, found.journal) == (4, ("-journal",))
    assert (tmp_path / "mlflow.db-journal").read_bytes() == journal


def test_a_database_inside_the_container_is_counted(engine: FakeEngine, tmp_path: Path) -> None:
    fill(tmp_path / "mlflow.db")
    engine.inside["inside", "/mlflow.db"] = (tmp_path / "mlflow.db").read_bytes()
    assert counted(understood(replace(told(), mounts=())), engine).runs == 4


@pytest.mark.parametrize("content", [b"garbage" * 1000, b""], ids=["garbage", "empty"])
def test_what_is_no_database_is_said(
    deployment: Deployment, engine: FakeEngine, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    found = counted(deployment, engine)
    assert (found.known, bool(found.damaged)) == (False, True)
    assert str(tmp_path / "mlflow.db") in found.damaged


FILES = {
    "0/meta.yaml": "artifact_location: mlflow-artifacts:/0\nname: Default\n",
    "1/meta.yaml": "artifact_location: /data/1\nexperiment_id: '1'\nname: one\n",
    f"1/{RUN}/meta.yaml": f"artifact_uri: /data/1/{RUN}/artifacts\nend_time: null\n",
    f"1/{RUN}/artifacts/a.txt": "x",
    "1/models/m-1/meta.yaml": "artifact_location: file:///data/1/models/m-1/artifacts\n",
    ".trash/2/meta.yaml": "artifact_location: /data/2\n",
    "models/one/meta.yaml": "name: one\n",
    "models/one/version-1/meta.yaml": f"name: one\nsource: /data/1/{RUN}/artifacts/m\nstorage_location: null\n",
    "notes/readme": "x",
}


def test_a_file_store_is_counted_by_its_files(engine: FakeEngine, tmp_path: Path) -> None:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    container = replace(told("--backend-store-uri", "/data"), mounts=(bind(str(tmp_path), "/data"),))
    found = counted(understood(container), engine)
    assert (found.known, found.experiments, found.runs, found.models) == (True, 3, 1, 1)
    assert dict(found.columns) == {
        "experiments.artifact_location": 2,
        "runs.artifact_uri": 1,
        "logged_models.artifact_location": 1,
        "model_versions.source": 1,
    }
    assert [(each.path, each.experiment, each.used) for each in found.prefixes] == [("/data", "", 3)]


def test_a_file_store_inside_the_container_is_said_not_to_be_counted(engine: FakeEngine) -> None:
    found = counted(understood(replace(told("--backend-store-uri", "/data"), mounts=())), engine)
    assert not found.known
    assert "not on this machine" in found.notes[0]


SERVER = told("--backend-store-uri", "postgresql://u:secret@db.example/x", "--artifacts-destination", "s3://bucket/x")


def test_a_database_server_is_asked_by_the_deployments_own_image(engine: FakeEngine) -> None:
    engine.stores = json.dumps(
        {
            "experiments": 2,
            "runs": 5,
            "models": 1,
            "columns": {"runs.artifact_uri": {"/old": 3}},
            "prefixes": {"/old": {"experiment": "", "experiments": 1}},
            "others": 0,
        }
    )
    found = counted(understood(SERVER), with_image(engine))
    assert (found.known, found.runs, found.paths) == (True, 5, 3)
    (like,) = engine.liked
    assert dict(like.environment)["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql")
    assert like.mounts == ()


def test_one_that_cannot_be_asked_is_said_and_no_reason(engine: FakeEngine) -> None:
    engine.stores = "no JSON"
    found = counted(understood(SERVER), with_image(engine))
    assert not found.known
    assert "could not be counted" in found.notes[0]


def with_image(engine: FakeEngine) -> FakeEngine:
    engine.add_image(Image("sha256:1", ("registry/mlflow:v3.17.2",), {}))
    return engine


def test_locations_are_read_as_the_rewriter_reads_them() -> None:
    for location in ("/a b", "file:/a", "file:///a%20b", "file://localhost/a", "./x", "s3://a"):
        assert count_script.plain(location) == relocate_script.plain(location)
    assert not any(map(count_script.is_path, ("s3://a", "mlflow-artifacts:/1", "models:/m-1", "runs:/x")))
