"""A restored backup read through MLflow as a client does: how much there is, and whether files are what they were.

Effects: HTTP requests to the server of the trial; reads the restored files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from mlflowd.server.readback import store_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.operations.backup.manifest import Manifest
    from mlflowd.server.readback import Holdings, Reader

_RUNS: Final = 5000
"""Runs that are counted one by one; MLflow gives each with all that it has."""
_SAMPLE_RUNS, _SAMPLE_FILES, _SAMPLE_BYTES = 20, 10, 2 << 30
"""Runs whose artifacts are downloaded, how many of each, and when enough is enough."""
_SAMPLE_MODELS: Final = 50


@dataclass(frozen=True, slots=True)
class Sample:
    """What was downloaded."""

    files: int = 0
    bytes: int = 0
    wrong: str = ""
    """What is not as it ought to be, as a sentence."""
    absent: tuple[str, ...] = ()
    """Registered versions whose files are in the restored directory no more than where they were saved."""


def differing(held: Holdings, told: Manifest, *, at_least: bool = False) -> str:
    """Return what the server does not have as the manifest says, as a sentence; "" where all is there.

    `at_least`: more of it is fine, since clients write.
    """
    wanted = told.counts or {}
    found = {"experiments": held.experiments, "runs": held.runs, "registered_models": held.models}
    wrong = [
        f"{count} {kind.replace('_', ' ')} in place of {wanted[kind]}"
        for kind, count in found.items()
        if kind in wanted and _differs(count, wanted[kind], at_least or (kind == "runs" and not held.complete))
    ]
    return f"the server shows {', '.join(wrong)}" if wrong else ""


def _differs(count: int, wanted: int, at_least: bool) -> bool:
    return count < min(wanted, _RUNS) if at_least else count != wanted


def holdings(reader: Reader) -> Holdings:
    """Count what the server shows."""
    return reader.holdings(_RUNS)


def sample(reader: Reader, artifacts: Path, before: Path) -> Sample:
    """Download artifacts of the newest runs through the server, and compare them with the restored files.

    Then look for the files of registered models. `before`: where the artifacts were saved from, to tell a file that the
    backup lost from one that was not there. Raises MlflowdError where the server does not give what it lists.
    """
    count = size = 0
    for path in islice(_listed(reader), _SAMPLE_RUNS * _SAMPLE_FILES):
        got = reader.content(path)
        count, size = count + 1, size + got.bytes
        if (got.bytes, got.sha256) != _measure(artifacts / path):
            return Sample(count, size, f"the artifact {path} comes out of the server other than it was restored")
        if size > _SAMPLE_BYTES:
            break
    absent = [(who, place) for who, place in _models(reader) if not _holds(artifacts / place)]
    if lost := [who for who, place in absent if _holds(before / place)]:
        return Sample(count, size, f"the files of the registered model {lost[0]} are not in the backup")
    return Sample(count, size, "", tuple(who for who, _ in absent))


def _listed(reader: Reader) -> Iterator[str]:
    """Yield the paths of artifacts of the newest runs that have any behind the proxy."""
    for run in islice(reader.runs(list(reader.experiments())), _SAMPLE_RUNS):
        place = store_path(str(run["info"].get("artifact_uri", "")))
        if place:
            yield from (f"{place}/{path}" for path in reader.run_files(str(run["info"]["run_id"]), _SAMPLE_FILES))


def _models(reader: Reader) -> Iterator[tuple[str, str]]:
    for who, uri in reader.model_places(_SAMPLE_MODELS):
        if place := store_path(uri):
            yield who, place


def _holds(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


def _measure(path: Path) -> tuple[int, str]:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return path.stat().st_size, digest
    except OSError:
        return -1, ""
