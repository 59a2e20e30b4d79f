"""`mlflowd config`: the effective settings and where each came from.

Effects: reads the file, prints; `--validate` also reads the secrets that the settings name, and forgets them.
"""

from __future__ import annotations

import os
import pwd
import sys
from typing import TYPE_CHECKING

from mlflowd.config import load
from mlflowd.config.effective import as_toml, has_secrets
from mlflowd.errors import ExitStatus
from mlflowd.host import secrets
from mlflowd.host.paths import SERVICE_USER, identity, state_directory
from mlflowd.server import artifact_stores, login

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.config import Loaded, Settings
    from mlflowd.host.paths import Identity


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `config`."""
    parser = subparsers.add_parser(
        "config",
        help="show the effective settings and where each came from",
        description="Show the effective settings and where each came from, secrets masked.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--toml", action="store_true", help="print a TOML file that gives the same settings")
    form.add_argument(
        "--validate", action="store_true", help="print nothing; the exit status says whether all is right"
    )
    parser.add_argument("--show-secrets", action="store_true", help="do not mask passwords")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the settings. Raises ConfigurationError with every problem (status 78, or 77 where it may not be read)."""
    if args.validate:
        _validate(args.config)
        return ExitStatus.OK
    loaded = load(args.config, os.environ)
    lines = _toml(loaded.settings, args.show_secrets) if args.toml else _table(loaded, args.show_secrets)
    print("\n".join(lines))
    return ExitStatus.OK


def _validate(path: Path | None) -> None:
    """Judge the file and its secrets as the daemon will.

    Who is neither root nor the service user may not read secrets, and hears of the file alone. A person's shell has
    neither the unit's credentials nor its variables: it is told of them, no more.
    """
    who = _service_user()
    settings = load(path, os.environ).settings
    if who is None:
        return
    try:
        found = secrets.read(settings, state_directory(), who, make=False, backup=True)
    except secrets.UnreadError as error:
        if not error.elsewhere or secrets.in_unit(os.environ):
            raise
        print(f"mlflowd: {error.message}\n  no error here: mlflowd.service may have it", file=sys.stderr)
        return
    login.check(settings, found)
    artifact_stores.check(settings, found)


def _service_user() -> Identity | None:
    """Return the service user where this process is that user, or root on a machine that has it."""
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None
    return identity() if os.geteuid() in {0, user.pw_uid} else None


def _toml(settings: Settings, secrets: bool) -> Iterator[str]:
    if not secrets and has_secrets(settings):
        yield '# Secrets are masked as "***"; mlflowd config --toml --show-secrets prints them.'
    yield from as_toml(settings, secrets=secrets)


def _table(loaded: Loaded, secrets: bool) -> Iterator[str]:
    from tabulate import tabulate  # noqa: PLC0415 - --validate runs at every reload and needs no table

    yield tabulate(loaded.rows(secrets=secrets), headers=("key", "value", "origin"), disable_numparse=True)
