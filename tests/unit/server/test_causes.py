"""Every known cause, recognised in a log that the real server wrote, and in no other.

logs/KEY.VARIANT.log: "exit STATUS [oom]", then the engine's log with its timestamps, frames of long tracebacks and
repetitions left out. A KEY of "none" is a log that explains no end.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from mlflowd.config import Settings
from mlflowd.model import Image, KnownCause
from mlflowd.server import causes, command, loglines
from mlflowd.server.abilities import Abilities
from mlflowd.server.rules import RULES
from mlflowd.server.wiring import Machine

LOGS = Path(__file__).parent / "logs"
CURABLE = {
    "bad-argument",
    "database-locked",
    "database-unreachable",
    "disk-full",
    "out-of-memory",
    "port-in-use",
    "process-limit",
}
SPEC = command.container_spec(
    Settings(backend_store={"uri": "sqlite:////srv/db/mlflow.db"}),
    Image("sha256:0", ("img",), {}),
    Abilities("3.17.2", "3.11.2", True, True, frozenset()),
    Machine(990, 991),
)


class Run(NamedTuple):
    """One run of the server: how it ended and what it said."""

    exit_code: int
    oom_killed: bool
    lines: list[str]


def read(path: Path) -> Run:
    end, _, log = path.read_text().partition("\n")
    _, status, *oom = end.split()
    return Run(int(status), oom == ["oom"], [line.text for line in loglines.read_all(log.encode().splitlines())])


def recognised(name: str) -> KnownCause:
    run = read(LOGS / f"{name}.log")
    cause = causes.recognise(run.lines, run.exit_code, run.oom_killed, SPEC)
    assert cause is not None
    return cause


def paths() -> list[Path]:
    return sorted(LOGS.glob("*.log"))


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_each_log_is_recognised_as_its_own_cause_alone(path: Path) -> None:
    key = path.name.split(".")[0]
    run = read(path)
    cause = causes.recognise(run.lines, run.exit_code, run.oom_killed)
    assert (cause.key if cause else "none") == key
    if cause:
        assert cause.curable == (key in CURABLE)


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_each_sentence_is_whole_and_holds_no_secret(path: Path) -> None:
    run = read(path)
    cause = causes.recognise(run.lines, run.exit_code, run.oom_killed)
    if cause:
        for text in (cause.message, cause.remedy):
            assert text == text.strip()
            assert "{" not in text
            assert "None" not in text
            assert "geheim" not in text
        assert cause.remedy.endswith(".")


def test_every_rule_has_a_real_log() -> None:
    proven = {path.name.split(".")[0] for path in paths()}
    assert {rule.key for rule in RULES} | {causes.OUT_OF_MEMORY.key} == proven - {"none"}


def test_every_rule_is_in_the_reference_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "known-causes.md").read_text()
    listed = re.findall(r"^\| `([\w-]+)` \|.*\| (yes|no) \|$", page, re.MULTILINE)
    known = {rule.key: rule.curable for rule in RULES} | {causes.OUT_OF_MEMORY.key: True}
    assert {key: curable == "yes" for key, curable in listed} == known


def test_the_schema_s_revisions_and_the_command_that_migrates_are_told() -> None:
    cause = recognised("schema-out-of-date.older")
    assert "revision 1b5f0d9ad7c1" in cause.message
    assert "dc11669786a5" in cause.message
    assert (
        "'docker run --rm --user 990:991 -e HOME=/tmp -v /srv/db:/mlflow/backend 0"
        " mlflow db upgrade sqlite:////mlflow/backend/mlflow.db'" in cause.remedy
    )


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("psycopg2", "psycopg2-binary"),
        ("psycopg", "psycopg[binary]"),
        ("pymysql", "PyMySQL"),
        ("mysqldb", "mysqlclient"),
        ("prometheus", "prometheus-flask-exporter"),
    ],
)
def test_a_missing_driver_is_named_as_the_package_to_install(name: str, package: str) -> None:
    cause = recognised(f"driver-missing.{name}")
    assert f"the Python package {package}," in cause.message
    assert f'"{package}"' in cause.remedy


def test_a_refused_argument_is_quoted() -> None:
    assert recognised("bad-argument.option").message.startswith(
        "MLflow refuses its command line: No such option '--bogus'"
    )


def test_a_database_server_s_uri_is_never_repeated() -> None:
    secret = Settings(server={"environment": {"PGPASSWORD": "geheim"}})
    spec = command.container_spec(
        secret, Image("sha256:0", (), {}), Abilities("3.17.2", "3", True, True, frozenset()), Machine(1, 1)
    )
    line = "Detected out-of-date database schema (found version a1, but expected b2)"
    cause = causes.recognise([line], 1, False, spec)
    assert cause is not None
    assert "geheim" not in cause.remedy


def test_an_error_in_a_request_does_not_explain_an_end() -> None:
    served = read(LOGS / "none.served.log")
    assert any("PermissionError" in line for line in served.lines)
    for status in (0, 1, 137):
        assert causes.recognise(served.lines, status, False) is None
        assert causes.recognise(served.lines[-40:], status, False) is None


def test_memory_explains_an_end_whatever_the_log_says() -> None:
    served = read(LOGS / "none.served.log")
    for status in (0, 137):
        cause = causes.recognise(served.lines, status, True)
        assert cause is not None
        assert cause.key == "out-of-memory"


def test_a_signal_after_serving_needs_no_cause() -> None:
    started = ["Application startup complete.", "[Errno 98] error while attempting to bind"]
    assert causes.recognise(started, 137, False) is None
    assert causes.recognise(started, 0, False) is not None


def test_an_outage_long_after_the_start_explains_no_end() -> None:
    """The last 200 lines of a run may hold nothing but requests that failed."""
    failing = ['FATAL:  password authentication failed for user "mlflow"'] * 3
    assert causes.recognise(failing, 1, False, served=True) is None
    assert causes.recognise(failing, 1, False) is not None


def test_a_server_that_still_tries_is_recognised_before_it_gives_up() -> None:
    run = read(LOGS / "database-unopenable.directory.log")
    early = run.lines[:5]
    assert any("will be retried" in line for line in early)
    cause = causes.recognise(early, 0, False)
    assert cause is not None
    assert cause.key == "database-unopenable"


def test_silence_is_no_cause() -> None:
    assert causes.recognise([], 0, False) is None
    assert causes.recognise([], 137, False) is None
