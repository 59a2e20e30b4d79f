"""Writers of SQLite take turns: a plugin of SQLAlchemy that runs inside the server, not in mlflowd.

SQLite lets one connection write and makes the others ask again after growing pauses (1 ms to 100 ms), so with
several writers the unlucky ones wait many times longer than the rest. Here a connection takes its turn before the
first writing statement of a transaction and gives it back when it returns to the pool, which is right after the
commit: between the threads of a process by a lock, between processes by flock(2) on TURN, which the kernel frees
when a process dies. The turn is courtesy: SQLite's own lock still decides, and after LIMIT seconds a writer goes
on without it. Used by a database URI that ends in `?plugin=mlflowd_turns`.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from typing import Any

from sqlalchemy import event  # type: ignore[import-not-found, unused-ignore]  # only the container has it
from sqlalchemy.engine import CreateEnginePlugin  # type: ignore[import-not-found, unused-ignore]  # as above

WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP)\b", re.IGNORECASE)
TURN = "/tmp/mlflowd.turn"  # noqa: S108 - the container's own tmpfs, seen by this server alone
LIMIT = 5.0
"""Seconds that a writer waits for its turn."""
PAUSE = 0.001
_threads = threading.Lock()


class Turns(CreateEnginePlugin):  # type: ignore[misc, unused-ignore]  # only the container has SQLAlchemy
    """What SQLAlchemy loads for `?plugin=mlflowd_turns`."""

    def update_url(self, url: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's URL
        """Take the plugin's name out of the URI."""
        return url.difference_update_query(["plugin"])

    def engine_created(self, engine: Any) -> None:  # noqa: ANN401 - SQLAlchemy's Engine
        """Listen for writing statements and for connections that come back."""
        event.listen(engine, "before_cursor_execute", take)
        event.listen(engine.pool, "checkin", give)


def take(connection: Any, _cursor: object, statement: str, *_rest: object) -> None:  # noqa: ANN401 - SQLAlchemy's Connection
    """Wait for the turn before the first writing statement of a transaction."""
    if "turn" in connection.info or not WRITES.match(statement):
        return
    # Set before the wait: a transaction that goes on without its turn has SQLite's lock by its second statement,
    # and would then wait for the one who waits for that lock.
    connection.info["turn"] = None
    deadline = time.monotonic() + LIMIT
    if not _threads.acquire(timeout=LIMIT):
        return
    try:
        connection.info["turn"] = _turn(deadline)
    except OSError:  # no file descriptor or no room: without a turn it is as it was
        _threads.release()


def give(_connection: object, record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's pool record
    """Give the turn back, where this connection had it."""
    if (turn := record.info.pop("turn", None)) is not None:
        os.close(turn)
        _threads.release()


def _turn(deadline: float) -> int:
    """Return an open file that holds the lock among the processes, or, after `deadline`, one that does not."""
    turn = os.open(TURN, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    while time.monotonic() < deadline:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE)
        else:
            break
    return turn
