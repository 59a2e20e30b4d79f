"""What people read: structlog's events as entries of the journal, or as lines on stderr.

Effects: `configure` sets structlog, `logging` and `warnings` up for the process; every call writes one entry. No
call blocks for long or raises: what cannot be written is counted, and the count is told when it can be again.

    from mlflowd.host import journal

    journal.configure(settings.log.level)
    journal.report(Event.SERVER_SERVING, "The server answers after 5.9 s.", container_id=container.id)
    journal.report(Event.INTERNAL_ERROR, "The cycle failed.", exc_info=error)
    journal.forward(line, Priority.WARNING, container_id=container.id)

Secrets that this process knows are masked in every entry (redaction.py).

`report` is the one way to tell people something: the event gives MESSAGE_ID, MLFLOWD_EVENT and the priority, each
keyword becomes a field of its name in upper case; None leaves a field out, `exc_info` puts the traceback into
TRACEBACK. `forward` writes a line of the server's under the identifier `mlflow`. `logger()` is structlog's own, for
lines of debugging that are no event. What libraries log (`logging`, `warnings`) comes along from WARNING up.

Entries keep their fields where stderr is the journal (JOURNAL_STREAM of systemd.exec(5)). Elsewhere they are lines:

    2026-11-20T12:00:00Z warning  The database is locked.  layer=database
"""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog

from mlflowd.events import Event, Priority
from mlflowd.host.journald import SOCKET, Journald
from mlflowd.host.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from pathlib import Path

_PRIORITIES = {
    logging.DEBUG: Priority.DEBUG,
    logging.INFO: Priority.INFO,
    logging.WARNING: Priority.WARNING,
    logging.ERROR: Priority.ERR,
    logging.CRITICAL: Priority.CRIT,
}
_LEVELS = {priority: level for level, priority in _PRIORITIES.items()} | {Priority.NOTICE: logging.INFO}
_WORDS = {Priority.ERR: "error", Priority.CRIT: "critical"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: a sentence and its fields, named in lower case."""

    message: str
    priority: Priority
    fields: Mapping[str, object] = field(default_factory=dict)
    event: Event | None = None
    identifier: str = "mlflowd"
    traceback: str = ""


class Sink(Protocol):
    """Where entries go."""

    def write(self, entry: Entry) -> bool:
        """Write one entry; neither blocks for long nor raises. Returns whether it was written."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def configure(level: str = "info", *, environ: Mapping[str, str] | None = None, path: Path = SOCKET) -> None:
    """Write events of this level (debug, info, warning, error) and above; may be called again, as on a reload.

    `environ` and `path` (journald's socket) are other than the process's own in tests alone.
    """
    native = _stderr_is_journal(os.environ if environ is None else environ) and path.exists()
    _outlet.use(_Native(path) if native else _Lines())
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _entry],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _outlet,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


def to_journald(path: Path = SOCKET) -> None:
    """Write events to the journal whatever stderr is, where journald runs: of a command that a person has started."""
    configure()
    if path.exists():
        _outlet.use(_Native(path))


def logger() -> structlog.typing.FilteringBoundLogger:
    """Return structlog's logger: `logger().debug("sentence", key=value)`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def report(event: Event, message: str, *, priority: Priority | None = None, **fields: object) -> None:
    """Write one event: `message` is one sentence, `fields` are those that the event names and any others.

    `priority` stands in for the event's usual one. `exc_info` (an exception, or True) adds the traceback.
    """
    urgency = event.priority if priority is None else priority
    logger().log(_LEVELS[urgency], message, event_kind=event, priority=urgency, **fields)


def forward(line: str, priority: Priority = Priority.INFO, **fields: object) -> None:
    """Write a line of the server's, whatever the level, under the identifier `mlflow`."""
    _outlet.write(Entry(line, priority, fields, identifier="mlflow"))


# --- from structlog and logging to entries --------------------------------------------------------


def _entry(_: object, method: str, keys: MutableMapping[str, Any]) -> tuple[tuple[Entry], dict[str, Any]]:
    """Be the last of structlog's processors: make its keys an Entry."""
    event: Event | None = keys.pop("event_kind", None)
    priority: Priority = keys.pop("priority", None) or _PRIORITIES[logging.getLevelNamesMapping()[method.upper()]]
    message, traceback = str(keys.pop("event")), str(keys.pop("exception", ""))
    return (Entry(message, priority, keys, event, traceback=traceback),), {}


class _Libraries(logging.Handler):
    """Brings what libraries log to the same place."""

    def emit(self, record: logging.LogRecord) -> None:
        traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        priority = _PRIORITIES.get(record.levelno, Priority.INFO)
        _outlet.write(Entry(record.getMessage().strip(), priority, {"logger": record.name}, traceback=traceback))


class _Outlet:
    """The end of structlog's chain: hands entries to the sink in use and keeps count of the lost ones."""

    def __init__(self) -> None:
        self._sink: Sink = _Lines()
        self._lost = 0

    def use(self, sink: Sink) -> None:
        self._sink, former = sink, self._sink
        former.close()

    def write(self, entry: Entry) -> None:
        entry = _redacted(entry)
        if self._lost and self._sink.write(_loss(self._lost)):
            self._lost = 0
        self._lost += not self._sink.write(entry)

    debug = info = warning = error = critical = write


def _redacted(entry: Entry) -> Entry:
    """Return the entry without known secrets, whoever wrote it: the server's own lines come this way too."""
    fields = {key: redact(value) if isinstance(value, str) else value for key, value in entry.fields.items()}
    return replace(entry, message=redact(entry.message), fields=fields, traceback=redact(entry.traceback))


def _loss(count: int) -> Entry:
    message = f"{count} entries before this one are lost: nobody took them."
    return Entry(message, Event.JOURNAL_LOST.priority, {"lost": count}, Event.JOURNAL_LOST)


# --- to journald ----------------------------------------------------------------------------------


def _stderr_is_journal(environ: Mapping[str, str]) -> bool:
    with suppress(OSError):
        stderr = os.fstat(2)
        return environ.get("JOURNAL_STREAM") == f"{stderr.st_dev}:{stderr.st_ino}"
    return False


class _Native:
    """Entries with their fields, to journald."""

    def __init__(self, path: Path) -> None:
        self._journald = Journald(path)

    def write(self, entry: Entry) -> bool:
        return self._journald.send(_fields(entry))

    def close(self) -> None:
        self._journald.close()


def _fields(entry: Entry) -> dict[str, object]:
    """Return the journal's fields (systemd.journal-fields(7)); a leading "_" is for journald's own."""
    fields: dict[str, object] = {
        "MESSAGE": entry.message,
        "PRIORITY": int(entry.priority),
        "SYSLOG_IDENTIFIER": entry.identifier,
    }
    if entry.event:
        fields |= {"MESSAGE_ID": entry.event.message_id, "MLFLOWD_EVENT": entry.event.name}
        fields |= {name.upper(): "unknown" for name in entry.event.fields}
    if entry.traceback:
        fields["TRACEBACK"] = entry.traceback
    return fields | {key.upper().lstrip("_"): value for key, value in entry.fields.items() if value is not None}


# --- to stderr ------------------------------------------------------------------------------------


class _Lines:
    """Readable lines on stderr: for people, for a log file, for a machine without journald."""

    def __init__(self) -> None:
        self._patience = 1.0
        """Seconds that a line waits for a full pipe; none any more once a line was lost."""

    def write(self, entry: Entry) -> bool:
        """Write in pieces that a pipe with room takes without blocking (pipe(7), PIPE_BUF)."""
        data = f"{_line(entry)}\n".encode(errors="backslashreplace")
        pieces = (data[start : start + select.PIPE_BUF] for start in range(0, len(data), select.PIPE_BUF))
        written = all(_write(piece, self._patience) for piece in pieces)
        self._patience = 1.0 if written else 0.0
        return written

    def close(self) -> None:
        """Leave stderr open: it is the process's."""


def _write(piece: bytes, patience: float) -> bool:
    with suppress(OSError):
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        return bool(poll.poll(patience * 1000)) and os.write(2, piece) == len(piece)
    return False


def _line(entry: Entry) -> str:
    """Return the entry as a line; a traceback follows it, indented."""
    if entry.identifier != "mlflowd":
        return f"{entry.identifier}: {entry.message}"
    word = _WORDS.get(entry.priority, entry.priority.name.lower())
    known = {key: value for key, value in entry.fields.items() if value is not None}
    keys = structlog.processors.LogfmtRenderer(bool_as_flag=False)(None, "", known)
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {word:<8} {entry.message}  {keys}".rstrip()
    return "\n    ".join([line, *entry.traceback.splitlines()])


_outlet = _Outlet()
