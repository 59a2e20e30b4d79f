"""What an image can do: one question put to the image itself, and the reading of its answer. No effects.

`QUESTION` is given to the engine's `ask`; it reads metadata only, because importing MLflow takes seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from mlflowd.errors import MlflowdError

_SCRIPT = (
    "import importlib.metadata as m,json,platform;"
    "print(json.dumps({'python':platform.python_version(),"
    "'packages':{str(d.metadata['Name']):d.version for d in m.distributions()}}))"
)

QUESTION = ("python", "-c", _SCRIPT)
"""The argv that makes an image tell its Python and its packages, as one line of JSON."""


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


def parse(answer: str, image: str) -> Abilities:
    """Read the answer to QUESTION; `image` is the reference that an error names.

    Raises MlflowdError where the image has no MLflow, or the answer is none.
    """
    python, versions = _read(answer, image)
    if "mlflow" not in versions:
        raise MlflowdError(
            f"image {image} has no MLflow: its Python {python} knows no package of that name.",
            "set image.reference to an image of MLflow, or make one with 'mlflowd image build'.",
        )
    return Abilities(
        mlflow=versions["mlflow"],
        python=python,
        uvloop="uvloop" in versions,
        httptools="httptools" in versions,
        packages=frozenset(versions),
        uvicorn=versions.get("uvicorn", ""),
    )


def _read(answer: str, image: str) -> tuple[str, dict[str, str]]:
    """Return the Python version and the packages' versions by normalised name."""
    try:
        # Something in the image may print before the script does: the answer is the last line.
        fields = json.loads(answer.strip().rpartition("\n")[2])
        return str(fields["python"]), {_normal(name): str(version) for name, version in fields["packages"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MlflowdError(
            f"image {image} does not say what it can do: its Python printed {answer.strip()[-200:]!r}.",
            f"try 'docker run --rm {image} python --version', and set image.reference to an image of MLflow.",
        ) from error


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
