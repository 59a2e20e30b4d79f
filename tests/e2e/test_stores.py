"""Stores on another machine: a real client's work with each, the images derived for them, and no secret anywhere.

The servers run beside the guest, at the outer machine's end of its cable. One guest for all: a class changes its
configuration. The faults of these stores are in test_store_faults.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from e2e import stores
from e2e.client_checks import ClientChecks
from e2e.leaks import places_with
from e2e.trial import NAME
from services.azure import running_azure
from services.mariadb import running_mariadb
from services.postgres import running_postgres
from services.s3 import running_s3
from services.sftp import running_sftp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.guest import Guest
    from e2e.installation import Installation
    from services.azure import Azure
    from services.mariadb import Mariadb
    from services.postgres import Postgres
    from services.s3 import S3
    from services.sftp import Sftp

pytestmark = pytest.mark.timeout(1500)  # the first test may have to install, and to make the environments
CORE = "leak-f3b1c96a0d"
"""The part of a password that reads the same in any notation."""
AWKWARD = f"p@ss/w:rd%23 &?{CORE}"
"""A password with what a URI gives a meaning to."""
IMAGES = "docker images --quiet --no-trunc | sort -u"
LABELS = f"docker inspect --format '{{{{json .Config.Labels}}}}' $(docker inspect --format '{{{{.Image}}}}' {NAME})"
ADDED = "io.mlflowd.added"
"""The label of an image that names the packages which were added to another one."""


@pytest.fixture(scope="module")
def guest(installation: Callable[[str], Installation]) -> Iterator[Guest]:
    """An installed Debian 12; its engine has the plain image alone, without a single driver."""
    with installation("bookworm").boot() as guest:
        yield guest


@pytest.fixture(scope="module")
def address(guest: Guest) -> str:
    """The outer machine, as the guest and its containers reach it."""
    return guest.slot.outer_address


class StoreChecks(ClientChecks):
    """What holds of every store; a subclass configures the guest and says what the image is to be given."""

    added: frozenset[str]

    @pytest.fixture(scope="class")
    @classmethod
    def secrets(cls) -> list[str]:
        """Return what must not be shown."""
        raise NotImplementedError

    def test_the_image_was_derived_with_the_drivers_alone(self, host: Guest) -> None:
        assert set(json.loads(host.run(LABELS).stdout)[ADDED].split()) == self.added

    def test_a_second_start_builds_nothing(self, host: Guest) -> None:
        images, cursor = host.run(IMAGES).stdout, host.journal_end()
        stores.restart(host)
        assert host.run(IMAGES).stdout == images
        told = [entry.get("MLFLOWD_EVENT") for entry in host.journal(unit="mlflowd", cursor=cursor)]
        assert "SERVER_SERVING" in told
        assert "IMAGE_PULLING" not in told

    def test_its_secrets_stand_nowhere(self, host: Guest, written: dict[str, Any], secrets: list[str]) -> None:
        assert written, "the server has worked with them"
        assert places_with(host, *secrets) == []


class TestPostgresqlAndS3(StoreChecks):
    """PostgreSQL with a password that a URI must quote; moto behind HTTP by path."""

    added = frozenset({"boto3", "psycopg2-binary"})

    @pytest.fixture(scope="class")
    @classmethod
    def postgres(cls, address: str) -> Iterator[Postgres]:
        with running_postgres((address,), password=AWKWARD) as server:
            yield server

    @pytest.fixture(scope="class")
    @classmethod
    def s3(cls, address: str) -> Iterator[S3]:
        with running_s3(address) as server:
            yield server

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, guest: Guest, postgres: Postgres, s3: S3) -> Guest:
        stores.configure(guest, stores.database(postgres), stores.s3(s3))
        return guest

    @pytest.fixture(scope="class")
    @classmethod
    def secrets(cls, s3: S3) -> list[str]:
        return [CORE, s3.secret_key]

    def test_the_rows_are_in_postgresql(self, postgres: Postgres, written: dict[str, Any]) -> None:
        assert written["experiment"]["name"] in postgres.sql("SELECT name FROM experiments", "mlflow")

    def test_the_files_are_in_the_bucket(self, s3: S3, written: dict[str, Any]) -> None:
        place = written["locations"]["run"].removeprefix("mlflow-artifacts:")
        assert f"mlflow{place}/data/blob.bin" in s3.keys()  # noqa: SIM118 - a method of its own


class TestMariadbAndAzure(StoreChecks):
    """MariaDB; azurite by a connection string."""

    added = frozenset({"azure-storage-blob>=12", "PyMySQL[rsa]"})

    @pytest.fixture(scope="class")
    @classmethod
    def mariadb(cls, address: str) -> Iterator[Mariadb]:
        with running_mariadb(address, password=AWKWARD) as server:
            yield server

    @pytest.fixture(scope="class")
    @classmethod
    def azure(cls, address: str) -> Iterator[Azure]:
        with running_azure(address) as server:
            yield server

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, guest: Guest, mariadb: Mariadb, azure: Azure) -> Guest:
        stores.configure(guest, stores.database(mariadb), stores.azure(azure), anew=True)
        return guest

    @pytest.fixture(scope="class")
    @classmethod
    def secrets(cls, azure: Azure) -> list[str]:
        return [CORE, azure.key]

    def test_the_rows_are_in_mariadb(self, mariadb: Mariadb, written: dict[str, Any]) -> None:
        assert written["experiment"]["name"] in mariadb.sql("SELECT name FROM experiments", "mlflow")

    def test_the_files_are_in_the_container(self, azure: Azure, written: dict[str, Any]) -> None:
        place = written["locations"]["run"].removeprefix("mlflow-artifacts:")
        assert f"mlflow{place}/data/blob.bin" in azure.names()


class TestSqliteAndSftp(StoreChecks):
    """A local database; OpenSSH by a private key and a known host."""

    added = frozenset({"paramiko<4", "pysftp"})

    @pytest.fixture(scope="class")
    @classmethod
    def sftp(cls, address: str) -> Iterator[Sftp]:
        with running_sftp(address) as server:
            yield server

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, guest: Guest, sftp: Sftp) -> Guest:
        stores.configure(guest, stores.sftp(sftp), anew=True)
        return guest

    @pytest.fixture(scope="class")
    @classmethod
    def secrets(cls, sftp: Sftp) -> list[str]:
        return [sftp.key_file.read_text().splitlines()[3]]

    def test_the_files_are_on_the_sftp_server(self, sftp: Sftp, written: dict[str, Any]) -> None:
        place = written["locations"]["run"].removeprefix("mlflow-artifacts:")
        assert sftp.root.joinpath(f".{place}/data/blob.bin") in sftp.files()


def test_what_looks_for_secrets_finds_what_is_shown(guest: Guest) -> None:
    """The search itself: the container's name stands in several places."""
    assert {"the journal", "mlflowd config", "the container's labels"} & set(places_with(guest, NAME))
