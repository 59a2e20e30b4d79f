"""What will be done, step by step, for either choice; and what the data themselves refuse."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from mlflowd.config import load
from mlflowd.operations.adoption.counts import Counts, Prefix
from mlflowd.operations.adoption.deployment import Deployment, NotUnderstoodError, Place, Where
from mlflowd.operations.adoption.extents import Extent
from mlflowd.operations.adoption.mounts import place
from mlflowd.operations.adoption.plan import Choice, Do, Plan, plan
from unit.operations.adoption.deployments import PLAIN, bind, told, understood

STATE = Path("/var/lib/mlflowd")
MOUNTS = (bind("/srv/mlflow/mlflow.db", "/mlflow/mlflow.db"), bind("/srv/mlflow/mlruns", "/mlflow/mlruns"))
ROOT = replace(
    told("--backend-store-uri", "sqlite:////mlflow/mlflow.db", "--default-artifact-root", "/mlflow/mlruns"),
    mounts=MOUNTS,
)
"""The plain deployment of most guides: the database file mounted alone, artifacts under a server path."""
SOME = Extent(files=3, bytes=1000, loose=2)
ROOTS = Prefix("/mlflow/mlruns", place("/mlflow/mlruns", "/", MOUNTS), "", 9, 7, SOME)
COUNTS = Counts(
    known=True,
    experiments=2,
    runs=5,
    models=1,
    columns=(("experiments.artifact_location", 2), ("runs.artifact_uri", 7)),
    prefixes=(ROOTS,),
    database=Extent(1, 1_000_000, 1),
)
MOVED = {"database": "/var/lib/mlflowd/backend/mlflow.db", "artifacts": "/var/lib/mlflowd/artifacts"}


def planned(
    deployment: Deployment, counts: Counts = COUNTS, choice: Choice = Choice.MOVE, *, rewrite: bool = True
) -> Plan:
    return plan(deployment, counts, choice, rewrite=rewrite, state=STATE)


def refused(deployment: Deployment, counts: Counts, choice: Choice = Choice.MOVE) -> str:
    with pytest.raises(NotUnderstoodError) as caught:
        planned(deployment, counts, choice)
    return "\n".join(" | ".join(each) for each in caught.value.reasons)


def moves(found: Plan) -> list[tuple[str, str]]:
    return [
        (str(each.source and each.source.host), str(each.target)) for each in found.steps if each.do is Do.ARTIFACTS
    ]


# --- steps --------------------------------------------------------------------------------------


def test_the_plain_deployment_is_moved_and_rewritten() -> None:
    found = planned(understood(ROOT))
    kinds = [each.do for each in found.steps]
    assert kinds == [Do.STOP, Do.RETIRE, Do.DATABASE, Do.ARTIFACTS, Do.REWRITE, Do.OWN, Do.CONFIGURE, Do.START]
    assert (str(found.database), str(found.artifacts)) == tuple(MOVED.values())
    assert moves(found) == [("/srv/mlflow/mlruns", MOVED["artifacts"])]
    assert next(each for each in found.steps if each.do is Do.REWRITE).prefixes == (
        ("/mlflow/mlruns", "mlflow-artifacts:"),
    )


def test_steps_are_in_the_order_in_which_they_are_done() -> None:
    order = list(Do)
    kinds = [each.do for each in planned(understood(ROOT)).steps]
    assert kinds == sorted(kinds, key=order.index)


def test_every_step_says_what_it_does_and_how_it_is_undone() -> None:
    for choice in Choice:
        counts = replace(COUNTS, beside=("mlruns",))
        for step in planned(understood(ROOT), counts, choice).steps:
            assert step.sentence.endswith(".")
            assert step.undo.endswith(".")


def test_only_directories_of_experiments_leave_a_root() -> None:
    (step,) = [each for each in planned(understood(ROOT)).steps if each.do is Do.ARTIFACTS]
    assert step.experiments


def test_the_place_of_one_experiment_becomes_its_directory() -> None:
    own = Prefix("/mlflow/mlruns/team", place("/mlflow/mlruns/team", "/", MOUNTS), "7", 2, 1, SOME)
    found = planned(understood(ROOT), replace(COUNTS, prefixes=(own, ROOTS)))
    assert ("/srv/mlflow/mlruns/team", f"{MOVED['artifacts']}/7") in moves(found)
    rewrite = next(each for each in found.steps if each.do is Do.REWRITE)
    assert rewrite.prefixes == (("/mlflow/mlruns/team", "mlflow-artifacts:/7"), ("/mlflow/mlruns", "mlflow-artifacts:"))


def test_a_place_below_the_destination_stays_in_it_and_is_named_by_its_path() -> None:
    """Seen: /mlartifacts was brought as a whole, and a rewrite to the experiment's id lost what lay below by-hand."""
    options = ("--backend-store-uri", "sqlite:////data/mlflow.db", "--artifacts-destination", "/data/artifacts")
    own = Prefix("/data/artifacts/by-hand", place("/data/artifacts/by-hand", "/", PLAIN.mounts), "4", 2, 1, SOME)
    top = Prefix("/data/artifacts", place("/data/artifacts", "/", PLAIN.mounts), "", 2, 1, SOME)
    for choice in Choice:
        counts = replace(COUNTS, prefixes=(own, top), artifacts=SOME, beside=("artifacts",))
        found = planned(understood(told(*options)), counts, choice)
        expected = [] if choice is Choice.REFERENCE else [("/srv/mlflow/artifacts", MOVED["artifacts"])]
        assert moves(found) == expected
        rewrite = next(each for each in found.steps if each.do is Do.REWRITE)
        assert rewrite.prefixes == (
            ("/data/artifacts/by-hand", "mlflow-artifacts:/by-hand"),
            ("/data/artifacts", "mlflow-artifacts:"),
        )


def test_a_place_below_a_root_that_becomes_the_destination_stays_in_it() -> None:
    own = Prefix("/mlflow/mlruns/team", place("/mlflow/mlruns/team", "/", MOUNTS), "7", 2, 1, SOME)
    counts = replace(COUNTS, prefixes=(own, ROOTS), beside=("mlruns",))
    found = planned(understood(ROOT), counts, Choice.REFERENCE)
    assert moves(found) == []
    rewrite = next(each for each in found.steps if each.do is Do.REWRITE)
    assert rewrite.prefixes[0] == ("/mlflow/mlruns/team", "mlflow-artifacts:/team")


def test_without_a_rewrite_paths_and_their_files_stay_and_it_is_said() -> None:
    found = planned(understood(ROOT), rewrite=False)
    assert not {Do.REWRITE, Do.ARTIFACTS} & {each.do for each in found.steps}
    assert any("9 artifact locations stay paths of the old server" in each for each in found.warnings)


def test_where_it_stays_nothing_is_moved() -> None:
    counts = replace(COUNTS, beside=("mlruns",))
    found = planned(understood(ROOT), counts, Choice.REFERENCE)
    assert (str(found.database), str(found.artifacts)) == ("/srv/mlflow/mlflow.db", "/srv/mlflow/mlruns")
    assert moves(found) == []
    database = next(each for each in found.steps if each.do is Do.DATABASE)
    assert database.source
    assert database.source.host == database.target


def test_what_the_proxy_had_is_moved_whole() -> None:
    deployment = understood(PLAIN)
    found = planned(deployment, replace(COUNTS, prefixes=(), columns=(), artifacts=SOME))
    assert moves(found) == [("/srv/mlflow/artifacts", MOVED["artifacts"])]
    (step,) = [each for each in found.steps if each.do is Do.ARTIFACTS]
    assert not step.experiments
    assert Do.REWRITE not in [each.do for each in found.steps]


def test_a_directory_reached_by_two_spellings_is_moved_once() -> None:
    twice = replace(ROOTS, path="mlflow/mlruns")
    assert len(moves(planned(understood(ROOT), replace(COUNTS, prefixes=(ROOTS, twice))))) == 1


def test_a_hot_journal_is_named() -> None:
    found = planned(understood(ROOT), replace(COUNTS, journal=("-journal (inside the container)",)))
    (step,) = [each for each in found.steps if each.do is Do.DATABASE]
    assert "-journal (inside the container): what was not finished is rolled back" in step.sentence


def test_a_file_store_becomes_a_database() -> None:
    container = replace(told("--backend-store-uri", "/mlruns"), mounts=(bind("/srv/mlruns", "/mlruns"),))
    for choice in Choice:
        found = planned(understood(container), replace(COUNTS, prefixes=(), columns=()), choice)
        (step,) = [each for each in found.steps if each.do is Do.FILE_STORE]
        assert (step.source and step.source.host, step.target) == (Path("/srv/mlruns"), Path(MOVED["database"]))


def test_remote_stores_stay_and_need_nothing_but_the_configuration() -> None:
    uris = ("--backend-store-uri", "postgresql://u:secret@db.example/x", "--artifacts-destination", "s3://bucket/x")
    found = planned(understood(told(*uris)), replace(COUNTS, prefixes=(), columns=()))
    assert (found.database, found.artifacts) == (None, None)
    assert [each.do for each in found.steps] == [Do.STOP, Do.RETIRE, Do.CONFIGURE, Do.START]


def test_the_users_of_a_login_come_along() -> None:
    options = ("--backend-store-uri", "sqlite:////data/mlflow.db", "--app-name", "basic-auth")
    container = told(*options, MLFLOW_AUTH_ADMIN_PASSWORD="a-long-password")  # noqa: S106 - a test's
    found = planned(understood(replace(container, working_dir="/data")), replace(COUNTS, prefixes=()))
    (step,) = [each for each in found.steps if each.do is Do.LOGIN]
    assert (step.source and step.source.host, step.target) == (
        Path("/srv/mlflow/basic_auth.db"),
        STATE / "login" / "basic_auth.db",
    )


# --- the configuration, and what is printed -----------------------------------------------------


def test_the_file_is_one_that_mlflowd_takes(tmp_path: Path) -> None:
    environment = {"TZ": "Europe/Berlin", "ODD": 'a "b" \\ é', "API_TOKEN": "secret-one"}
    container = replace(ROOT, environment=environment)
    path = tmp_path / "mlflowd.toml"
    path.write_text(planned(understood(container)).toml)
    settings = load(path, {}).settings
    assert str(settings.backend_store.file) == MOVED["database"]
    assert str(settings.artifact_store.directory) == MOVED["artifacts"]
    assert dict(settings.server.environment) == {"TZ": "Europe/Berlin", "ODD": 'a "b" \\ é'}
    assert str(settings.server.secrets["API_TOKEN"]) == "file:/etc/mlflowd/api-token"
    assert str(settings.server.listen) == "0.0.0.0:5000"


def test_no_secret_is_printed_or_told() -> None:
    container = told("--backend-store-uri", "postgresql://u:thepassword@db.example/x", X_TOKEN="thetoken1")  # noqa: S106
    found = planned(understood(container), replace(COUNTS, prefixes=()))
    for text in ("\n".join(found.lines()), json.dumps(found.document()), repr(found), found.toml):
        assert "thepassword" not in text
        assert "thetoken1" not in text


def test_the_printed_plan_has_counts_steps_and_the_file() -> None:
    text = "\n".join(planned(understood(ROOT)).lines())
    for part in (
        "2 experiments, 5 runs, 1 registered models",
        "9 artifact locations begin with /mlflow/mlruns, which is /srv/mlflow/mlruns (3 files",
        "runs.artifact_uri: 7",
        "1. Stop the container tracking",
        "undone: Start tracking again.",
        "3 of them can be written by others now",
        'uri = "sqlite:////var/lib/mlflowd/backend/mlflow.db"',
    ):
        assert part in text


def test_the_document_is_json() -> None:
    told_of: Any = json.loads(json.dumps(planned(understood(ROOT)).document()))
    assert told_of["counts"]["columns"] == dict(COUNTS.columns)
    assert [each["do"] for each in told_of["steps"]][:2] == ["stop", "retire"]
    assert told_of["configuration"]["server"]["listen"] == "0.0.0.0:5000"


def test_files_that_clients_kept_are_pointed_out() -> None:
    empty = replace(ROOTS, extent=Extent())
    found = planned(understood(ROOT), replace(COUNTS, prefixes=(empty,)))
    assert any("clients wrote their artifacts to /mlflow/mlruns on their own disks" in each for each in found.warnings)


# --- refusals -----------------------------------------------------------------------------------

INSIDE = Place(PurePosixPath("/mlflow/mlruns"), Where.INSIDE)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (replace(COUNTS, known=False), "There is no database at /srv/mlflow/mlflow.db"),
        (replace(COUNTS, known=False, damaged="It is malformed."), "cannot be taken over: It is malformed"),
        (replace(COUNTS, runs=0, artifacts=SOME, prefixes=()), "holds no run.*half of the mounts may be missing"),
        (replace(COUNTS, prefixes=(replace(ROOTS, place=INSIDE),)), "3 artifacts lie inside the container.*docker cp"),
        (
            replace(COUNTS, prefixes=(replace(ROOTS, place=INSIDE, extent=Extent(there=False)),)),
            "7 locations in the database lie below /mlflow/mlruns.*half of the mounts may be missing",
        ),
    ],
    ids=["no database", "damaged", "database not mounted", "artifacts inside", "artifacts not mounted"],
)
def test_data_that_are_not_what_the_deployment_promises_are_refused(counts: Counts, reason: str) -> None:
    assert re.search(reason, refused(understood(ROOT), counts))


def test_an_unmounted_root_that_nobody_used_is_no_reason() -> None:
    unused = replace(ROOTS, place=INSIDE, extent=Extent(there=False), used=0)
    planned(understood(ROOT), replace(COUNTS, prefixes=(unused,)))


@pytest.mark.parametrize(
    ("container", "counts", "reason"),
    [
        (replace(ROOT, mounts=MOUNTS[1:]), COUNTS, "inside the container, so it cannot stay"),
        (
            replace(ROOT, mounts=(bind("/volumes/v", "/mlflow", volume="v"),)),
            COUNTS,
            "volume v, which only the engine may enter",
        ),
        (ROOT, replace(COUNTS, beside=("docker-compose.yml", "mlruns")), r"other things \(docker-compose.yml\)"),
    ],
    ids=["inside", "a volume", "a directory of other things"],
)
def test_what_cannot_stay_where_it_is_is_refused(container: Any, counts: Counts, reason: str) -> None:
    found = refused(understood(container), counts, Choice.REFERENCE)
    assert re.search(reason, found)
    assert "--data move" in found


def test_a_place_that_mlflowd_would_refuse_is_refused_now() -> None:
    container = replace(PLAIN, mounts=(bind("/home", "/data"),))
    assert "backend_store.uri" in refused(understood(container), replace(COUNTS, prefixes=()), Choice.REFERENCE)
