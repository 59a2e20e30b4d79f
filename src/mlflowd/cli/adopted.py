"""What `mlflowd adopt` says at the end, and what it keeps of the configuration that was there. Effects: reads that."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mlflowd.config import load
from mlflowd.errors import ConfigurationError, RefusedError
from mlflowd.host import files
from mlflowd.operations.adoption import transfer
from mlflowd.operations.adoption.carry_out import RETIRED
from mlflowd.operations.adoption.rescue import with_sides
from mlflowd.operations.adoption.steps import Do
from mlflowd.operations.adoption.undo import BEFORE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflowd.config import Settings
    from mlflowd.operations.adoption.plan import Plan
    from mlflowd.operations.adoption.proof import Proof
    from mlflowd.operations.adoption.written import Adoption

_KEPT = ("engine", "container", "health", "restart", "disk", "backup", "upgrade", "log")
"""Sections that say nothing of the server that is taken over."""
_PROJECT = "com.docker.compose.project"
_FILES = "com.docker.compose.project.config_files"


def judged(text: str) -> Settings:
    """Return the settings of a file that is not written yet. Raises ConfigurationError as its reader would."""
    with tempfile.TemporaryDirectory(prefix="mlflowd-adopt-") as directory:
        path = Path(directory) / "mlflowd.toml"
        path.write_text(text, encoding="utf-8")
        try:
            return load(path, {}).settings
        except ConfigurationError as error:
            message = f"The configuration for this deployment would be refused:\n{error.message}"
            raise RefusedError(message, "write /etc/mlflowd.toml by hand") from error


def agreed(question: str) -> bool:
    """Return whether a person at the terminal says yes."""
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def with_former(settings: Mapping[str, Mapping[str, Any]], config: Path) -> dict[str, dict[str, Any]]:
    """Return the settings with what the configuration that is there says of mlflowd itself."""
    former = tomllib.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    kept = {section: dict(former[section]) for section in _KEPT if former.get(section)}
    return {name: {**kept.get(name, {}), **settings.get(name, {})} for name in sorted(kept.keys() | settings.keys())}


def told(plan: Plan, config: Path, settings: Settings, seen: Proof) -> Iterator[str]:
    """Yield what was done, what remains, and how to remove it."""
    old = plan.deployment.container
    yield ""
    yield f"{old.name} is mlflowd's now, at http://{settings.server.listen}: {seen}."
    yield "Look at it: mlflowd status; journalctl -u mlflowd"
    if not plan.rewrite and plan.counts.paths:
        yield f"{plan.counts.paths} artifact locations are still paths of the old server; their files stay."
    yield ""
    yield "What remains of before, and how to remove it once you are content:"
    yield f"  the old container: sudo docker rm {old.name}{RETIRED}"
    for path in _remains(plan):
        yield f"  {path}: sudo rm -r {path}"
    before = config.with_name(config.name + BEFORE)
    if files.exists(before):
        yield f"  {before}: sudo rm {before}"
    if project := old.labels.get(_PROJECT):
        where = old.labels.get(_FILES, "")
        yield ""
        yield f"`docker compose up` in the project {project} would make and start the old server again, on the data of"
        yield f"before: take its service out of {where or 'the compose file'}."


def _remains(plan: Plan) -> Iterator[Path]:
    """Yield the originals that still lie where they were."""
    for step in plan.steps:
        source = step.source.host if step.source else None
        if source is None or step.target is None:
            continue
        if step.do in {Do.DATABASE, Do.LOGIN, Do.FILE_STORE}:
            at = source if source != step.target else source.with_name(source.name + RETIRED)
            yield from with_sides(at) if files.exists(at) else ()
        elif step.do is Do.ARTIFACTS:
            left = transfer.entries(source, experiments=step.experiments) if source.is_dir() else ()
            yield from (source / name for name in left)


def refuse_dry_run(left: Adoption) -> NoReturn:
    """Raise RefusedError: a dry run changes nothing, and what is half taken over has no plan."""
    message = f"The adoption of {left.name} that began at {left.id} was cut short and is not undone yet."
    raise RefusedError(message, "sudo mlflowd adopt --undo")
