from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mlflowd.errors import ExitStatus, LockedError, MlflowdError
from mlflowd.host.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys, pathlib
from mlflowd.host.lock import Lock
with Lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock."""
    argv = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_file_names_its_holder_and_is_private(path: Path) -> None:
    with Lock(path):
        assert path.read_text().split()[0] == str(os.getpid())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_one_is_refused_and_told_who_holds_it(path: Path, other: subprocess.Popen[bytes]) -> None:
    with pytest.raises(LockedError, match=rf"pid {other.pid}, since 20..-..-..T..:..:..Z") as refusal:
        Lock(path)

    assert refusal.value.exit_status == ExitStatus.LOCKED
    assert f"kill {other.pid}" in refusal.value.hint


def test_a_killed_holder_lets_go(path: Path, other: subprocess.Popen[bytes]) -> None:
    other.kill()
    other.wait()

    with Lock(path):
        assert path.read_text().split()[0] == str(os.getpid())


def test_a_released_lock_can_be_taken_again(path: Path) -> None:
    lock = Lock(path)
    lock.release()
    lock.release()

    with Lock(path):
        pass
    with Lock(path):
        pass


def test_a_shorter_pid_leaves_nothing_of_a_longer_one(path: Path) -> None:
    path.write_text("4194304 " + "x" * 60)

    with Lock(path):
        assert path.read_text().endswith("Z\n")
        assert "x" not in path.read_text()


def test_a_holder_that_has_not_signed_yet_is_refused_all_the_same(path: Path, other: subprocess.Popen[bytes]) -> None:
    assert other.poll() is None
    path.write_text("")

    with pytest.raises(LockedError, match=r"^Another mlflowd holds "):
        Lock(path)


def test_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    path.symlink_to(target)

    with pytest.raises(MlflowdError, match="is a symbolic link") as error:
        Lock(path)

    assert error.value.hint == f"`rm {path}`"
    assert error.value.exit_status == ExitStatus.PERMISSION
    assert not target.exists()


def test_a_missing_directory_comes_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MlflowdError, match="does not exist") as error:
        Lock(tmp_path / "absent" / "lock")

    assert "install -d" in error.value.hint


def test_a_file_that_cannot_be_opened_says_why(path: Path) -> None:
    path.mkdir()

    with pytest.raises(MlflowdError, match="Is a directory") as error:
        Lock(path)

    assert error.value.exit_status == ExitStatus.PERMISSION


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_lock_that_root_made_belongs_to_the_directory_s_owner(path: Path) -> None:
    os.chown(path.parent, 65534, 65534)

    with Lock(path):
        assert path.stat().st_uid == 65534
