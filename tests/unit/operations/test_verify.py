"""A backup tried out: what is damaged is marked, and nothing stays of a trial, this one's or a killed one's.

MLflow itself is tried in tests/e2e/test_restore.py; here its part ends before it begins.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest

from contract.worlds import a_spec
from fakes import databases
from fakes.engine import FakeEngine
from mlflowd.config import Settings
from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import restic
from mlflowd.host.occupation import OccupiedError, occupied
from mlflowd.host.restic import DamagedRepositoryError, Restic, Snapshot
from mlflowd.model import Image, Secrets
from mlflowd.operations.backup import verify
from mlflowd.operations.backup.create import Source
from mlflowd.operations.backup.manifest import Manifest
from mlflowd.operations.backup.record import RecordFile
from mlflowd.operations.backup.repository import Backup, Backups
from mlflowd.operations.copies import Databases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mlflowd.host.paths import Identity

ID = "1a2b3c4d" * 8
NAME = "mlflowd-verify"


class Shelf:
    """Stands for restic: the backup's databases as plain files."""

    where = "the shelf"

    def __init__(self, staging: Path, kept: Path) -> None:
        self.staging, self.kept = staging, kept

    def size(self, _snapshot: str) -> int:
        return 1

    def restore(self, _snapshot: str, target: Path, include: Sequence[str] = ()) -> None:
        assert list(include) == [str(self.staging)]
        shutil.copytree(self.kept, target / str(self.staging).lstrip("/"))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(fake, "close", lambda: None)
    monkeypatch.setattr(verify, "DockerEngine", lambda *_: fake)
    return fake


@pytest.fixture
def source(ground: Path, who: Identity) -> Source:
    (ground / "state" / "state").mkdir(parents=True, mode=0o700)
    databases.make(ground / "backend" / "mlflow.db")
    (ground / "password").write_text("a password")
    settings = Settings.layered(
        {
            "backend_store": {"uri": f"sqlite:///{ground}/backend/mlflow.db"},
            "backup": {"repository": "/nowhere", "password": f"file:{ground}/password"},
        }
    )
    return Source(settings, Secrets({}), ground / "state", who, ground / "mlflowd.toml")


@pytest.fixture
def shelf(source: Source, ground: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    staging = source.state / "backup" / "staging"
    copy = Databases(source.settings, source.secrets, source.state, source.who).take(ground / "kept", lambda _: None)
    backup = Backup(
        Snapshot(ID, datetime(2026, 11, 20, 21, tzinfo=UTC), "host", (str(staging),)),
        Manifest("", "host", "0.1.0", "3.17.2", "image", "", copy, ""),
    )
    shelf = Shelf(staging, ground / "kept")

    @contextmanager
    def opened(*_: object) -> Iterator[Restic]:
        yield cast("Restic", shelf)

    monkeypatch.setattr(restic, "opened", opened)
    monkeypatch.setattr(Backups, "chosen", lambda *_: backup)
    return shelf


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], None]:
    """Decide how the trial with MLflow ends."""

    def ends(error: Exception | None) -> None:
        def run(_trial: object) -> None:
            if error:
                raise error

        monkeypatch.setattr(verify._Trial, "run", run)  # noqa: SLF001 - where MLflow's part begins

    return ends


def left(source: Source) -> list[str]:
    return sorted(path.name for path in (source.state / "backup").iterdir())


def run(source: Source) -> None:
    (source.state / "backup").mkdir(exist_ok=True)
    verify.verify(source, "", lambda _: None)


@pytest.mark.usefixtures("engine", "shelf")
def test_a_good_backup_is_recorded_and_nothing_stays(source: Source, serving: Callable[..., None]) -> None:
    serving(None)
    run(source)
    record = RecordFile(source.state, source.who).read()
    assert record.last_verify is not None
    assert record.last_verify.snapshot == "1a2b3c4d"
    assert record.bad == {}
    assert left(source) == []


@pytest.mark.usefixtures("engine", "shelf")
def test_a_backup_that_reads_otherwise_is_marked_bad(source: Source, serving: Callable[..., None]) -> None:
    serving(DamagedRepositoryError("It shows 1 runs in place of 3."))
    with pytest.raises(DamagedRepositoryError):
        run(source)
    record = RecordFile(source.state, source.who).read()
    assert list(record.bad) == [ID]
    assert record.last_failure is not None
    assert (record.last_failure.what, record.last_failure.damaged) == ("verification", True)
    assert left(source) == []


@pytest.mark.usefixtures("engine", "shelf")
def test_a_trial_that_could_not_be_held_marks_nothing_bad(source: Source, serving: Callable[..., None]) -> None:
    serving(RefusedError("MLflow ended on what was restored."))
    with pytest.raises(RefusedError):
        run(source)
    record = RecordFile(source.state, source.who).read()
    assert record.bad == {}
    assert record.last_failure is not None
    assert left(source) == []


@pytest.mark.usefixtures("engine")
def test_a_database_that_is_not_what_was_written_is_damage(source: Source, shelf: Shelf) -> None:
    copy = shelf.kept / "backend.db"
    copy.write_bytes(copy.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedRepositoryError, match="1a2b3c4d of 2026-11-20 21:00 UTC is damaged"):
        run(source)
    assert list(RecordFile(source.state, source.who).read().bad) == [ID]


@pytest.mark.usefixtures("shelf")
def test_what_a_killed_trial_left_is_removed_and_another_s_container_is_not(
    source: Source, engine: FakeEngine, serving: Callable[..., None]
) -> None:
    serving(None)
    image = engine.add_image(Image("sha256:1", ("image",), {}))
    engine.start(engine.create(replace(a_spec("any", image.id, 5000), name=NAME)))
    (source.state / "backup" / "verify").mkdir(parents=True)
    (source.state / "backup" / "verify" / "backend.db").write_text("left")
    run(source)
    assert engine.inspect(NAME) is None
    assert left(source) == []
    engine.foreign(NAME)
    run(source)
    assert engine.inspect(NAME) is not None


@pytest.mark.usefixtures("engine", "shelf")
def test_without_an_image_that_served_it_is_said(source: Source) -> None:
    with pytest.raises(RefusedError, match="No image has served yet"):
        run(source)


@pytest.mark.usefixtures("engine", "shelf")
def test_beside_another_operation_it_waits_for_its_turn_and_records_nothing(source: Source) -> None:
    with occupied(source.state, "a backup"), pytest.raises(OccupiedError):
        run(source)
    assert RecordFile(source.state, source.who).read().last_failure is None


@pytest.mark.usefixtures("shelf")
def test_an_engine_that_is_away_is_named(source: Source, engine: FakeEngine) -> None:
    engine.unreachable = True
    with pytest.raises(MlflowdError):
        run(source)
