from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes import databases
from mlflowd.config import Settings, Size
from mlflowd.host.disk import Space
from mlflowd.host.files import MountPoint
from mlflowd.model import Layer
from mlflowd.stores import fingerprint, watch

if TYPE_CHECKING:
    from mlflowd.host.paths import Identity


@pytest.fixture
def database(settings: Settings) -> Path:
    return databases.make(Path(settings.backend_store.database.name))


def test_stores_in_place_are_no_trouble(settings: Settings, database: Path, who: Identity) -> None:
    assert watch.stores(settings, fingerprint.place(database), who) == ()


def test_writing_does_not_look_like_an_exchange(settings: Settings, database: Path, who: Identity) -> None:
    served = fingerprint.place(database)
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO metrics VALUES ('m', 1, 'r', 1)")
    connection.close()
    assert watch.stores(settings, served, who) == ()


def test_renamed_database_is_critical_and_no_restart_cures_it(
    settings: Settings, database: Path, who: Identity
) -> None:
    served = fingerprint.place(database)
    database.rename(database.with_suffix(".gone"))
    (trouble,) = watch.stores(settings, served, who)
    assert (trouble.layer, trouble.critical, trouble.restart_cures) == (Layer.STORE, True, False)
    assert "gone" in trouble.message
    assert str(database) in trouble.remedy


def test_empty_file_in_its_place_is_no_cure_either(settings: Settings, database: Path, who: Identity) -> None:
    served = fingerprint.place(database)
    database.rename(database.with_suffix(".gone"))
    database.touch()
    (trouble,) = watch.stores(settings, served, who)
    assert "is empty" in trouble.message
    assert not trouble.restart_cures


def test_restored_database_under_a_running_server_needs_a_restart(
    settings: Settings, database: Path, who: Identity
) -> None:
    served = fingerprint.place(database)
    databases.make(database.with_suffix(".new")).rename(database)
    (trouble,) = watch.stores(settings, served, who)
    assert trouble.restart_cures
    assert "exchanged" in trouble.message


def test_garbage_in_its_place_needs_no_restart(settings: Settings, database: Path, who: Identity) -> None:
    served = fingerprint.place(database)
    database.with_suffix(".new").write_bytes(b"\xff" * 9000)
    database.with_suffix(".new").rename(database)
    (trouble,) = watch.stores(settings, served, who)
    assert not trouble.restart_cures


def test_directory_that_is_not_ours_is_named_with_its_mend(settings: Settings, database: Path, other: Identity) -> None:
    Path(settings.artifact_store.uri).chmod(0o777)
    (trouble,) = watch.stores(settings, fingerprint.place(database), other)
    assert str(database.parent) in trouble.message
    assert trouble.remedy == "sudo mlflowd check --fix"


def test_read_only_mount_is_named(
    settings: Settings, database: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "mount_of", lambda _: MountPoint("/srv", "ext4", read_only=True))
    troubles = watch.stores(settings, fingerprint.place(database), who)
    assert len(troubles) == 2
    assert "sudo mount -o remount,rw /srv" in troubles[0].remedy


def test_missing_artifact_directory_is_named(settings: Settings, database: Path, who: Identity) -> None:
    Path(settings.artifact_store.uri).rmdir()
    (trouble,) = watch.stores(settings, fingerprint.place(database), who)
    assert "is gone" in trouble.message


def test_file_system_is_told_once_with_all_that_lies_on_it(settings: Settings, ground: Path) -> None:
    (names,) = watch.spaces(settings, ground / "state", str(ground / "no-engine-here"))
    assert names == f"{ground}/state, {ground}/backend, {ground}/artifacts, {ground}/no-engine-here"
    (names,) = watch.spaces(settings, ground)
    assert names == str(ground)


@pytest.mark.parametrize(
    ("free", "inodes_free", "expected"),
    [
        (50, 500, None),
        (9, 500, (False, "9% of its bytes")),
        (2, 500, (True, "2% of its bytes")),
        (50, 20, (True, "2% of its inodes")),
    ],
)
def test_room_is_judged_by_the_limits(
    settings: Settings, free: int, inodes_free: int, expected: tuple[bool, str] | None
) -> None:
    limits = settings.disk.model_copy(update={"warn": Size.parse("10%"), "critical": Size.parse("3%")})
    space = Space(device=1, free=free, total=100, inodes_free=inodes_free, inodes=1000, read_only=False)
    trouble = watch.tight(settings.model_copy(update={"disk": limits}), "/srv, /data", space)
    assert (trouble is None) == (expected is None)
    if trouble and expected:
        assert (trouble.layer, trouble.critical) == (Layer.DISK, expected[0])
        assert expected[1] in trouble.message


def test_room_of_this_machine_against_limits_in_bytes(settings: Settings, ground: Path) -> None:
    assert watch.room(settings, ground) == ()
    limits = settings.disk.model_copy(update={"warn": Size.parse("500T")})
    (trouble,) = watch.room(settings.model_copy(update={"disk": limits}), ground)
    assert not trouble.critical
