"""`mlflowd prepare`: what a start needs root for, before the daemon starts as the service user (ExecStartPre=+).

Effects: makes the missing store directories, wherever they lie, for the service user; says who holds the port, which
the service user cannot always see. It never keeps the daemon from starting: the daemon says what is wrong itself.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mlflowd.config import load
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.host import ports
from mlflowd.host.paths import identity
from mlflowd.stores import directories, places

if TYPE_CHECKING:
    import argparse

    from mlflowd.config import Settings

_FORWARDERS = ("docker-proxy", "rootlessport", "conmon")
"""What engines listen with for a container, which may be ours."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb, unlisted: the unit alone needs it."""
    parser = subparsers.add_parser("prepare", description="Make the stores' directories; run by mlflowd.service.")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare what can be prepared; 0 always."""
    try:
        settings = load(args.config, os.environ).settings
        _make_directories(settings)
        _name_holder(settings)
    except (MlflowdError, OSError):
        return ExitStatus.OK  # the daemon meets the same and reports it as an event
    return ExitStatus.OK


def _make_directories(settings: Settings) -> None:
    who = identity()
    for at in places.directories(settings):
        if (finding := directories.present(at, who, make=True)) is not None:
            _say(f"{finding.check}: {finding.message}")


def _name_holder(settings: Settings) -> None:
    holder = ports.holder(settings.server.listen)
    if holder and not holder.startswith(_FORWARDERS):
        _say(f"{settings.server.listen} is taken by {holder}")


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
