from __future__ import annotations

from typing import Any

import pytest

from mlflowd.config import Settings
from mlflowd.errors import ExitStatus
from mlflowd.model import ContainerSpec, Finding, Image, Level
from mlflowd.server import command
from mlflowd.server.abilities import Abilities
from mlflowd.server.inquiry import Answer, Kind
from mlflowd.server.wiring import Machine
from mlflowd.stores import fingerprint, remote, remote_artifacts

PACKAGES = frozenset({"psycopg2-binary", "pymysql", "cryptography", "pymssql", "boto3"})
ABLE = Abilities("3.17.2", "3.13", True, True, PACKAGES, revisions=("a1", "b2"), head="b2")
URIS = {
    "postgresql": "postgresql://mlflow@db1/models",
    "mysql": "mysql://mlflow@db1/models",
    "mssql": "mssql://mlflow@db1/models",
}
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
FILLED = Answer(Kind.OK, "look", version="PostgreSQL 15.3", revision="b2", identity="0@17", tables=58, ours=2)
EMPTY = Answer(Kind.OK, "create", version="PostgreSQL 15.3")
SOLVED = frozenset({Kind.OK, Kind.UNASKED})
OF_ARTIFACTS = frozenset({Kind.HOST_KEY, Kind.HOST_KEY_OTHER, Kind.KEY, Kind.REGION, Kind.CLOCK})
OF_DATABASES = frozenset({Kind.READ_ONLY, Kind.NOT_ADMITTED})


def configured(uri: str = URIS["postgresql"]) -> Settings:
    return Settings.model_validate({"backend_store": {"uri": uri}})


def spec(settings: Settings) -> ContainerSpec:
    return command.container_spec(settings, Image("sha256:0", (), {}), ABLE, Machine(1, 1))


def look(answer: Answer, uri: str = URIS["postgresql"], served: fingerprint.Fingerprint | None = None) -> list[Finding]:
    settings = configured(uri)
    return remote.check(settings, answer, served, ABLE, spec(settings))


def by_check(found: list[Finding]) -> dict[str, Finding]:
    return {each.check: each for each in found}


@pytest.mark.parametrize("dialect", URIS)
@pytest.mark.parametrize("kind", sorted(set(Kind) - SOLVED - OF_ARTIFACTS))
def test_every_kind_of_refusal_has_a_sentence_and_a_remedy(kind: Kind, dialect: str) -> None:
    (found,) = look(Answer(kind, "login", "the server's words"), URIS[dialect])
    assert found.level is Level.FAILURE
    assert found.exit_status == ExitStatus.REFUSED
    assert found.transient is (kind.away or kind is Kind.OTHER)
    assert found.remedy
    assert not {"{", "}"} & {*found.message, *found.remedy}
    if kind not in {Kind.NO_HOST, Kind.NO_NAMES, Kind.DRIVER}:
        assert f"db1:{PORTS[dialect]}" in found.message


def test_the_sentences_are_in_the_user_s_terms() -> None:
    told = {kind: look(Answer(kind, "login"))[0].message for kind in set(Kind) - SOLVED - OF_ARTIFACTS}
    assert told[Kind.NO_HOST] == "There is no host named db1 (backend_store.uri)."
    assert told[Kind.REFUSED] == "db1:5432 refuses connections: no database listens there."
    assert told[Kind.SILENT] == "db1:5432 does not answer within 10 s."
    assert told[Kind.LOGIN] == "The database at db1:5432 refuses the password of the user mlflow."
    assert told[Kind.ABSENT] == "The database models does not exist at db1:5432."


def test_a_socket_is_named_as_one() -> None:
    (found,) = look(Answer(Kind.REFUSED, "login"), "postgresql://mlflow@/models?host=/run/postgresql")
    assert found.message == "its socket on this machine refuses connections: no database listens there."


def test_an_image_that_loads_too_slowly_blocks_nothing() -> None:
    assert [each.level for each in look(Answer(Kind.UNASKED, "load"))] == [Level.WARNING]


def test_a_database_that_hangs_after_the_login_is_told_apart() -> None:
    assert "lets the user mlflow in" in look(Answer(Kind.SILENT, "look"))[0].message


def test_a_database_that_answers_passes_and_may_be_new() -> None:
    assert {each.level for each in look(FILLED)} == {Level.OK}
    assert "the server fills it" in by_check(look(EMPTY))["database: fingerprint"].message


def test_an_older_schema_is_told_and_migrated_by_the_start() -> None:
    found = by_check(look(Answer(Kind.OK, "look", revision="a1", tables=58, ours=2)))["database: schema"]
    assert (found.level, found.migrates) == (Level.WARNING, True)
    assert "works with b2 alone: the next start migrates it" in found.message


@pytest.mark.parametrize(("uri", "revision"), [("postgresql://mlflow@db1/m", "c3"), ("mssql://mlflow@db1/m", "a1")])
def test_a_schema_that_mlflowd_cannot_migrate_is_refused(uri: str, revision: str) -> None:
    found = by_check(look(Answer(Kind.OK, "look", revision=revision, tables=58, ours=2), uri))["database: schema"]
    assert (found.level, found.exit_status, found.transient) == (Level.FAILURE, ExitStatus.REFUSED, False)
    assert not found.migrates


def test_an_empty_twin_is_refused_and_another_database_is_told() -> None:
    settings = configured()
    served = fingerprint.remote(settings.backend_store.database, "0@17")
    assert by_check(look(FILLED, served=served))["database: fingerprint"].message.endswith(
        "is the database served last"
    )
    other = fingerprint.remote(settings.backend_store.database, "0@16")
    assert by_check(look(FILLED, served=other))["database: fingerprint"].level is Level.WARNING
    twin = by_check(look(EMPTY, served=served))["database: fingerprint"]
    assert (twin.level, twin.exit_status) == (Level.FAILURE, ExitStatus.REFUSED)
    assert "--accept-database" in twin.remedy
    moved = look(EMPTY, "postgresql://mlflow@db2/models", served)
    assert "the one served last is postgresql://mlflow@db1/models" in by_check(moved)["database: fingerprint"].message


def test_tables_of_others_make_no_database_of_mlflow() -> None:
    others = Answer(Kind.OK, "create", version="PostgreSQL 15.3", tables=7, ours=0)
    served = fingerprint.remote(configured().backend_store.database, "0@17")
    assert by_check(look(others, served=served))["database: fingerprint"].level is Level.FAILURE


STORES: dict[str, dict[str, Any]] = {
    "s3": {"uri": "s3://models/mlflow", "endpoint": "https://minio1:9000"},
    "aws": {"uri": "s3://models/mlflow"},
    "gs": {"uri": "gs://models"},
    "azure": {"uri": "wasbs://models@account.blob.core.windows.net/x"},
    "sftp": {"uri": "sftp://mlflow@nas1/srv/models", "known_hosts": "/etc/known", "password": "env:X"},
    "ftp": {"uri": "ftp://mlflow@nas1/srv/models"},
}


def keeps(answer: Answer, store: str = "s3") -> Finding:
    return remote_artifacts.check(Settings.model_validate({"artifact_store": STORES[store]}), answer)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", sorted(set(Kind) - SOLVED - OF_DATABASES))
def test_every_kind_of_artifact_store_has_its_sentence(kind: Kind, store: str) -> None:
    found = keeps(Answer(kind, "list", "the store's words"), store)
    expected = Level.WARNING if kind.away or kind in {Kind.OTHER, Kind.CLOCK} else Level.FAILURE
    assert found.level is expected
    assert found.remedy
    assert not found.transient
    assert not {"{", "}"} & {*found.message, *found.remedy, *found.check}


def test_the_bucket_and_its_keys_are_named() -> None:
    absent = keeps(Answer(Kind.ABSENT, "list"))
    assert absent.message == "The bucket models does not exist or is not readable with these credentials."
    assert absent.check == "artifact store: bucket"
    assert keeps(Answer(Kind.NO_HOST, "name")).message == "There is no host named minio1 (artifact_store.endpoint)."
    assert keeps(Answer(Kind.REFUSED)).message == "minio1:9000 refuses connections: no S3 server listens there."
    assert "artifact_store.ca_file" in keeps(Answer(Kind.TLS, "list", "verify failed")).remedy
    assert "ssh-keyscan -p 22 nas1" in keeps(Answer(Kind.HOST_KEY, "login"), "sftp").remedy
    assert "The container models" in keeps(Answer(Kind.ABSENT, "list"), "azure").message
    assert "The directory /srv/models" in keeps(Answer(Kind.ABSENT, "list"), "ftp").message


def test_what_cannot_be_written_is_refused_and_what_cannot_be_deleted_is_told() -> None:
    written = keeps(Answer(Kind.DENIED, "write", "Access Denied"))
    assert (written.level, written.message) == (
        Level.FAILURE,
        "Nothing can be written to the bucket models with these credentials.",
    )
    deleted = keeps(Answer(Kind.DENIED, "delete", "Access Denied"))
    assert deleted.level is Level.WARNING
    assert "Nothing can be deleted" in deleted.message


def test_a_store_that_works_is_said_to() -> None:
    assert keeps(Answer(Kind.OK, "delete")).message == "the bucket models keeps, gives back and deletes an object"
    assert keeps(Answer(Kind.UNASKED, "load")).level is Level.WARNING
