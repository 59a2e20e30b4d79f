"""The server's log, line by line: a priority, plain text, and not the traces of our own probes. No effects.

The formats are those of MLflow 3.17.2's real log: MLflow's logging ("2026/11/20 14:00:00 INFO mlflow.store: …"),
uvicorn's under MLflow's log configuration ("2026/11/20 14:00:00 INFO:     …") and its own ("INFO:     …"), alembic
("INFO  [alembic.runtime.migration] …"), gunicorn ("[2026-11-20 14:00:00 +0000] [12] [INFO] …"), Python's warnings,
tracebacks, click's errors and plain text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mlflowd.events import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_TEXT = 4096
"""Characters of one line's text; what is longer ends in "…"."""

_TIMESTAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d) ?")
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_LEVELLED = re.compile(
    r"(?:\d{4}[/-]\d\d[/-]\d\d \d\d:\d\d:\d\d(?:,\d+)? |\[[^\]]{25}\] \[\d+\] \[)?"
    r"(TRACE|DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)(?::\s+|\] |\s+(?=\[\w+\.)| (?=[\w.]+: ))"
)
_PROBE = re.compile(r'"[A-Z]+ /\S*[?&]probe=mlflowd(?:&\S*)? HTTP/[\d.]+" \d{3}')
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):|  \+ Exception Group Traceback")
_FAILURE = re.compile(r"Error: |Usage: |Fatal Python error|\[FATAL |\[ERROR ")
_WARNING = re.compile(r"\S+:\d+: (\w*Warning): ")
_NOBODYS_WARNING = re.compile(r"DeprecationWarning|FutureWarning")

_LEVELS = {
    "TRACE": Priority.DEBUG,
    "DEBUG": Priority.DEBUG,
    "INFO": Priority.INFO,
    "WARN": Priority.WARNING,
    "WARNING": Priority.WARNING,
    "ERROR": Priority.ERR,
    "CRITICAL": Priority.CRIT,
    "FATAL": Priority.CRIT,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the server's log, ready for the journal."""

    priority: Priority
    text: str
    at: float
    """Wall-clock seconds of the epoch when the server wrote it, 0 where the engine did not say."""


class Reader:
    """Reads one container's log; remembers what a line may continue, such as a traceback."""

    def __init__(self) -> None:
        self._head = Priority.INFO
        self._open = False
        """Whether the head is an error, whose continuation need not be indented."""

    def read(self, raw: bytes) -> Line | None:
        """Return the line without the engine's timestamp, None for an access-log line of our own probes."""
        at, rest = split(raw)
        text = plain(rest)
        if _PROBE.search(text):
            return None
        self._place(text)
        levelled = _LEVELLED.match(text)
        shown = text[levelled.end() :] if levelled else text
        return Line(self._head, shown[: MAX_TEXT - 1] + "…" if len(shown) > MAX_TEXT else shown, at)

    def _place(self, text: str) -> None:
        """Decide what this line is the head of, or that it continues the head before it."""
        if levelled := _LEVELLED.match(text):
            self._head = _LEVELS[levelled[1]]
            self._open = self._head <= Priority.WARNING
        elif _TRACEBACK.match(text) or _FAILURE.match(text):
            self._head, self._open = min(self._head, Priority.ERR) if self._open else Priority.ERR, True
        elif warning := _WARNING.match(text):
            self._head = Priority.INFO if _NOBODYS_WARNING.search(warning[1]) else Priority.WARNING
            self._open = False
        elif not self._open and not text.startswith((" ", "\t")):
            self._head = Priority.INFO


def read_all(lines: Iterable[bytes]) -> Iterator[Line]:
    """Yield the lines of one container's log, without those of our own probes."""
    reader = Reader()
    for raw in lines:
        if line := reader.read(raw):
            yield line


def instant(timestamp: str) -> float:
    """Return an RFC 3339 timestamp of the engine as wall-clock seconds of the epoch, 0 for none."""
    return split(timestamp.encode())[0]


def split(raw: bytes) -> tuple[float, bytes]:
    """Return the engine's timestamp as seconds of the epoch (0 where there is none) and the rest of the line."""
    found = _TIMESTAMP.match(raw)
    if not found:
        return 0.0, raw
    whole = datetime.fromisoformat((found[1] + found[3]).decode())
    return whole.timestamp() + float(found[2] or 0), raw[found.end() :]


def plain(raw: bytes) -> str:
    """Return the line as text without colours, control characters and trailing blanks."""
    return _CONTROL.sub("", raw.decode(errors="replace")).rstrip()
