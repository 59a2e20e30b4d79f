"""Faults of stores on another machine: a database and an object store that fall silent, a refused password, a schema.

A test's name begins with the number of its fault in docs/reliability.md. The servers run beside the guest; packets
to them are dropped by the guest's own kernel, so that nobody is told.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from e2e import stores
from e2e.leaks import places_with
from e2e.trial import Trial, start_seconds, write_rows
from services.mariadb import running_mariadb
from services.postgres import running_postgres
from services.s3 import running_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.guest import Guest
    from e2e.installation import Installation
    from services.mariadb import Mariadb
    from services.postgres import Postgres
    from services.s3 import S3

    Database = Postgres | Mariadb

pytestmark = pytest.mark.timeout(1500)  # the first test may have to install, and derives an image
SLACK = 15.0
"""Seconds that a loaded machine may add to any bound; ratios and medians stand in bench/."""
HEALTH = '[health]\nartifact_interval = "10s"\n'
"""The intervals that a person gets, but for the probe of the artifacts: its default would be a quarter of an hour."""
REFUSED = 69
UNREACHED = "cannot be reached"
REASONS = {"PREFLIGHT_FAILED", "KNOWN_CAUSE"}
WRONG = "wr0ng-7f2a91c4"
"""A password that the database refuses."""
UNKNOWN_REVISION = "ffffffffffff"


@pytest.fixture(scope="module")
def guest(installation: Callable[[str], Installation]) -> Iterator[Guest]:
    with installation("bookworm").boot() as guest:
        yield guest


@pytest.fixture(scope="module")
def postgres(guest: Guest) -> Iterator[Postgres]:
    with running_postgres((guest.slot.outer_address,)) as server:
        yield server


@pytest.fixture(scope="module")
def s3(guest: Guest) -> Iterator[S3]:
    with running_s3(guest.slot.outer_address, tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def host(guest: Guest, postgres: Postgres, s3: S3) -> Guest:
    """A guest that serves with PostgreSQL, and with S3 over TLS by a CA of its own."""
    stores.configure(guest, stores.database(postgres), stores.s3(s3), more=HEALTH)
    return guest


@pytest.fixture(scope="module")
def s(host: Guest) -> float:
    return start_seconds(host, times=1)


def layer_troubled(host: Guest, layer: str, cursor: str, timeout: float) -> dict[str, str]:
    """Wait for the journal's entry that this layer is not well."""
    return host.wait_journal(
        lambda entry: entry.get("MLFLOWD_EVENT") == "DEGRADED" and entry.get("LAYER") == layer,
        unit="mlflowd", cursor=cursor, timeout=timeout,
    )  # fmt: skip


def refused(host: Guest, cursor: str, timeout: float) -> str:
    """Wait until the daemon has ended for good, after one attempt at most; return what it said of the reason."""
    ended = f"timeout {timeout} sh -c 'until systemctl is-failed --quiet mlflowd; do sleep 0.1; done'"
    host.run(ended, timeout=timeout + 5)
    shown = host.run("systemctl show --property=ExecMainStatus,NRestarts mlflowd").stdout.split()
    assert set(shown) == {f"ExecMainStatus={REFUSED}", "NRestarts=0"}
    entries = host.journal(unit="mlflowd", cursor=cursor)
    assert [entry.get("MLFLOWD_EVENT") for entry in entries].count("SERVER_STARTING") <= 1
    return "\n".join(entry["MESSAGE"] for entry in entries if entry.get("MLFLOWD_EVENT") in REASONS)


def revision(database: Database) -> str:
    return database.sql("SELECT version_num FROM alembic_version", "mlflow")


def revise(database: Database, to: str) -> None:
    database.sql(f"UPDATE alembic_version SET version_num = '{to}'", "mlflow")  # noqa: S608 - a text of our own


def started_anew(host: Guest) -> str:
    """Stop the server and start the service without waiting for it; return the journal's end before the start."""
    host.run("systemctl stop mlflowd", timeout=90)
    cursor = host.journal_end()
    host.run("systemctl start --no-block mlflowd")
    return cursor


def another_schema_is_refused(host: Guest, database: Database, s: float) -> None:
    before = revision(database)
    revise(database, UNKNOWN_REVISION)
    try:
        said = refused(host, started_anew(host), s + 5 + SLACK)
        assert UNKNOWN_REVISION in said
        assert revision(database) == UNKNOWN_REVISION
    finally:
        revise(database, before)
        stores.restart(host)


def silence_degrades(host: Guest, database: Database) -> None:
    with Trial(host, sqlite=False) as trial:
        with stores.unreachable(host, database.address, database.port):
            layer_troubled(host, "database", trial.cursor, 35 + SLACK)
            assert trial.seconds <= 35 + SLACK
            assert host.serving(), "the server itself is left alone"
            assert host.run("mlflowd status", check=False).returncode == 1
        trial.said("RECOVERED", timeout=60)
        assert trial.prober.outage() < 1


def a_wrong_password_is_refused(host: Guest, database: Database, s: float) -> None:
    host.write(f"{stores.SECRETS}/database", WRONG)
    try:
        said = refused(host, started_anew(host), s + 10 + SLACK)
        assert "password" in said
        assert database.user in said
        assert places_with(host, WRONG) == []
    finally:
        host.write(f"{stores.SECRETS}/database", database.password)
        stores.restart(host)


def test_45_a_schema_of_another_version_is_named_and_not_tried_again(host: Guest, postgres: Postgres, s: float) -> None:
    another_schema_is_refused(host, postgres, s)


def test_51_an_unreachable_database_degrades_without_a_restart(host: Guest, postgres: Postgres) -> None:
    silence_degrades(host, postgres)


def test_51_a_database_that_is_unreachable_at_a_start_is_waited_for(host: Guest, postgres: Postgres, s: float) -> None:
    with stores.unreachable(host, postgres.address, postgres.port):
        cursor = started_anew(host)
        told = host.wait_journal(lambda entry: UNREACHED in entry["MESSAGE"], unit="mlflowd", cursor=cursor, timeout=60)
        assert "database" in told["MESSAGE"]
        assert host.run("systemctl is-failed mlflowd", check=False).stdout.strip() != "failed"
    began = time.monotonic()
    host.wait_serving(105 + s + SLACK)
    assert time.monotonic() - began <= 105 + s + SLACK


def test_52_a_wrong_password_is_refused_for_good_and_told_nowhere(host: Guest, postgres: Postgres, s: float) -> None:
    a_wrong_password_is_refused(host, postgres, s)


def test_a_wrong_s3_key_is_refused_before_anything_is_touched(host: Guest, s3: S3, s: float) -> None:
    host.write(f"{stores.SECRETS}/s3-secret", WRONG)
    try:
        said = refused(host, started_anew(host), s + 10 + SLACK)
        assert "{}:{} refuses the credentials".format(*s3.place) in said
        assert places_with(host, WRONG) == []
    finally:
        host.write(f"{stores.SECRETS}/s3-secret", s3.secret_key)
        stores.restart(host)


def test_53_an_object_store_that_is_down_degrades_without_a_restart(host: Guest, s3: S3) -> None:
    with Trial(host, sqlite=False) as trial:
        with stores.unreachable(host, *s3.place):
            layer_troubled(host, "artifacts", trial.cursor, 60 + SLACK)
            assert write_rows(host, 5), "tracking goes on"
        trial.said("RECOVERED", timeout=90)
        assert trial.prober.outage() < 1


@pytest.mark.parametrize(
    ("line", "wrong", "told"),
    [
        ("uri = .postgresql:", "s|@[^/]*/|@db1.invalid/|", "db1.invalid"),
        ("uri = .postgresql:", 's|/mlflow.$|/nothere"|', "nothere"),
        ("uri = .s3:", "s|s3://models|s3://nothere|", "nothere"),
    ],
    ids=["no such host", "no such database", "no such bucket"],
)
def test_a_mistake_is_named_before_the_running_server_is_touched(host: Guest, line: str, wrong: str, told: str) -> None:
    before = host.read("/etc/mlflowd.toml")
    with Trial(host, sqlite=False) as trial:
        try:
            host.run(["sed", "-i", f"/^{line}/{wrong}", "/etc/mlflowd.toml"])
            host.run("systemctl reload mlflowd", timeout=60)
            said = trial.said("PREFLIGHT_FAILED", timeout=60)
            assert told in said["MESSAGE"]
            assert host.serving()
        finally:
            stores.write_toml(host, before)
            host.run("systemctl reload mlflowd", timeout=60)
        host.run("timeout 30 sh -c 'until mlflowd status; do sleep 0.2; done'")
        assert trial.prober.outage() == 0


class TestOnMariadb:
    """The faults of a database once more; the last of this module, because it gives the guest another one."""

    @pytest.fixture(scope="class")
    @classmethod
    def mariadb(cls, guest: Guest) -> Iterator[Mariadb]:
        with running_mariadb(guest.slot.outer_address) as server:
            yield server

    @pytest.fixture(scope="class")
    @classmethod
    def on_mariadb(cls, host: Guest, mariadb: Mariadb) -> Guest:
        stores.configure(host, stores.database(mariadb), more=HEALTH, anew=True)
        return host

    def test_45_a_schema_of_another_version_is_named(self, on_mariadb: Guest, mariadb: Mariadb, s: float) -> None:
        another_schema_is_refused(on_mariadb, mariadb, s)

    def test_51_an_unreachable_database_degrades(self, on_mariadb: Guest, mariadb: Mariadb) -> None:
        silence_degrades(on_mariadb, mariadb)

    def test_52_a_wrong_password_is_refused_for_good(self, on_mariadb: Guest, mariadb: Mariadb, s: float) -> None:
        a_wrong_password_is_refused(on_mariadb, mariadb, s)
