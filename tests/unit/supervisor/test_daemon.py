"""The loop as a whole, on a fake engine and a small server that lives and dies with the fake's container."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from fakes.engine import FakeEngine
from mlflowd import config
from mlflowd.errors import ExitStatus
from mlflowd.host.notify import Notifier
from mlflowd.host.paths import Identity
from mlflowd.model import LABEL_STANDS_FOR, Container, ContainerStatus, Image
from mlflowd.supervisor.daemon import Daemon
from mlflowd.supervisor.inbox import Reload, Terminate
from mlflowd.supervisor.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REFERENCE = "ghcr.io/mlflow/mlflow:v3.17.2"
ANSWER = json.dumps({"python": "3.11.2", "packages": {"mlflow": "3.17.2", "uvloop": "1", "uvicorn": "0.40.0"}})
PATIENCE = 20.0
"""Seconds until a test gives up waiting; a loaded machine needs some, a sound one milliseconds."""


class _Answers(BaseHTTPRequestHandler):
    artifact = b""

    def _answer(self) -> None:
        if self.command == "PUT":
            type(self).artifact = self.rfile.read(int(self.headers["Content-Length"]))
        plain = self.artifact if self.command == "GET" else b"{}"
        body = b"OK" if self.path.startswith("/health") else plain
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        pass


class Server(threading.Thread):
    """Listens while the fake's container runs, as its MLflow would."""

    def __init__(self, engine: FakeEngine, port: int) -> None:
        super().__init__(daemon=True)
        self._events = engine.events("mlflowd")
        self._port = port
        self._http: ThreadingHTTPServer | None = None
        self.silent = False
        """It never comes to listen."""

    def run(self) -> None:
        for event in self._events:
            if event.action in {"die", "pause"}:
                self.close()
            elif event.action in {"start", "unpause"} and not self.silent:
                self._http = ThreadingHTTPServer(("127.0.0.1", self._port), _Answers)
                threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        self.close()

    def close(self) -> None:
        if self._http:
            self._http.shutdown()
            self._http.server_close()
        self._http = None


@dataclass
class World:
    """A daemon with everything around it."""

    engine: FakeEngine
    daemon: Daemon
    file: Path
    status_file: Path
    thread: threading.Thread
    ended: list[ExitStatus]
    server: Server

    def begin(self) -> None:
        self.thread.start()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.status_file.read_text())) if self.status_file.exists() else {}

    def container(self) -> Container:
        container = self.engine.inspect("mlflowd")
        assert container is not None
        return container

    def until(self, holds: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"{what}: {self.status()}"
            assert self.thread.is_alive() or holds(), f"the daemon ended: {self.ended}"
            threading.Event().wait(0.01)

    def serving(self, restarts: int = 0) -> None:
        def holds() -> bool:
            status = self.status()
            return bool(status.get("serving") and status["phase"] == "serving" and status["restarts"] >= restarts)

        self.until(holds, "it should serve")

    def stop(self) -> None:
        self.daemon.inbox.put(Terminate())
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _toml(tmp_path: Path, port: int, **more: str) -> str:
    extra = "\n".join(more.values())
    return f"""
[server]
listen = "127.0.0.1:{port}"
[backend_store]
uri = "sqlite:///{tmp_path}/backend/mlflow.db"
[artifact_store]
uri = "{tmp_path}/artifacts"
[health]
interval = "50ms"
retry_interval = "20ms"
starting_interval = "20ms"
timeout = "1s"
[restart]
backoff_first = "50ms"
backoff_max = "200ms"
[disk]
require_free = "0"
{extra}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = FakeEngine()
    engine.add_image(Image("sha256:1", (REFERENCE,), {}))
    engine.answer = ANSWER
    port = _free_port()
    server = Server(engine, port)
    server.start()
    file = tmp_path / "mlflowd.toml"
    file.write_text(_toml(tmp_path, port))
    it = _world(engine, file, tmp_path, "run", server)
    yield it
    if it.thread.is_alive():
        it.stop()
    engine.end_streams()
    server.join(PATIENCE)
    engine.close()


def _world(engine: FakeEngine, file: Path, tmp_path: Path, runtime: str, server: Server) -> World:
    def load() -> config.Settings:
        return config.load(file, {}).settings

    place = Place(engine, tmp_path / "state", tmp_path / runtime, Identity(os.getuid(), os.getgid(), "me"))
    for directory in (place.state, place.runtime):
        directory.mkdir(exist_ok=True)
    daemon = Daemon(load(), load, place, Notifier())
    ended: list[ExitStatus] = []

    thread = threading.Thread(target=lambda: ended.append(daemon.run()), daemon=True)
    return World(engine, daemon, file, place.runtime / "status.json", thread, ended, server)


def test_it_creates_serves_and_stops(world: World) -> None:
    world.begin()
    world.serving()
    world.stop()
    assert world.ended == [ExitStatus.OK]
    assert world.container().status is ContainerStatus.EXITED
    assert world.status()["phase"] == "stopped"


def test_a_killed_server_is_started_again_in_the_same_container(world: World) -> None:
    world.begin()
    world.serving()
    first = world.container().id
    world.engine.kill("mlflowd")
    world.serving(restarts=1)
    assert world.container().id == first
    (incident,) = world.status()["incidents"]
    assert "exit status 137" in incident["reason"]


def test_a_removed_container_is_made_again(world: World) -> None:
    world.begin()
    world.serving()
    first = world.container().id
    world.engine.destroy("mlflowd")
    world.until(lambda: (one := world.engine.inspect("mlflowd")) and one.id != first, "it should be made again")
    world.serving()


def test_a_paused_server_runs_again(world: World) -> None:
    world.begin()
    world.serving()
    world.engine.pause("mlflowd")
    world.serving(restarts=1)


def test_a_running_match_is_adopted_untouched(world: World, tmp_path: Path) -> None:
    world.begin()
    world.serving()
    started = world.container().started_at
    world.engine.calls.clear()
    another = _world(world.engine, world.file, tmp_path, "run of another", world.server)
    another.begin()
    another.serving()
    assert world.container().started_at == started
    assert not {"create", "start", "stop", "pull", "ask"} & set(world.engine.calls)
    another.stop()


def test_a_reload_that_changes_the_container_replaces_it(world: World) -> None:
    world.begin()
    world.serving()
    first = world.container().id
    world.file.write_text(world.file.read_text() + "[container]\npids = 500\n")
    world.daemon.inbox.put(Reload())
    world.until(lambda: (one := world.engine.inspect("mlflowd")) and one.id != first, "it should be replaced")
    world.serving()


def test_a_bad_reload_changes_nothing(world: World) -> None:
    world.begin()
    world.serving()
    first = world.container()
    world.file.write_text("[server]\nlisten = 7\n")
    world.daemon.inbox.put(Reload())
    world.engine.calls.clear()
    world.until(lambda: world.engine.calls.count("inspect") > 2, "it should go on looking")
    assert world.container() == first


def test_an_engine_outage_is_waited_out(world: World) -> None:
    world.engine.unreachable = True
    world.begin()
    world.until(lambda: world.status().get("phase") == "unknown", "it should say that the engine is gone")
    world.engine.unreachable = False
    world.serving()
    world.engine.unreachable = True
    world.until(lambda: world.status()["engine"] != "ok", "it should say so")
    assert world.status()["serving"], "the server goes on answering"
    world.engine.unreachable = False
    world.serving()
    assert world.status()["restarts"] == 0


def test_a_foreign_container_is_left_alone(world: World) -> None:
    foreign = world.engine.foreign("mlflowd")
    world.begin()
    world.until(lambda: world.status().get("phase") == "blocked", "it should be blocked")
    assert world.container().id == foreign
    assert not {"create", "start", "stop", "remove"} & set(world.engine.calls)
    world.engine.destroy("mlflowd")
    world.serving()


def test_a_crash_loop_backs_off(world: World) -> None:
    world.begin()
    world.serving()
    for _ in range(3):
        world.until(lambda: world.container().status is ContainerStatus.RUNNING, "it should run")
        world.engine.exit("mlflowd", 0)
    world.until(lambda: world.status()["restarts"] >= 3, "it should start again")
    world.serving()


def test_a_missing_database_refuses_the_start_with_its_status(world: World, tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "mlflow.db").write_bytes(b"no database" * 100)
    world.begin()
    world.thread.join(PATIENCE)
    assert world.ended == [ExitStatus.REFUSED]
    assert world.status()["phase"] == "blocked"
    assert world.engine.inspect("mlflowd") is None


def _exit_at_once(engine: FakeEngine) -> None:
    for event in engine.events("mlflowd"):
        if event.action == "start":
            engine.exit("mlflowd", 1)


def test_an_incurable_cause_ends_the_first_start(world: World) -> None:
    world.engine.says(
        "mlflowd", "Detected out-of-date database schema (found version a, but expected b). Take a backup"
    )
    world.server.silent = True
    threading.Thread(target=_exit_at_once, args=(world.engine,), daemon=True).start()
    world.begin()
    world.thread.join(PATIENCE)
    assert world.ended == [ExitStatus.REFUSED]
    assert "schema" in world.status()["reason"]


def test_a_missing_image_is_pulled(world: World) -> None:
    world.engine.registry[REFERENCE] = world.engine.images.pop("sha256:1")
    world.begin()
    world.serving()
    assert "pull" in world.engine.calls


def test_a_tag_that_moved_is_refused_within_two_seconds(world: World) -> None:
    world.begin()
    world.serving()
    kept = world.daemon._outfit.wish.kept  # noqa: SLF001 - what the daemon has written down
    world.until(lambda: kept.read().pins, "it should remember which image serves")
    world.engine.images.clear()
    world.engine.registry[REFERENCE] = Image("sha256:2", (REFERENCE,), {})
    world.engine.destroy("mlflowd")
    moved = time.monotonic()
    world.until(lambda: world.status()["phase"] == "blocked", "it should refuse the other image")
    assert time.monotonic() - moved < 2
    assert f"{REFERENCE} has moved" in world.status()["reason"]
    assert world.engine.inspect("mlflowd") is None
    kept.pin(REFERENCE, "sha256:2")
    world.daemon.inbox.put(Reload())
    world.serving()


def test_packages_are_added_while_the_old_server_goes_on(world: World) -> None:
    world.begin()
    world.serving()
    first = world.container().id
    built = threading.Event()

    def build(context: bytes, *, tag: str, labels: dict[str, str], **_: object) -> Image:
        del context
        assert built.wait(PATIENCE)
        world.engine.answer = ANSWER.replace('"mlflow"', '"PyMySQL": "1", "mlflow"')
        return world.engine.add_image(Image("sha256:derived", (tag,), labels))

    world.engine.build = build  # type: ignore[method-assign, assignment]
    world.file.write_text(world.file.read_text() + '[image]\npackages = ["PyMySQL"]\n')
    world.daemon.inbox.put(Reload())
    world.until(lambda: "adding PyMySQL" in world.daemon._work.progress, "it should build")  # noqa: SLF001
    assert world.container().id == first
    assert world.container().status is ContainerStatus.RUNNING
    built.set()
    world.until(
        lambda: (one := world.engine.inspect("mlflowd")) and one.image_id == "sha256:derived",
        "it should move to the derived image",
    )
    world.serving()


def test_an_image_that_was_built_here_is_used_in_place_of_the_pulled_one(world: World) -> None:
    world.begin()
    world.serving()
    world.engine.add_image(Image("sha256:2", ("mlflowd/mlflow:v3.17.2",), {LABEL_STANDS_FOR: REFERENCE}))
    world.daemon.inbox.put(Reload())
    world.until(
        lambda: (one := world.engine.inspect("mlflowd")) and one.image_id == "sha256:2",
        "it should move to the new image",
    )
    world.serving()


def test_a_status_that_cannot_be_written_costs_nothing_else(world: World) -> None:
    world.begin()
    world.serving()
    shutil.rmtree(world.status_file.parent)
    world.status_file.parent.write_text("no directory")
    world.engine.kill("mlflowd")
    world.engine.calls.clear()
    world.until(lambda: "start" in world.engine.calls, "it should start the server again")
    assert world.thread.is_alive()
