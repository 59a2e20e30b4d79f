"""The command line: finds the verb, renders errors, gives exit statuses.

A verb is a module of this package with `add_parser(subparsers)`; its parser sets `run`, a function that takes the
parsed arguments and returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd import __version__
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.host.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = ("run", "status", "check", "config", "image", "prepare", "backup", "restore", "upgrade", "adopt", "export")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    args = parser(words).parse_args(words)
    try:
        return int(args.run(args))
    except MlflowdError as error:
        return _tell(error)
    except BrokenPipeError:
        # The reader of our output has left (`mlflowd config | head`); nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.FAILURE
    except KeyboardInterrupt:
        return 130


def parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    Where `words` name a verb, only its module is imported: the daemon does not load what the commands need.
    """
    top = argparse.ArgumentParser(
        prog="mlflowd",
        description="Turns this host into a dependable MLflow tracking server.",
        epilog="Exit statuses: 0 done, 1 failed or degraded, 2 usage, 3 not running, 69 a store is refused, "
        "75 another mlflowd runs, 77 permission, 78 configuration.",
    )
    top.add_argument("--version", action="version", version=f"mlflowd {__version__}")
    top.add_argument("--config", type=Path, metavar="FILE", help="the configuration (default: /etc/mlflowd.toml)")
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    named = _verb(words)
    for verb in [named] if named in VERBS else VERBS:
        importlib.import_module(f"mlflowd.cli.{verb}").add_parser(subparsers)
    return top


def _verb(words: Sequence[str]) -> str:
    """Return the first word that is neither an option nor its value."""
    rest = iter(words)
    for word in rest:
        if word == "--config":
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return ""


def _tell(error: MlflowdError) -> int:
    print(f"mlflowd: {redact(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {redact(error.hint)}", file=sys.stderr)
    return int(error.exit_status)
