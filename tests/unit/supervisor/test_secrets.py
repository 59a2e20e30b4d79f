"""No secret, of whichever kind and place, in anything that mlflowd writes: daemon (on the fake engine) and commands.

The server says every secret in its log, and the database's driver in its errors, as real ones do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from fakes.engine import FakeEngine
from mlflowd import config
from mlflowd.cli import check as check_command
from mlflowd.cli import config as config_command
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.host import journal, secrets
from mlflowd.host.notify import Notifier
from mlflowd.model import Image
from mlflowd.operations import plain_secrets
from mlflowd.supervisor.daemon import Daemon
from mlflowd.supervisor.inbox import Terminate
from mlflowd.supervisor.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflowd.host.paths import Identity
    from mlflowd.model import ContainerSpec

PATIENCE = 20.0
SECRETS = {
    "database": 'hünter/2@ d"b',
    "key-id": "AKIAHUNTER2KEYID",
    "key": "wJalrXUtnFEMI/hunter2/bPxRfiCY",
    "admin": "correct hunter battery",
    "session": "hunter2-session\nsecond line of hunter2",
    "token": "hunter2-in-the-table",
}
PACKAGES = ("mlflow", "uvicorn", "psycopg2-binary", "boto3", "Flask-WTF")
ANSWER = json.dumps({"python": "3.11.2", "packages": {**dict.fromkeys(PACKAGES, "1.0"), "mlflow": "3.17.2"}})
STORES = {"kind": "ok", "step": "create", "said": "", "seconds": 0.1}


class Engine(FakeEngine):
    """Keeps the specs that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.specs: list[ContainerSpec] = []

    def create(self, spec: ContainerSpec) -> str:
        self.specs.append(spec)
        return super().create(spec)


@dataclass
class World:
    engine: Engine
    file: Path
    place: Place
    loaded: config.Loaded
    ended: list[ExitStatus] = field(default_factory=list)

    def run(self, until: Callable[[], object]) -> None:
        """Run a daemon until this holds, then stop it."""
        daemon = Daemon(
            self.loaded.settings, lambda: config.load(self.file, os.environ).settings, self.place, Notifier()
        )
        thread = threading.Thread(target=lambda: self.ended.append(daemon.run()), daemon=True)
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while thread.is_alive() and not until():
            assert time.monotonic() < deadline, self.status()
            time.sleep(0.01)
        daemon.inbox.put(Terminate())
        thread.join(PATIENCE)
        assert not thread.is_alive()

    def status(self) -> str:
        return (self.place.runtime / "status.json").read_text()

    def written(self) -> str:
        """Return all files but those that are to hold secrets."""
        private = [
            self.place.runtime / "private",
            *(self.place.state / "state" / name for name in secrets.KEPT.values()),
        ]
        found = [*self.place.runtime.rglob("*"), *self.place.state.rglob("*")]
        return "\n".join(
            path.read_text(errors="replace")
            for path in found
            if path.is_file() and not any(path.is_relative_to(each) for each in private)
        )


@pytest.fixture
def world(ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    credentials = ground / "credentials"
    credentials.mkdir()
    for name in ("database", "admin", "session"):
        (credentials / name).write_text(SECRETS[name])
    (ground / "key").write_text(SECRETS["key"] + "\n")
    (ground / "key").chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("KEY_ID", SECRETS["key-id"])
    file = ground / "mlflowd.toml"
    file.write_text(f"""
server.listen = "127.0.0.1:47613"
server.environment = {{ MY_TOKEN = "{SECRETS["token"]}", PROXY = "http://me:{SECRETS["token"]}@proxy:3128" }}
server.secrets = {{ AWS_SESSION_TOKEN = "credential:session" }}
login = {{ enabled = true, admin_password = "credential:admin" }}
disk = {{ warn = "0", critical = "0", require_free = "0" }}
restart = {{ backoff_first = "10ms", backoff_max = "50ms" }}
[backend_store]
uri = "postgresql://mlflow@db.invalid/mlflow"
password = "credential:database"
[artifact_store]
uri = "s3://models"
access_key = "env:KEY_ID"
secret_key = "file:{ground}/key"
""")
    engine = Engine()
    engine.add_image(Image("sha256:1", ("ghcr.io/mlflow/mlflow:v3.17.2",), {}))
    engine.answer = ANSWER
    engine.stores = json.dumps({"backend": STORES, "artifacts": STORES})
    place = Place(engine, ground / "state", ground / "run", who)
    place.state.mkdir()
    place.runtime.mkdir()
    journal.configure(environ={})
    yield World(engine, file, place, config.load(file, os.environ))
    engine.end_streams()
    engine.close()


def leaks(text: str) -> list[str]:
    """Return which secrets stand in the text, in whichever form."""
    forms = {
        name: {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1], *secret.split("\n")}
        for name, secret in SECRETS.items()
    }
    return [name for name, every in forms.items() if any(form in text for form in every)]


def told_by_a_server() -> Iterator[str]:
    for secret in SECRETS.values():
        yield f"sqlalchemy.exc.OperationalError: postgresql+psycopg2://mlflow:{quote(secret, safe='')}@db/mlflow"
        yield f"with {secret!r} and {json.dumps(secret)}"
        yield from (f"a line: {line}" for line in secret.split("\n"))


def test_the_test_finds_a_leak() -> None:
    assert leaks("\n".join(told_by_a_server())) == list(SECRETS)


def test_no_secret_leaves_a_daemon_whose_server_says_them_all(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    engine = world.engine

    def said_and_ended() -> bool:
        container = engine.inspect("mlflowd")
        if container and container.running and "restarts" in world.status():
            for line in told_by_a_server():
                engine.say("mlflowd", f"{line}\n")
            engine.exit("mlflowd", 1)
        return json.loads(world.status())["restarts"] >= 2 if (world.place.runtime / "status.json").exists() else False

    def holds() -> bool:
        with suppress(OSError):
            return said_and_ended()
        return False

    world.run(holds)
    (spec, *_) = engine.specs
    environment = dict(spec.environment)
    assert quote(SECRETS["database"], safe="") in environment["MLFLOW_BACKEND_STORE_URI"], "the server has them all"
    assert environment["AWS_SECRET_ACCESS_KEY"] == SECRETS["key"]
    assert environment["AWS_SESSION_TOKEN"] == SECRETS["session"]
    assert SECRETS["admin"] in (world.place.runtime / "private" / "basic_auth.ini").read_text()
    told = capfd.readouterr().err
    assert "mlflow: a line: ***" in told, "the server's lines were forwarded"
    assert leaks(told) == []
    assert leaks(world.written()) == []
    assert leaks(" ".join(spec.argv)) == []
    assert leaks(repr((spec, world.loaded, engine.specs, environment.keys()))) == []


def test_no_secret_leaves_a_daemon_whose_database_refuses_with_it(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    refusal = f"OperationalError: password authentication failed for mlflow with {SECRETS['database']}"
    failed = {"kind": "error", "step": "login", "said": refusal, "seconds": 0.1}
    world.engine.stores = json.dumps({"backend": failed, "artifacts": STORES})
    world.run(lambda: world.ended)
    assert world.engine.specs == []
    told = capfd.readouterr().err
    assert "password" in told
    assert leaks(told + world.written()) == []


def test_private_files_are_there_before_each_start_also_after_a_reboot(world: World) -> None:
    private = world.place.runtime / "private"

    def running() -> bool:
        container = world.engine.inspect("mlflowd")
        return container is not None and container.running

    world.run(running)
    first = world.engine.specs[0]
    assert all((private / each.name).read_text() == each.content for each in first.files)
    shutil.rmtree(private)
    world.run(running)
    assert world.engine.specs == [first], "the same container was started"
    assert all((private / each.name).read_text() == each.content for each in first.files)


def test_no_secret_is_printed_by_a_command(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, who: Identity
) -> None:
    monkeypatch.setattr(check_command, "identity", lambda: who)
    monkeypatch.setattr(check_command, "DockerEngine", lambda *_: world.engine)
    monkeypatch.setenv("STATE_DIRECTORY", str(world.place.state))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(world.place.runtime))
    top = argparse.ArgumentParser()
    top.add_argument("--config", type=type(world.file))
    subparsers = top.add_subparsers()
    check_command.add_parser(subparsers)
    config_command.add_parser(subparsers)
    for words in (["check"], ["check", "--json"], ["config"], ["config", "--toml"], ["config", "--validate"]):
        args = top.parse_args(["--config", str(world.file), *words])
        with suppress(MlflowdError):
            args.run(args)
        out, err = capsys.readouterr()
        assert out or "--validate" in words, words
        assert leaks(out + err) == [], words


def test_no_error_and_no_repr_holds_one(world: World) -> None:
    settings = world.loaded.settings
    read = secrets.read(settings, world.place.state, world.place.who)
    assert leaks(json.dumps(dict(read.values), ensure_ascii=False)), "it was read"
    assert leaks(repr((settings, read, world.loaded, settings.backend_store, settings.server))) == []
    assert leaks(repr(plain_secrets.check(world.loaded))) == []
    (world.file.parent / "key").chmod(0o644)
    (world.file.parent / "credentials" / "admin").write_text("hunter2-in-the-table\nx")
    with pytest.raises(MlflowdError) as caught:
        secrets.read(settings, world.place.state, world.place.who)
    assert "key has the mode 0644" in str(caught.value)
    assert leaks(str(caught.value)) == []
