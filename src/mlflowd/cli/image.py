"""`mlflowd image pull` and `mlflowd image build`: get the server's image, or make one.

Effects: images on the engine. Progress goes to standard output, a line a step, with the seconds since the start.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.config import load
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import ExitStatus
from mlflowd.operations import debian_base, image
from mlflowd.operations.index_settings import index_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from mlflowd.config import Settings
    from mlflowd.engine.api import Progress


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `image` with its two parts."""
    verb = subparsers.add_parser("image", help="fetch the server's image, or build one where no registry is reachable")
    parts = verb.add_subparsers(required=True, metavar="pull | build")
    pull = parts.add_parser("pull", help="fetch the image that the configuration names")
    pull.add_argument("reference", nargs="?", help="another image instead of image.reference")
    pull.set_defaults(run=run, part=_pull)
    build = parts.add_parser("build", help="build an equivalent image from a base image or from Debian packages")
    build.add_argument(
        "--base", metavar="REF", help="an image with Python 3.10 or newer; default: from Debian packages"
    )
    build.add_argument("--version", help="of MLflow; default: the one in image.reference")
    build.add_argument(
        "--package", metavar="NAME", action="append", default=[], help="a further Python package, beside image.packages"
    )
    build.add_argument("--python", choices=sorted(debian_base.SUITES), help=f"default: {image.DEFAULT_PYTHON}")
    build.add_argument("--force", action="store_true", help="build anew what is there already, the Debian base too")
    build.set_defaults(run=run, part=_build)


def run(args: argparse.Namespace) -> int:
    """Do the part of the verb that was asked for; SIGTERM ends it as Ctrl-C does, cleaning up."""
    settings = load(args.config, os.environ).settings
    with _interruptible():
        args.part(args, settings, _stopwatch())
    return ExitStatus.OK


_PATIENCE = 180.0
"""Seconds for one call to an engine that has just written a gigabyte: on a busy disk it answers late."""


def _pull(args: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    engine = DockerEngine(settings.engine.socket, settings.engine.timeout)
    try:
        got = engine.pull(args.reference or settings.image.reference, progress)
        progress(f"{args.reference or settings.image.reference} is here: {got.id}")
    finally:
        engine.close()


def _build(args: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    what = image.wanted(
        settings.image.reference,
        version=args.version,
        packages=(*settings.image.packages, *args.package),
        base=args.base,
        python=args.python,
    )
    engine = DockerEngine(settings.engine.socket, max(settings.engine.timeout, _PATIENCE))
    try:
        image.build(engine, what, index_settings(os.environ, Path.home()), progress, force=args.force)
    finally:
        engine.close()


def _stopwatch() -> Progress:
    """Return a progress that prints each sentence behind the seconds since now."""
    started = time.monotonic()

    def say(sentence: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - started:4.0f} s] {sentence}\n")
        sys.stdout.flush()

    return say


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGTERM into the exception of Ctrl-C, so that what is temporary is removed on the way out."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
