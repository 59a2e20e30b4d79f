"""The probes' way past a login: what is mended, what is said, and to whom the admin's password is sent."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fakes.engine import FakeEngine
from fakes.guarded_server import GuardedServer
from fakes.worlds import SPEC
from mlflowd.config import Settings
from mlflowd.host.paths import Identity
from mlflowd.model import Image, Layer, Secrets
from mlflowd.server import probe
from mlflowd.server.probe import Answer, Kind
from mlflowd.supervisor.doorkeeper import Doorkeeper
from mlflowd.supervisor.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.server.call import Login

RIGHT = "the-admin-s-password"


@pytest.fixture
def server() -> Iterator[GuardedServer]:
    with GuardedServer() as server:
        yield server


@pytest.fixture
def engine(server: GuardedServer) -> FakeEngine:
    """An engine in which our container runs and is published where the server listens."""
    engine = FakeEngine()
    engine.add_image(Image(SPEC.image_id, (SPEC.image,), {}))
    engine.start(engine.create(replace(SPEC, publish=server.address)))
    return engine


def doorkeeper(server: GuardedServer, engine: FakeEngine, admin: str = RIGHT, **login: Any) -> Doorkeeper:
    settings = Settings(
        server={"listen": str(server.address)}, login={"enabled": True, "admin_password": "credential:x", **login}
    )
    secrets = Secrets({"login.admin_password": admin, "login.probe_password": "the-probe-s-password"})
    return Doorkeeper(settings, Place(engine, Path("/x"), Path("/x"), Identity(1, 1, "x")), secrets)


def ask(door: Doorkeeper, server: GuardedServer) -> Answer:
    def look(login: Login | None) -> Answer:
        return probe.database(server.address, 10, "", login)

    return door.through(look)


def sent_by_admin(server: GuardedServer) -> bool:
    return any(user == "admin" for user, _ in server.asked)


def test_the_first_probe_makes_its_user_and_sees(server: GuardedServer, engine: FakeEngine) -> None:
    assert ask(doorkeeper(server, engine), server).kind is Kind.OK
    assert set(server.users) == {"admin", "mlflowd-probe"}


def test_a_user_who_is_there_needs_no_admin(server: GuardedServer, engine: FakeEngine) -> None:
    server.users["mlflowd-probe"] = "the-probe-s-password"
    assert ask(doorkeeper(server, engine), server).kind is Kind.OK
    assert not sent_by_admin(server)


def test_probes_that_are_rejected_at_once_are_mended_once(server: GuardedServer, engine: FakeEngine) -> None:
    door, both = doorkeeper(server, engine), threading.Barrier(2, timeout=10)

    def look(login: Login | None) -> Answer:
        answer = probe.database(server.address, 10, "", login)
        if answer.kind is Kind.REJECTED:
            both.wait()
        return answer

    with ThreadPoolExecutor(2) as pool:
        answers = [asked.result(20) for asked in [pool.submit(door.through, look) for _ in range(2)]]
    assert [answer.kind for answer in answers] == [Kind.OK, Kind.OK]
    assert server.paths.count("/api/2.0/mlflow/users/create") == 1


def test_without_a_login_the_probe_asks_as_nobody(server: GuardedServer, engine: FakeEngine) -> None:
    door = doorkeeper(server, engine, enabled=False)
    assert ask(door, server).kind is Kind.DENIED
    assert door.look() == ()
    assert {user for user, _ in server.asked} == {""}


def test_a_probe_that_stays_outside_is_a_trouble_with_its_reason(server: GuardedServer, engine: FakeEngine) -> None:
    door = doorkeeper(server, engine, "another-password")
    answer = ask(door, server)
    assert answer.kind is Kind.REJECTED
    trouble = door.trouble(Layer.DATABASE, answer)
    assert trouble.critical
    assert not trouble.restart_cures
    assert "is not mended: login.admin_password is not the admin's password" in trouble.message
    assert "docs/login.md" in trouble.remedy
    assert "another-password" not in repr(trouble)


def test_what_could_not_be_mended_is_not_tried_at_every_probe(server: GuardedServer, engine: FakeEngine) -> None:
    door = doorkeeper(server, engine, "another-password")
    for _ in range(3):
        ask(door, server)
    assert sum(user == "admin" for user, _ in server.asked) == 1
    door.rest()
    ask(door, server)
    assert sum(user == "admin" for user, _ in server.asked) == 2


def test_a_changed_password_of_the_admin_is_said_while_the_probes_are_well(
    server: GuardedServer, engine: FakeEngine
) -> None:
    server.users["mlflowd-probe"] = "the-probe-s-password"
    door = doorkeeper(server, engine, "changed-in-the-credential")
    assert ask(door, server).ok
    (trouble,) = door.look()
    assert not trouble.critical
    assert not trouble.restart_cures
    assert "it counts when the user is made" in trouble.message
    server.users["admin"] = "changed-in-the-credential"
    assert door.look() == ()


def test_the_right_password_is_asked_for_once(server: GuardedServer, engine: FakeEngine) -> None:
    door = doorkeeper(server, engine)
    for _ in range(3):
        assert door.look() == ()
    assert len(server.asked) == 1


@pytest.mark.parametrize("stranger", ["gone", "stopped", "foreign", "elsewhere", "unreachable"])
def test_the_password_of_the_admin_goes_to_our_own_container_alone(server: GuardedServer, stranger: str) -> None:
    engine = FakeEngine()
    engine.add_image(Image(SPEC.image_id, (SPEC.image,), {}))
    if stranger == "foreign":
        engine.foreign(SPEC.name)
    elif stranger != "gone":
        publish = replace(server.address, port=1) if stranger == "elsewhere" else server.address
        container = engine.create(replace(SPEC, publish=publish))
        if stranger != "stopped":
            engine.start(container)
    engine.unreachable = stranger == "unreachable"
    door = doorkeeper(server, engine)
    assert ask(door, server).kind is Kind.REJECTED
    assert door.look() == ()
    assert not sent_by_admin(server)


def test_the_admin_s_login_is_handed_out_only_once_the_server_has_taken_it(
    server: GuardedServer, engine: FakeEngine
) -> None:
    door = doorkeeper(server, engine)
    assert door.admin() is None
    door.look()
    assert door.admin() is not None
    wrong = doorkeeper(server, engine, admin="another-password-of-12")
    wrong.look()
    assert wrong.admin() is None
