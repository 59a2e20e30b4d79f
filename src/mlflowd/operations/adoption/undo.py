"""The way back: what an adoption has done is taken back, the last step first, until the old server is as it was.

Effects: those of the steps, backwards. Each way back may be gone twice, because it may itself be cut short; a step is
struck out once its way back is complete. What the new server was given meanwhile is kept beside, never thrown away.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflowd.errors import MlflowdError
from mlflowd.host import files
from mlflowd.operations.adoption import owners, relocate, transfer
from mlflowd.operations.adoption.rescue import with_sides
from mlflowd.operations.adoption.written import Book, Kind
from mlflowd.server.probe import PROBE_DIRECTORY
from mlflowd.stores.places import SIDE_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflowd.engine.api import Engine, Progress
    from mlflowd.host.paths import Identity
    from mlflowd.host.service import Service
    from mlflowd.model import ContainerSpec
    from mlflowd.operations.adoption.written import Adoption, Step

    Told = Mapping[str, Any]


def unfinished(path: Path) -> Path:
    """Return the name under which a file of the configuration is written until it is whole."""
    return path.with_name(f".{path.name}.new")


BEFORE = ".before-adopt"
"""Ends the name of a file of the configuration that was there before."""
SERVED = "served"
"""In the adoption's directory: the new server ran, so that clients may have written to it."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What steps and their ways back work with."""

    engine: Engine
    state: Path
    who: Identity
    service: Service
    progress: Progress
    spec: Callable[[], ContainerSpec]
    """The server's own container to be, by the configuration that is written; raises MlflowdError."""
    grace: float = 30.0
    """Seconds that a server gets to stop."""

    @property
    def book(self) -> Book:
        """What is written down."""
        return Book(self.state)

    def directory(self, adoption_id: str) -> Path:
        """Return the adoption's own directory."""
        return self.state / "adoption" / adoption_id

    def kept(self, adoption_id: str) -> Path:
        """Return where a way back leaves what the new server may have been given."""
        return self.state / "adoption" / f"{adoption_id}-undone"


def undo(tools: Tools) -> Path | None:
    """Take back all that is written down, and return where the new server's data are kept, None where it had none.

    Raises MlflowdError where a step cannot be taken back: what is left stays written down, and may be tried again.
    """
    adoption = tools.book.pending()
    while adoption is not None and adoption.steps:
        step = adoption.steps[-1]
        try:
            _BACK[step.kind](tools, adoption, step.told)
        except OSError as error:
            raise _stuck(step, f"{error.filename}: {error.strerror}") from error
        except MlflowdError as error:
            raise _stuck(step, error.message, error.hint) from error
        tools.book.taken_back()
        adoption = tools.book.pending()
    if adoption is None:
        return None
    tools.book.close()
    with suppress(OSError):
        tools.directory("").rmdir()  # where nothing is kept
    kept = tools.kept(adoption.id)
    return kept if files.exists(kept) else None


def _stuck(step: Step, why: str, hint: str = "") -> MlflowdError:
    message = f"The step {step.kind} of the adoption cannot be taken back: {why}"
    return MlflowdError(message, f"{hint or 'mend it'}; then: sudo mlflowd adopt --undo")


def _start_old(tools: Tools, _: Adoption, told: Told) -> None:
    if tools.engine.deployed(told["id"]) is None:
        tools.progress(f"the container {told['name']} is gone, so it is not started again")
    elif told["running"]:
        tools.progress(f"starting {told['name']} again")
        tools.engine.start(told["id"])


def _rename_old(tools: Tools, _: Adoption, told: Told) -> None:
    if tools.engine.deployed(told["id"]) is not None:
        tools.engine.reinstate(told["id"], told["name"], told["policy"])


def _daemon(tools: Tools, adoption: Adoption, told: Told) -> None:
    if told["active"]:
        tools.service.restart()
        return
    ours = tools.engine.inspect(told["container"])
    directory = tools.directory(adoption.id)
    if ours is not None and tools.service.served(ours.id) and files.exists(directory):
        (directory / SERVED).touch(mode=0o600)
    tools.progress("stopping mlflowd")
    tools.service.stop()
    if not told["enabled"]:
        tools.service.disable()
    ours = tools.engine.inspect(told["container"])
    if ours is not None and ours.ours and not told["existed"]:
        tools.engine.stop(ours.id, tools.grace)
        tools.engine.remove(ours.id)


def _directory(tools: Tools, _: Adoption, told: Told) -> None:
    del tools
    if files.exists(Path(told["path"])):
        shutil.rmtree(told["path"])


def _made(tools: Tools, _: Adoption, told: Told) -> None:
    del tools
    for path in (Path(told["path"]) / PROBE_DIRECTORY, Path(told["path"])):
        with suppress(OSError):  # somebody else's files are in it, or it was never made
            path.rmdir()


def _aside(tools: Tools, _: Adoption, told: Told) -> None:
    del tools
    path, aside = Path(told["path"]), Path(told["aside"])
    for side in (*SIDE_FILES, ""):
        if files.exists(aside.with_name(aside.name + side)):
            aside.with_name(aside.name + side).rename(path.with_name(path.name + side))
    files.sync_directory(path.parent)


def _placed(tools: Tools, adoption: Adoption, told: Told) -> None:
    path = Path(told["path"])
    served = files.exists(tools.directory(adoption.id) / SERVED)
    kept = tools.kept(adoption.id)
    if served:
        kept.mkdir(mode=0o700, exist_ok=True)
    for each in with_sides(path):
        if not files.exists(each):
            continue
        if served:
            shutil.move(each, kept / each.name)
        else:
            each.unlink()


def _moved(tools: Tools, _: Adoption, told: Told) -> None:
    source, target = Path(told["source"]), Path(told["target"])
    names = [name for name in told["names"] if files.exists(target / name)]
    if names:
        tools.progress(f"moving {len(names)} entries back to {source}")
        transfer.move(target, source, names)


def _copied(tools: Tools, adoption: Adoption, told: Told) -> None:
    source, target, names = Path(told["source"]), Path(told["target"]), told["names"]
    if files.exists(tools.directory(adoption.id) / SERVED) and files.exists(source):
        transfer.add_missing(target, source, names)
    for name in names:
        transfer.remove(target / name)


def _owners(tools: Tools, _: Adoption, told: Told) -> None:
    count = owners.give_back(Path(told["record"]))
    tools.progress(f"gave {count} entries back to their former owners")


def _file(tools: Tools, _: Adoption, told: Told) -> None:
    del tools
    path, before = Path(told["path"]), Path(told["path"] + BEFORE)
    unfinished(path).unlink(missing_ok=True)
    if not told["existed"]:
        path.unlink(missing_ok=True)
    elif files.exists(before):
        before.replace(path)
        before.unlink(missing_ok=True)  # both are names of one file where the new one was not put there yet
    if files.exists(path.parent):
        files.sync_directory(path.parent)


def _rows(tools: Tools, _: Adoption, told: Told) -> None:
    counts = relocate.back(tools.engine, tools.spec(), Path(told["directory"]), tools.who)
    tools.progress(f"gave {sum(counts.values())} artifact locations back their former values")


_BACK: Mapping[Kind, Callable[[Tools, Adoption, Told], None]] = {
    Kind.CONTAINER: _start_old,
    Kind.NAME: _rename_old,
    Kind.DAEMON: _daemon,
    Kind.DIRECTORY: _directory,
    Kind.MADE: _made,
    Kind.ASIDE: _aside,
    Kind.PLACED: _placed,
    Kind.MOVED: _moved,
    Kind.COPIED: _copied,
    Kind.OWNERS: _owners,
    Kind.FILE: _file,
    Kind.ROWS: _rows,
}
