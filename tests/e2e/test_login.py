"""A server with a login by two lines of the configuration and a credential: nobody in without, no secret out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from e2e import stores
from e2e.client_environment import Client, ClientError, client_python
from e2e.leaks import places_with

if TYPE_CHECKING:
    from e2e.guest import Guest

pytestmark = pytest.mark.timeout(1500)  # the first test may have to install, and derives an image
USER, PASSWORD = "admin", "adm1n-5e0c72b9d4"
LOGIN = '[login]\nenabled = true\nadmin_password = "credential:admin"\n'
MADE = "/var/lib/mlflowd/state/login-secret-key /var/lib/mlflowd/state/login-probe-password"
"""Secrets that mlflowd makes for itself."""


@pytest.fixture(scope="module")
def guarded(host: Guest) -> Guest:
    """A guest that serves with a login."""
    stores.configure(host, stores.Store(LOGIN, {"admin": PASSWORD}))
    return host


@pytest.fixture(scope="module")
def anonymous(guarded: Guest, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(guarded, client_python(), tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def administrator(anonymous: Client) -> Client:
    return replace(anonymous, login=(USER, PASSWORD))


def status(host: Guest) -> dict[str, Any]:
    return dict(json.loads(host.run("mlflowd status --json", check=False).stdout))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/2.0/mlflow/experiments/search"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=0"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/there.txt"),
        ("GET", "/"),
    ],
)
def test_nobody_gets_in_without_a_login(guarded: Guest, method: str, path: str) -> None:
    assert guarded.http(method, path, b'{"max_results": 1}' if method != "GET" else None)[0] == 401


def test_the_probe_of_a_load_balancer_needs_no_login(guarded: Guest) -> None:
    assert guarded.http("GET", "/health") == (200, b"OK")


def test_a_real_client_works_with_name_and_password(administrator: Client) -> None:
    written = administrator.run("write")
    found = administrator.run("read", written)
    assert {**found, "seconds": None} == {**written, "seconds": None}


def test_a_wrong_password_is_refused(anonymous: Client) -> None:
    with pytest.raises(ClientError, match="401"):
        replace(anonymous, login=(USER, "another-word-of-12")).run("write")


def test_the_probes_stay_green(guarded: Guest) -> None:
    """The watched layers all ask with the login: database every 2 s, artifacts every 5 s."""
    cursor = guarded.journal_end()
    guarded.run("sleep 15")  # three rounds of the slowest; that nothing happens has no event
    assert status(guarded)["phase"] == "serving"
    assert status(guarded)["troubles"] == []
    told = {entry.get("MLFLOWD_EVENT") for entry in guarded.journal(unit="mlflowd", cursor=cursor)}
    assert "DEGRADED" not in told


def test_a_restart_keeps_the_accounts_and_what_mlflowd_made(guarded: Guest, administrator: Client) -> None:
    kept = guarded.run(f"sha256sum {MADE}").stdout
    stores.restart(guarded)
    assert guarded.run(f"sha256sum {MADE}").stdout == kept
    assert administrator.run("write")


def test_no_password_is_shown_anywhere(administrator: Client) -> None:
    guarded = administrator.host
    made = [guarded.read(file).strip() for file in MADE.split()]
    assert all(len(secret) > 20 for secret in made)
    assert places_with(guarded, PASSWORD, *made) == []


def test_what_holds_a_secret_is_its_owners_alone(guarded: Guest) -> None:
    listed = guarded.run(f"find {MADE} /run/mlflowd/private -type f -printf '%m %u\\n'").stdout.splitlines()
    assert len(listed) > 2
    assert set(listed) <= {"400 mlflowd", "600 mlflowd"}
