"""Runs in the first stage of a derived image's build; prints requirements, a line each.

"constraints": what the image has, each in its version, but for the names in /build/exempt.txt. "additions": what pip's
report (https://pip.pypa.io/en/stable/reference/installation-report/) would install. No other effects.
"""

import importlib.metadata
import json
import re
import sys
from pathlib import Path

BUILD = Path("/build")


def normal(name: str) -> str:
    """Return the name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> list[str]:
    """Return what must stay as it is; of two with one name the first on the path is the one that is imported."""
    exempt = set((BUILD / "exempt.txt").read_text().split())
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        found.setdefault(normal(str(one.metadata["Name"])), one.version)
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name not in exempt]


def additions() -> list[str]:
    """Return what pip's dry run has found, exactly."""
    report = json.loads((BUILD / "report.json").read_text())
    named = [one["metadata"] for one in report["install"]]
    return [f"{one['name']}=={one['version']}" for one in named]


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in (constraints() if sys.argv[1] == "constraints" else additions()))
