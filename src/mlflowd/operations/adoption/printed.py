"""A plan for people, and as JSON. No effects; secrets are in neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflowd.operations.adoption.steps import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.operations.adoption.extents import Extent
    from mlflowd.operations.adoption.plan import Plan

_SCHEMA = 1


def lines(plan: Plan) -> Iterator[str]:
    """Yield what was found, what will be done, and what the owner should know."""
    container, counts = plan.deployment.container, plan.counts
    yield f"{container.name}: MLflow {plan.deployment.version} from {container.image}, {container.status}"
    for name, at in _stores(plan):
        yield f"  {name}: {at}"
    if counts.known:
        yield f"  it holds {counts.experiments} experiments, {counts.runs} runs, {counts.models} registered models"
    for each in counts.prefixes:
        yield f"  {each.values} artifact locations begin with {each.path}, which is {each.place} ({size(each.extent)})"
    for column, count in counts.columns:
        yield f"    {column}: {count}"
    yield ""
    yield "What will be done; everything is undone if the new server does not prove healthy:"
    for number, step in enumerate(plan.steps, 1):
        yield f"  {number:2}. {step.sentence}"
        yield f"      undone: {step.undo}"
    if plan.warnings:
        yield ""
        yield "To know:"
        yield from (f"  - {each}" for each in plan.warnings)
    yield ""
    yield from plan.toml.splitlines()


def document(plan: Plan) -> dict[str, Any]:
    """Return the same as JSON has it."""
    container, counts = plan.deployment.container, plan.counts
    return {
        "schema": _SCHEMA,
        "container": {"name": container.name, "id": container.id, "image": container.image, "status": container.status},
        "mlflow": plan.deployment.version,
        "choice": plan.choice,
        "rewrite": plan.rewrite,
        "stores": dict(_stores(plan)),
        "counts": {
            "known": counts.known,
            "experiments": counts.experiments,
            "runs": counts.runs,
            "models": counts.models,
            "columns": dict(counts.columns),
            "prefixes": [
                {"path": each.path, "place": str(each.place), "values": each.values, **_extent(each.extent)}
                for each in counts.prefixes
            ],
            "other_paths": counts.others,
            "database": _extent(counts.database),
            "artifacts": _extent(counts.artifacts),
            "journal": list(counts.journal),
        },
        "steps": [{"do": step.do, "sentence": step.sentence, "undo": step.undo} for step in plan.steps],
        "warnings": list(plan.warnings),
        "secrets": [{"key": each.key, "path": str(each.path)} for each in plan.deployment.secrets],
        "configuration": {section: dict(keys) for section, keys in plan.settings.items()},
    }


def _stores(plan: Plan) -> Iterator[tuple[str, str]]:
    deployment = plan.deployment
    for name in ("database", "file_store", "artifacts", "root", "login"):
        if (at := getattr(deployment, name)) is not None:
            yield name.replace("_", " "), f"{at} (in the container {at.path})"


def _extent(extent: Extent) -> dict[str, int]:
    return {"files": extent.files, "bytes": extent.bytes, "writable_by_others": extent.loose}
