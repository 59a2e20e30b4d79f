"""`mlflowd adopt`: takes over an MLflow that runs today from a `docker run` line or a compose file.

Effects: those of the plan that it prints first (operations/adoption); whatever fails or is interrupted is undone, by
this command or by the next one. As root: containers, owners and the configuration are its matter.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlflowd.cli import adopted, terminal
from mlflowd.config import load
from mlflowd.config.load import DEFAULT_PATH
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import ExitStatus, MlflowdError, RefusedError
from mlflowd.events import Event
from mlflowd.host import files, journal, secrets
from mlflowd.host import memory as host_memory
from mlflowd.host.occupation import occupied
from mlflowd.host.paths import identity, run_as, runtime_directory, state_directory
from mlflowd.host.redaction import redact
from mlflowd.host.service import Service
from mlflowd.model import Secrets
from mlflowd.operations.adoption import carry_out, counts, deployed, proof, ready, writing
from mlflowd.operations.adoption.plan import Choice, plan
from mlflowd.operations.adoption.understand import understand
from mlflowd.operations.adoption.undo import Tools, undo
from mlflowd.operations.adoption.written import Book, Kind
from mlflowd.operations.copies import Databases
from mlflowd.operations.images_kept import ImagesKept
from mlflowd.server import command
from mlflowd.server.wiring import Machine
from mlflowd.supervisor.images import Images

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from mlflowd.config import Settings
    from mlflowd.engine.api import Engine, Progress
    from mlflowd.host.paths import Identity
    from mlflowd.model import ContainerSpec
    from mlflowd.operations.adoption.plan import Plan
    from mlflowd.operations.adoption.proof import Proof

_PATIENCE = 180.0
"""Seconds for one call to an engine that moves gigabytes at the same time."""
_START_LIMIT = 120.0
"""Seconds beside health.start_deadline: the image is looked at, the daemon starts, both on a busy disk."""
_INTERRUPTED: Mapping[type[BaseException], str] = {KeyboardInterrupt: "it was interrupted"}
_NO_SYSTEMD = "systemd does not run here, or mlflowd.service is not installed, so mlflowd could not be started."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "adopt",
        help="take over an MLflow that runs today from docker run or a compose file",
        description="Exit status: 0 taken over (or the plan printed), 1 undone, 69 refused before anything was "
        "touched, 75 another operation is at work, 77 not root, 78 configuration, 130 interrupted and undone.",
    )
    parser.add_argument(
        "what", nargs="?", metavar="CONTAINER | COMPOSE_FILE", help="default: the only one that is there"
    )
    parser.add_argument(
        "--data",
        choices=[str(each) for each in Choice],
        default=str(Choice.MOVE),
        help="move: to mlflowd's own directories (default); reference: they stay, and the configuration names them",
    )
    locations = parser.add_mutually_exclusive_group()
    locations.add_argument(
        "--rewrite-artifacts",
        action="store_true",
        help="rewrite artifact locations that are paths of the server, so that every client reaches them",
    )
    locations.add_argument("--keep-artifacts", action="store_true", help="leave them as they are, and do not ask")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, with counts, and change nothing")
    parser.add_argument("--json", action="store_true", help="with --dry-run: print the plan as a document (schema 1)")
    parser.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")
    parser.add_argument("--undo", action="store_true", help="take back an adoption that was cut short")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan, ask, carry out; or undo. Raises MlflowdError where nothing was changed, or all of it was undone."""
    if os.geteuid() != 0:
        raise MlflowdError("Taking a deployment over needs root.", "sudo mlflowd adopt", ExitStatus.PERMISSION)
    current = load(args.config, os.environ).settings
    engine = DockerEngine(current.engine.socket, max(current.engine.timeout, _PATIENCE))
    try:
        with terminal.progress() as progress:
            return _Adopting(args, current, engine, progress).run()
    finally:
        engine.close()


@dataclass
class _Adopting:
    """One call of the command."""

    args: argparse.Namespace
    current: Settings
    engine: Engine
    progress: Progress

    def __post_init__(self) -> None:
        self.who: Identity = identity()
        self.state = state_directory()
        self.config: Path = self.args.config or DEFAULT_PATH
        self.book = Book(self.state)
        self.plan: Plan | None = None
        self.settings = self.current
        """Those that the plan will write, once there is one."""

    def run(self) -> int:
        """Return the exit status."""
        self._undo_what_is_left()
        if self.args.undo:
            return ExitStatus.OK
        self.plan = self._planned()
        if self.args.dry_run:
            text = json.dumps(self.plan.document(), indent=2) if self.args.json else "\n".join(self.plan.lines())
            print(redact(text))
            return ExitStatus.OK
        print(redact("\n".join(self.plan.lines())))
        self._confirm("Take it over?")
        if not Service().there:
            raise RefusedError(_NO_SYSTEMD, "./install.sh --no-start, on a machine with systemd; then adopt")
        with terminal.interruptible(), self._occupied():
            seen = self._carry_out(self.plan)
        self._tell(self.plan, seen)
        return ExitStatus.OK

    # --- the plan -----------------------------------------------------------------------------

    def _planned(self) -> Plan:
        """Return the plan, after everything was looked at that can be before anything is touched."""
        found = deployed.find(self.engine, self.args.what)
        deployment = understand(found, deployed.facts(self.engine, found))
        seen = counts.count(deployment, self.engine)
        choice, rewrite = Choice(self.args.data), bool(self.args.rewrite_artifacts)
        made = plan(deployment, seen, choice, rewrite=rewrite, state=self.state)
        if seen.paths and not rewrite and self._rewriting(made):
            made = plan(deployment, seen, choice, rewrite=True, state=self.state)
        made = replace(made, settings=adopted.with_former(made.settings, self.config))
        self.settings = adopted.judged(made.toml)
        ready.require(made, self.current, self.engine, self.who, self.state)
        return made

    def _rewriting(self, made: Plan) -> bool:
        """Ask whether artifact locations are to be rewritten, where somebody can answer."""
        if self.args.keep_artifacts or self.args.dry_run or self.args.yes or not sys.stdin.isatty():
            return False
        paths = made.counts.paths
        print(f"{paths} artifact locations are paths of the old server, which clients on other machines cannot use.")
        return adopted.agreed("Rewrite them to the proxy, and move the artifacts along?")

    def _confirm(self, question: str) -> None:
        if self.args.yes:
            return
        if not sys.stdin.isatty():
            raise RefusedError("There is no terminal to ask on, so nothing was changed.", "add --yes")
        if not adopted.agreed(question):
            raise RefusedError("Nothing was changed.")

    # --- the doing ----------------------------------------------------------------------------

    def _carry_out(self, made: Plan) -> Proof:
        """Do all of it, or undo it and raise what went wrong."""
        tools, began = self._tools(), f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        work = carry_out.Work(began, made, self.config, tools, self._copy_databases)
        try:
            carry_out.begin(work)
            writing.keep(work, ImagesKept(self.state, self.who).path)
            self._remember_image(made)
            carry_out.stop_daemon(work)
            carry_out.carry_out(work)
            carry_out.start(work, self.settings.container.name)
            limit = self.settings.health.start_deadline + _START_LIMIT
            ended = proof.Ending(tools.service, self.engine, self.settings.container.name)
            proof.await_serving(self.settings, limit, ended, self.progress)
            seen = proof.prove(self.settings, self._secrets(), made.counts, self.progress)
            self.book.close()  # from here on it is done
        except BaseException as error:
            with _undisturbed():
                self._undo_after(error, tools)
            if isinstance(error, MlflowdError):  # 1, whatever it was: it is no refusal once something was touched
                raise MlflowdError(error.message, error.hint) from error
            raise
        carry_out.clear(work)
        return seen

    def _undo_after(self, error: BaseException, tools: Tools) -> None:
        """Undo, and say in one sentence why; what is raised after it names the log."""
        why = error.message if isinstance(error, MlflowdError) else _INTERRUPTED.get(type(error), repr(error))
        self.progress(redact(f"it did not succeed, and is undone: {why}"))
        said = tools.service.said() if tools.service.active or tools.service.failed else ""
        kept = undo(tools)
        if said:
            print(redact(f"mlflowd's last words (journalctl -u mlflowd):\n{said}"), file=sys.stderr)
        old = self.plan.deployment.container.name if self.plan else "the old server"
        self._tell_undone(old, kept)

    def _undo_what_is_left(self) -> None:
        """Take back what an adoption before this one has left."""
        left = self.book.pending()
        if left is None:
            if self.args.undo:
                print("Nothing to undo: no adoption was cut short.")
            return
        if self.args.dry_run:
            adopted.refuse_dry_run(left)
        self.progress(f"the adoption of {left.name} that began at {left.id} was cut short, and is undone")
        self.config = Path(left.config)
        with _undisturbed(), self._occupied():
            kept = undo(self._tools())
        self.config = self.args.config or DEFAULT_PATH
        self._tell_undone(left.name, kept)

    def _tell_undone(self, name: str, kept: Path | None) -> None:
        found = self.engine.deployed(name)
        self.progress(f"everything is as it was before; {name} is {found.status if found else 'gone'}")
        if kept:
            self.progress(f"what the new server was given meanwhile is kept in {kept}")

    def _tools(self) -> Tools:
        return Tools(self.engine, self.state, self.who, Service(), self.progress, self._spec)

    @contextmanager
    def _occupied(self) -> Iterator[None]:
        """Hold the data; the lock's file is the service user's, also where root is the first to want it."""
        directory = self.state / "state"
        if not files.exists(directory):
            files.make_directory(directory, self.who)
        run_as(self.who, lambda: (directory / "operation.lock").touch(mode=0o600))
        with occupied(self.state, "an adoption"):
            yield

    # --- the new server -----------------------------------------------------------------------

    def _remember_image(self, made: Plan) -> None:
        """Let the reference mean the very image that serves now, and have what it lacks; it is never pulled."""
        kept = ImagesKept(self.state, self.who)
        kept.pin(self.settings.image.reference, made.deployment.container.image_id)
        Images(self.settings, self.engine, kept, self.who).fetch(self.progress)

    def _spec(self) -> ContainerSpec:
        """Return the server's own container to be."""
        settings, read = self.settings, self._planned_secrets()
        if self._configured():
            settings, read = load(self.config, {}).settings, self._secrets()
        chosen = Images(settings, self.engine, ImagesKept(self.state, self.who), self.who).fetch(self.progress)
        private = str(runtime_directory() / "private")
        machine = Machine(self.who.uid, self.who.gid, host_memory.total(), str(self.state), private)
        return command.container_spec(settings, chosen.image, chosen.able, machine, read)

    def _configured(self) -> bool:
        """Whether the configuration of the plan is written."""
        steps = pending.steps if (pending := self.book.pending()) else ()
        return any(step.kind is Kind.FILE and step.told["path"] == str(self.config) for step in steps)

    def _secrets(self) -> Secrets:
        return secrets.read(load(self.config, {}).settings, self.state, self.who)

    def _planned_secrets(self) -> Secrets:
        told = self.plan.deployment.secrets if self.plan else ()
        return Secrets(MappingProxyType({each.key: each.content for each in told}))

    def _copy_databases(self, directory: Path) -> None:
        Databases(self.settings, self._planned_secrets(), self.state, self.who).take(directory, self.progress)

    # --- the end ------------------------------------------------------------------------------

    def _tell(self, made: Plan, seen: Proof) -> None:
        name = made.deployment.container.name
        journal.to_journald()
        journal.report(Event.DEPLOYMENT_ADOPTED, f"{name} is mlflowd's now: {seen}.", container_name=name)
        print(redact("\n".join(adopted.told(made, self.config, self.settings, seen))))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let neither Ctrl-C nor SIGTERM interrupt an undo."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
