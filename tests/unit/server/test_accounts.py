"""The probes' user, made and mended on a server with a login."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from fakes.guarded_server import GuardedServer
from mlflowd.model import Address
from mlflowd.server import accounts, probe
from mlflowd.server.accounts import Counter, Verdict
from mlflowd.server.call import Login
from mlflowd.server.probe import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

ADMIN = Login("admin", "the-admin-s-password")
PROBE = Login("mlflowd-probe", "the-probe-s-password")


@pytest.fixture(params=[False, True], ids=["new", "old"])
def server(request: pytest.FixtureRequest) -> Iterator[GuardedServer]:
    with GuardedServer(old=request.param) as server:
        yield server


def counter(server: GuardedServer, admin: Login = ADMIN) -> Counter:
    return Counter(server.address, admin, 10)


def test_the_user_is_made_with_one_right_and_the_probes_are_well(server: GuardedServer) -> None:
    assert probe.database(server.address, 10, "", PROBE).kind is Kind.REJECTED
    assert accounts.settle(counter(server), PROBE).verdict is Verdict.DONE
    assert server.rights == {("mlflowd-probe", "00", "MANAGE")}
    assert probe.database(server.address, 10, "", PROBE).kind is Kind.OK
    assert probe.artifacts(server.address, 10, "", PROBE).kind is Kind.OK


def test_settling_twice_is_settling_once(server: GuardedServer) -> None:
    for _ in range(2):
        assert accounts.settle(counter(server), PROBE).verdict is Verdict.DONE
    assert len(server.users) == 2


def test_another_password_is_set_without_making_the_user_again(server: GuardedServer) -> None:
    server.users["mlflowd-probe"] = "somebody changed it"
    assert accounts.settle(counter(server), PROBE).verdict is Verdict.DONE
    assert server.users["mlflowd-probe"] == PROBE.password
    assert "/api/2.0/mlflow/users/create" not in server.paths


def test_a_right_that_somebody_took_away_is_given_again(server: GuardedServer) -> None:
    accounts.settle(counter(server), PROBE)
    server.rights.clear()
    assert probe.artifacts(server.address, 10, "", PROBE).kind is Kind.REJECTED
    accounts.settle(counter(server), PROBE)
    assert probe.artifacts(server.address, 10, "", PROBE).kind is Kind.OK


def test_a_user_who_was_deleted_under_a_worker_s_memory_is_rejected_too(server: GuardedServer) -> None:
    accounts.settle(counter(server), PROBE)
    server.forgotten.add(PROBE.user)
    assert probe.database(server.address, 10, "", PROBE).kind is Kind.REJECTED
    assert probe.artifacts(server.address, 10, "", PROBE).kind is Kind.REJECTED


def test_a_wrong_password_of_the_admin_is_told_as_such(server: GuardedServer) -> None:
    wrong = counter(server, Login("admin", "another-password"))
    assert accounts.recognised(wrong).verdict is Verdict.WRONG_PASSWORD
    assert accounts.settle(wrong, PROBE).verdict is Verdict.WRONG_PASSWORD
    assert accounts.recognised(counter(server)).verdict is Verdict.DONE


def test_an_error_is_told_by_its_code_alone(server: GuardedServer) -> None:
    server.broken = True
    outcome = accounts.settle(counter(server), PROBE)
    assert outcome.verdict is Verdict.FAILED
    assert outcome.sentence == "making the user mlflowd-probe failed: status 500 INTERNAL_ERROR"
    assert accounts.recognised(counter(server)).verdict is Verdict.FAILED


def test_a_server_that_is_down_says_nothing_of_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
    outcome = accounts.recognised(Counter(address, ADMIN, 1))
    assert outcome.verdict is Verdict.FAILED
    assert "ConnectionRefusedError" in outcome.sentence


def test_no_password_stands_in_a_repr(server: GuardedServer) -> None:
    shown = repr([ADMIN, PROBE, counter(server), accounts.settle(counter(server), PROBE)])
    assert "password" not in shown.replace("wrong password", "")
