"""The checks of mounted stores on real mounts: a tmpfs, a bind mount, and a file system that never answers."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contract import apart
from mlflowd.cli import prepare
from mlflowd.config import Settings
from mlflowd.host import files, mounts
from mlflowd.host.paths import Identity
from mlflowd.model import Layer, Level
from mlflowd.operations import preflight
from mlflowd.stores import directories, places, watch
from mlflowd.stores.mounts import remember

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.model import Finding

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
ROOT = Identity(0, 0, "root")


class Place:
    """A machine with a mount point, a store below it and a state directory."""

    def __init__(self, ground: Path) -> None:
        self.ground = ground
        self.point = ground / "mnt" / "my data"
        self.store = self.point / "artifacts"
        self.state = ground / "state"
        for directory in (self.point, self.state / "state", ground / "backend", ground / "elsewhere"):
            directory.mkdir(parents=True)

    def settings(self, *, mounted: bool = False) -> Settings:
        return Settings.model_validate(
            {
                "backend_store": {"uri": f"sqlite:///{self.ground}/backend/mlflow.db"},
                "artifact_store": {"uri": str(self.store), "mounted": mounted},
                "disk": {"warn": "0", "critical": "0", "require_free": "0"},
            }
        )

    def fstab(self, options: str = "defaults") -> None:
        """Name the mount point in the /etc/fstab that this process sees."""
        table = self.ground / "fstab"
        table.write_text(f"nas:/export {str(self.point).replace(' ', chr(92) + '040')} nfs4 {options} 0 0\n")
        Path("/etc/fstab").touch()
        apart.bind(table, Path("/etc/fstab"))

    def check(self, *, mounted: bool = False, make: bool = True) -> list[Finding]:
        at = next(at for at in places.directories(self.settings(mounted=mounted)) if at.path == self.store)
        return directories.check(at, ROOT, self.state, make=make)

    def guard(self) -> list[Finding]:
        return preflight.guard(self.settings(), state=self.state, who=ROOT)

    def watch(self) -> list[tuple[Layer, bool, bool]]:
        found = watch.stores(self.settings(), None, ROOT)
        return [(each.layer, each.critical, each.restart_cures) for each in found if "database" not in each.message]


@pytest.fixture
def place() -> Iterator[Place]:
    ground = Path(tempfile.mkdtemp(prefix="mlflowd-test-")).resolve()
    ground.chmod(0o755)
    yield Place(ground)
    shutil.rmtree(ground)


def refusals(found: list[Finding]) -> list[tuple[str, bool]]:
    return [(each.remedy, each.transient) for each in found if each.level is Level.FAILURE]


@pytest.mark.parametrize("options", ["defaults", "noauto"])
def test_store_under_an_unmounted_entry_of_fstab_is_refused_and_never_made(place: Place, options: str) -> None:
    def work() -> None:
        place.fstab(options)
        assert refusals(place.check()) == [(f"sudo mount '{place.point}'", True)]
        assert refusals(place.guard()) == [(f"sudo mount '{place.point}'", True)]
        prepare._make_directories(place.settings(), ROOT, place.state)  # noqa: SLF001 - what the unit runs as root
        assert list(place.point.iterdir()) == []

    apart.with_own_mounts(work)


def test_store_is_made_when_its_mount_has_come(place: Place) -> None:
    def work() -> None:
        place.fstab()
        apart.mount("tmpfs", place.point)
        assert refusals(place.check()) == []
        assert place.store.is_dir()
        apart.unmount(place.point)
        assert list(place.point.iterdir()) == []

    apart.with_own_mounts(work)


def test_store_that_must_be_mounted_is_refused_on_the_root_and_served_from_a_bind_mount(place: Place) -> None:
    def work() -> None:
        place.store.mkdir()
        ((remedy, transient),) = refusals(place.check(mounted=True))
        assert "artifact_store.mounted = false" in remedy
        assert transient
        (place.ground / "elsewhere" / "artifacts").mkdir()
        apart.bind(place.ground / "elsewhere", place.point)
        assert refusals(place.check(mounted=True)) == []

    if files.mount_of(place.ground).path != "/":
        pytest.skip("the directory of temporary files is a mount of its own here")
    apart.with_own_mounts(work)


def test_unmounted_store_is_critical_while_serving_and_well_again_afterwards(place: Place) -> None:
    def work() -> None:
        place.fstab()
        apart.mount("tmpfs", place.point)
        place.store.mkdir()
        assert place.watch() == []
        apart.unmount(place.point)
        assert place.watch() == [(Layer.STORE, True, False)]
        apart.mount("tmpfs", place.point)
        place.store.mkdir()
        assert place.watch() == []

    apart.with_own_mounts(work)


def test_mount_that_the_store_was_served_from_is_missed_though_nothing_names_it(place: Place) -> None:
    def work() -> None:
        apart.mount("tmpfs", place.point)
        place.store.mkdir()
        remember(place.settings(), place.state, ROOT)
        assert refusals(place.check()) == []
        apart.unmount(place.point)
        ((remedy, transient),) = refusals(place.check())
        assert remedy.startswith(f"sudo mount '{place.point}'; ")
        assert transient
        assert not place.store.exists()
        place.store.mkdir()
        (place.store / "1").mkdir()  # somebody moved the data here on purpose
        assert next(each.level for each in place.check()) is Level.WARNING
        assert refusals(place.check()) == []

    apart.with_own_mounts(work)


def test_mount_of_the_service_s_own_sandbox_is_not_missed_outside_of_it(place: Place) -> None:
    def work() -> None:
        place.store.mkdir()
        apart.bind(place.ground, place.ground)  # what systemd does to StateDirectory=
        remember(place.settings(), place.state, ROOT)
        apart.unmount(place.ground)
        assert [each.message for each in place.check() if each.level is not Level.OK] == []

    if files.mount_of(place.ground).path != "/":
        pytest.skip("the directory of temporary files is a mount of its own here")
    apart.with_own_mounts(work)


def test_file_system_that_does_not_answer_holds_up_neither_start_nor_watch(place: Place) -> None:
    def work() -> None:
        with apart.dead_file_system(place.point):
            began = time.monotonic()
            ((remedy, transient),) = refusals(place.check())
            assert time.monotonic() - began < mounts.PATIENCE + 1
            assert "umount -f" in remedy
            assert transient
            threads = threading.active_count()
            assert place.watch() == [(Layer.STORE, True, False)]
            assert threading.active_count() == threads  # the look that hangs is waited for, not doubled
            watch.room(place.settings(), place.state)
        assert place.watch() != []  # gone by now, which is another trouble
        assert mounts.ailment(place.store) == ""

    apart.with_own_mounts(work)
