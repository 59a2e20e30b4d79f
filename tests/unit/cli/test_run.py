from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mlflowd.cli import run
from mlflowd.host import journal, redaction

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_thread_that_dies_is_told_in_the_journal_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def die() -> None:
        raise ValueError("connecting with hunter2-hunter2")

    journal.configure(environ={})
    redaction.hide(["hunter2-hunter2"])
    monkeypatch.setattr(threading, "excepthook", run._thread_ended)  # noqa: SLF001 - what run() sets
    thread = threading.Thread(target=die, name="watch-x")
    thread.start()
    thread.join()
    told = capfd.readouterr().err
    assert "the thread watch-x ended: ValueError('connecting with ***')" in told
    assert "hunter2" not in told.replace('raise ValueError("connecting with ***")', "")


def test_each_load_warns_of_a_secret_in_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mlflowd.toml"
    file.write_text('[server.secrets]\nA = "hunter2-hunter2"\n')
    file.chmod(0o640)
    journal.configure(environ={})
    for _ in range(2):
        assert run._load(file).server.secrets["A"].place == "hunter2-hunter2"  # noqa: SLF001 - what a reload calls
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 2
    assert f"server.secrets.A: the secret stands in the configuration itself ({file}:2)." in told[0]
    assert "check=secrets" in told[0]
    assert "hunter2" not in told[0]
