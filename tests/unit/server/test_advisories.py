"""Which of MLflow's published holes concern a version and a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from mlflowd.config import Settings
from mlflowd.server import advisories

LOGIN = {"enabled": True, "admin_password": "credential:x"}


def found(version: str, **sections: Any) -> set[str]:
    return {one.name.partition(" ")[0] for one in advisories.concerning(Settings(**sections), version)}


@pytest.mark.parametrize("sections", [{}, {"login": LOGIN}, {"login": LOGIN, "server": {"jobs": True}}])
def test_the_version_that_is_shipped_has_none(sections: dict[str, Any]) -> None:
    assert found("3.17.2", **sections) == set()


def test_a_hole_is_there_until_the_version_that_closes_it() -> None:
    assert "CVE-2026-2614" in found("3.9.0")
    assert "CVE-2026-2614" not in found("3.10.0")
    assert "CVE-2025-14279" in found("3.4.0")
    assert "CVE-2025-14279" not in found("3.5.0")
    assert "CVE-2025-14279" not in found("3.5")


def test_a_hole_is_not_there_before_the_version_that_opens_it() -> None:
    assert "CVE-2026-71211" not in found("3.12.0")
    assert "CVE-2026-71211" in found("3.15.2")


def test_what_gets_past_a_login_counts_where_there_is_one() -> None:
    assert "CVE-2026-2652" not in found("3.9.0")
    assert "CVE-2026-2652" in found("3.9.0", login=LOGIN)


def test_the_job_api_counts_where_jobs_run() -> None:
    assert "CVE-2026-0545" not in found("3.10.1", login=LOGIN)
    assert "CVE-2026-0545" in found("3.10.1", login=LOGIN, server={"jobs": True})


@pytest.mark.parametrize("version", ["3.9.0rc1", "3.9.0+local.3", "3.9", "3.9.0.dev0"])
def test_versions_are_read_by_their_numbers(version: str) -> None:
    assert "CVE-2026-2614" in found(version)


def test_a_version_without_numbers_is_not_judged() -> None:
    assert found("main") == set()


def test_every_hole_has_an_end() -> None:
    assert all(one.since < one.fixed for one in advisories.TABLE)
    assert len({one.name for one in advisories.TABLE}) == len(advisories.TABLE)
