"""Lines of the real server's log, and the priority and text that the journal gets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflowd.events import Priority
from mlflowd.server import loglines

if TYPE_CHECKING:
    from mlflowd.server.loglines import Line

SERVED = (Path(__file__).parent / "logs" / "none.served.log").read_bytes().splitlines()[1:]


def read(*raw: str) -> list[Line]:
    return list(loglines.read_all(line.encode() for line in raw))


def one(raw: str) -> tuple[Priority, str]:
    (line,) = read(raw)
    return line.priority, line.text


@pytest.mark.parametrize(
    ("raw", "priority", "text"),
    [
        (
            "2026/11/20 14:34:55 INFO mlflow.store.db.utils: Updating database tables",
            Priority.INFO,
            "mlflow.store.db.utils: Updating database tables",
        ),
        (
            "2026/11/20 14:35:59 WARNING mlflow.server.fastapi_security: Rejected request",
            Priority.WARNING,
            "mlflow.server.fastapi_security: Rejected request",
        ),
        ("2026/11/20 14:38:12 ERROR mlflow.cli: Error", Priority.ERR, "mlflow.cli: Error"),
        ("2026/11/20 14:35:00 INFO:     Started server process [13]", Priority.INFO, "Started server process [13]"),
        ("2026/11/20 14:35:59 ERROR:    Exception in ASGI", Priority.ERR, "Exception in ASGI"),
        ("INFO:     Uvicorn running on http://0.0.0.0:5000", Priority.INFO, "Uvicorn running on http://0.0.0.0:5000"),
        ("INFO  [alembic.runtime.migration] Will assume", Priority.INFO, "[alembic.runtime.migration] Will assume"),
        ("[2026-11-20 14:00:00 +0000] [12] [CRITICAL] WORKER TIMEOUT", Priority.CRIT, "WORKER TIMEOUT"),
        ("2026/11/20 14:00:00 DEBUG mlflow: x", Priority.DEBUG, "mlflow: x"),
        ("Registry store URI not provided.", Priority.INFO, "Registry store URI not provided."),
        ("Error: No such option '--bogus'.", Priority.ERR, "Error: No such option '--bogus'."),
        ("Usage: mlflow server [OPTIONS]", Priority.ERR, "Usage: mlflow server [OPTIONS]"),
        ("/a/b.py:23: StarletteDeprecationWarning: x", Priority.INFO, "/a/b.py:23: StarletteDeprecationWarning: x"),
        ("/a/b.py:23: SAWarning: x", Priority.WARNING, "/a/b.py:23: SAWarning: x"),
        ("", Priority.INFO, ""),
        ("INFORMATION is no level", Priority.INFO, "INFORMATION is no level"),
    ],
)
def test_each_format_gives_its_priority(raw: str, priority: Priority, text: str) -> None:
    assert one(raw) == (priority, text)


def test_the_engine_s_timestamp_becomes_the_time_of_the_line() -> None:
    (line,) = read("2026-11-20T14:34:55.287436966Z 2026/11/20 14:34:55 INFO mlflow.cli: x")
    assert line.text == "mlflow.cli: x"
    assert line.at == pytest.approx(1795185295.287437, abs=1e-6)
    assert read("2026-11-20T15:34:55+01:00 x")[0].at == 1795185295


def test_an_instant_of_the_engine_is_read() -> None:
    assert loglines.instant("2026-11-20T14:34:55.5Z") == 1795185295.5
    assert loglines.instant("") == 0
    assert loglines.instant("0001-01-01T00:00:00Z") < 0


def test_colours_and_control_characters_are_removed() -> None:
    assert one("\x1b[32mINFO\x1b[0m:     Started \x1b]8;;http://x\x07link\x00\r") == (Priority.INFO, "Started link")


def test_a_line_is_bounded_and_need_not_be_utf8() -> None:
    (line,) = loglines.read_all([b"x" * 100_000])
    assert len(line.text) == loglines.MAX_TEXT
    assert line.text.endswith("…")
    (line,) = loglines.read_all([b"\xff\xfe ok"])
    assert line.text.endswith(" ok")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_our_own_probes_are_dropped(method: str) -> None:
    line = f'2026/11/20 14:35:01 INFO:     172.17.0.1:1 - "{method} /health?probe=mlflowd HTTP/1.1" 200 OK'
    assert read(line, line.replace("200 OK", "500 Internal Server Error")) == []


def test_requests_of_others_are_kept() -> None:
    kept = [
        'INFO:     172.17.0.1:1 - "GET /health HTTP/1.1" 200 OK',
        'INFO:     172.17.0.1:1 - "GET /health?probe=mlflowdx HTTP/1.1" 200 OK',
        "2026/11/20 14:35:01 INFO mlflow.x: somebody wrote ?probe=mlflowd",
    ]
    assert len(read(*kept)) == 3


def test_a_traceback_is_an_error_to_its_last_line() -> None:
    lines = read(
        "before",
        "Traceback (most recent call last):",
        '  File "/x.py", line 1, in <module>',
        "sqlite3.OperationalError: database is locked",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "Traceback (most recent call last):",
        "    raise x",
        "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked",
        "[SQL: SELECT 1]",
        "2026/11/20 14:35:01 INFO:     Shutting down",
        "Registry store URI not provided.",
    )
    priorities = [line.priority for line in lines]
    assert priorities == [Priority.INFO, *[Priority.ERR] * 10, Priority.INFO, Priority.INFO]


def test_what_follows_a_warning_of_several_lines_is_of_its_priority() -> None:
    lines = read(
        "2026/11/20 14:37:45 WARNING mlflow.store.db.utils: SQLAlchemy engine could not be created.",
        "(sqlite3.OperationalError) unable to open database file",
        "Operation will be retried in 0.1 seconds",
        "2026/11/20 14:37:46 INFO mlflow.cli: x",
    )
    assert [line.priority for line in lines] == [Priority.WARNING] * 3 + [Priority.INFO]


def test_the_source_line_under_a_python_warning_belongs_to_it() -> None:
    lines = read("/a.py:23: SAWarning: x", "  from a import b", "Registry store URI not provided.")
    assert [line.priority for line in lines] == [Priority.WARNING, Priority.WARNING, Priority.INFO]


def test_the_log_of_a_real_run_is_told_by_its_priorities() -> None:
    lines = list(loglines.read_all(SERVED))
    errors = [line.text for line in lines if line.priority is Priority.ERR]
    warnings = [line.text for line in lines if line.priority is Priority.WARNING]
    assert errors[0] == "Exception in ASGI application"
    assert errors[-1].startswith("PermissionError: [Errno 13]")
    assert warnings == [
        "mlflow.server.fastapi_security: Rejected request with invalid Host header: evil.example",
        "mlflow.server.fastapi_security: Blocked cross-origin request from http://evil",
    ]
    assert not any("probe=mlflowd" in line.text for line in lines)
    assert any('"GET /nothing HTTP/1.1" 404' in line.text for line in lines)
    assert [line.at for line in lines] == sorted(line.at for line in lines)


@given(st.binary(max_size=300))
def test_no_line_stops_the_reader(raw: bytes) -> None:
    line = loglines.Reader().read(raw)
    assert line is None or len(line.text) <= loglines.MAX_TEXT
