from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.worlds import SPEC
from mlflowd.engine import asked
from mlflowd.model import PrivateFile

LIKE = replace(
    SPEC,
    environment=(
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/hunter2"),
        ("MLFLOW_BACKEND_STORE_URI", "postgresql+psycopg2://mlflow:h%C3%BCnter%2F2@db1/mlflow"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("SECRET_FLAG", "on"),
    ),
    files=(PrivateFile("basic_auth.ini", "[mlflow]\nadmin_password = correct-battery\n"),),
)


@pytest.mark.parametrize("secret", ["wJalrXUtnFEMI/hunter2", "h%C3%BCnter%2F2", "hünter/2", "correct-battery"])
def test_no_secret_of_the_container_is_repeated(secret: str) -> None:
    assert asked.masked(f"the program said {secret} twice: {secret}", LIKE) == "the program said *** twice: ***"


def test_the_rest_stays_readable() -> None:
    text = "on true terms the database at db1 refuses mlflow"
    assert asked.masked(text, LIKE) == text
    assert asked.masked("AWS_SECRET_ACCESS_KEY=hunter2", None) == "AWS_SECRET_ACCESS_KEY=hunter2"
