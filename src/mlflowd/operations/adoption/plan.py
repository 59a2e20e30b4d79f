"""What an adoption will do, step by step, as a value: `adopt` carries it out or prints it. No effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflowd.operations.adoption import printed, steps
from mlflowd.operations.adoption.configuration import toml_of, validated
from mlflowd.operations.adoption.deployment import Where, refuse
from mlflowd.operations.adoption.steps import Choice, Do, Goal, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlflowd.operations.adoption.counts import Counts
    from mlflowd.operations.adoption.deployment import Deployment

__all__ = ["Choice", "Do", "Plan", "Step", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it."""

    deployment: Deployment
    counts: Counts
    choice: Choice
    rewrite: bool
    settings: Mapping[str, Mapping[str, Any]]
    """The whole configuration that will be written, in the notation of /etc/mlflowd.toml."""
    database: Path | None
    """SQLite's file under mlflowd."""
    artifacts: Path | None
    """The directory of artifacts under mlflowd."""
    steps: tuple[Step, ...]
    warnings: tuple[str, ...]

    @property
    def toml(self) -> str:
        """Return the configuration file."""
        return toml_of(self.settings, f"the container {self.deployment.container.name} ({self.deployment.version})")

    def lines(self) -> tuple[str, ...]:
        """Return the plan for people."""
        return tuple(printed.lines(self))

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON has it, without secrets."""
        return printed.document(self)


def plan(deployment: Deployment, counts: Counts, choice: Choice, *, rewrite: bool, state: Path) -> Plan:
    """Return what will be done. Raises NotUnderstoodError where the data are not what the deployment promises."""
    refuse(list(_expected(deployment, counts)))
    goal = _goal(deployment, counts, choice, state)
    if choice is Choice.REFERENCE:
        refuse(list(_referable(deployment, counts)))
    settings = _settings(deployment, goal)
    refuse(list(validated(settings)))
    return Plan(
        deployment=deployment,
        counts=counts,
        choice=choice,
        rewrite=rewrite,
        settings=settings,
        database=goal.database,
        artifacts=goal.artifacts,
        steps=tuple(steps.steps(deployment, counts, goal, rewrite=rewrite)),
        warnings=tuple(_warnings(deployment, counts, rewrite=rewrite)),
    )


def _expected(deployment: Deployment, counts: Counts) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the data: damaged, not there, or where the container's end loses them."""
    at, lost = deployment.database, "half of the mounts may be missing"
    if counts.damaged:
        yield f"The database cannot be taken over: {counts.damaged}", "restore it from a copy of yours, and try again"
    elif at and not counts.known:
        yield f"There is no database at {at}.", "is it mounted where it was?"
    elif at and not counts.runs and counts.artifacts.files:
        sentence = f"The database at {at} holds no run, and there are {counts.artifacts.files} artifacts: {lost}."
        yield sentence, "mount the database where it was"
    yield from _inside(deployment, counts)
    for each in counts.prefixes:
        if each.place.where is Where.INSIDE and each.used and not each.extent.files:
            sentence = f"{each.used} locations in the database lie below {each.path}, where no mount is and no file"
            remedy = f"mount at {each.path} what was there (an empty directory, where clients kept the files)"
            yield f"{sentence}: {lost}.", remedy


def _inside(deployment: Deployment, counts: Counts) -> Iterator[tuple[str, str]]:
    """Yield artifacts that lie in the container's own layer."""
    found = [(each.place, each.extent) for each in counts.prefixes]
    found += [(deployment.artifacts, counts.artifacts)] if deployment.artifacts else []
    for at, extent in dict.fromkeys(found):
        if at.where is Where.INSIDE and extent.files:
            sentence = f"{extent.files} artifacts lie inside the container, at {at.path}, where no mount is."
            copy = f"docker cp {deployment.container.name}:{at.path} DIRECTORY"
            yield sentence, f"{copy}, mount DIRECTORY at {at.path}, make the container anew, and adopt then"


def _referable(deployment: Deployment, counts: Counts) -> Iterator[tuple[str, str]]:
    """Yield why data cannot stay where they are."""
    move = "let the data be moved (--data move)"
    for at in deployment.stores:
        if at.where is Where.INSIDE and at is not deployment.artifacts and at is not deployment.root:
            yield f"{at.path} is inside the container, so it cannot stay where it is.", move
        if at.mount and at.mount.volume:
            yield f"{at.path} is in the engine's volume {at.mount.volume}, which only the engine may enter.", move
    if deployment.database and (other := [name for name in counts.beside if not _of_artifacts(deployment, name)]):
        sentence = f"Beside the database {deployment.database} lie other things ({', '.join(other[:5])})"
        yield f"{sentence}, and mlflowd gives its whole directory to the server.", move


def _of_artifacts(deployment: Deployment, name: str) -> bool:
    """Whether an entry beside the database is the directory of artifacts."""
    database = deployment.database.host if deployment.database else None
    hosts = [each.host for each in (deployment.artifacts, deployment.root) if each and each.host]
    return database is not None and any(database.parent / name == each for each in hosts)


def _goal(deployment: Deployment, counts: Counts, choice: Choice, state: Path) -> Goal:
    """Return where the data will be."""
    stays = choice is Choice.REFERENCE
    database = artifacts = None
    if deployment.file_store:
        database = state / "backend" / "mlflow.db"
    elif deployment.database:
        host = deployment.database.host
        database = host if stays and host else state / "backend" / "mlflow.db"
    if "uri" not in deployment.settings.get("artifact_store", {}):
        roots = [each.place.host for each in counts.prefixes if not each.experiment and each.place.host]
        of_root = deployment.root.host if deployment.root else None
        own = deployment.artifacts.host if deployment.artifacts else None
        there = own or of_root or next(iter(roots), None)
        artifacts = there if stays and there else state / "artifacts"
    return Goal(choice, database, artifacts, state)


def _settings(deployment: Deployment, goal: Goal) -> dict[str, dict[str, Any]]:
    settings = {section: dict(keys) for section, keys in deployment.settings.items()}
    if goal.database:
        settings.setdefault("backend_store", {})["uri"] = f"sqlite:///{goal.database}"
    if goal.artifacts:
        settings.setdefault("artifact_store", {})["uri"] = str(goal.artifacts)
    return settings


def _warnings(deployment: Deployment, counts: Counts, *, rewrite: bool) -> Iterator[str]:
    yield from deployment.notes
    yield from counts.notes
    if counts.paths and not rewrite:
        yield (f"{counts.paths} artifact locations stay paths of the old server: no client and no page reaches those "
               "files any more. Rewriting them (--rewrite-artifacts) cures that.")  # fmt: skip
    if counts.others:
        yield f"{counts.others} locations are paths that users gave (a model's source, as a rule); they stay."
    for each in counts.prefixes:
        if each.values and each.place.host and not each.extent.files:
            yield (f"{each.place.host} holds no file: clients wrote their artifacts to {each.path} on their own disks. "
                   f"Copy them from there into {each.place.host} before, or they stay lost to others.")  # fmt: skip
