"""`mlflowd restore`: who waits for whom, and what is said in the end."""

from __future__ import annotations

import argparse
import io
import json
import os
from typing import TYPE_CHECKING

import pytest

from mlflowd.cli import restore
from mlflowd.config import Settings
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.host.service import Service
from mlflowd.operations.backup.restore import Restore
from mlflowd.operations.transaction import Kind, Transaction, new, outcome

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity


class Clock:
    """A time that passes by sleeping alone; `then` is what happens meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.then: dict[float, object] = {}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at in [at for at in self.then if at <= self.now]:
            happen = self.then.pop(at)
            assert callable(happen)
            happen()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(restore, "time", clock)
    return clock


@pytest.fixture
def it(ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch) -> Restore:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(ground))
    monkeypatch.setattr(Service, "active", property(lambda _: False))
    (ground / "state" / "state").mkdir(parents=True, mode=0o700)
    return Restore(Settings(), ground / "state", who, None)


@pytest.fixture
def ready(it: Restore) -> Transaction:
    transaction = new(Kind.RESTORE)
    it.ledger.begin(transaction)
    return transaction


def daemon(ground: Path, reason: str) -> None:
    """A daemon that says this: the tests' own process has mlflowd in its command line."""
    (ground / "status.json").write_text(json.dumps({"pid": os.getpid(), "reason": reason}))


def alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "_alive", lambda document: document.get("pid") == os.getpid())


def test_it_waits_for_the_daemon_and_tells_what_it_says_once(
    it: Restore, ready: Transaction, ground: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive(monkeypatch)
    daemon(ground, "the restore is to be done")
    said: list[str] = []
    clock.then = {40.0: lambda: it.ledger.end(outcome(ready, "it is in place", ok=True))}
    found = restore.follow(it, ready, lambda: False, said.append)
    assert (found.ok, found.sentence) == (True, "it is in place")
    assert said == ["the restore is to be done"]


def test_a_daemon_that_does_not_run_is_started(it: Restore, ready: Transaction, clock: Clock) -> None:
    started: list[float] = []

    def start() -> bool:
        started.append(clock.now)
        clock.then = {10.0: lambda: it.ledger.end(outcome(ready, "it is in place", ok=True))}
        return True

    assert restore.follow(it, ready, start, lambda _: None).ok
    assert started == [0.0]


def test_where_no_daemon_comes_it_is_said_that_the_next_start_goes_on(
    it: Restore, ready: Transaction, clock: Clock
) -> None:
    assert clock.now == 0
    said: list[str] = []
    with pytest.raises(MlflowdError, match="its next start puts it in place") as caught:
        restore.follow(it, ready, lambda: False, said.append)
    assert "systemctl start mlflowd" in caught.value.hint
    assert said == ["mlflowd does not run; start it: sudo systemctl start mlflowd"]
    assert it.ledger.pending() == ready


def test_the_reason_of_a_daemon_that_is_gone_is_not_repeated(
    it: Restore, ready: Transaction, ground: Path, clock: Clock
) -> None:
    (ground / "status.json").write_text(json.dumps({"pid": 2**22 + 1, "reason": "of yesterday"}))
    said: list[str] = []
    clock.then = {5.0: lambda: it.ledger.end(outcome(ready, "done", ok=True))}
    restore.follow(it, ready, lambda: True, said.append)
    assert said == ["starting mlflowd"]


def test_without_a_terminal_nothing_is_restored_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y"))
    with pytest.raises(MlflowdError, match="Nobody is there to be asked") as caught:
        restore.agreed(None, Settings())  # type: ignore[arg-type]  # it is not looked at
    assert caught.value.exit_status is ExitStatus.USAGE


def test_the_newest_backup_is_meant_unless_another_one_is_named() -> None:
    top = argparse.ArgumentParser()
    restore.add_parser(top.add_subparsers())
    assert top.parse_args(["restore"]).snapshot == "latest"
    assert top.parse_args(["restore", "1a2b3c4d", "--to", "/x"]).snapshot == "1a2b3c4d"


def test_restic_s_own_variables_name_a_repository_without_a_configuration(tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "x"}
    named = {"RESTIC_REPOSITORY": "/mnt/backup", "RESTIC_PASSWORD_FILE": str(tmp_path / "pw")}
    directory = restore.from_environment({**named, **keys}).backup
    assert directory.repository == "/mnt/backup"
    assert str(directory.password) == f"file:{tmp_path}/pw"
    store = {"RESTIC_REPOSITORY": "s3:https://s3.example/bucket", "RESTIC_PASSWORD": "x"}
    bucket = restore.from_environment({**store, **keys}).backup
    assert (str(bucket.password), str(bucket.secret_key)) == ("env:RESTIC_PASSWORD", "env:AWS_SECRET_ACCESS_KEY")


def test_variables_that_name_no_repository_are_refused_without_a_traceback() -> None:
    for environ in ({}, {"RESTIC_REPOSITORY": "rest:http://host/", "RESTIC_PASSWORD": "x"}):
        with pytest.raises(MlflowdError, match="name no repository") as caught:
            restore.from_environment(environ)
        assert caught.value.exit_status is ExitStatus.CONFIGURATION
