"""`mlflowd config`: the effective settings and where each came from. Effects: reads the file, prints."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflowd.config import load
from mlflowd.config.effective import as_toml, has_secrets
from mlflowd.errors import ExitStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from mlflowd.config import Loaded, Settings


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
    loaded = load(args.config, os.environ)
    if not args.validate:
        lines = _toml(loaded.settings, args.show_secrets) if args.toml else _table(loaded, args.show_secrets)
        print("\n".join(lines))
    return ExitStatus.OK


def _toml(settings: Settings, secrets: bool) -> Iterator[str]:
    if not secrets and has_secrets(settings):
        yield '# Secrets are masked as "***"; mlflowd config --toml --show-secrets prints them.'
    yield from as_toml(settings, secrets=secrets)


def _table(loaded: Loaded, secrets: bool) -> Iterator[str]:
    from tabulate import tabulate  # noqa: PLC0415 - --validate runs at every reload and needs no table

    yield tabulate(loaded.rows(secrets=secrets), headers=("key", "value", "origin"), disable_numparse=True)
