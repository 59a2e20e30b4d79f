"""What an image answers to the question of what it can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mlflowd.errors import MlflowdError
from mlflowd.server import abilities

if TYPE_CHECKING:
    from pathlib import Path


def answer(**packages: str) -> str:
    return json.dumps({"python": "3.11.2", "packages": packages})


def test_an_image_with_uvloop_is_recognised() -> None:
    able = abilities.parse(answer(mlflow="3.17.2", uvloop="0.23.0", httptools="0.9", uvicorn="0.54.0"), "img")
    assert able == abilities.Abilities(
        "3.17.2", "3.11.2", True, True, frozenset({"mlflow", "uvloop", "httptools", "uvicorn"}), "0.54.0"
    )


def test_an_image_without_extras_is_recognised() -> None:
    able = abilities.parse(answer(mlflow="3.10.1"), "img")
    assert (able.uvloop, able.httptools, able.uvicorn) == (False, False, "")


def test_package_names_are_normalised() -> None:
    able = abilities.parse(
        answer(mlflow="3.17.2", Flask_WTF="1", psycopg2_binary="2", **{"zope.interface": "6"}), "img"
    )
    assert {"flask-wtf", "psycopg2-binary", "zope-interface"} <= able.packages


def test_words_before_the_answer_do_no_harm() -> None:
    assert abilities.parse(f"a warning\n{answer(mlflow='3.17.2')}\n", "img").mlflow == "3.17.2"


def test_an_image_without_mlflow_is_named() -> None:
    with pytest.raises(MlflowdError, match=r"image python:3 has no MLflow: .*Python 3\.11\.2") as caught:
        abilities.parse(answer(pip="24"), "python:3")
    assert "image.reference" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"python": "3"}', '{"python": "3", "packages": []}', "Segfault"]
)
def test_an_answer_that_is_none_is_refused_with_what_was_said(text: str) -> None:
    with pytest.raises(MlflowdError, match="does not say what it can do") as caught:
        abilities.parse(text, "img")
    assert "docker run" in caught.value.hint


def test_purelib_revisions_and_head_are_read() -> None:
    told = {"packages": {"mlflow": "3"}, "python": "3.13", "purelib": "/lib", "revisions": ["a", "b"], "heads": ["b"]}
    able = abilities.parse(json.dumps(told), "img")
    assert (able.purelib, able.revisions, able.head) == ("/lib", ("a", "b"), "b")


def test_two_heads_are_none() -> None:
    told = {"packages": {"mlflow": "3"}, "python": "3.13", "heads": ["a", "b"]}
    assert abilities.parse(json.dumps(told), "img").head == ""


MIGRATION = """
\"\"\"down_revision = "in a text"
\"\"\"
# revision identifiers, used by Alembic.
{0}
{1}
branch_labels = None
"""


def test_the_question_reads_revisions_from_the_text_of_the_migrations(tmp_path: Path) -> None:
    versions = tmp_path / "mlflow" / "store" / "db_migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "mlflow" / "__init__.py").write_text("raise SystemExit('imported')\n")
    for name, above, below in (
        ("first", 'revision = "a1"', "down_revision = None"),
        ("second", "revision: str = 'b2'", "down_revision: str | None = 'a1'"),
        ("merge", 'revision = "c3"', 'down_revision = ("b2", "x9")'),
    ):
        (versions / f"{name}_one.py").write_text(MIGRATION.format(above, below).replace('\\"', '"'))
    told = ask(tmp_path)
    assert (sorted(told["revisions"]), told["heads"]) == (["a1", "b2", "c3"], ["c3"])


def test_the_question_is_answered_where_there_are_no_migrations(tmp_path: Path) -> None:
    assert (ask(tmp_path)["revisions"], ask(tmp_path)["heads"]) == ([], [])
    (tmp_path / "mlflow.py").write_text("")
    assert ask(tmp_path)["revisions"] == []


def ask(place: Path) -> dict[str, Any]:
    """Ask this Python, with `place` before all else on its path."""
    command = [sys.executable, *abilities.QUESTION[1:]]
    printed = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(place)}
    ).stdout
    told = json.loads(printed)
    assert told["purelib"].endswith("site-packages")
    return dict(told)


def test_the_question_works_with_this_python_and_without_importing_what_it_asks_about() -> None:
    command = [sys.executable, *abilities.QUESTION[1:]]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(printed)["packages"]["pytest"] == pytest.__version__
    assert "import mlflow" not in abilities.QUESTION[-1]
