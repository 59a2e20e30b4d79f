from __future__ import annotations

import os
import socket
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fakes import databases
from fakes.engine import FakeEngine
from mlflowd.config import Settings
from mlflowd.errors import EngineError, ExitStatus
from mlflowd.host import files
from mlflowd.model import EngineInfo, Finding, Level
from mlflowd.operations import preflight
from mlflowd.stores import fingerprint, sqlite, watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.host.paths import Identity


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server


@pytest.fixture
def settings(ground: Path, listener: socket.socket) -> Settings:
    listen = f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    return made(ground, server={"listen": listen})


def made(ground: Path, **sections: dict[str, Any]) -> Settings:
    stores = {
        "backend_store": {"uri": f"sqlite:///{ground}/backend/mlflow.db"},
        "artifact_store": {"uri": f"{ground}/artifacts"},
        "disk": {"warn": "0", "critical": "0", "require_free": "0"},
    }
    return Settings.model_validate({**stores, **sections})


def look(settings: Settings, engine: FakeEngine, ground: Path, who: Identity, **more: Any) -> list[Finding]:
    return preflight.preflight(settings, engine, state=ground, who=who, **{"running": False, **more})


def engine_of(version: str) -> FakeEngine:
    class Versioned(FakeEngine):
        def info(self) -> EngineInfo:
            name, number = version.split()
            return EngineInfo(name, number, "1.41", "")

    return Versioned()


def failures(found: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in found if finding.level is Level.FAILURE}


def test_fresh_machine_passes_and_gets_its_directories(settings: Settings, ground: Path, who: Identity) -> None:
    found = look(settings, FakeEngine(), ground, who)
    assert failures(found) == {}
    for name in ("backend", "artifacts"):
        assert (ground / name).stat().st_mode & 0o777 == 0o700
    assert {"engine", "container", "port", "disk", "database: fingerprint"} <= {finding.check for finding in found}


def test_check_changes_nothing(settings: Settings, ground: Path, who: Identity) -> None:
    found = look(settings, FakeEngine(), ground, who, make=False)
    assert failures(found) == {}
    assert list(ground.iterdir()) == []


def test_every_failure_has_a_remedy_and_an_exit_status(settings: Settings, ground: Path, other: Identity) -> None:
    engine = FakeEngine()
    engine.foreign(settings.container.name)
    for name in ("backend", "artifacts"):
        (ground / name).mkdir(mode=0o755)
    with closing(socket.create_server(("127.0.0.1", settings.server.listen.port))):
        found = failures(look(settings, engine, ground, other))
    assert len(found) >= 4
    assert all(finding.remedy and finding.exit_status for finding in found.values())


def test_wrong_owner_everywhere_is_mended_by_the_mends_alone(settings: Settings, ground: Path, who: Identity) -> None:
    look(settings, FakeEngine(), ground, who)
    for name in ("backend", "artifacts"):
        (ground / name).chmod(0o777)
    mends = [finding.mend for finding in look(settings, FakeEngine(), ground, who) if finding.mend]
    assert len(mends) == 2
    for mend in mends:
        files.mend(mend)
    assert {finding.level for finding in look(settings, FakeEngine(), ground, who)} == {Level.OK}


def test_lost_database_is_refused_at_every_kind_of_start(settings: Settings, ground: Path, who: Identity) -> None:
    path = databases.make(Path(settings.backend_store.database.name))
    fingerprint.record(path, ground, who)
    path.unlink()
    assert (
        failures(look(settings, FakeEngine(), ground, who))["database: fingerprint"].exit_status == ExitStatus.REFUSED
    )
    assert failures(preflight.guard(settings, state=ground, who=who))


def test_port_is_free_or_its_holder_is_named(settings: Settings, ground: Path, who: Identity) -> None:
    with closing(socket.create_server(("127.0.0.1", settings.server.listen.port))):
        found = failures(look(settings, FakeEngine(), ground, who))["port"]
    assert found.transient
    assert f"(pid {os.getpid()})" in found.message
    assert "server.listen" in found.remedy
    assert "port" not in failures(look(settings, FakeEngine(), ground, who))


def test_port_held_by_a_container_is_ours_or_names_it(
    settings: Settings, ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine()
    with closing(socket.create_server(("127.0.0.1", settings.server.listen.port))):
        monkeypatch.setattr(engine, "publishers", lambda _: ("registry",))
        assert "taken by the container registry" in failures(look(settings, engine, ground, who))["port"].message
        monkeypatch.setattr(engine, "publishers", lambda _: ("mlflowd",))
        assert "port" not in failures(look(settings, engine, ground, who))


def test_address_that_this_machine_lacks_is_named(ground: Path, who: Identity) -> None:
    settings = made(ground, server={"listen": "192.0.2.1:5000"})
    found = failures(look(settings, FakeEngine(), ground, who))["port"]
    assert found.message == "192.0.2.1 is not an address of this machine."


def test_foreign_container_of_our_name_is_named(settings: Settings, ground: Path, who: Identity) -> None:
    engine = FakeEngine()
    engine.foreign(settings.container.name)
    found = failures(look(settings, engine, ground, who))["container"]
    assert found.transient
    assert "docker rename mlflowd mlflowd-old" in found.remedy


def test_engine_that_does_not_answer_may_come_back(settings: Settings, ground: Path, who: Identity) -> None:
    engine = FakeEngine()
    engine.unreachable = True
    (found,) = failures(look(settings, engine, ground, who)).values()
    assert (found.check, found.transient) == ("engine", True)


def test_engine_that_denies_access_needs_a_person(settings: Settings, ground: Path, who: Identity) -> None:
    engine = FakeEngine()
    engine.denied = True
    (found,) = failures(look(settings, engine, ground, who)).values()
    assert (found.exit_status, found.transient) == (ExitStatus.PERMISSION, False)


@pytest.mark.parametrize("method", ["inspect", "publishers"])
def test_engine_that_stops_answering_midway_may_come_back(
    settings: Settings, ground: Path, who: Identity, method: str
) -> None:
    engine = FakeEngine()
    engine.fail(method, EngineError("500 Internal Server Error", "look at the engine's log"))
    (found,) = failures(look(settings, engine, ground, who)).values()
    assert found.transient


@pytest.mark.parametrize("version", ["docker 20.10.24+dfsg1", "docker 26.1.5", "docker v-next", "podman 4.3.1"])
def test_engine_that_is_new_enough_passes(settings: Settings, ground: Path, who: Identity, version: str) -> None:
    assert "engine" not in failures(look(settings, engine_of(version), ground, who))


@pytest.mark.parametrize("version", ["docker 19.03.15", "docker 20.9.0", "podman 3.4.4"])
def test_engine_that_is_too_old_is_refused(settings: Settings, ground: Path, who: Identity, version: str) -> None:
    found = failures(look(settings, engine_of(version), ground, who))["engine"]
    assert f"{version} is too old" in found.message
    assert not found.transient


def test_little_room_warns_and_too_little_refuses_for_now(settings: Settings, ground: Path, who: Identity) -> None:
    engine = FakeEngine()
    found = look(
        made(ground, server={"listen": str(settings.server.listen)}, disk={"warn": "100%"}), engine, ground, who
    )
    assert Level.WARNING in {finding.level for finding in found if finding.check == "disk"}
    assert failures(found) == {}
    refusing = made(ground, server={"listen": str(settings.server.listen)}, disk={"require_free": "900T"})
    found = look(refusing, engine, ground, who)
    disk = failures(found)["disk"]
    assert (disk.exit_status, disk.transient) == (ExitStatus.REFUSED, True)


def test_file_system_without_inodes_refuses_for_now(
    settings: Settings, ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = watch.spaces(settings, ground)
    full = {names: replace(space, inodes=1000, inodes_free=0) for names, space in real.items()}
    monkeypatch.setattr(watch, "spaces", lambda *_: full)
    assert failures(look(settings, FakeEngine(), ground, who))["disk"].transient


def test_settling_sets_the_journal_mode(settings: Settings, ground: Path, who: Identity) -> None:
    path = databases.make(ground / "backend" / "mlflow.db")
    preflight.settle(settings, who)
    assert sqlite.journal_mode(path, who) == "wal"


def test_lock_does_not_keep_the_server_from_starting(
    settings: Settings, ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY", 0.0)
    path = databases.make(ground / "backend" / "mlflow.db")
    with sqlite.opened(path, "rw") as connection:
        connection.execute("BEGIN EXCLUSIVE")
        preflight.settle(settings, who)
    assert sqlite.journal_mode(path, who) == "delete"


def test_tree_that_is_a_link_to_the_system_stays_untouched(settings: Settings, ground: Path, who: Identity) -> None:
    (ground / "artifacts").symlink_to("/etc")
    before = (ground / "artifacts").stat()
    found = look(settings, FakeEngine(), ground, who)
    assert failures(found)["artifact store: directory"].mend is None
    assert (ground / "artifacts").stat().st_mtime == before.st_mtime
