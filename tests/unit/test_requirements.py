"""The locked requirements fit pyproject.toml and say nothing of the machine that made them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parents[2]
LOCKS = ("run", "build", "dev", "client", "services")
RENEW = "renew the locks: requirements/renew.sh"


def project() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def lock(name: str) -> str:
    return (CHECKOUT / "requirements" / f"{name}.txt").read_text()


def asked_for(name: str) -> list[str]:
    """Return what pyproject.toml asks for in the environment that this lock makes."""
    table = project()
    ours: list[str] = table["project"]["dependencies"]
    build: list[str] = table["build-system"]["requires"]
    groups: dict[str, list[str]] = table["dependency-groups"]
    return {**groups, "run": ours, "build": build, "dev": [*ours, *groups["dev"], *build]}[name]


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_locked_to_a_version_that_fits(name: str) -> None:
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock(name), re.MULTILINE))
    for requirement in map(Requirement, asked_for(name)):
        assert requirement.specifier.contains(locked.get(requirement.name, "none")), f"{requirement}; {RENEW}"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    entries = re.split(r"^(?=[a-z])", lock(name), flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index_and_no_path(name: str) -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links| /\w", lock(name))


def test_the_daemon_is_tested_with_the_versions_it_runs_on() -> None:
    pinned = re.compile(r"^[a-z0-9.-]+==\S+", re.MULTILINE)
    assert set(pinned.findall(lock("run"))) <= set(pinned.findall(lock("dev"))), RENEW
