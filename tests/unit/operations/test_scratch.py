from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fakes import databases as made
from mlflowd.config import Settings
from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.model import Image, Secrets
from mlflowd.operations import copies, scratch
from mlflowd.operations.copies import Copy, Databases, Kind, Part
from mlflowd.server import command
from mlflowd.server.abilities import Abilities
from mlflowd.server.wiring import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity
    from mlflowd.model import ContainerSpec

ABLE = Abilities("3.17.2", "3.13", True, True, frozenset({"psycopg2-binary"}))
LOGIN = {"enabled": True, "admin_password": "credential:x"}
SECRETS = Secrets({"login.admin_password": "correct-horse-battery", "login.secret_key": "k"})


class Trial:
    """A configuration with its databases in `ground`, and a copy of them in ground/copy."""

    def __init__(self, ground: Path, who: Identity, **sections: Any) -> None:
        self.ground, self.directory = ground, ground / "copy"
        for name in ("backend", "artifacts", "login"):
            (ground / name).mkdir()
        made.make(ground / "backend" / "runs.db")
        made.make(ground / "login" / "basic_auth.db")
        stores = {
            "backend_store": {"uri": f"sqlite:///{ground}/backend/runs.db"},
            "artifact_store": {"uri": str(ground / "artifacts")},
        }
        self.settings = Settings.model_validate(stores | sections)
        self.databases = Databases(self.settings, SECRETS, ground, who)
        machine = Machine(who.uid, who.gid, state=str(ground), private=str(ground / "private"))
        self.spec = command.container_spec(self.settings, Image("sha256:0", (), {}), ABLE, machine, SECRETS)

    def copy(self) -> Copy:
        return self.databases.take(self.directory, lambda _: None)


def mounted(spec: ContainerSpec) -> dict[str, str]:
    return {mount.target: mount.source for mount in spec.mounts}


def change(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'changed'")


def test_the_container_has_the_copy_alone_and_nothing_stays(ground: Path, who: Identity) -> None:
    trial = Trial(ground, who, login=LOGIN)
    before = (ground / "backend" / "runs.db").read_bytes()
    copy = trial.copy()
    with scratch.scratch(trial.databases, copy, trial.directory, trial.spec) as like:
        at = mounted(like)
        assert {target: source for target, source in at.items() if not source.startswith(f"{trial.directory}/")} == {}
        assert (trial.directory / "scratch" / "artifacts").is_dir()
        assert scratch.database(trial.databases, trial.directory) == trial.directory / "scratch" / "backend" / "runs.db"
        change(f"{at['/mlflow/backend']}/runs.db")
        change(f"{at['/mlflow/login']}/basic_auth.db")
        assert "admin_password" in (trial.directory / "scratch" / "private" / "basic_auth.ini").read_text()
        assert (like.environment, like.user, like.network) == (
            trial.spec.environment,
            trial.spec.user,
            trial.spec.network,
        )
    assert not (trial.directory / "scratch").exists()
    assert (ground / "backend" / "runs.db").read_bytes() == before
    assert trial.databases.wrong(copy, trial.directory) == "", "the parts are what they were"


def test_a_copy_that_may_be_used_up_takes_no_room_twice(ground: Path, who: Identity) -> None:
    trial = Trial(ground, who)
    copy = trial.copy()
    with scratch.scratch(trial.databases, copy, trial.directory, trial.spec, keep=False):
        assert not (trial.directory / "backend.db").exists()
    assert list(trial.directory.iterdir()) == []


def test_given_artifacts_are_mounted(ground: Path, who: Identity) -> None:
    trial = Trial(ground, who)
    artifacts = ground / "restored"
    with scratch.scratch(trial.databases, trial.copy(), trial.directory, trial.spec, artifacts) as like:
        assert mounted(like)["/mlflow/artifacts"] == str(artifacts)


def test_what_was_left_by_one_that_was_killed_is_removed_first_and_a_failure_leaves_nothing(
    ground: Path, who: Identity
) -> None:
    trial = Trial(ground, who)
    copy = trial.copy()
    old = trial.directory / "scratch" / "backend" / "runs.db-wal"
    old.parent.mkdir(parents=True)
    old.write_text("of another database")

    def fail() -> None:
        with scratch.scratch(trial.databases, copy, trial.directory, trial.spec):
            assert not old.exists()
            raise MlflowdError("in the middle")

    with pytest.raises(MlflowdError, match="in the middle"):
        fail()
    assert not (trial.directory / "scratch").exists()


def test_without_a_database_the_container_begins_with_none(ground: Path, who: Identity) -> None:
    trial = Trial(ground, who)
    trial.directory.mkdir()
    with scratch.scratch(trial.databases, Copy(), trial.directory, trial.spec) as like:
        assert not (trial.directory / "scratch" / "backend" / "runs.db").exists()
        assert mounted(like)["/mlflow/backend"] == str(trial.directory / "scratch" / "backend")


@pytest.mark.parametrize(
    ("uri", "kind"), [("postgresql://m@db1/m", Kind.SQLITE), ("", Kind.POSTGRESQL), ("mysql://m@db1/m", None)]
)
def test_a_copy_of_another_kind_of_database_is_refused(
    ground: Path, who: Identity, uri: str, kind: Kind | None
) -> None:
    trial = Trial(ground, who, **({"backend_store": {"uri": uri}} if uri else {}))
    parts = (Part(copies.BACKEND, kind, "backend.db", 1, "", ""),) if kind else ()
    trial.directory.mkdir()
    with (
        pytest.raises(RefusedError, match=r"backend_store\.uri does not name"),
        scratch.scratch(trial.databases, Copy(parts), trial.directory, trial.spec),
    ):
        pass
    assert list(trial.directory.iterdir()) == []


def test_a_server_s_copy_is_tried_in_a_database_of_its_own(
    ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    @contextmanager
    def server(_databases: Databases, part: Part, path: Path, uri: str) -> Any:
        events.append(f"{part.kind} {path.name} {uri.partition('?')[0]}")
        yield uri.replace("/m?", "/mlflowd_scratch_1?")
        events.append("dropped")

    monkeypatch.setattr("mlflowd.operations.dumps.scratch_database", server)
    trial = Trial(ground, who, backend_store={"uri": "postgresql://m@db1/m"})
    copy = Copy((Part(copies.BACKEND, Kind.POSTGRESQL, "backend.dump", 1, "", "a1"),))
    trial.directory.mkdir()
    with scratch.scratch(trial.databases, copy, trial.directory, trial.spec) as like:
        assert "/mlflowd_scratch_1?" in dict(like.environment)["MLFLOW_BACKEND_STORE_URI"]
        assert scratch.database(trial.databases, trial.directory) is None
    assert events == ["postgresql backend.dump postgresql+psycopg2://m@db1/m", "dropped"]
