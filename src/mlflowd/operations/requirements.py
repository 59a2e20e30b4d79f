"""Requirements as pip takes them: a name, extras, a version. No effects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflowd.errors import ConfigurationError
from mlflowd.server import drivers

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])?\s*([<>=!~]=?=?\s*[A-Za-z0-9.*+!_-]+\s*,?\s*)*"
)


def checked(packages: Iterable[str]) -> tuple[str, ...]:
    """Return the requirements, each once, sorted. Raises ConfigurationError.

    URLs and options are refused: they may hold a password, and the list of packages is a label that anybody reads.
    """
    packages = tuple(packages)
    if bad := [one for one in packages if not _REQUIREMENT.fullmatch(one)]:
        raise ConfigurationError(
            f"{bad[0].split('://')[0]!r} is not a package name with an optional version."
            if "://" not in bad[0]
            else "A package is given as a URL; only names from the index are possible.",
            'image.packages reads like ["psycopg2-binary", "boto3>=1.34"]',
        )
    return tuple(sorted({compact(one) for one in packages}))


def compact(requirement: str) -> str:
    """Return it without blanks, so that a list of them can be separated by blanks."""
    return "".join(requirement.split())


def name(requirement: str) -> str:
    """Return the package's name as Abilities.packages has it, "" for what has none."""
    return drivers.normal(requirement)


def bare(requirement: str) -> bool:
    """Whether it is a name alone, with neither version nor extras."""
    return _NAME.fullmatch(requirement.strip()) is not None


def versioned(requirement: str) -> bool:
    """Whether it names a version."""
    return re.search(r"[<>=!~]", requirement) is not None
