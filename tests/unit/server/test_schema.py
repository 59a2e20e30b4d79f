from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlflowd.config import Settings
from mlflowd.model import ContainerSpec, Image, Secrets
from mlflowd.server import command, schema
from mlflowd.server.abilities import Abilities
from mlflowd.server.schema import State
from mlflowd.server.wiring import Machine

PACKAGES = frozenset({"mlflow", "psycopg2-binary", "pymysql", "cryptography"})
ABLE = Abilities(
    "3.17.2", "3.13.5", True, True, PACKAGES, revisions=("1b5f0d9ad7c1", "dc11669786a5"), head="dc11669786a5"
)
SECRETS = Secrets({"backend_store.password": "geheim-4711"})


def spec(**sections: Any) -> ContainerSpec:
    image = Image("sha256:8c0cb59a31ec040d4dac", ("img",), {})
    return command.container_spec(Settings(**sections), image, ABLE, Machine(990, 991), SECRETS)


SQLITE = spec(backend_store={"uri": "sqlite:////srv/db/mlflow.db"})


@pytest.mark.parametrize(
    ("revision", "state"),
    [
        ("", State.EMPTY),
        ("dc11669786a5", State.FINE),
        ("1b5f0d9ad7c1", State.OLDER),
        ("ffffffffffff", State.UNKNOWN),
    ],
)
def test_a_revision_is_judged_by_what_the_image_knows(revision: str, state: State) -> None:
    verdict = schema.judge(revision, ABLE, SQLITE)
    assert verdict.state is state
    assert verdict.fits is (state in {State.EMPTY, State.FINE})
    assert bool(verdict.sentence) is bool(verdict.remedy) is not verdict.fits


def test_an_image_that_does_not_say_what_it_knows_is_not_judged() -> None:
    mute = replace(ABLE, head="", revisions=())
    assert schema.judge("ffffffffffff", mute, SQLITE).state is State.UNJUDGED


@pytest.mark.parametrize("uri", ["sqlite:////srv/db/mlflow.db", "postgresql://m@db1/m", "mysql://m@db1/m"])
def test_an_older_schema_is_mlflowd_s_to_migrate(uri: str) -> None:
    verdict = schema.judge("1b5f0d9ad7c1", ABLE, spec(backend_store={"uri": uri}))
    assert verdict.migrates
    assert "revision 1b5f0d9ad7c1, and MLflow 3.17.2 works with dc11669786a5 alone" in verdict.sentence
    assert "mlflowd upgrade --rehearse" in verdict.remedy
    assert not schema.judge("ffffffffffff", ABLE, SQLITE).migrates


def test_a_database_that_mlflowd_cannot_copy_is_a_person_s_to_migrate() -> None:
    verdict = schema.judge("1b5f0d9ad7c1", ABLE, spec(backend_store={"uri": "mssql://m@db1/m"}))
    assert not verdict.migrates
    assert "but none back" in verdict.sentence
    assert "mlflow db upgrade mssql+pymssql://m:PASSWORD@db1/m'" in verdict.remedy


def test_sqlite_is_migrated_by_hand_in_its_directory() -> None:
    assert "cp -a /srv/db /srv/db.before-upgrade" in schema.back_up(SQLITE)
    command = "-v /srv/db:/mlflow/backend 8c0cb59a31ec mlflow db upgrade sqlite:////mlflow/backend/mlflow.db"
    assert schema.upgrade(SQLITE) == f"docker run --rm --user 990:991 -e HOME=/tmp {command}"


@pytest.mark.parametrize(
    ("uri", "tool", "driver"),
    [
        ("postgresql://mlflow@db1/models", "pg_dump", "postgresql+psycopg2://mlflow:PASSWORD@db1/models"),
        ("mysql://mlflow@db1/models", "mysqldump", "mysql+pymysql://mlflow:PASSWORD@db1/models"),
        ("postgresql://mlflow:geheim-4711@db1/models", "pg_dump", "postgresql+psycopg2://mlflow:PASSWORD@db1/models"),
    ],
)
def test_a_database_server_s_is_migrated_over_the_network_and_its_password_is_not_told(
    uri: str, tool: str, driver: str
) -> None:
    described = spec(backend_store={"uri": uri})
    assert tool in schema.back_up(described)
    told = schema.upgrade(described)
    assert "--network mlflowd" in told
    assert f'mlflow db upgrade "{driver}' in told
    assert "geheim" not in told


def test_a_database_of_this_machine_is_reached_by_the_same_name() -> None:
    told = schema.upgrade(spec(backend_store={"uri": "postgresql://mlflow@host.docker.internal/models"}))
    assert "--add-host host.docker.internal:host-gateway" in told
    assert "/mlflow/backend" not in told


def test_without_a_container_the_command_has_its_shape() -> None:
    assert schema.upgrade(None).endswith("IMAGE mlflow db upgrade DATABASE_URI")
