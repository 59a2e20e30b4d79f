from __future__ import annotations

import fcntl
import logging
import os
import re
import socket
import struct
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import structlog

from mlflowd.events import Event, Priority
from mlflowd.host import journal, redaction
from mlflowd.host.journald import Journald, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

STAMP = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"


class Receiver:
    """The receiving end of the native protocol, as journald is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_memfd = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(5)

    def entry(self) -> dict[str, str]:
        data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        self.by_memfd = bool(descriptors)
        for descriptor in descriptors:
            with os.fdopen(descriptor, "rb") as memory:
                assert fcntl.fcntl(memory, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
                memory.seek(0)
                data += memory.read()
        return decode(data)

    def entries(self) -> list[dict[str, str]]:
        self._socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.entry())
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


def decode(data: bytes) -> dict[str, str]:
    """Read the native protocol as its page describes it."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if not separator:
            (length,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + length], data[9 + length :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    journal.configure(environ={})
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    receiver = Receiver(tmp_path / "socket")
    yield receiver
    receiver.close()


@pytest.fixture
def journald(receiver: Receiver) -> Receiver:
    """A journald that the process's stderr is connected to."""
    journal.configure("info", environ=stream(), path=receiver.path)
    return receiver


def stream() -> Mapping[str, str]:
    stderr = os.fstat(2)
    return {"JOURNAL_STREAM": f"{stderr.st_dev}:{stderr.st_ino}"}


# --- entries --------------------------------------------------------------------------------------


def test_an_event_is_an_entry_with_its_fields(journald: Receiver) -> None:
    journal.report(Event.SERVER_SERVING, "The server answers after 5.9 s.", container_id="4f0c", workers=2)

    assert journald.entry() == {
        "MESSAGE": "The server answers after 5.9 s.",
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "mlflowd",
        "MESSAGE_ID": Event.SERVER_SERVING.message_id,
        "MLFLOWD_EVENT": "SERVER_SERVING",
        "CONTAINER_ID": "4f0c",
        "WORKERS": "2",
    }


def test_a_field_that_the_event_names_is_unknown_when_it_is_left_out(journald: Receiver) -> None:
    journal.report(Event.SERVER_SERVING, "The server answers.", container_id=None, attempt=None)

    entry = journald.entry()
    assert entry["CONTAINER_ID"] == "unknown"
    assert "ATTEMPT" not in entry


def test_a_call_may_choose_another_priority(journald: Receiver) -> None:
    journal.report(Event.DEGRADED, "The database is gone.", priority=Priority.CRIT)

    assert journald.entry()["PRIORITY"] == "2"


def test_a_message_with_a_percent_sign_stays_as_it_is(journald: Receiver) -> None:
    journal.report(Event.DISK_WARNING, "/srv has 9 %s left")

    assert journald.entry()["MESSAGE"] == "/srv has 9 %s left"


def test_a_value_of_several_lines_arrives_whole(journald: Receiver) -> None:
    journal.report(Event.CONFIGURATION_INVALID, "first\nsecond=2\n\nlast")

    assert journald.entry()["MESSAGE"] == "first\nsecond=2\n\nlast"


def test_a_name_that_is_no_unicode_arrives_escaped(journald: Receiver) -> None:
    journal.report(Event.STORE_MISSING, "The database is gone.", path=os.fsdecode(b"/srv/\xff"))

    assert journald.entry()["PATH"] == r"/srv/\udcff"


def test_an_exception_stands_in_its_own_field(journald: Receiver) -> None:
    try:
        _ = 1 // 0
    except ZeroDivisionError as error:
        journal.report(Event.INTERNAL_ERROR, "The cycle failed.", exc_info=error)

    entry = journald.entry()
    assert entry["MESSAGE"] == "The cycle failed."
    assert entry["TRACEBACK"].startswith("Traceback (most recent call last):\n")
    assert entry["TRACEBACK"].endswith("ZeroDivisionError: integer division or modulo by zero")


def test_an_entry_too_large_for_a_datagram_travels_as_a_sealed_file(journald: Receiver) -> None:
    text = "x" * 5_000_000
    journal.report(Event.KNOWN_CAUSE, text)

    assert journald.entry()["MESSAGE"] == text
    assert journald.by_memfd


def test_a_line_of_the_server_has_its_own_identifier(journald: Receiver) -> None:
    journal.configure("error", environ=stream(), path=journald.path)
    journal.forward("WARNING mlflow: deprecated", Priority.WARNING, container_id="4f0c")

    assert journald.entry() == {
        "MESSAGE": "WARNING mlflow: deprecated",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "mlflow",
        "CONTAINER_ID": "4f0c",
    }


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_decides_what_is_written(journald: Receiver, level: str) -> None:
    journal.configure(level, environ=stream(), path=journald.path)
    for event in (Event.INTERNAL_ERROR, Event.DEGRADED, Event.RECOVERED):
        journal.report(event, "sentence")
    journal.logger().debug("detail", key=1)

    kept = [entry["PRIORITY"] for entry in journald.entries()]
    assert (
        kept == {"debug": ["3", "4", "5", "7"], "info": ["3", "4", "5"], "warning": ["3", "4"], "error": ["3"]}[level]
    )


def test_structlog_s_own_calls_carry_their_level(journald: Receiver) -> None:
    journal.logger().warning("odd", key="value")

    entry = journald.entry()
    assert (entry["PRIORITY"], entry["KEY"]) == ("4", "value")
    assert "MESSAGE_ID" not in entry


def test_what_libraries_log_comes_along(journald: Receiver) -> None:
    logging.getLogger("urllib3").info("too quiet")
    logging.getLogger("urllib3").warning("retry %d", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    first, second = journald.entries()
    assert (first["MESSAGE"], first["PRIORITY"], first["LOGGER"]) == ("retry 2", "4", "urllib3")
    assert "DeprecationWarning: old" in second["MESSAGE"]


def test_no_entry_holds_a_secret_that_is_known_whoever_wrote_it(journald: Receiver) -> None:
    redaction.hide(["hunter2-hunter2"])
    journal.forward("OperationalError: postgresql://mlflow:other@db with hunter2-hunter2")
    logging.getLogger("urllib3").warning("to %s", "hunter2-hunter2")
    try:
        int("hunter2-hunter2")
    except ValueError as error:
        journal.report(Event.KNOWN_CAUSE, "it said hunter2-hunter2", remedy="not hunter2-hunter2", exc_info=error)
    found = journald.entries()
    assert len(found) == 3
    assert "hunter2" not in str(found)
    assert found[0]["MESSAGE"] == "OperationalError: postgresql://mlflow:***@db with ***"
    assert found[2]["REMEDY"] == "not ***"


# --- a journald that does not take them -----------------------------------------------------------


@pytest.mark.timeout(10)
def test_a_stopped_journald_stalls_nothing_and_the_loss_is_told(journald: Receiver) -> None:
    for number in range(2000):
        journal.forward(f"line {number}")
    taken = len(journald.entries())

    journal.report(Event.RECOVERED, "All layers are well again.")

    loss, after = journald.entries()
    assert loss["MLFLOWD_EVENT"] == "JOURNAL_LOST"
    assert int(loss["LOST"]) == 2000 - taken
    assert after["MLFLOWD_EVENT"] == "RECOVERED"


def test_a_loss_is_told_once(journald: Receiver) -> None:
    for number in range(2000):
        journal.forward(f"line {number}")
    journald.entries()
    journal.forward("one")
    journal.forward("two")

    assert [entry["MESSAGE"] for entry in journald.entries()][1:] == ["one", "two"]


def test_a_restarted_journald_is_found_again(journald: Receiver) -> None:
    journald.close()
    journal.forward("lost")
    journald.path.unlink()
    again = Receiver(journald.path)
    journal.forward("found")

    assert [entry["MESSAGE"] for entry in again.entries()][-1] == "found"
    again.close()


def test_a_full_queue_refuses_a_large_entry_too(receiver: Receiver) -> None:
    journald = Journald(receiver.path)
    while journald.send({"MESSAGE": "x"}):
        pass

    assert not journald.send({"MESSAGE": "x" * 5_000_000})
    journald.close()


def test_the_binary_form_is_used_for_line_ends_alone() -> None:
    assert encode({"A": "b=c", "D": "e\nf"}) == b"A=b=c\nD\n\3\0\0\0\0\0\0\0e\nf\n"


# --- stderr ---------------------------------------------------------------------------------------


def test_elsewhere_an_event_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    journal.configure(environ={"JOURNAL_STREAM": "1:1"})
    journal.report(Event.DEGRADED, "The database is locked.", layer="database", remedy="wait a bit", none=None)

    line = capfd.readouterr().err
    assert re.fullmatch(rf'{STAMP} warning  The database is locked\.  layer=database remedy="wait a bit"\n', line)


def test_a_traceback_is_indented_below_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    journal.configure(environ={})
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        journal.report(Event.INTERNAL_ERROR, "The cycle failed.", exc_info=True)

    first, *rest = capfd.readouterr().err.splitlines()
    assert re.fullmatch(rf"{STAMP} error    The cycle failed\.", first)
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_a_line_of_the_server_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    journal.configure(environ={})
    journal.forward("Application startup complete.", container_id="4f0c")

    assert capfd.readouterr().err == "mlflow: Application startup complete.\n"


def test_without_journald_s_socket_lines_go_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    journal.configure(environ=stream(), path=tmp_path / "absent")
    journal.forward("line")

    assert capfd.readouterr().err == "mlflow: line\n"


@contextmanager
def piped_stderr() -> Iterator[int]:
    """Make stderr a pipe, for the body alone: pytest sets descriptor 2 anew between a fixture and its test."""
    reading, writing = os.pipe()
    kept = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    yield reading
    os.dup2(kept, 2)
    os.close(kept)


@pytest.mark.timeout(30)
def test_a_reader_of_stderr_that_is_stuck_stalls_nothing() -> None:
    journal.configure(environ={})
    with piped_stderr() as pipe:
        size = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
        for _ in range(1000):
            journal.forward("x" * 200)
        os.read(pipe, size)
        journal.forward("again")
        told = os.read(pipe, size).decode()
        os.close(pipe)

    assert re.match(rf"{STAMP} warning  \d+ entries before this one are lost", told)
    assert told.endswith("mlflow: again\n")


def test_a_reader_of_stderr_that_is_gone_raises_nothing() -> None:
    journal.configure(environ={})
    with piped_stderr() as pipe:
        os.close(pipe)
        journal.forward("into the void")
