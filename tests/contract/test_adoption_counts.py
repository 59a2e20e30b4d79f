"""A deployment on a real PostgreSQL is understood and counted by its own image, before anything is changed."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import docker
import pytest

from mlflowd.model import Address
from mlflowd.model.deployed import Publication
from mlflowd.operations.adoption.counts import count
from mlflowd.operations.adoption.facts import Facts
from mlflowd.operations.adoption.understand import understand
from mlflowd.server import abilities
from services.postgres import running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.conftest import ImageWith
    from mlflowd.engine.docker import DockerEngine

pytestmark = pytest.mark.engine

TABLES = """
CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT);
CREATE TABLE registered_models (name TEXT);
CREATE TABLE trace_tags (request_id TEXT, key TEXT, value TEXT);
INSERT INTO experiments VALUES (0, '/mlflow/mlruns/0'), (1, 'mlflow-artifacts:/1');
INSERT INTO runs VALUES ('a', '/mlflow/mlruns/0/a/artifacts'), ('b', 'mlflow-artifacts:/1/b/artifacts');
INSERT INTO trace_tags VALUES ('t', 'mlflow.artifactLocation', '/mlflow/mlruns/0/traces/t/artifacts');
"""
PASSWORD = "p@ss/w:rd %41"  # noqa: S105 - a test's


@pytest.fixture
def bridge(engine_socket: str) -> str:
    """The address of this machine that containers reach."""
    with closing(docker.APIClient(f"unix://{engine_socket}", version="1.41")) as api:
        return str(api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"])


@contextmanager
def made(engine_socket: str, image_id: str, command: list[str]) -> Iterator[str]:
    """A container of this command, which is not started."""
    with closing(docker.APIClient(f"unix://{engine_socket}", version="1.41")) as api:
        container_id = str(api.create_container(image_id, command)["Id"])
        try:
            yield container_id
        finally:
            api.remove_container(container_id)


def test_a_database_server_is_counted(
    engine: DockerEngine, image_with: ImageWith, engine_socket: str, bridge: str
) -> None:
    image = image_with("psycopg2-binary")
    able = abilities.parse(engine.ask(image.id, abilities.QUESTION, 60.0), "the test's image")
    with running_postgres((bridge,), password=PASSWORD) as postgres:
        postgres.sql(f'SET ROLE "{postgres.user}"; {TABLES}', postgres.database)
        uri = f"postgresql://{postgres.user}:p%40ss%2Fw%3Ard %2541@{bridge}:{postgres.port}/{postgres.database}"
        command = ["mlflow", "server", "--backend-store-uri", uri.replace(" ", "%20"), "--host", "192.0.2.1"]
        with made(engine_socket, image.id, command) as container_id:
            container = engine.deployed(container_id)
            assert container
            container = replace(container, published=(Publication(5000, Address("127.0.0.1", 5000)),))
            found = count(understand(container, Facts(able=able, reference=image.id)), engine)
    assert found.notes == ()
    assert (found.known, found.experiments, found.runs, found.models) == (True, 2, 2, 0)
    assert dict(found.columns) == {"experiments.artifact_location": 1, "runs.artifact_uri": 1, "trace_tags.value": 1}
    assert [(each.path, each.used) for each in found.prefixes] == [("/mlflow/mlruns", 2)]
