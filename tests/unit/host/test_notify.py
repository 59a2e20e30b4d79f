from __future__ import annotations

import os
import socket
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from mlflowd.host import redaction
from mlflowd.host.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Systemd:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name)
        self._socket.settimeout(5)

    def datagram(self) -> str:
        return self._socket.recv(65536).decode()

    def everything(self) -> list[str]:
        """All that is in the queue now."""
        self._socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.datagram())
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


@contextmanager
def listening(name: str) -> Iterator[Systemd]:
    systemd = Systemd(name)
    yield systemd
    systemd.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with listening(str(tmp_path / "notify")) as receiver:
        yield receiver


@pytest.fixture
def notifier(systemd: Systemd) -> Iterator[Notifier]:
    del systemd  # it only has to be there first
    with closing(Notifier()) as notifier:
        yield notifier


def test_ready_and_its_status_are_one_datagram(systemd: Systemd, notifier: Notifier) -> None:
    notifier.ready("serving at 127.0.0.1:5000")

    assert systemd.datagram() == "READY=1\nSTATUS=serving at 127.0.0.1:5000"


def test_a_status_outside_latin_1_arrives_as_utf_8(systemd: Systemd, notifier: Notifier) -> None:
    notifier.status("läuft … 雪")

    assert systemd.datagram() == "STATUS=läuft … 雪"


def test_a_line_end_in_a_status_begins_no_assignment(systemd: Systemd, notifier: Notifier) -> None:
    notifier.status("degraded\nREADY=1")

    assert systemd.datagram() == "STATUS=degraded READY=1"


def test_a_status_that_is_no_unicode_raises_nothing(systemd: Systemd, notifier: Notifier) -> None:
    notifier.status("odd \udcff name")

    assert systemd.datagram() == "STATUS=odd ? name"


def test_reloading_carries_the_monotonic_instant(systemd: Systemd, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    notifier.reloading()

    first, second = systemd.datagram().split("\n")
    name, _, instant = second.partition("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(instant) <= time.monotonic_ns() // 1000


def test_stopping_says_why(systemd: Systemd, notifier: Notifier) -> None:
    notifier.stopping("stopping on request")

    assert systemd.datagram() == "STOPPING=1\nSTATUS=stopping on request"


def test_extend_is_in_microseconds(systemd: Systemd, notifier: Notifier) -> None:
    notifier.extend(2.5)

    assert systemd.datagram() == "EXTEND_TIMEOUT_USEC=2500000"


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"mlflowd-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with listening(f"\0{name}") as systemd, closing(Notifier()) as notifier:
        notifier.watchdog()

        assert systemd.datagram() == "WATCHDOG=1"


def fill(notifier: Notifier) -> None:
    """Send more than the kernel queues for a receiver that does not read (net.unix.max_dgram_qlen)."""
    for _ in range(2000):
        notifier.watchdog()


@pytest.mark.timeout(10)
def test_a_stopped_receiver_stalls_nothing(systemd: Systemd, notifier: Notifier) -> None:
    fill(notifier)

    assert set(systemd.everything()) == {"WATCHDOG=1"}


def test_what_a_full_queue_refuses_goes_out_with_the_next_call(systemd: Systemd, notifier: Notifier) -> None:
    fill(notifier)
    notifier.reloading()
    notifier.ready("first")
    notifier.status("second")
    systemd.everything()

    notifier.watchdog()

    assert systemd.everything() == ["WATCHDOG=1\nREADY=1\nSTATUS=second"]


def test_what_went_out_is_not_said_twice(systemd: Systemd, notifier: Notifier) -> None:
    notifier.ready("serving")
    notifier.watchdog()

    assert systemd.everything() == ["READY=1\nSTATUS=serving", "WATCHDOG=1"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sdnotify leaves a socket unclosed
@pytest.mark.parametrize("name", ["", "/nowhere/notify"])
def test_without_systemd_every_call_does_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    notifier = Notifier()
    notifier.ready("serving")
    notifier.reloading()
    notifier.extend(1)
    notifier.watchdog()
    notifier.stopping("done")
    notifier.close()


def test_a_receiver_that_is_gone_raises_nothing(systemd: Systemd, notifier: Notifier) -> None:
    systemd.close()

    notifier.watchdog()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_interval_is_half_of_what_systemd_allows(
    environ: dict[str, str], interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert Notifier().watchdog_interval == interval


def test_the_status_holds_no_secret_that_is_known(systemd: Systemd, notifier: Notifier) -> None:
    redaction.hide(["two words of hunter2"])
    notifier.status("the database refuses\nmlflow with two words\n of hunter2")
    assert systemd.datagram() == "STATUS=the database refuses mlflow with ***"
