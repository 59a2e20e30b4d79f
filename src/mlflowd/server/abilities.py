"""What an image can do: one question put to the image itself, and the reading of its answer. No effects.

`QUESTION` is given to the engine's `ask`; it reads metadata only, because importing MLflow takes seconds.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from mlflowd.errors import MlflowdError

_SCRIPT = r"""
import glob, importlib.metadata, importlib.util, json, os, platform, re, sysconfig

def revisions():
    found = importlib.util.find_spec("mlflow")
    ids, below = [], set()
    for place in found.submodule_search_locations or () if found else ():
        for path in sorted(glob.glob(os.path.join(place, "store", "db_migrations", "versions", "*.py"))):
            with open(path, encoding="utf-8", errors="replace") as file:
                told = re.findall(r"^(down_)?revision\b[^=\n]*=(.*)$", file.read(), re.M)
            for down, value in told:
                names = re.findall(r"[\"']([0-9A-Za-z_]+)[\"']", value)
                below.update(names) if down else ids.extend(names)
    return ids, [one for one in ids if one not in below]

try:
    ids, heads = revisions()
except Exception:
    ids, heads = [], []
packages = {str(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}
print(json.dumps({"python": platform.python_version(), "packages": packages, "revisions": ids,
                  "heads": heads, "purelib": sysconfig.get_path("purelib")}))
"""

QUESTION = ("python", "-c", _SCRIPT)
"""The argv that makes an image tell its Python, its packages and its schema revisions, as one line of JSON.

The revisions are read from the text of MLflow's migrations (`revision = "…"`, `down_revision = "…"`, one of each in a
file, as Alembic writes them); the head is the one that no other builds on."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an image can do, read from its installed packages."""

    mlflow: str
    """Version of MLflow."""
    python: str
    uvloop: bool
    httptools: bool
    packages: frozenset[str]
    """Names of all installed packages, lower case, with hyphens."""
    uvicorn: str = ""
    """Version of uvicorn, "" where there is none (MLflow before 3.3)."""
    purelib: str = ""
    """Where the Python that has MLflow keeps its packages: /opt/mlflow/lib/python3.13/site-packages."""
    revisions: tuple[str, ...] = ()
    """All schema revisions that MLflow knows, () where they could not be read."""
    head: str = ""
    """The revision that it works with, "" where that could not be read."""


def parse(answer: str, image: str) -> Abilities:
    """Read the answer to QUESTION; `image` is the reference that an error names.

    Raises MlflowdError where the image has no MLflow, or the answer is none.
    """
    python, versions, more = _read(answer, image)
    if "mlflow" not in versions:
        raise MlflowdError(
            f"image {image} has no MLflow: its Python {python} knows no package of that name.",
            "set image.reference to an image of MLflow, or make one with 'mlflowd image build'.",
        )
    heads = _texts(more.get("heads"))
    return Abilities(
        mlflow=versions["mlflow"],
        python=python,
        uvloop="uvloop" in versions,
        httptools="httptools" in versions,
        packages=frozenset(versions),
        uvicorn=versions.get("uvicorn", ""),
        purelib=str(more.get("purelib") or ""),
        revisions=_texts(more.get("revisions")),
        head=heads[0] if len(heads) == 1 else "",
    )


def _normal(name: str) -> str:
    """Return a package's name as `Abilities.packages` has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(answer: str, image: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return the Python version, the packages' versions by normalised name, and all that was answered."""
    try:
        # Something in the image may print before the script does: the answer is the last line.
        fields = json.loads(answer.strip().rpartition("\n")[2])
        packages = {_normal(name): str(version) for name, version in fields["packages"].items()}
        return str(fields["python"]), packages, fields
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MlflowdError(
            f"image {image} does not say what it can do: its Python printed {answer.strip()[-200:]!r}.",
            f"try 'docker run --rm {image} python --version', and set image.reference to an image of MLflow.",
        ) from error


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
