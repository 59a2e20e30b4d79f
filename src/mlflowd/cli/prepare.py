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
from mlflowd.host.paths import identity, state_directory
from mlflowd.stores import directories, mounts, places

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.host.paths import Identity

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
        _make_directories(settings, identity(), state_directory())
        _name_holder(settings)
    except (MlflowdError, OSError):
        return ExitStatus.OK  # the daemon meets the same and reports it as an event
    return ExitStatus.OK


def _make_directories(settings: Settings, who: Identity, state: Path) -> None:
    for at in places.directories(settings, state_directory()):
        # First of all, and within a time limit: nothing is made under a mount point, nor looked for on a dead mount.
        finding = mounts.standing(at, state) or directories.present(at, who, make=True)
        if finding is not None:
            _say(f"{finding.check}: {finding.message}")


def _name_holder(settings: Settings) -> None:
    holder = ports.holder(settings.server.listen)
    if holder and not holder.startswith(_FORWARDERS):
        _say(f"{settings.server.listen} is taken by {holder}")


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
