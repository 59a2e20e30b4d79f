"""What is said of who can reach the server."""

from __future__ import annotations

from typing import Any

import pytest

from mlflowd.config import Settings
from mlflowd.model import Finding, Level
from mlflowd.operations import exposure
from mlflowd.server.abilities import Abilities

LOGIN = {"enabled": True, "admin_password": "credential:x"}


def able(version: str) -> Abilities:
    return Abilities(version, "3.11.2", uvloop=True, httptools=True, packages=frozenset())


def findings(version: str = "3.17.2", **sections: Any) -> list[Finding]:
    return exposure.check(Settings(**sections), able(version))


def warnings(version: str = "3.17.2", **sections: Any) -> list[Finding]:
    return [finding for finding in findings(version, **sections) if finding.level is not Level.OK]


def test_a_server_on_loopback_is_no_matter() -> None:
    assert warnings() == []
    assert warnings(server={"listen": "[::1]:5000"}) == []
    assert warnings(login=LOGIN) == []


@pytest.mark.parametrize("listen", ["0.0.0.0:5000", "[::]:5000", "192.168.1.5:5000", "203.0.113.7:5000"])
def test_a_network_without_a_login_is_warned_of_with_both_remedies(listen: str) -> None:
    (warning,) = warnings(server={"listen": listen})
    assert warning.level is Level.WARNING
    assert "can read, change and delete everything" in warning.message
    assert "login.enabled = true" in warning.remedy
    assert "ssh -L 5000:127.0.0.1:5000" in warning.remedy


def test_a_login_without_tls_is_warned_of() -> None:
    (warning,) = warnings(server={"listen": "0.0.0.0:5000"}, login=LOGIN)
    assert "in the clear" in warning.message
    assert "TLS" in warning.remedy


def test_wildcards_are_warned_of() -> None:
    found = warnings(server={"allowed_hosts": ["*"], "cors_origins": ["*"]})
    assert [warning.check for warning in found] == ["exposure: hosts", "exposure: origins"]


def test_a_hole_is_named_with_its_advisory_and_the_version_that_closes_it() -> None:
    (warning,) = warnings("3.9.0")
    assert "MLflow 3.9.0 has a known hole, CVE-2026-2614 (GHSA-42h5-h8qh-vv9v)" in warning.message
    assert warning.remedy == "set image.reference to MLflow 3.10.0 or newer"


def test_a_hole_that_ends_with_the_jobs_says_so() -> None:
    found = warnings("3.10.1", login=LOGIN, server={"jobs": True})
    assert any("CVE-2026-0545" in each.message and "server.jobs = false" in each.remedy for each in found)


def test_an_image_that_is_not_known_yet_is_not_judged() -> None:
    assert [finding.check for finding in exposure.check(Settings(), None)] == ["exposure"]


def test_nothing_keeps_a_server_from_starting() -> None:
    found = warnings("2.0.0", server={"listen": "0.0.0.0:5000", "allowed_hosts": ["*"], "jobs": True}, login=LOGIN)
    assert {finding.level for finding in found} == {Level.WARNING}
    assert len(found) > 5
