from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflowd.host import mounts
from mlflowd.host.files import MountPoint
from mlflowd.host.mounts import Missing, Planned

if TYPE_CHECKING:
    from pathlib import Path

ROOT = MountPoint("/", "ext4", read_only=False, device="254:0", source="/dev/vda")
FSTAB = r"""
# a comment, and lines that are no mount points
UUID=aa  /          ext4  defaults                     0 1
UUID=bb  none       swap  sw                           0 0
/swap    swap       swap  sw                           0 0
tmpfs    /scratch   tmpfs size=1G
nas:/export/ml  /mnt/ml\040data/  nfs4  _netdev,x-systemd.automount
nas:/b   /mnt/b     nfs   noauto
broken
"""


def mount(path: str, kind: str = "nfs4", **more: str) -> MountPoint:
    return MountPoint(path, kind, read_only=False, **{"device": "0:40", "source": "nas:/export", **more})


def plan(point: str) -> Planned:
    return Planned(point, "nas:/export", f"sudo mount {point}")


def test_mount_points_of_fstab_are_read_with_noauto_and_spaces() -> None:
    found = {plan.point: plan.source for plan in mounts.parse_fstab(FSTAB)}
    assert found == {"/": "UUID=aa", "/scratch": "tmpfs", "/mnt/ml data": "nas:/export/ml", "/mnt/b": "nas:/b"}


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("mnt-x.mount", "/mnt/x"),
        (r"srv-ml\x2ddata.mount", "/srv/ml-data"),
        (r"srv-\xc3\xa9.mount", "/srv/é"),
        ("mnt-x.automount", None),
        ("-.mount", None),
        ("mlflowd.service", None),
    ],
)
def test_mount_point_of_a_unit_is_in_its_name(name: str, point: str | None) -> None:
    found = mounts.parse_unit(name)
    assert (found and found.point) == point


def test_unit_is_started_by_its_name_safe_for_a_shell() -> None:
    found = mounts.parse_unit(r"srv-ml\x2ddata.mount")
    assert found is not None
    assert found.command == r"sudo systemctl start 'srv-ml\x2ddata.mount'"


def test_path_on_the_root_alone_is_well_unless_a_mount_is_required() -> None:
    assert mounts.lacking("/srv/mlflow", [ROOT], [], required=False) is None
    assert mounts.lacking("/srv/mlflow", [ROOT], [], required=True) == Missing()


def test_path_on_a_mount_is_well() -> None:
    for path in ("/mnt/x", "/mnt/x/a/b"):
        assert mounts.lacking(path, [ROOT, mount("/mnt/x")], [plan("/mnt/x")], required=True) is None


def test_neighbour_with_the_same_beginning_is_no_mount_of_the_path() -> None:
    assert mounts.lacking("/mnt/xy", [ROOT, mount("/mnt/x")], [], required=True) == Missing()
    assert mounts.lacking("/mnt/xy", [ROOT], [plan("/mnt/x")], required=False) is None


@pytest.mark.parametrize("required", [False, True])
def test_planned_mount_that_is_away_is_missed_with_its_command(required: bool) -> None:
    expected = Missing("/mnt/x", "nas:/export", "sudo mount /mnt/x")
    assert mounts.lacking("/mnt/x/a", [ROOT], [plan("/mnt/x")], required=required) == expected


def test_own_partition_of_var_does_not_stand_in_for_a_planned_mount_below_it() -> None:
    var = mount("/var", "ext4", device="254:16", source="/dev/vdb")
    found = mounts.lacking("/var/lib/ml/a", [ROOT, var], [plan("/var"), plan("/var/lib/ml")], required=True)
    assert found == Missing("/var/lib/ml", "nas:/export", "sudo mount /var/lib/ml")


def test_outermost_of_two_missing_mounts_is_named_first() -> None:
    found = mounts.lacking("/mnt/x/y/z", [ROOT], [plan("/mnt/x/y"), plan("/mnt/x")], required=True)
    assert found is not None
    assert found.point == "/mnt/x"


def test_root_in_fstab_asks_for_nothing() -> None:
    assert mounts.lacking("/srv/x", [ROOT], [plan("/")], required=False) is None


def test_bind_mount_of_another_directory_of_the_same_device_counts() -> None:
    bound = mount("/mnt/x", "ext4", device="254:0", root="/data/x")
    assert mounts.lacking("/mnt/x/a", [ROOT, bound], [], required=True) is None


def test_subvolume_of_the_same_btrfs_counts() -> None:
    root = MountPoint("/", "btrfs", read_only=False, root="/@", device="0:30")
    srv = mount("/srv", "btrfs", device="0:30", root="/@srv")
    assert mounts.lacking("/srv/x", [root, srv], [], required=True) is None


@pytest.mark.parametrize("root", ["/", "/@"])
def test_directory_that_a_sandbox_mounted_onto_itself_does_not_count(root: str) -> None:
    top = MountPoint("/", "btrfs", read_only=False, root=root, device="0:30")
    itself = mount("/opt", "btrfs", device="0:30", root=root.rstrip("/") + "/opt")
    assert mounts.lacking("/opt/x", [top, itself], [], required=True) == Missing()


def test_automount_that_came_to_nothing_is_not_mounted() -> None:
    waiting = mount("/mnt/x", "autofs", source="systemd-1")
    assert mounts.lacking("/mnt/x/a", [ROOT, waiting], [plan("/mnt/x")], required=False) is not None
    assert mounts.lacking("/mnt/x/a", [ROOT, waiting], [], required=True) == Missing()
    assert mounts.lacking("/mnt/x/a", [ROOT, waiting, mount("/mnt/x")], [plan("/mnt/x")], required=True) is None


def test_planned_mount_point_behind_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    real = str((tmp_path / "real").resolve())
    found = mounts.lacking(f"{real}/a", [ROOT], [plan(f"{tmp_path}/link")], required=False)
    assert found is not None
    assert found.point == real


def test_what_is_missing_or_forbidden_is_no_ailment(tmp_path: Path) -> None:
    assert mounts.ailment(tmp_path) == ""
    assert mounts.ailment(tmp_path / "not" / "there") == ""
