"""`mlflowd image pull`, `build` and `accept`: get the server's image, make one, take a tag that moved as the right one.

Effects: images on the engine, and what the state directory remembers of them. Progress goes to standard output, a line
a step, with the seconds since the start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflowd.cli import terminal
from mlflowd.config import load
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import ConfigurationError, ExitStatus, ImageMissingError, MlflowdError
from mlflowd.host.paths import Identity, identity, state_directory, user_name
from mlflowd.operations import debian_base, derived_build, image
from mlflowd.operations.images_kept import ImagesKept
from mlflowd.supervisor.images import Images

if TYPE_CHECKING:
    import argparse

    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine, Progress


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `image` with its parts."""
    verb = subparsers.add_parser("image", help="fetch the server's image, or build one where no registry is reachable")
    parts = verb.add_subparsers(required=True, metavar="pull | build | accept")
    pull = parts.add_parser(
        "pull", help="fetch the image that the configuration names, or load image.archive; a tag that moved is accepted"
    )
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
    build.add_argument(
        "--packages-only", action="store_true", help="only add what the configuration needs to the image that is there"
    )
    build.set_defaults(run=run, part=_build)
    accept = parts.add_parser(
        "accept", help="take the image that the tag names now as the right one, from the next reload"
    )
    accept.set_defaults(run=run, part=_accept)


def run(args: argparse.Namespace) -> int:
    """Do the part of the verb that was asked for; SIGTERM ends it as Ctrl-C does, cleaning up."""
    settings = load(args.config, os.environ).settings
    engine = DockerEngine(settings.engine.socket, max(settings.engine.timeout, _PATIENCE))
    try:
        with terminal.interruptible(), terminal.progress() as progress:
            args.part(args, settings, engine, progress)
    finally:
        engine.close()
    return ExitStatus.OK


_PATIENCE = 180.0
"""Seconds for one call to an engine that has just written a gigabyte: on a busy disk it answers late."""


def _pull(args: argparse.Namespace, settings: Settings, engine: Engine, progress: Progress) -> None:
    reference = settings.image.reference
    if args.reference not in (None, reference):
        progress(f"{args.reference} is here: {engine.pull(args.reference, progress).id}")
        return
    got = _images(settings, engine).bring(progress)
    progress(f"{reference} is here: {got.id}")
    try:
        _remembering(settings, engine).accept(got)
    except (OSError, MlflowdError) as error:
        # The image itself is there; only a tag that had moved needs more.
        progress(f"it is not remembered as the right one: {error}")


def _accept(args: argparse.Namespace, settings: Settings, engine: Engine, progress: Progress) -> None:
    del args
    reference = settings.image.reference
    found = engine.image(reference)
    if found is None:
        raise ImageMissingError(f"There is no image {reference} on this engine.", "sudo mlflowd image pull")
    _remembering(settings, engine).accept(found)
    progress(f"{reference} means {found.id} from the next reload on: sudo systemctl reload mlflowd")


def _build(args: argparse.Namespace, settings: Settings, engine: Engine, progress: Progress) -> None:
    if not args.packages_only:
        _build_stand_in(args, settings, engine, progress)
    elif args.base or args.version or args.package or args.python:
        raise ConfigurationError("--packages-only adds to the image that is there.", "leave out the other options")
    if args.packages_only or not args.version:
        # Another version is for later, when image.reference names it.
        _images(settings, engine).derive(progress)


def _build_stand_in(args: argparse.Namespace, settings: Settings, engine: Engine, progress: Progress) -> None:
    what = image.wanted(
        settings.image.reference,
        version=args.version,
        packages=(*settings.image.packages, *args.package),
        base=args.base,
        python=args.python,
    )
    image.build(engine, what, derived_build.machine_settings(), progress, force=args.force)


def _remembering(settings: Settings, engine: Engine) -> Images:
    """Return the choice of images for the service user, who keeps the memory. Raises MlflowdError without that user."""
    who = identity()
    return Images(settings, engine, ImagesKept(state_directory(), who), who)


def _images(settings: Settings, engine: Engine) -> Images:
    """Return the same for this user where there is no service user yet."""
    try:
        return _remembering(settings, engine)
    except MlflowdError:
        who = Identity(os.geteuid(), os.getegid(), user_name(os.geteuid()))
        return Images(settings, engine, ImagesKept(state_directory(), who), who)
