"""`mlflowd run`: the daemon itself, in the foreground. Its errors go to the journal, as systemd starts it."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING

from mlflowd import config
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import ExitStatus, LockedError, MlflowdError
from mlflowd.events import Event
from mlflowd.host import journal, memory, paths
from mlflowd.host.lock import Lock
from mlflowd.host.notify import Notifier
from mlflowd.operations import plain_secrets
from mlflowd.supervisor.daemon import Daemon
from mlflowd.supervisor.inbox import Reload, Terminate
from mlflowd.supervisor.place import Place

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.supervisor.inbox import Wake


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser("run", help="supervise the server in the foreground (what mlflowd.service does)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Supervise until SIGTERM; return the exit status that the unit file knows."""
    faulthandler.enable()  # systemd's watchdog sends SIGABRT: the journal then shows where each thread hung
    journal.configure("info")
    threading.excepthook = _thread_ended  # the usual one writes past the journal's redaction
    try:
        return _supervise(args)
    except MlflowdError as error:
        journal.report(_event(error), error.message, remedy=error.hint or None)
        return int(error.exit_status)
    except Exception as error:  # noqa: BLE001 - the last one to see it, and systemd starts the next daemon
        journal.report(Event.INTERNAL_ERROR, f"mlflowd has a defect: {error!r}", exc_info=error)
        return int(ExitStatus.SOFTWARE)


def _thread_ended(died: threading.ExceptHookArgs) -> None:
    name = died.thread.name if died.thread else "?"
    journal.report(
        Event.INTERNAL_ERROR,
        f"mlflowd has a defect: the thread {name} ended: {died.exc_value!r}",
        exc_info=died.exc_value,
    )


def _load(path: Path | None) -> Settings:
    """Return the settings, and tell of the secrets that stand in their file."""
    loaded = config.load(path, os.environ)
    for finding in plain_secrets.check(loaded):
        journal.report(Event.PREFLIGHT_WARNING, finding.message, check=finding.check, remedy=finding.remedy)
    return loaded.settings


def _supervise(args: argparse.Namespace) -> int:
    load = partial(_load, args.config)
    settings = load()
    journal.configure(settings.log.level)
    with Lock(paths.runtime_directory() / "lock"):
        engine = DockerEngine(settings.engine.socket, settings.engine.timeout)
        place = Place(engine, paths.state_directory(), paths.runtime_directory(), paths.identity())
        daemon = Daemon(settings, load, place, Notifier())
        _listen(daemon)
        memory.settle()
        return int(daemon.run())


def _listen(daemon: Daemon) -> None:
    wakes: dict[int, Wake] = {
        signal.SIGTERM: Terminate(),
        signal.SIGINT: Terminate(),
        signal.SIGHUP: Reload(),
    }
    for number, wake in wakes.items():
        signal.signal(number, lambda *_, wake=wake: daemon.inbox.put(wake))


def _event(error: MlflowdError) -> Event:
    if isinstance(error, LockedError):
        return Event.LOCKED
    if error.exit_status is ExitStatus.CONFIGURATION:
        return Event.CONFIGURATION_INVALID
    return Event.BLOCKED
