"""Command lines as people write them: in docker run, in compose files, in the CMD of an image."""

from __future__ import annotations

from typing import Any

import pytest

from mlflowd.operations.adoption.commandline import UnreadableError, is_server, leftover, read

DATABASE = "--backend-store-uri"
PLAIN = {DATABASE: "sqlite:///x.db", "--host": "192.0.2.1", "--port": "5000"}
ENVIRONMENT = {"POSTGRES_USER": "mlflow", "POSTGRES_PASSWORD": "secret", "POSTGRES_DB": "mlflow", "PORT": "5000"}


def options(*argv: str, **environment: str) -> dict[str, str]:
    return dict(read(argv, environment, "/").options)


REST = ("--host", "192.0.2.1", "--port", "5000")
WORDS = ("mlflow", "server", DATABASE, "sqlite:///x.db", *REST)
SERVER = " ".join(WORDS)
FORMS: dict[str, tuple[str, ...]] = {
    "words": WORDS,
    "the old name": ("mlflow", "ui", *WORDS[2:]),
    "equals signs": ("mlflow", "server", f"{DATABASE}=sqlite:///x.db", "--host=192.0.2.1", "--port=5000"),
    "short options": (*WORDS[:4], "-h", "192.0.2.1", "-p", "5000"),
    "short options, glued": (*WORDS[:4], "-h192.0.2.1", "-p5000"),
    "a path": ("/usr/local/bin/mlflow", *WORDS[1:]),
    "python": ("python3.11", "-m", *WORDS),
    "an init": ("tini", "-g", "--", *WORDS),
    "env": ("env", "A=b", *WORDS),
    "a shell": ("sh", "-c", SERVER),
    "a login shell": ("/bin/bash", "-lc", SERVER),
    "flags apart": ("bash", "-e", "-c", SERVER),
    "exec": ("bash", "-c", f"exec {SERVER}"),
    "pip first": ("bash", "-c", f"pip install boto3 && {SERVER}"),
    "many lines": ("sh", "-c", "\nset -e\nmkdir -p /x\n" + SERVER.replace(" --", " \\\n  --") + "\n"),
    "a variable of the shell": ("sh", "-c", SERVER.replace("5000", "${NO_PORT:-5000}")),
    "an assignment": ("sh", "-c", f"X=1 {SERVER}"),
    "an export": ("sh", "-c", f"export P=5000; {SERVER.replace('5000', '$P')}"),
    "a variable of the script": ("sh", "-c", f"P=5000\n{SERVER.replace('5000', '$P')}"),
    "a migration first": ("sh", "-c", f"mlflow db upgrade sqlite:///x.db && {SERVER}"),
    "a script that waits": ("./wait-for-it.sh", "db:5432", "-t", "60", "--", *WORDS),
    "a script that waits, in a shell": ("sh", "-c", f"./wait-for-it.sh db:5432 -- {SERVER}"),
    "a loop that waits": ("sh", "-c", f"until nc -z db 5432; do echo waiting; sleep 1; done; {SERVER}"),
    "a sleep": ("bash", "-c", f"sleep 5 && {SERVER}"),
    "a log file": ("sh", "-c", f"{SERVER} 2>&1 | tee /var/log/mlflow.log"),
    "a log file, by itself": ("sh", "-c", f"exec {SERVER} >> /var/log/mlflow.log 2>&1"),
}


@pytest.mark.parametrize("argv", FORMS.values(), ids=FORMS)
def test_however_it_is_written_it_is_read(argv: tuple[str, ...]) -> None:
    assert is_server(argv)
    assert options(*argv) == PLAIN


def test_a_shell_puts_variables_in() -> None:
    script = 'mlflow server --backend-store-uri "postgresql://${POSTGRES_USER}:$POSTGRES_PASSWORD@db/${POSTGRES_DB}"'
    found = read(("sh", "-c", script), ENVIRONMENT, "/")
    assert found.get(DATABASE) == "postgresql://mlflow:secret@db/mlflow"
    assert found.used == {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"}


def test_without_a_shell_nothing_is_put_in() -> None:
    assert options("mlflow", "server", DATABASE, "$DB", DB="sqlite:///x.db") == {DATABASE: "$DB"}


def test_secrets_are_in_no_repr() -> None:
    assert "secret" not in repr(read(("mlflow", "server", DATABASE, "postgresql://u:secret@db/x"), {}, "/"))


def test_every_option_has_a_variable_and_the_option_overrules_it() -> None:
    assert options("mlflow", "server", MLFLOW_HOST="192.0.2.1", MLFLOW_PORT="1") == {
        "--host": "192.0.2.1",
        "--port": "1",
    }
    assert options("mlflow", "server", "-p", "2", MLFLOW_PORT="1") == {"--port": "2"}


@pytest.mark.parametrize(
    ("argv", "environment", "served"),
    [
        ((), {}, True),
        (("--serve-artifacts",), {}, True),
        (("--no-serve-artifacts",), {}, False),
        ((), {"MLFLOW_SERVE_ARTIFACTS": "false"}, False),
        ((), {"MLFLOW_SERVE_ARTIFACTS": "1"}, True),
        (("--serve-artifacts",), {"MLFLOW_SERVE_ARTIFACTS": "false"}, True),
    ],
)
def test_a_flag_is_on_or_off(argv: tuple[str, ...], environment: dict[str, str], served: bool) -> None:
    told = read(("mlflow", "server", *argv), environment, "/")
    assert told.flag("--serve-artifacts", default=True) is served


def test_pip_tells_the_packages() -> None:
    script = "pip install --upgrade pip && python -m pip install -q psycopg2-binary 'boto3>=1.28' && mlflow server"
    assert read(("sh", "-c", script), {}, "/").packages == ("psycopg2-binary", "boto3>=1.28")


def test_cd_changes_what_is_relative() -> None:
    assert read(("sh", "-c", "cd data && mlflow server"), {}, "/srv").working_dir == "/srv/data"


def test_unknown_options_are_named_and_their_values_are_not() -> None:
    told = read(("mlflow", "server", "--new-thing", "secret", "--port", "1"), {}, "/")
    assert told.unknown == ("--new-thing",)
    assert told.get("--port") == "1"


def test_what_is_no_option_of_the_server_is_left_over() -> None:
    told = read(("mlflow", "server"), {"MLFLOW_HOST": "x", "AWS_REGION": "y"}, "/")
    assert dict(leftover(told)) == {"AWS_REGION": "y"}


UNREADABLE: dict[str, tuple[tuple[str, ...], str]] = {
    "a script file": (("/entrypoint.sh", "mlflow", "server"), "entrypoint.sh, and mlflowd cannot see"),
    "a script file in a shell": (("bash", "/start.sh"), "bash, and mlflowd cannot see"),
    "a script file in a script": (("sh", "-c", "/prepare.sh && mlflow server"), "`prepare.sh` before MLflow"),
    "a program before it": (("sh", "-c", "mc mb minio/mlflow; mlflow server"), "`mc` before MLflow"),
    "a program beside it": (("sh", "-c", "mlflow server & nginx"), "`nginx` beside or after MLflow"),
    "a condition": (("sh", "-c", "if true; then mlflow server; fi"), "not a plain one"),
    "a substitution": (("sh", "-c", "mlflow server -p $(cat /port)"), "computes a part"),
    "variables of a file": (("mlflow", "--env-file", "/x", "server"), "--env-file"),
    "requirements of a file": (("sh", "-c", "pip install -r /r.txt && mlflow server"), "what a file names"),
    "a package of a directory": (("sh", "-c", "pip install /src && mlflow server"), "what a file names"),
    "gunicorn": (("gunicorn", "-b", ":5000", "mlflow.server:app"), "gunicorn runs MLflow's application itself"),
    "uvicorn": (("uvicorn", "mlflow.server.fastapi_app:app"), "uvicorn runs MLflow's application itself"),
    "a model server": (("mlflow", "models", "serve"), "`mlflow models`, which is no tracking server"),
    "another program": (("sleep", "infinity"), "sleep, and mlflowd cannot see"),
    "nothing": ((), "no command"),
}


@pytest.mark.parametrize(("argv", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_seen_into_is_refused(argv: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason.replace("(", r"\(")):
        read(argv, {}, "/")


@pytest.mark.parametrize(
    "argv",
    [
        ("postgres",),
        ("sh", "-c", "pip install mlflow"),
        ("mlflow", "models", "serve"),
        ("python", "train.py", "mlflow"),
        (),
    ],
)
def test_other_programs_are_no_server(argv: tuple[str, ...]) -> None:
    assert not is_server(argv)


def test_a_value_that_looks_like_an_option_is_a_value() -> None:
    found: Any = options("mlflow", "server", "--gunicorn-opts", "--timeout 60")
    assert found == {"--gunicorn-opts": "--timeout 60"}
