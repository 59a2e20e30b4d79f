"""A backup brought back: what is refused before anything is written, and that nothing stays of what fails.

restic's part is played by copies of files, since each of its calls costs a second; two tests have the real one.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest

from fakes import databases
from mlflowd.config import Settings
from mlflowd.errors import ExitStatus, MlflowdError, RefusedError
from mlflowd.host import disk, restic
from mlflowd.host.restic import DamagedRepositoryError, Snapshot
from mlflowd.model import Secrets
from mlflowd.operations import artifact_swap
from mlflowd.operations.backup import fitting, manifest, rehearse, unpack
from mlflowd.operations.backup.create import Source, create
from mlflowd.operations.backup.manifest import Manifest
from mlflowd.operations.backup.record import RecordFile
from mlflowd.operations.backup.repository import STAGING, Backup, Backups
from mlflowd.operations.backup.restore import Restore
from mlflowd.operations.copies import Copy, Databases, Kind, Part
from mlflowd.operations.transaction import Kind as Change
from mlflowd.operations.transaction import Outcome, Step, new
from mlflowd.server.abilities import Abilities

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mlflowd.host.paths import Identity
    from mlflowd.host.restic import Restic
    from mlflowd.operations.transaction import Transaction

needs_restic = pytest.mark.skipif(shutil.which("restic") is None, reason="no restic: apt-get install restic")

REFERENCE = "ghcr.io/mlflow/mlflow:v3.17.2"
FILES = {"1/run/artifacts/data/blob.bin": "of the first run", "1/models/m-1/artifacts/MLmodel": "flavors: {}"}
KNOWN = ("1b5f0d9ad7c1", databases.REVISION)


class Shelf:
    """Stands for restic: holds one snapshot as plain files."""

    where = "the shelf"

    def __init__(self, top: Path) -> None:
        self.top = top
        self.damaged = False

    def save(self, *paths: Path) -> None:
        for path in paths:
            shutil.copytree(path, self.top / str(path).lstrip("/"))

    def size(self, _snapshot: str) -> int:
        return sum(path.stat().st_size for path in self.top.rglob("*") if path.is_file())

    def restore(self, _snapshot: str, target: Path, include: Sequence[str] = ()) -> None:
        for path in include:
            shutil.copytree(self.top / path.lstrip("/"), target / path.lstrip("/"))
        if self.damaged:
            raise DamagedRepositoryError("The repository the shelf is damaged.")


@dataclass(frozen=True)
class World:
    """One machine with a backup of what it holds."""

    settings: Settings
    state: Path
    who: Identity
    artifacts: Path
    database: Path
    shelf: Shelf
    backup: Backup

    @property
    def door(self) -> Restic:
        return cast("Restic", self.shelf)

    def restore(self, able: Abilities | None = None) -> Restore:
        return Restore(self.settings, self.state, self.who, able)

    def stage(self, progress: Callable[[str], None] = lambda _: None) -> Transaction:
        return self.restore().stage(self.door, self.backup, progress)

    def left(self) -> set[str]:
        """What lies beside the live data."""
        transactions = self.state / "transactions"
        inside = {path.name for path in transactions.iterdir()} if transactions.is_dir() else set()
        return inside | {path.name for path in self.artifacts.glob(f"{artifact_swap.OWN}*")}

    def live(self) -> dict[str, bytes]:
        paths = [self.database, *(path for path in self.artifacts.rglob("*") if path.is_file())]
        return {str(path): path.read_bytes() for path in paths}


def quiet(_sentence: str) -> None:
    """Nobody listens."""


@pytest.fixture
def settings(ground: Path) -> Settings:
    (ground / "password").write_text("correct horse battery staple")
    return Settings.layered(
        {
            "backend_store": {"uri": f"sqlite:///{ground}/backend/mlflow.db"},
            "artifact_store": {"uri": f"{ground}/artifacts"},
            "backup": {"repository": f"{ground}/repository", "password": f"file:{ground}/password"},
            "disk": {"require_free": "0"},
        }
    )


@pytest.fixture
def source(ground: Path, who: Identity, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Stores with something in them."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(ground))
    for path in (ground / "state", ground / "state/state", ground / "backend", ground / "artifacts"):
        path.mkdir(mode=0o700)
    databases.make(ground / "backend" / "mlflow.db")
    write(ground / "artifacts", FILES)
    (ground / "mlflowd.toml").write_text("# as it was\n")
    secrets = Secrets({"backup.password": (ground / "password").read_text()})
    return Source(settings, secrets, ground / "state", who, ground / "mlflowd.toml")


@pytest.fixture
def world(ground: Path, source: Source) -> World:
    state, artifacts, database = source.state, ground / "artifacts", ground / "backend" / "mlflow.db"
    staging = state / STAGING
    copy = Databases(source.settings, source.secrets, state, source.who).take(staging, quiet)
    counts = manifest.counts(copy, staging)
    told = Manifest("2026-11-20T21:00:00Z", "host", "0.1.0", "3.17.2", REFERENCE, "", copy, str(artifacts), counts)
    write(staging, {"manifest.json": told.text(), "mlflowd.toml": "# as it was\n"})
    shelf = Shelf(ground / "shelf")
    shelf.save(staging, artifacts)
    snapshot = Snapshot("1a2b3c4d" * 8, datetime(2026, 11, 20, 21, tzinfo=UTC), "host", (str(staging), str(artifacts)))
    shutil.rmtree(staging)
    return World(source.settings, state, source.who, artifacts, database, shelf, Backup(snapshot, told))


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def held(directory: Path) -> dict[str, str]:
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_text() for path in found}


def damage(repository: Path) -> None:
    """Overwrite the middle of every pack file."""
    for pack in (repository / "data").rglob("*"):
        if pack.is_file():
            pack.chmod(0o600)
            with pack.open("r+b") as file:
                file.seek(pack.stat().st_size // 3)
                file.write(b"\0" * 64)


# --- restic itself ----------------------------------------------------------------------------------


@needs_restic
def test_what_restic_kept_comes_back_and_once_it_is_damaged_nothing_stays(source: Source, ground: Path) -> None:
    create(source, quiet)
    with restic.opened(source.settings.backup, source.secrets, source.state, quiet) as door:
        backup = Backups(door, source.state, RecordFile(source.state, source.who)).chosen()
        rehearse.rehearse(door, backup, ground / "good", quiet)
        assert held(ground / "good" / "artifacts") == FILES
        damage(ground / "repository")
        with pytest.raises(DamagedRepositoryError, match=backup.snapshot.short):
            rehearse.rehearse(door, backup, ground / "bad", quiet)
    assert not (ground / "bad").exists()


@needs_restic
def test_a_path_with_a_pattern_s_characters_means_itself(source: Source, ground: Path) -> None:
    odd = ground / "odd[1]*"
    write(odd, {"a": "odd"})
    write(ground / "odd1x", {"a": "another"})
    with restic.opened(source.settings.backup, source.secrets, source.state, quiet) as door:
        door.make()
        added = door.save([odd, ground / "odd1x"], [])
        snapshot = next(one for one in door.snapshots() if one.id == added.snapshot)
        unpack.take(door, Backup(snapshot, None), str(odd), ground / "taken")
    assert held(ground / "taken") == {"a": "odd"}


# --- into a directory -------------------------------------------------------------------------------


def test_a_rehearsal_lays_out_databases_artifacts_manifest_and_configuration(world: World, ground: Path) -> None:
    found = rehearse.rehearse(world.door, world.backup, ground / "out" / "there", quiet)
    assert {path.name for path in (ground / "out" / "there").iterdir()} == {
        *("database", "artifacts", "manifest.json", "mlflowd.toml")
    }
    assert held(ground / "out" / "there" / "artifacts") == FILES
    assert [path.name for path in (ground / "out" / "there" / "database").iterdir()] == ["backend.db"]
    assert found.files == len(FILES)
    assert found.differing == ()


def test_a_directory_that_holds_something_is_refused_and_left(world: World, ground: Path) -> None:
    write(ground / "out", {"mine": "kept"})
    with pytest.raises(RefusedError, match="is not empty"):
        rehearse.rehearse(world.door, world.backup, ground / "out", quiet)
    assert held(ground / "out") == {"mine": "kept"}


def test_of_a_damaged_backup_nothing_stays_and_it_is_named(world: World, ground: Path) -> None:
    before = world.live()
    world.shelf.damaged = True
    with pytest.raises(DamagedRepositoryError, match="1a2b3c4d of 2026-11-20") as caught:
        rehearse.rehearse(world.door, world.backup, ground / "out", quiet)
    assert caught.value.exit_status is ExitStatus.REFUSED
    assert not (ground / "out").exists()
    assert world.live() == before


def test_too_little_room_is_named_before_anything_is_restored(
    world: World, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearly_full(monkeypatch)
    with pytest.raises(RefusedError, match=r"needs .* bytes left"):
        rehearse.rehearse(world.door, world.backup, ground / "out", quiet)
    assert not (ground / "out").exists()


def nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    real = disk.space
    monkeypatch.setattr(disk, "space", lambda path: replace(real(path), free=10))


def test_rows_that_refer_to_nothing_are_damage(ground: Path) -> None:
    path = ground / "lost.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE experiments (id INTEGER PRIMARY KEY);"
            "CREATE TABLE runs (id INTEGER, of INTEGER REFERENCES experiments (id));"
            "INSERT INTO runs VALUES (1, 7)"
        )
    assert "rows of runs that belong to rows of experiments" in rehearse.sound(path)


# --- in place ---------------------------------------------------------------------------------------


def test_staging_writes_beside_today_s_data_and_the_transaction_last(world: World) -> None:
    before = world.live()
    transaction = world.stage()
    staged = artifact_swap.staged_in(world.artifacts, transaction.id)
    assert held(staged) == FILES
    assert transaction.staged_artifacts == str(staged)
    assert (transaction.kind, transaction.step) == (Change.RESTORE, Step.READY)
    assert world.restore().ledger.pending() == transaction
    assert transaction.staged is not None
    assert [part.store for part in transaction.staged.parts] == ["backend"]
    assert (world.restore().ledger.directory(transaction.id) / "staged" / "backend.db").exists()
    assert {path: data for path, data in world.live().items() if path in before} == before


def test_a_damaged_backup_leaves_nothing_and_no_transaction(world: World) -> None:
    before = world.live()
    world.shelf.damaged = True
    with pytest.raises(DamagedRepositoryError, match="1a2b3c4d of 2026-11-20"):
        world.stage()
    assert world.restore().ledger.pending() is None
    assert world.left() == set()
    assert world.live() == before


def test_a_database_that_is_not_what_was_written_is_damage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = unpack.take

    def flipping(door: Restic, backup: Backup, path: str, target: Path) -> None:
        real(door, backup, path, target)
        if (copy := target / "backend.db").exists():
            copy.write_bytes(copy.read_bytes()[:-1] + b"!")

    monkeypatch.setattr("mlflowd.operations.backup.restore.take", flipping)
    with pytest.raises(DamagedRepositoryError, match="not what was written"):
        world.stage()
    assert world.left() == set()


def test_an_interruption_leaves_nothing(world: World) -> None:
    def interrupt(sentence: str) -> None:
        if sentence == "restoring the artifacts":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.stage(interrupt)
    assert world.restore().ledger.pending() is None
    assert world.left() == set()


def test_what_a_killed_restore_left_is_swept_by_the_next_one(world: World) -> None:
    write(world.artifacts / ".mlflowd-restore-20260101T000000Z", {"1/x": "left"})
    write(world.artifacts / ".mlflowd-restore-20260101T000000Z.nest", {"srv/x": "left"})
    write(world.state / "transactions" / "20260101T000000Z" / "staged", {"backend.db": "left"})
    write(world.state / "transactions" / "20260101T000000Z" / "staged.nest", {"var/x": "left"})
    transaction = world.stage()
    assert world.left() == {transaction.id, f".mlflowd-restore-{transaction.id}"}


def test_what_an_earlier_restore_set_aside_stays(world: World) -> None:
    ledger = world.restore().ledger
    ledger.end(Outcome("20260101T000000Z", Change.RESTORE, True, "", "done", "", 1.0, ""))
    write(world.state / "transactions" / "20260101T000000Z" / "before", {"backend.db": "of before"})
    write(world.state / "transactions" / "20260101T000000Z" / "staged", {"backend.db": "its command was killed"})
    write(world.artifacts / ".mlflowd-aside-20260101T000000Z", {"1/x": "of before"})
    world.stage()
    assert world.left() >= {"20260101T000000Z", ".mlflowd-aside-20260101T000000Z"}
    assert held(world.state / "transactions" / "20260101T000000Z") == {"before/backend.db": "of before"}


def test_a_transaction_that_is_under_way_is_refused(world: World) -> None:
    world.restore().ledger.begin(new(Change.UPGRADE))
    with pytest.raises(RefusedError, match="is not finished"):
        world.stage()
    assert world.left() == set()


def test_too_little_room_for_staging_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    nearly_full(monkeypatch)
    with pytest.raises(RefusedError, match="The restore needs"):
        world.stage()
    assert world.left() == set()


def test_after_the_end_nothing_of_the_staged_data_stays(world: World) -> None:
    transaction = world.stage()
    world.restore().settled(transaction)
    assert world.left() == {transaction.id}
    assert not (world.restore().ledger.directory(transaction.id) / "staged").exists()


# --- what fits --------------------------------------------------------------------------------------


def able(*revisions: str) -> Abilities:
    return Abilities("3.10.1", "3.11", False, False, frozenset(), revisions=revisions, head=revisions[-1])


def described(world: World, **changes: object) -> Backup:
    told: Manifest = replace(unpack.manifest_of(world.backup), **changes)  # type: ignore[arg-type]  # a test's own
    return replace(world.backup, manifest=told)


def test_a_newer_schema_is_refused_with_the_image_to_set(world: World) -> None:
    with pytest.raises(RefusedError, match="is newer") as caught:
        fitting.check_schema(described(world), able("1b5f0d9ad7c1"))
    assert "image.reference" in caught.value.hint


def test_an_older_or_equal_schema_and_an_unknown_image_pass(world: World) -> None:
    for knows in (able(*KNOWN), able(*KNOWN, "f00dfeed0001"), None):
        fitting.check_schema(described(world), knows)


def test_a_dump_does_not_go_into_a_file(world: World) -> None:
    part = Part("backend", Kind.POSTGRESQL, "backend.dump", 1, "", databases.REVISION)
    with pytest.raises(RefusedError, match="of a postgresql database"):
        fitting.parts(described(world, copy=Copy((part,))), world.settings)


def test_a_backup_without_a_database_is_refused(world: World) -> None:
    with pytest.raises(RefusedError, match="holds no database"):
        fitting.parts(described(world, copy=Copy()), world.settings)


def test_users_are_restored_where_there_is_a_login_alone(world: World) -> None:
    backup = described(world)
    users = Part("login", Kind.SQLITE, "login.db", 1, "", "")
    both = replace(backup, manifest=replace(unpack.manifest_of(backup), copy=Copy((*copy_of(backup).parts, users))))
    assert [part.store for part in fitting.parts(both, world.settings).parts] == ["backend"]
    login = world.settings.login.model_copy(update={"enabled": True})
    with_login = world.settings.model_copy(update={"login": login})
    assert [part.store for part in fitting.parts(both, with_login).parts] == ["backend", "login"]


def copy_of(backup: Backup) -> Copy:
    return unpack.manifest_of(backup).copy


def test_artifacts_of_a_directory_do_not_go_to_an_object_store(world: World) -> None:
    store = world.settings.artifact_store.model_copy(update={"uri": "s3://bucket/mlflow"})
    settings = world.settings.model_copy(update={"artifact_store": store})
    with pytest.raises(RefusedError, match="names no directory"):
        fitting.check_artifacts(described(world), settings, world.who)


def test_a_backup_without_artifacts_does_not_go_over_a_directory(world: World) -> None:
    with pytest.raises(RefusedError, match="holds no artifacts"):
        fitting.check_artifacts(described(world, artifacts=""), world.settings, world.who)


def test_a_backup_that_must_not_be_restored_has_no_manifest(world: World) -> None:
    with pytest.raises(MlflowdError, match="its data are damaged"):
        unpack.manifest_of(replace(described(world), wrong="its data are damaged"))


def test_the_manifest_lies_beside_what_a_rehearsal_brings(world: World, ground: Path) -> None:
    rehearse.rehearse(world.door, world.backup, ground / "out", quiet)
    assert json.loads((ground / "out" / "manifest.json").read_text())["artifacts"] == str(world.artifacts)
