from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.model import Image
from mlflowd.operations import debian_base

if TYPE_CHECKING:
    import subprocess


class Shelf:
    def __init__(self, *references: str) -> None:
        self.kept = references

    def image(self, reference: str) -> Image | None:
        return Image("sha256:1", (reference,), {}) if reference in self.kept else None

    def import_root(self, archive: str, *, tag: str, changes: Any) -> Image:  # noqa: ARG002 (the protocol's)
        assert Path(archive).is_file()
        return Image("sha256:2", (tag,), {})


def have(monkeypatch: pytest.MonkeyPatch, *programs: str, uid: int = 0, keyring: str = __file__) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
    monkeypatch.setattr(debian_base, "KEYRING", Path(keyring))


def refused() -> MlflowdError:
    with pytest.raises(MlflowdError) as caught:
        debian_base.preflight()
    return caught.value


def test_only_root_can_build_from_debian_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, "debootstrap", uid=1000)
    assert refused().exit_status == ExitStatus.PERMISSION
    assert "--base" in refused().hint


def test_a_missing_debootstrap_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch)
    assert refused().hint == "sudo apt-get install --no-install-recommends debootstrap"
    have(monkeypatch, "dnf")
    assert refused().hint == "sudo dnf install debootstrap"


def test_missing_keys_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, "debootstrap", keyring="/nonesuch")
    assert refused().hint.endswith("debian-archive-keyring")


def test_a_base_that_is_there_is_used_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, uid=1000)
    engine = cast("Any", Shelf("mlflowd/base:trixie"))
    assert debian_base.debian_base(engine, "trixie", lambda _: None).id == "sha256:1"


def test_the_mirror_is_the_hosts_own_where_it_is_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = (
        " main https://download.example/linux/debian\n"
        "Debian main http://mirror.example/debian-security/\n"
        "Debian contrib http://mirror.example/debian/\n"
        "Debian main http://mirror.example/debian/\n"
    )
    monkeypatch.setattr(debian_base, "_output", lambda *_: targets)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian"})
    assert debian_base.mirror() == "http://mirror.example/debian/"
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "ubuntu"})
    assert debian_base.mirror() is None


def test_an_interrupt_ends_the_program_that_runs() -> None:
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    process = interrupted(command)
    assert process.returncode == -signal.SIGKILL


def interrupted(command: list[str]) -> subprocess.Popen[str]:
    """Return the ended process of a `_running` block that Ctrl-C left (debootstrap itself needs root and a minute)."""
    with suppress(KeyboardInterrupt), debian_base._running(command) as process:  # noqa: SLF001 (see above)
        assert next(iter(process.stdout or ())) == "up\n"
        raise KeyboardInterrupt
    return process


@pytest.mark.parametrize("outcome", ["success", "failure", "interrupt"])
def test_the_temporary_directory_goes_on_every_path(
    outcome: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    have(monkeypatch, "debootstrap")
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def bootstrap(_suite: str, root: Path, _progress: Any) -> None:
        assert (root / debian_base._HURRY).is_file()  # noqa: SLF001 (what dpkg reads)
        (root / "etc" / "apt").mkdir()
        if outcome != "success":
            raise {"failure": MlflowdError("no"), "interrupt": KeyboardInterrupt()}[outcome]

    monkeypatch.setattr(debian_base, "_debootstrap", bootstrap)
    if outcome == "success":
        debian_base.debian_base(cast("Any", Shelf()), "trixie", lambda _: None)
    else:
        with pytest.raises((MlflowdError, KeyboardInterrupt)):
            debian_base.debian_base(cast("Any", Shelf()), "trixie", lambda _: None)
    assert list(tmp_path.iterdir()) == []
