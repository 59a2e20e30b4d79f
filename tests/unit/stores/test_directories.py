from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest

from mlflowd.errors import ExitStatus
from mlflowd.host import files
from mlflowd.host.files import MountPoint
from mlflowd.host.paths import Identity
from mlflowd.model import Level, MendKind
from mlflowd.stores import directories
from mlflowd.stores.places import Directory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(ground: Path) -> Directory:
    (ground / "srv" / "mlflow").mkdir(parents=True, mode=0o755)
    return Directory("artifact store", ground / "srv" / "mlflow", create=True, section="artifact_store")


def test_directory_of_ours_passes(store: Directory, who: Identity, ground: Path) -> None:
    (found,) = directories.check(store, who, ground, make=False)
    assert (found.check, found.level) == ("artifact store: access", Level.OK)


def test_wrong_owner_is_named_with_the_command_that_mends_it(store: Directory, other: Identity, ground: Path) -> None:
    (found,) = directories.check(store, other, ground / "state", make=False)
    assert (found.level, found.exit_status) == (Level.FAILURE, ExitStatus.PERMISSION)
    assert found.remedy == f"sudo chown -R mlflowd:61234 {store.path}  (or: sudo mlflowd check --fix)"
    assert found.mend is not None
    assert (found.mend.kind, found.mend.uid) == (MendKind.OWN, other.uid)


def test_wrong_mode_is_named_and_mended(store: Directory, who: Identity, ground: Path) -> None:
    if who.uid == 0:  # nothing is closed to root
        who = Identity(61234, 61234, "mlflowd")
        os.chown(store.path, who.uid, who.gid)
    store.path.chmod(0o500)
    (found,) = directories.check(store, who, ground / "state", make=False)
    assert found.remedy.startswith(f"sudo chmod 0700 {store.path}")
    assert found.mend is not None
    files.mend(found.mend)
    assert [each.level for each in directories.check(store, who, ground, make=False)] == [Level.OK]


def test_directory_that_everybody_may_write_is_a_warning(store: Directory, who: Identity, ground: Path) -> None:
    store.path.chmod(0o777)
    (found,) = directories.check(store, who, ground, make=False)
    assert found.level is Level.WARNING
    assert f"sudo chmod 0770 {store.path}" in found.remedy


def test_missing_directory_is_made_where_allowed(store: Directory, who: Identity, ground: Path) -> None:
    store.path.rmdir()
    made, access = directories.check(store, who, ground, make=True)
    assert made.message == f"made {store.path}"
    assert access.level is Level.OK
    assert store.path.stat().st_mode & 0o777 == 0o700


def test_check_makes_nothing(store: Directory, who: Identity, ground: Path) -> None:
    store.path.rmdir()
    (found,) = directories.check(store, who, ground, make=False)
    assert found.level is Level.WARNING
    assert found.mend is not None
    assert not store.path.exists()


def test_missing_directory_is_refused_where_it_may_not_be_made(store: Directory, who: Identity, ground: Path) -> None:
    store.path.rmdir()
    at = Directory("artifact store", store.path, create=False, section="artifact_store")
    (found,) = directories.check(at, who, ground, make=True)
    assert (found.level, found.exit_status, found.mend) == (Level.FAILURE, ExitStatus.REFUSED, None)
    assert "artifact_store.create is false" in found.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root can make it")
def test_parent_that_does_not_permit_it_gives_the_command(store: Directory, who: Identity, ground: Path) -> None:
    store.path.rmdir()
    store.path.parent.chmod(0o500)
    (found,) = directories.check(store, who, ground, make=True)
    assert (found.level, found.exit_status) == (Level.FAILURE, ExitStatus.PERMISSION)
    assert found.remedy.startswith("sudo install -d -o ")
    store.path.parent.chmod(0o700)


def test_closed_directory_above_is_named(store: Directory, other: Identity, ground: Path) -> None:
    store.path.parent.chmod(0o700)
    (found,) = directories.check(store, other, ground / "state", make=True)
    assert (found.exit_status, found.mend) == (ExitStatus.PERMISSION, None)
    assert found.remedy == f"sudo chmod o+x {store.path.parent}"


def test_state_directory_of_another_owner_is_mended_whole(store: Directory, other: Identity) -> None:
    state = store.path.parent
    state.chmod(0o700)
    (found,) = directories.check(store, other, state, make=True)
    assert found.remedy.startswith(f"sudo chown -R mlflowd:61234 {state}")
    assert found.mend is not None


def test_store_that_is_a_link_is_refused(store: Directory, who: Identity, ground: Path) -> None:
    at = Directory("artifact store", ground / "link", create=True, section="artifact_store")
    at.path.symlink_to("/etc")
    (found,) = directories.check(at, who, ground, make=True)
    assert (found.level, found.exit_status) == (Level.FAILURE, ExitStatus.CONFIGURATION)
    assert "links are not followed" in found.message
    assert f"{store.section}.uri: /etc" in found.remedy


def test_file_in_place_of_the_directory_is_refused(store: Directory, who: Identity, ground: Path) -> None:
    store.path.rmdir()
    store.path.touch()
    (found,) = directories.check(store, who, ground, make=True)
    assert found.message == f"{store.path} is not a directory."


def test_home_of_somebody_is_refused(
    store: Directory, who: Identity, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = pwd.struct_passwd(("alice", "x", who.uid + 1, 1, "", str(store.path), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [alice])
    (found,) = directories.check(store, who, ground, make=True)
    assert "somebody's home" in found.message


def test_read_only_mount_is_refused(
    store: Directory, who: Identity, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "mount_of", lambda _: MountPoint("/srv", "ext4", read_only=True))
    (found,) = directories.check(store, who, ground, make=True)
    assert (found.exit_status, found.remedy) == (ExitStatus.REFUSED, "sudo mount -o remount,rw /srv")


def test_link_that_leads_out_is_told_and_not_followed(store: Directory, who: Identity) -> None:
    (store.path / "etc").symlink_to("/etc")
    (found,) = directories.contents(store, who, 100)
    assert found.level is Level.WARNING
    assert "a symbolic link that leads out of it" in found.message
    assert found.remedy.endswith(f"sudo rm {store.path}/etc")


def test_things_of_another_user_are_told_with_their_mend(store: Directory, other: Identity) -> None:
    (store.path / "1").mkdir()
    (found,) = directories.contents(store, other, 100)
    assert found.level is Level.WARNING
    assert found.mend is not None
    assert f"1 entries that {other.name} cannot use" in found.message


def test_tree_without_oddities_passes(store: Directory, who: Identity) -> None:
    (store.path / "1").mkdir()
    assert directories.contents(store, who, 100)[0].level is Level.OK
    assert "first 1 entries" in directories.contents(store, who, 1)[0].message
