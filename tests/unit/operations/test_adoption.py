"""An adoption, cut at every effect that it has: what was there is there again after the undo, byte for byte."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.operations.adoption import carry_out, owners, rescue, transfer
from mlflowd.operations.adoption.plan import Do, Plan
from mlflowd.operations.adoption.undo import undo
from mlflowd.operations.adoption.written import Adoption, Book, Kind
from unit.operations.adoption_ground import ROOT, Ground, build
from unit.operations.adoption_ground import ground as make_ground

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflowd.host.paths import Identity

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="adopting is root's")
EFFECTS: tuple[tuple[Any, str], ...] = (
    *((os, name) for name in ("fsync", "chown", "link")),
    *((Path, name) for name in ("rename", "replace", "mkdir", "unlink", "chmod", "symlink_to", "rmdir")),
)


class Cut(BaseException):
    """The machine stops here."""


class Cutter:
    """Counts effects and stops at the one that is asked for, before it or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.after = False
        monkeypatch.setattr(os, "fsync", lambda _: None)  # counted, but not waited for
        for of, name in EFFECTS:
            monkeypatch.setattr(of, name, self._counting(getattr(of, name)))

    def _counting(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*words: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise Cut
            done = effect(*words, **named)
            if self.left == 0:
                raise Cut
            return done

        return counted

    @contextmanager
    def at(self, number: int, *, after: bool) -> Iterator[None]:
        self.left, self.after = number, after
        try:
            yield
        finally:
            self.left = -1


@pytest.fixture(autouse=True)
def _toml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "toml", property(lambda _: "# new\n"))


@pytest.fixture
def machine(ground: Path, other: Identity) -> Ground:
    return make_ground(ground, other)


@pytest.fixture
def own(who: Identity) -> Iterator[Ground]:
    """The same for this user, so that a cut hits each step; in memory, because it is done often."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        yield make_ground(Path(place), who)


def adopt(machine: Ground, plan: Plan) -> None:
    work = machine.work(plan)
    carry_out.begin(work)
    carry_out.carry_out(work)
    carry_out.start(work, "mlflowd")


def difference(before: Any, after: Any) -> dict[str, Any]:
    different = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    own = ("/state/adoption", "/state/state/.adoption.json.new")  # what is left of its own is no change
    return {key: (before.get(key), after.get(key)) for key in sorted(different) if not any(one in key for one in own)}


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_data_move_whole_and_the_originals_stay(machine: Ground) -> None:
    original = (machine.project / "mlflow.db").read_bytes()
    adopt(machine, machine.plan())
    database = machine.state / "backend" / "mlflow.db"
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]
    assert rows(database, "SELECT count(*) FROM filler WHERE text LIKE 'torn%'") == [(0,)]
    assert rows(database, "SELECT name FROM experiments") == [("Default",), ("one",), ("new",)]
    assert (machine.project / "mlflow.db").read_bytes() == original
    old = machine.deployed()
    assert (old.name, old.restart_policy, old.up) == ("tracking-before-mlflowd", "no", False)
    moved = machine.state / "artifacts/1/bb/artifacts/data.bin"
    assert moved.stat().st_mode & 0o777 == 0o600
    assert moved.stat().st_uid == machine.who.uid
    assert (machine.config).read_text() == "# new\n"
    assert machine.config.with_name("mlflowd.toml.before-adopt").read_text() == "# the former one\n"


def test_without_the_journal_from_inside_the_same_database_is_malformed_or_torn(machine: Ground) -> None:
    """What the rescue is for: the premise of the test above."""
    database = machine.project / "mlflow.db"
    torn = rows(database, "SELECT count(*) FROM filler WHERE text LIKE 'torn%'")
    broken = rows(database, "PRAGMA integrity_check") != [("ok",)]
    assert broken or torn != [(0,)]


def test_every_column_that_holds_a_server_path_is_rewritten(machine: Ground) -> None:
    adopt(machine, machine.plan())
    database = machine.state / "backend" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        dump = "\n".join(connection.iterdump())
    left = [line for line in dump.splitlines() if ROOT in line]
    assert len(left) == 1, left
    assert "'note'" in left[0]  # what a person wrote stays
    assert rows(database, "SELECT artifact_uri FROM runs ORDER BY run_uuid") == [
        ("mlflow-artifacts:/1/aa/artifacts",),
        ("mlflow-artifacts:/1/bb/artifacts",),
        ("mlflow-artifacts:/2/cc/artifacts",),
    ]
    assert rows(database, "SELECT source FROM model_versions ORDER BY version") == [
        ("models:/m-1",),
        ("mlflow-artifacts:/1/aa/artifacts/model",),
    ]


def test_data_that_stay_are_not_written_to_either(machine: Ground) -> None:
    data = machine.project / "data"
    original, journal = (data / "mlflow.db").read_bytes(), (data / "mlflow.db-journal").read_bytes()
    adopt(machine, machine.plan(reference=True))
    assert (data / "mlflow.db-before-mlflowd").read_bytes() == original
    assert (data / "mlflow.db-before-mlflowd-journal").read_bytes() == journal
    assert rows(data / "mlflow.db", "SELECT count(*) FROM filler WHERE text LIKE 'torn%'") == [(0,)]
    assert data.stat().st_mode & 0o777 == 0o700
    assert (machine.project / "mlruns/1/aa/artifacts/plot.png").exists()


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_cut_at_any_effect_is_undone(
    own: Ground, monkeypatch: pytest.MonkeyPatch, *, reference: bool, after: bool
) -> None:
    machine = own
    cutter, before = Cutter(monkeypatch), machine.looks()
    number, done = 0, False
    while not done:
        number += 1
        with contextlib.suppress(Cut, MlflowdError, OSError), cutter.at(number, after=after):
            adopt(machine, machine.plan(reference=reference))
            done = True  # in a process of the service user's, a cut is an error of its parent's
        undo(machine.tools())
        assert difference(before, machine.looks()) == {}, f"cut {number}"
        assert Book(machine.state).pending() is None
    assert number > 40


def test_an_undo_that_is_cut_at_any_effect_is_undone_by_the_next(own: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = own
    cutter, before = Cutter(monkeypatch), machine.looks()
    number, done = 0, False
    while not done:
        number += 1
        adopt(machine, machine.plan())
        with contextlib.suppress(Cut, MlflowdError, OSError), cutter.at(number, after=number % 2 == 0):
            undo(machine.tools())
            done = True
        undo(machine.tools())
        assert difference(before, machine.looks()) == {}, f"cut {number}"
    assert number > 30


def test_an_engine_that_fails_in_the_middle_is_undone(machine: Ground) -> None:
    before = machine.looks()
    for method in ("stop", "retire", "copy_out"):
        machine.engine.fail(method, MlflowdError("The engine is gone."))
        with pytest.raises(MlflowdError, match="The engine is gone"):
            adopt(machine, machine.plan())
        undo(machine.tools())
        assert difference(before, machine.looks()) == {}, method


def test_what_the_new_server_was_given_is_kept_by_the_undo(machine: Ground) -> None:
    adopt(machine, machine.plan())
    database = machine.state / "backend" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO experiments VALUES (7, 'late', 'mlflow-artifacts:/7', 'active', 9)")
    late = machine.state / "artifacts/1/aa/artifacts/late.txt"
    late.write_text("late")
    kept = undo(machine.tools())
    assert kept
    assert rows(kept / "mlflow.db", "SELECT name FROM experiments WHERE experiment_id = 7") == [("late",)]
    assert (machine.project / "mlruns/1/aa/artifacts/late.txt").read_text() == "late"


def test_artifacts_on_another_file_system_are_copied_and_compared(
    machine: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "renamable", lambda source, _: source.name != "mlruns")
    before = machine.looks()
    adopt(machine, machine.plan())
    assert (
        difference(
            {key: look for key, look in before.items() if "/mlruns" in key},
            {key: look for key, look in machine.looks().items() if "/mlruns" in key},
        )
        == {}
    )
    copy = machine.state / "artifacts"
    for path in (machine.project / "mlruns").rglob("*"):
        there = copy / path.relative_to(machine.project / "mlruns")
        assert there.is_symlink() == path.is_symlink()
        assert there.is_dir() or there.read_bytes() == path.read_bytes()
    late = copy / "1/aa/artifacts/late.txt"
    late.write_text("late")
    undo(machine.tools())
    found = difference(before, machine.looks())
    assert list(found) == [str(machine.project / "mlruns/1/aa/artifacts/late.txt")]


def test_a_name_that_both_directories_have_is_refused(machine: Ground) -> None:
    (machine.state / "artifacts" / "1").mkdir(parents=True)
    with pytest.raises(RefusedError, match="has 1 already"):
        adopt(machine, machine.plan())


def test_journals_both_inside_and_beside_are_refused(machine: Ground) -> None:
    (machine.project / "mlflow.db-journal").write_bytes(b"x" * 600)
    with pytest.raises(RefusedError, match="only one can be right"):
        adopt(machine, machine.plan())


def test_a_damaged_database_is_refused(machine: Ground) -> None:
    machine.engine.inside.clear()
    database = machine.project / "mlflow.db"
    database.unlink()
    build(database)
    with database.open("r+b") as stream:
        stream.seek(8192)
        stream.write(os.urandom(4096))
    with pytest.raises(RefusedError, match="damaged"):
        adopt(machine, machine.plan())


def test_a_second_adoption_is_refused_while_one_is_under_way(machine: Ground) -> None:
    carry_out.begin(machine.work(machine.plan()))
    with pytest.raises(RefusedError, match="is not finished"):
        carry_out.begin(machine.work(machine.plan()))


def test_a_book_that_others_wrote_is_refused(machine: Ground) -> None:
    book = Book(machine.state)
    book.begin(Adoption("1", "tracking", str(machine.config)))
    os.chown(book.path, machine.who.uid, machine.who.gid)
    with pytest.raises(RefusedError, match="PermissionError"):
        book.pending()


def test_a_record_of_owners_that_others_wrote_is_refused(ground: Path, other: Identity) -> None:
    record = ground / "record"
    owners.give([ground / "nothing"] if (ground / "nothing").exists() else [], other, record)
    os.chown(record, other.uid, other.gid)
    with pytest.raises(MlflowdError, match="own"):
        owners.give_back(record)


def test_a_file_that_has_a_name_elsewhere_is_left_alone(ground: Path, other: Identity) -> None:
    tree = ground / "tree"
    tree.mkdir()
    outside = ground / "shadow"
    outside.write_text("secret")
    os.link(outside, tree / "trap")
    (tree / "link").symlink_to(outside)
    (tree / "one").write_text("1")
    os.link(tree / "one", tree / "same")
    given = owners.give([tree], other, ground / "record")
    assert (given.changed, given.left) == (2, 1)
    assert outside.stat().st_uid == 0
    assert (tree / "one").stat().st_uid == other.uid
    owners.give_back(ground / "record")
    assert (tree / "same").stat().st_uid == tree.stat().st_uid == 0


def test_rows_of_a_database_server_are_rewritten_with_the_configuration(machine: Ground) -> None:
    plan = machine.plan()
    remote = dataclasses.replace(plan, database=None)
    order = [step.do for step in carry_out.ordered(remote)]
    assert order.index(Do.CONFIGURE) < order.index(Do.REWRITE) < order.index(Do.START)
    assert carry_out.ordered(plan) == plan.steps


def test_a_step_is_written_down_before_it_is_taken(machine: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    work = machine.work(machine.plan())
    carry_out.begin(work)
    seen: list[tuple[str, bool]] = []
    stop = machine.engine.stop

    def look(container_id: str, grace: float) -> None:
        pending = machine.tools().book.pending()
        seen.append(("stop", bool(pending and pending.steps[-1].kind is Kind.CONTAINER)))
        stop(container_id, grace)

    monkeypatch.setattr(machine.engine, "stop", look)
    carry_out.carry_out(work)
    assert seen == [("stop", True)]


def test_settling_a_copy_takes_a_wal_in(ground: Path, other: Identity) -> None:
    source, target = ground / "a.db", ground / "copy" / "a.db"
    connection = sqlite3.connect(source)
    connection.execute("PRAGMA journal_mode = wal")
    connection.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1);")
    target.parent.mkdir()
    os.chown(target.parent, other.uid, other.gid)
    for side in ("", "-wal"):
        transfer.copy_file(Path(f"{source}{side}"), Path(f"{target}{side}"), other)
    connection.close()
    rescue.settle(target, other)
    assert [each.name for each in target.parent.iterdir()] == ["a.db"]
    assert rows(target, "SELECT x FROM t") == [(1,)]
