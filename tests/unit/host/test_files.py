from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mlflowd.errors import MlflowdError
from mlflowd.host import files
from mlflowd.host.files import MountPoint
from mlflowd.model import Mend, MendKind

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change an owner")
MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /srv rw,relatime shared:1 - nfs4 nas:/export rw,vers=4.2
31 27 254:16 / /srv/my\\040data rw,relatime - ext4 /dev/vdb rw,emergency_ro
32 27 254:32 / /data ro,relatime - xfs /dev/vdc rw
33 27 0:41 / /mnt/s rw - fuse.sshfs host: rw
34 27 254:48 / /data rw,relatime - btrfs /dev/vdd rw
"""


@pytest.mark.parametrize(
    ("path", "expected", "network"),
    [
        ("/etc/x", MountPoint("/", "ext4", read_only=False), False),
        ("/srv/mlflow", MountPoint("/srv", "nfs4", read_only=False), True),
        ("/srvice", MountPoint("/", "ext4", read_only=False), False),
        ("/srv/my data/db", MountPoint("/srv/my data", "ext4", read_only=True), False),
        ("/mnt/s/x", MountPoint("/mnt/s", "fuse.sshfs", read_only=False), True),
        ("/data/x", MountPoint("/data", "btrfs", read_only=False), False),
    ],
)
def test_mount_of_a_path(tmp_path: Path, path: str, expected: MountPoint, *, network: bool) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    found = files.mount_of(tmp_path.__class__(path), table)
    assert (found.path, found.kind, found.read_only) == (expected.path, expected.kind, expected.read_only)
    assert found.network == network


def test_source_and_device_of_a_mount_are_read_even_where_the_source_is_empty(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS + "35 27 0:50 /a\\040b /mnt/e ro - tmpfs  ro\n")
    mounts = files.mounts(table)
    assert [(mount.device, mount.source) for mount in mounts][1] == ("0:40", "nas:/export")
    assert mounts[-1] == MountPoint("/mnt/e", "tmpfs", read_only=True, root="/a b", device="0:50", source="")


def test_mount_of_this_machine_is_read(tmp_path: Path) -> None:
    assert files.mount_of(tmp_path / "not" / "there").kind != "unknown"


def test_owner_may_use_its_directory(ground: Path, who: Identity) -> None:
    assert files.obstacle(ground, who) is None


def test_wrong_owner_is_an_obstacle(ground: Path, other: Identity) -> None:
    (ground / "store").mkdir(mode=0o755)
    found = files.obstacle(ground / "store", other)
    assert found is not None
    assert found.path == ground / "store"
    assert "may not be used by mlflowd" in found.message
    assert "mode 0755" in found.message


def test_closed_directory_above_is_the_obstacle(ground: Path, other: Identity) -> None:
    (ground / "closed" / "store").mkdir(parents=True)
    (ground / "closed").chmod(0o700)
    (ground / "closed" / "store").chmod(0o777)
    found = files.obstacle(ground / "closed" / "store", other)
    assert found is not None
    assert found.path == ground / "closed"
    assert "may not be entered" in found.message


def test_survey_finds_links_out_and_things_of_others(ground: Path, who: Identity, other: Identity) -> None:
    (ground / "1" / "run").mkdir(parents=True)
    (ground / "1" / "inside").symlink_to("run")
    (ground / "1" / "out").symlink_to("/etc")
    (ground / "1" / "up").symlink_to("../../..")
    (ground / "secret").write_text("x")
    (ground / "secret").chmod(0o600)
    found = files.survey(ground, who, 100)
    assert sorted(found.links) == [str(ground / "1" / "out"), str(ground / "1" / "up")]
    assert (found.foreign, found.complete) == ((), True)
    assert files.survey(ground, other, 100).foreign_count == 3  # two directories that it may not write, one file


def test_survey_is_bounded(ground: Path, who: Identity) -> None:
    for number in range(20):
        (ground / str(number)).touch()
    assert not files.survey(ground, who, 10).complete
    assert files.survey(ground, who, 21).complete


def test_missing_directories_are_made_passable_and_the_last_one_private(ground: Path, who: Identity) -> None:
    before = os.umask(0o077)
    try:
        told = files.mend(Mend(MendKind.MAKE_DIRECTORY, str(ground / "a" / "b"), who.uid, who.gid))
    finally:
        os.umask(before)
    assert (ground / "a").stat().st_mode & 0o777 == 0o755
    assert (ground / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert told.startswith(f"made {ground}/a/b")


def test_mode_is_mended_and_a_link_is_not_followed(ground: Path) -> None:
    (ground / "d").mkdir(mode=0o000)
    assert "0700" in files.mend(Mend(MendKind.MODE, str(ground / "d")))
    assert (ground / "d").stat().st_mode & 0o777 == 0o700
    (ground / "link").symlink_to("/etc")
    with pytest.raises(MlflowdError, match="symbolic link"):
        files.mend(Mend(MendKind.MODE, str(ground / "link")))


@AS_ROOT
def test_owner_is_mended_in_the_whole_tree_without_following_links(ground: Path, other: Identity) -> None:
    (ground / "store" / "1").mkdir(parents=True)
    (ground / "store" / "1" / "f").touch()
    (ground / "outside").touch()
    (ground / "store" / "link").symlink_to(ground / "outside")
    (ground / "store" / "second-name").hardlink_to(ground / "outside")
    told = files.mend(Mend(MendKind.OWN, str(ground / "store"), other.uid, other.gid))
    assert (ground / "store").stat().st_uid == other.uid
    assert (ground / "store" / "1" / "f").stat().st_uid == other.uid
    assert (ground / "outside").stat().st_uid == 0
    assert "left alone: 1 with several hard links" in told


@AS_ROOT
def test_root_makes_a_directory_for_another_user_where_only_root_may(ground: Path, other: Identity) -> None:
    files.make_directory(ground / "x" / "store", other)
    assert (ground / "x").stat().st_uid == 0
    assert (ground / "x" / "store").stat().st_uid == other.uid


def test_file_is_written_whole_with_its_mode(ground: Path) -> None:
    files.write_atomically(ground / "sub" / "f", "one")
    files.write_atomically(ground / "sub" / "f", "two", mode=0o644)
    assert (ground / "sub" / "f").read_text() == "two"
    assert (ground / "sub" / "f").stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in (ground / "sub").iterdir()] == ["f"]
