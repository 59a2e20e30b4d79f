"""What an image answers to the question of what it can do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mlflowd.errors import MlflowdError
from mlflowd.server import abilities


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


def test_the_question_works_with_this_python_and_without_importing_what_it_asks_about() -> None:
    command = [sys.executable, *abilities.QUESTION[1:]]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(printed)["packages"]["pytest"] == pytest.__version__
    assert "import mlflow" not in abilities.QUESTION[-1]
