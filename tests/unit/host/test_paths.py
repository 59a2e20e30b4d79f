from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlflowd.errors import ExitStatus, MlflowdError, RefusedError
from mlflowd.host import paths
from mlflowd.host.paths import Identity


def test_directories_are_those_that_systemd_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/data/mlflowd:/data/other")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/elsewhere")
    assert paths.state_directory() == Path("/data/mlflowd")
    assert paths.status_file() == Path("/run/elsewhere/status.json")


def test_directories_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert paths.state_directory() == Path("/var/lib/mlflowd")
    assert paths.runtime_directory() == Path("/run/mlflowd")


def test_a_user_other_than_root_works_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 61234)
    monkeypatch.setattr(os, "getegid", lambda: 61235)
    assert paths.identity() == Identity(61234, 61235, "61234")
    assert paths.identity().owner == "61234:61235"


def test_root_without_the_service_user_is_told_how_to_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(paths, "SERVICE_USER", "no-such-user-here")
    with pytest.raises(MlflowdError, match="no user 'no-such-user-here'") as caught:
        paths.identity()
    assert caught.value.exit_status is ExitStatus.CONFIGURATION
    assert "useradd" in caught.value.hint


def test_work_as_a_user_keeps_its_value_and_its_kind_of_error(other: Identity) -> None:
    def refuse() -> None:
        raise RefusedError("no", "do this")

    assert paths.run_as(other, lambda: {"a": [1, 2]}) == {"a": [1, 2]}
    with pytest.raises(RefusedError, match="no") as caught:
        paths.run_as(other, refuse)
    assert (caught.value.hint, caught.value.exit_status) == ("do this", ExitStatus.REFUSED)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_works_as_the_user_and_stays_root(other: Identity) -> None:
    assert paths.run_as(other, lambda: [os.getuid(), os.getgid(), os.getgroups()]) == [other.uid, other.gid, []]
    assert os.geteuid() == 0
    with pytest.raises(MlflowdError, match="without an answer"):
        paths.run_as(other, lambda: os._exit(3))
