"""`mlflowd export compose`: the server's container as a compose file, for those who go on without mlflowd.

Effects: asks the engine which image the configuration means, and reads the configuration's secrets; nothing is changed
but with `--to`, which writes the file, its .env and the private files into a directory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.cli import candidate
from mlflowd.config import load
from mlflowd.config.settings import ContainerSettings
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.host import memory as host_memory
from mlflowd.host import secrets
from mlflowd.host.paths import identity, runtime_directory, state_directory
from mlflowd.operations.composed import DIRECTORY, Composed, composed
from mlflowd.server import command, login
from mlflowd.server.wiring import Machine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine
    from mlflowd.host.paths import Identity
    from mlflowd.model import Container, ContainerSpec, Image

_ROOT_NEEDED = "The secrets and the stores are for root and the service user alone."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `export` with its part."""
    verb = subparsers.add_parser("export", help="write the running configuration in another tool's form")
    parts = verb.add_subparsers(required=True, metavar="compose")
    compose = parts.add_parser(
        "compose",
        help="as a compose file",
        description="Print the server's container as a compose file. Secrets are not in it: what .env has to hold is "
        "said on standard error, and written with --to.",
    )
    compose.add_argument("--to", type=Path, metavar="DIR", help="write compose.yaml, .env and private files there")
    compose.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the compose file, or write it with what belongs beside it."""
    settings = load(args.config, os.environ).settings
    if os.geteuid() not in {0, identity().uid}:
        raise MlflowdError(_ROOT_NEEDED, "sudo mlflowd export compose", ExitStatus.PERMISSION)
    engine = DockerEngine(settings.engine.socket, settings.engine.timeout)
    try:
        made, running = _composed(settings, engine)
    finally:
        engine.close()
    if args.to is not None:
        _write(args.to, made, identity())
        print(f"wrote {', '.join(_written(args.to, made))}")
    else:
        sys.stdout.write(made.text)
    for line in (*running, *(() if args.to else _beside(made))):
        print(line, file=sys.stderr)
    return ExitStatus.OK


def _composed(settings: Settings, engine: Engine) -> tuple[Composed, tuple[str, ...]]:
    """Return the compose file, and what is to be said of it."""
    state, who = state_directory(), identity()
    would = candidate.find(settings, engine, state, who)
    if would.spec is None or would.able is None:
        finding = would.findings[-1] if would.findings else None
        message = finding.message if finding else "The container engine cannot be asked."
        raise MlflowdError(message, finding.remedy if finding else "systemctl status docker")
    image, read = _image(engine, would.spec), secrets.read(settings, state, who, make=False)
    if settings.login.enabled and not read.get(login.SECRET_KEY):
        message = "The key of the login is not there yet: mlflowd has not run with this configuration."
        raise MlflowdError(message, "sudo systemctl start mlflowd, then export")
    # As the daemon describes it, which goes by the machine's memory too; the candidate of `check` does not.
    machine = Machine(who.uid, who.gid, host_memory.total(), str(state), str(runtime_directory() / "private"))
    spec = command.container_spec(settings, image, would.able, machine, read)
    others = spec.network != ContainerSettings().network
    made = composed(spec, image, read, prefix=command.static_prefix(settings), network_of_others=others)
    return made, tuple(_differs(engine.inspect(spec.name), spec))


def _image(engine: Engine, spec: ContainerSpec) -> Image:
    image = engine.image(spec.image_id)
    if image is None:
        raise MlflowdError(f"The image {spec.image} is not here any more.", "sudo mlflowd image pull")
    return image


def _differs(container: Container | None, spec: ContainerSpec) -> Iterator[str]:
    if container is not None and container.ours and container.spec_hash != spec.digest:
        yield "note: the server that runs was made from another configuration; a reload would make it this one"


def _beside(made: Composed) -> Iterator[str]:
    """Yield what has to stand beside the file; the secrets themselves are not shown."""
    if made.environment:
        yield f"note: .env beside it has to hold {', '.join(sorted(made.environment))}"
    if made.files:
        yield f"note: {DIRECTORY} beside it has to hold {', '.join(sorted(made.files))}, readable for its user alone"
    if made.environment or made.files:
        yield "note: sudo mlflowd export compose --to DIR writes all of it"


def _written(to: Path, made: Composed) -> Iterator[str]:
    yield str(to / "compose.yaml")
    if made.environment:
        yield str(to / ".env")
    yield from (str(to / DIRECTORY / name) for name in sorted(made.files))


def _write(to: Path, made: Composed, who: Identity) -> None:
    """Write everything into a directory that has none of it yet."""
    there = [name for name in ("compose.yaml", ".env", DIRECTORY) if (to / name).exists()]
    if there:
        raise MlflowdError(f"{to / there[0]} is there already.", "name another directory, or remove it")
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        _file(to / "compose.yaml", made.text, 0o644)
        if made.environment:
            _file(to / ".env", made.dotenv, 0o600)
        for name, content in made.files.items():
            path = to / DIRECTORY / name
            _directories(path.parent, to, who)
            _file(path, content, 0o400)
            _give(path, who)
    except OSError as error:
        raise MlflowdError(
            f"{error.filename or to} cannot be written: {error.strerror}.", "name another DIR"
        ) from error


def _directories(path: Path, top: Path, who: Identity) -> None:
    if path != top and not path.exists():
        _directories(path.parent, top, who)
        path.mkdir(mode=0o700)
        _give(path, who)


def _file(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def _give(path: Path, who: Identity) -> None:
    if os.geteuid() == 0:
        os.chown(path, who.uid, who.gid)
