from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fakes.worlds import SPEC
from mlflowd.server import migrating

if TYPE_CHECKING:
    from mlflowd.model import ContainerSpec


def on(uri: str) -> ContainerSpec:
    return replace(SPEC, environment=(("HOME", "/tmp"), (migrating.URI, uri)))  # noqa: S108 - the container's own


def test_the_uri_and_so_its_password_stands_in_no_command_line() -> None:
    like = migrating.prepared(on("postgresql+psycopg2://m:geheim@db1/m"))
    assert dict(like.environment)[migrating.URI] == "postgresql+psycopg2://m:geheim@db1/m"
    assert not any("geheim" in word or "postgresql" in word for word in migrating.ARGV)


def test_sqlite_is_migrated_without_turns_and_sorts_on_its_own_disk() -> None:
    environment = dict(migrating.prepared(on("sqlite:////mlflow/backend/m.db?plugin=mlflowd_turns")).environment)
    assert environment[migrating.URI] == "sqlite:////mlflow/backend/m.db"
    assert environment["SQLITE_TMPDIR"] == "/mlflow/backend"
    assert environment["HOME"] == "/tmp"  # noqa: S108 - likewise


def test_a_statement_of_a_migration_may_take_longer_than_a_request() -> None:
    like = migrating.prepared(on("mysql+pymysql://m@db1/m?read_timeout=120&write_timeout=120"))
    assert dict(like.environment)[migrating.URI] == "mysql+pymysql://m@db1/m"


def test_the_revision_that_was_reached_is_the_last_that_is_said() -> None:
    assert migrating.revision("INFO x\nThe schema is revision dc11669786a5\n") == "dc11669786a5"
    assert migrating.revision("INFO x") == ""


TRACEBACK = """Traceback (most recent call last):
  File "/opt/mlflow/lib/python3.13/site-packages/sqlalchemy/engine/base.py", line 1, in x
{error}
[SQL: ALTER TABLE runs ADD COLUMN x INTEGER]
(Background on this error at: https://sqlalche.me/e/20/e3q8)"""


@pytest.mark.parametrize(
    ("error", "sentence", "remedy"),
    [
        ("alembic.util.exc.CommandError: Can't locate revision identified by 'ffffffffffff'",
         "does not know the database's revision ffffffffffff", "set image.reference"),
        ("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database or disk is full",
         "database or disk is full", "make room"),
        ("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) duplicate column name: x",
         "(sqlite3.OperationalError) duplicate column name: x.", ""),
        ("The schema is revision a1 after the migration, not b2.", "is revision a1 after the migration, not b2.", ""),
        ("RuntimeError: Cannot backfill: " + "x" * 999, "RuntimeError: Cannot backfill: xxx", ""),
    ],
)  # fmt: skip
def test_a_failure_is_told_by_its_most_telling_line(error: str, sentence: str, remedy: str) -> None:
    said, helps = migrating.explain(TRACEBACK.format(error=error))
    assert sentence in said
    assert len(said) < 400
    assert helps.startswith(remedy)
    assert bool(helps) is bool(remedy)


def test_words_without_an_exception_are_told_by_the_last_line() -> None:
    assert migrating.explain("one\nkilled by a moth\n")[0].endswith("failed: killed by a moth.")
    assert migrating.explain("")[0]
