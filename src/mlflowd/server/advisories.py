"""MLflow's published holes, judged against a version and a configuration. No effects.

Of the many advisories for MLflow these are the ones that concern a tracking server as mlflowd runs it: those that need
no login, and those that let a login's user past his permissions. Left out are what only its clients meet (models that
run code when they are loaded), and the password that MLflow used to ship (GHSA-gq3w-7jj3-x7gr), which mlflowd never
lets stand. Versions are those of the CVE records and of GitHub's advisory database, as third parties quote them
(November 2026).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflowd.config import Settings

AS_OF = "November 2026"


class Opens(StrEnum):
    """For whom a hole is one."""

    ANYBODY = "whoever reaches the server"
    WITHOUT_LOGIN = "whoever reaches the server, without logging in"
    """Where a login is configured: without one, everything is open anyway."""
    USERS = "every user who may log in"


@dataclass(frozen=True, slots=True)
class Advisory:
    """One hole."""

    name: str
    """The CVE id, and GitHub's where it is known."""
    since: tuple[int, ...]
    fixed: tuple[int, ...]
    """The first version without it."""
    opens: Opens
    what: str
    """What they can do, as it follows on "can"."""
    jobs: bool = False
    """Whether server.jobs = false closes it."""


TABLE = (
    Advisory(
        "CVE-2025-11201 (GHSA-5cvj-7rg6-jggj)",
        (0,),
        (2, 22, 4),
        Opens.ANYBODY,
        "run code on the server, by the path of a new model",
    ),
    Advisory(
        "CVE-2025-14279",
        (0,),
        (3, 5, 0),
        Opens.ANYBODY,
        "be a web page that reads and changes everything through a visitor's browser (DNS rebinding)",
    ),
    Advisory(
        "CVE-2026-2614 (GHSA-42h5-h8qh-vv9v)",
        (0,),
        (3, 10, 0),
        Opens.ANYBODY,
        "read every file that the server can read, its stores and secrets included",
    ),
    Advisory(
        "CVE-2026-71211 (GHSA-h7x2-h6g9-p789)",
        (3, 13, 0),
        (3, 16, 0),
        Opens.ANYBODY,
        "let the server send requests into its network, by the address of an AI gateway",
    ),
    Advisory(
        "CVE-2026-2652 (GHSA-75cm-x2w3-8mgf)",
        (3, 0, 0),
        (3, 10, 0),
        Opens.WITHOUT_LOGIN,
        "write traces, and use jobs where server.jobs is true",
    ),
    Advisory(
        "CVE-2026-0545 (GHSA-7qhf-v65m-g5f3)",
        (0,),
        (3, 11, 0),
        Opens.WITHOUT_LOGIN,
        "start, read and cancel jobs, which may run code",
        jobs=True,
    ),
    Advisory(
        "CVE-2026-2651",
        (0,),
        (3, 10, 0),
        Opens.USERS,
        "overwrite the artifacts of all others, by an upload in parts",
    ),
    Advisory(
        "CVE-2026-33866 (GHSA-46r5-x6jq-v8g6)",
        (0,),
        (3, 11, 0),
        Opens.USERS,
        "fetch models of experiments that are closed to him",
    ),
    Advisory(
        "CVE-2026-8147 (GHSA-2cm6-r77w-6g96)",
        (2, 14, 0),
        (3, 13, 0),
        Opens.USERS,
        "read and change the traces of all others",
    ),
)


def concerning(settings: Settings, version: str) -> tuple[Advisory, ...]:
    """Return the holes of this MLflow ("3.9.0", pre-releases count as the release) that the configuration leaves."""
    numbers = _numbers(version)
    return tuple(one for one in TABLE if numbers and one.since <= numbers < one.fixed and _open(one, settings))


def _open(one: Advisory, settings: Settings) -> bool:
    if one.jobs and not settings.server.jobs:
        return False
    return one.opens is Opens.ANYBODY or settings.login.enabled


def _numbers(version: str) -> tuple[int, ...]:
    """Return the three numbers that a version begins with, () where it has none: it is a build of its own."""
    found = re.match(r"\d+(\.\d+)*", version)
    return (*(int(number) for number in found[0].split(".")), 0, 0)[:3] if found else ()
