from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes import databases
from mlflowd.errors import ExitStatus
from mlflowd.host.files import MountPoint
from mlflowd.host.paths import Identity, fingerprint_file
from mlflowd.model import Finding, Level, MendKind
from mlflowd.stores import database, fingerprint, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflowd.config import Settings

    Check = Callable[[], list[Finding]]


@pytest.fixture
def path(settings: Settings) -> Path:
    return databases.make(Path(settings.backend_store.database.name))


@pytest.fixture
def served(path: Path, ground: Path, who: Identity) -> Path:
    """A database that was served before."""
    fingerprint.record(path, ground, who)
    return path


@pytest.fixture(params=["check", "guard"])
def look(request: pytest.FixtureRequest, settings: Settings, ground: Path, who: Identity) -> Check:
    if request.param == "guard":
        return lambda: database.guard(settings, ground, who)
    return lambda: database.check(settings, ground, who, running=False)


def failures(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level is Level.FAILURE]


def test_database_served_last_passes(served: Path, look: Check) -> None:
    assert {finding.level for finding in look()} == {Level.OK}
    assert look()[0].message == f"{served} is the database served last"


def test_first_start_needs_no_database(settings: Settings, look: Check) -> None:
    assert failures(look()) == []
    Path(settings.backend_store.database.name).touch()
    assert failures(look()) == []


def test_database_from_elsewhere_is_taken(path: Path, look: Check) -> None:
    assert look()[0].message == f"{path} was not served before"


def test_missing_database_is_refused_with_the_way_out(served: Path, look: Check) -> None:
    served.unlink()
    (found,) = failures(look())
    assert found.exit_status == ExitStatus.REFUSED
    assert "is missing" in found.message
    assert "sudo mlflowd check --accept-database" in found.remedy
    assert not served.exists()


def test_truncated_database_is_refused(served: Path, look: Check) -> None:
    os.truncate(served, 0)
    (found,) = failures(look())
    assert "is empty" in found.message


def test_loss_is_told_before_the_owner_of_what_is_left(
    served: Path, settings: Settings, ground: Path, other: Identity
) -> None:
    os.truncate(served, 0)
    served.parent.chmod(0o755)
    for found in (
        database.guard(settings, ground, other),
        database.check(settings, ground, other, running=False),
    ):
        loss, owner = failures(found)
        assert "is empty" in loss.message
        assert owner.exit_status == ExitStatus.PERMISSION


def test_database_without_tables_is_refused(served: Path, look: Check) -> None:
    served.unlink()
    with closing(sqlite3.connect(served)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    (found,) = failures(look())
    assert "is empty" in found.message


def test_configuration_that_names_a_new_empty_place_is_refused(
    served: Path, settings: Settings, ground: Path, who: Identity
) -> None:
    moved = settings.backend_store.model_copy(update={"uri": f"sqlite:///{ground}/elsewhere.db"})
    (found,) = failures(database.guard(settings.model_copy(update={"backend_store": moved}), ground, who))
    assert f"the one served last is {served}" in found.message


def test_another_place_is_taken_where_nobody_has_used_the_last_one(
    settings: Settings, ground: Path, who: Identity
) -> None:
    unused = databases.make(ground / "unused.db", rows=0)
    fingerprint.record(unused, ground, who)
    assert failures(database.guard(settings, ground, who)) == []
    unused.unlink()
    assert failures(database.guard(settings, ground, who))


def test_accepted_loss_starts_anew(served: Path, ground: Path, look: Check) -> None:
    served.unlink()
    fingerprint.forget(ground)
    assert failures(look()) == []


def test_another_database_is_only_a_warning(served: Path, look: Check) -> None:
    served.unlink()
    databases.make(served, created=1_800_000_000_000)
    assert failures(look()) == []
    assert look()[0].level is Level.WARNING
    assert "another database" in look()[0].message


def test_unreadable_record_is_a_warning(served: Path, ground: Path, look: Check) -> None:
    fingerprint_file(ground).write_text("{")
    assert served.exists()
    assert look()[0].level is Level.WARNING


def test_garbage_is_refused(served: Path, look: Check) -> None:
    served.write_bytes(os.urandom(65536))
    (found,) = failures(look())
    assert found.exit_status == ExitStatus.REFUSED
    assert "not a SQLite database" in found.message
    assert f"sudo mv {served} {served}.broken" in found.remedy


def test_directory_in_its_place_is_refused(served: Path, look: Check) -> None:
    served.unlink()
    served.mkdir()
    (found,) = failures(look())
    assert found.remedy == f"sudo rmdir {served}"


def test_database_that_is_a_link_is_refused(served: Path, ground: Path, look: Check) -> None:
    served.rename(ground / "real.db")
    served.symlink_to(ground / "real.db")
    (found,) = failures(look())
    assert found.exit_status == ExitStatus.CONFIGURATION


def test_hot_journal_is_rolled_back_and_the_database_passes(
    path: Path, ground: Path, who: Identity, look: Check
) -> None:
    path.unlink()
    databases.make(path, rows=5000)
    fingerprint.record(path, ground, who)
    subprocess.run([sys.executable, "-c", databases.KILLED_IN_TRANSACTION, path], check=False)
    journal = path.with_name(path.name + "-journal")
    assert journal.stat().st_size > 0
    assert failures(look()) == []
    assert not journal.exists()


def test_damaged_page_is_refused(path: Path, settings: Settings, ground: Path, who: Identity) -> None:
    path.unlink()
    databases.make(path, rows=2000)
    with path.open("r+b") as file:
        file.seek(-8192, os.SEEK_END)
        file.write(b"\xff" * 8192)
    (found,) = failures(database.check(settings, ground, who, running=False))
    assert found.check == "database: quick_check"
    assert "restore a backup" in found.remedy


def test_lock_may_pass_by_itself(
    path: Path, settings: Settings, ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        (found,) = failures(database.check(settings, ground, who, running=False))
    assert found.transient
    assert "fuser" in found.remedy


def test_database_of_a_running_server_is_not_opened(
    served: Path, settings: Settings, ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", None)
    (found,) = database.check(settings, ground, who, running=True)
    assert found.level is Level.OK
    served.unlink()
    (found,) = database.check(settings, ground, who, running=True)
    assert (found.level, found.exit_status) == (Level.FAILURE, ExitStatus.REFUSED)


def test_side_file_of_another_owner_is_named_with_its_mend(
    path: Path, settings: Settings, ground: Path, other: Identity
) -> None:
    path.parent.chmod(0o777)
    path.chmod(0o666)
    wal = path.with_name(path.name + "-wal")
    wal.touch(mode=0o644)
    (found,) = failures(database.guard(settings, ground, other))
    assert found.exit_status == ExitStatus.PERMISSION
    assert found.remedy.startswith(f"sudo chown mlflowd:61234 {wal}")
    assert found.mend is not None
    assert (found.mend.kind, found.mend.path) == (MendKind.OWN, str(wal))


def test_network_file_system_is_a_warning(
    path: Path, settings: Settings, ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "mount_of", lambda _: MountPoint("/srv", "nfs4", read_only=False))
    (found,) = [
        each for each in database.check(settings, ground, who, running=False) if each.check == "database: mount"
    ]
    assert found.level is Level.WARNING
    assert f"{path} lies on nfs4 (/srv)" in found.message
    assert "in place of WAL" in found.message
