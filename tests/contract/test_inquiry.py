"""The inquiry held against real databases and artifact stores: what a person is told of each way to fail.

The stores listen at the address of the engine's bridge, as a service of this machine would; the image is as in
test_stores_wiring.py.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

from mlflowd.config import Settings
from mlflowd.errors import EngineError, ExitStatus
from mlflowd.host.paths import Identity
from mlflowd.model import Finding, Level, Secrets
from mlflowd.operations import remote
from mlflowd.server import abilities, command
from mlflowd.server.wiring import Machine
from mlflowd.stores import fingerprint
from services.azure import running_azure
from services.mariadb import running_mariadb
from services.postgres import running_postgres
from services.s3 import running_s3
from services.sftp import running_sftp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflowd.engine.docker import DockerEngine
    from mlflowd.model import ContainerSpec, Image
    from services.azure import Azure
    from services.mariadb import Mariadb
    from services.postgres import Postgres
    from services.s3 import S3
    from services.sftp import Sftp

pytestmark = pytest.mark.engine

WHO = Identity(990, 990, "990")
WRONG = "a-wrong-secret-4711"
PACKAGES = (
    *("azure-identity", "azure-storage-blob", "boto3", "google-cloud-storage"),
    *("paramiko<4", "psycopg2-binary", "PyMySQL[rsa]", "pysftp"),
)
NETWORK = f"mlflowd-test-{uuid.uuid4().hex[:8]}"
ENOUGH = 60.0
"""Seconds after which an inquiry has hung, on a machine that others use too."""


@pytest.fixture(scope="module")
def api(engine_socket: str) -> Iterator[docker.APIClient]:
    with closing(docker.APIClient(f"unix://{engine_socket}", version="1.41")) as api:
        yield api


@pytest.fixture(scope="module")
def image(engine: DockerEngine, request: pytest.FixtureRequest) -> Image:
    """The test's image with every driver."""
    if name := os.environ.get("MLFLOWD_TEST_STORES_IMAGE"):
        found = engine.image(name)
        assert found, f"no image {name}"
        return found
    image_with: Callable[..., Image] = request.getfixturevalue("image_with")
    return image_with(*PACKAGES)


@pytest.fixture(scope="module")
def here(api: docker.APIClient) -> str:
    """The address of this machine that a container of any network reaches."""
    return str(api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"])


@pytest.fixture(scope="module")
def silent(here: str) -> Iterator[str]:
    """host:port of one that accepts connections and never says a word."""
    with socket.create_server((here, 0)) as server:
        yield f"{here}:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def closed(here: str) -> Iterator[str]:
    """host:port where nobody listens, and nobody will."""
    with socket.socket() as holder:
        holder.bind((here, 0))
        yield f"{here}:{holder.getsockname()[1]}"


@dataclass
class Inquirer:
    """Asks as the daemon does before it makes a container."""

    engine: DockerEngine
    image: Image
    able: abilities.Abilities
    place: Path

    def spec(self, settings: Settings, secrets: dict[str, str]) -> ContainerSpec:
        machine = Machine(WHO.uid, WHO.gid, private=str(self.place / "private"))
        return command.container_spec(settings, self.image, self.able, machine, Secrets(secrets))

    def findings(self, secrets: dict[str, str], **sections: Any) -> list[Finding]:
        local: dict[str, Any] = {"container": {"network": NETWORK}}
        settings = Settings.model_validate({**local, **sections})
        spec, began = self.spec(settings, secrets), time.monotonic()
        found = remote.check(settings, self.engine, self.place, WHO, spec, self.able, self.place / "trial")
        assert time.monotonic() - began < ENOUGH
        assert not (self.place / "trial").exists()
        assert WRONG not in repr(found)
        assert not any(secret in repr(found) for secret in secrets.values())
        return found

    def database(self, uri: str, password: str = "") -> Finding:
        """Return the worst that is to be said of a database."""
        secrets = {"backend_store.password": password} if password else {}
        return worst(self.findings(secrets, backend_store={"uri": uri}))

    def artifacts(self, secrets: dict[str, str], **store: Any) -> Finding:
        named = {f"artifact_store.{name}": value for name, value in secrets.items()}
        return worst(self.findings(named, artifact_store=store))


def worst(found: list[Finding]) -> Finding:
    order = [Level.FAILURE, Level.WARNING, Level.OK]
    return min(found, key=lambda each: order.index(each.level))


def refusal(found: Finding, check: str) -> str:
    """Return the sentence of a failure that only a person can mend."""
    assert (found.level, found.check, found.transient) == (Level.FAILURE, check, False)
    assert found.exit_status == ExitStatus.REFUSED
    assert found.remedy
    return found.message


def outage(found: Finding, check: str) -> str:
    """Return the sentence of a failure that may pass by itself."""
    assert (found.level, found.check, found.transient) == (Level.FAILURE, check, True)
    return found.message


def caution(found: Finding, check: str) -> str:
    assert (found.level, found.check) == (Level.WARNING, check)
    return found.message


@pytest.fixture(scope="module")
def ask(engine: DockerEngine, image: Image, api: docker.APIClient) -> Iterator[Inquirer]:
    place = Path(tempfile.mkdtemp(prefix="mlflowd-test-inquiry-"))
    shutil.chown(place, WHO.uid, WHO.gid)
    able = abilities.parse(engine.ask(image.id, abilities.QUESTION, 60), "the test's image")
    yield Inquirer(engine, image, able, place)
    shutil.rmtree(place)
    with suppress(docker.errors.NotFound):
        api.remove_network(NETWORK)


# --- PostgreSQL -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(here: str) -> Iterator[Postgres]:
    with running_postgres((here,)) as server:
        yield server


def test_postgres_answers_and_is_left_as_it_was(ask: Inquirer, postgres: Postgres) -> None:
    found = ask.database(postgres.uri_without_password, postgres.password)
    assert found.level is Level.OK
    assert postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", postgres.database) == "0"


def test_postgres_refuses_a_wrong_password(ask: Inquirer, postgres: Postgres) -> None:
    told = refusal(ask.database(postgres.uri_without_password, WRONG), "backend store: login")
    where = f"{postgres.address}:{postgres.port}"
    assert told == f"The database at {where} refuses the password of the user mlflow."


def test_postgres_wants_a_password_where_there_is_none(ask: Inquirer, postgres: Postgres) -> None:
    found = ask.database(postgres.uri_without_password)
    assert "wants a password of the user mlflow, and there is none" in refusal(found, "backend store: login")
    assert "backend_store.password" in found.remedy


def test_postgres_has_no_such_database(ask: Inquirer, postgres: Postgres) -> None:
    uri = f"{postgres.uri_without_password.rpartition('/')[0]}/models"
    told = refusal(ask.database(uri, postgres.password), "backend store: database")
    assert told == f"The database models does not exist at {postgres.address}:{postgres.port}."


def test_postgres_that_is_down_may_come_back(ask: Inquirer, closed: str) -> None:
    told = outage(ask.database(f"postgresql://mlflow@{closed}/mlflow", WRONG), "backend store: host")
    assert told == f"{closed} refuses connections: no database listens there."


def test_a_host_of_an_unknown_name_is_named(ask: Inquirer) -> None:
    told = outage(ask.database("postgresql://mlflow@db1.invalid/mlflow", WRONG), "backend store: host")
    assert told == "There is no host named db1.invalid (backend_store.uri)."


def test_a_silent_database_is_told_within_its_time(ask: Inquirer, silent: str) -> None:
    told = outage(ask.database(f"postgresql://mlflow@{silent}/mlflow", WRONG), "backend store: host")
    assert told == f"{silent} does not answer within 10 s."


def test_postgres_without_tls_is_told_where_tls_is_wanted(ask: Inquirer, postgres: Postgres) -> None:
    found = ask.database(f"{postgres.uri_without_password}?sslmode=require", postgres.password)
    assert "server does not support SSL" in refusal(found, "backend store: TLS")
    assert "sslmode" in found.remedy


def test_postgres_15_lets_a_guest_make_no_tables(ask: Inquirer, postgres: Postgres) -> None:
    postgres.sql(f"CREATE ROLE guest LOGIN PASSWORD '{WRONG}'")
    uri = f"postgresql://guest@{postgres.address}:{postgres.port}/mlflow"
    found = ask.database(uri, WRONG)
    postgres.sql("DROP ROLE guest")
    assert "permission denied for schema public" in refusal(found, "backend store: rights")
    assert "GRANT USAGE, CREATE ON SCHEMA public TO guest" in found.remedy


def test_postgres_that_takes_no_changes_is_told(ask: Inquirer, postgres: Postgres) -> None:
    postgres.sql("ALTER ROLE mlflow SET default_transaction_read_only = on")
    found = ask.database(postgres.uri_without_password, postgres.password)
    postgres.sql("ALTER ROLE mlflow RESET default_transaction_read_only")
    assert outage(found, "backend store: rights").endswith("is read-only.")


def test_a_schema_that_the_image_does_not_know_is_refused(ask: Inquirer, postgres: Postgres) -> None:
    _fill(postgres, "ffffffffffff")
    found = ask.database(postgres.uri_without_password, postgres.password)
    assert "revision ffffffffffff" in refusal(found, "database: schema")
    assert "image.reference" in found.remedy
    _fill(postgres, next(each for each in ask.able.revisions if each != ask.able.head))
    found = ask.database(postgres.uri_without_password, postgres.password)
    assert (found.check, found.level, found.migrates) == ("database: schema", Level.WARNING, True)
    assert f"works with {ask.able.head} alone" in found.message
    assert "mlflowd upgrade --rehearse" in found.remedy
    assert postgres.password not in found.remedy


def test_an_empty_twin_of_a_database_that_was_served_is_refused(ask: Inquirer, postgres: Postgres) -> None:
    _fill(postgres, ask.able.head)
    secrets = {"backend_store.password": postgres.password}
    sections = {"backend_store": {"uri": postgres.uri_without_password}}
    settings = Settings.model_validate(sections)
    known = fingerprint.remote(settings.backend_store.database, "0@1700000000000")
    (ask.place / "state").mkdir(exist_ok=True)
    shutil.chown(ask.place / "state", WHO.uid, WHO.gid)
    fingerprint.keep(known, ask.place, WHO)
    same = {each.check: each for each in ask.findings(secrets, **sections)}["database: fingerprint"]
    assert same.message.endswith("is the database served last")
    postgres.sql("DROP TABLE experiments; DROP TABLE alembic_version", postgres.database)
    told = refusal(worst(ask.findings(secrets, **sections)), "database: fingerprint")
    assert "is empty, but one with data was served from there before" in told
    fingerprint.forget(ask.place)


def _fill(postgres: Postgres, revision: str) -> None:
    """Make the two tables that a database of MLflow is known by, for its user to read."""
    made = (
        "DROP TABLE IF EXISTS alembic_version, experiments",
        f"CREATE TABLE alembic_version AS SELECT varchar(32) '{revision}' AS version_num",
        "CREATE TABLE experiments AS SELECT 0 AS experiment_id, 1700000000000 AS creation_time",
        "INSERT INTO experiments VALUES (1, 1800000000000)",
        "GRANT ALL ON experiments, alembic_version TO mlflow",
    )
    postgres.sql(";".join(made), postgres.database)


# --- MariaDB --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mariadb(here: str) -> Iterator[Mariadb]:
    with running_mariadb(here) as server:
        yield server


def test_mariadb_answers(ask: Inquirer, mariadb: Mariadb) -> None:
    found = ask.findings({"backend_store.password": mariadb.password}, backend_store={"uri": _bare(mariadb)})
    assert "(MariaDB 1" in found[0].message


def test_mariadb_refuses_a_wrong_password_and_none(ask: Inquirer, mariadb: Mariadb) -> None:
    told = refusal(ask.database(_bare(mariadb), WRONG), "backend store: login")
    assert told.endswith("refuses the password of the user mlflow.")
    assert "there is none" in refusal(ask.database(_bare(mariadb)), "backend store: login")


def test_mariadb_has_no_such_database_or_does_not_say(ask: Inquirer, mariadb: Mariadb) -> None:
    uri = f"{_bare(mariadb).rpartition('/')[0]}/models"
    told = refusal(ask.database(uri, mariadb.password), "backend store: rights")
    assert told.startswith("The database models does not exist at ")


def test_mariadb_that_is_down_silent_or_unknown_may_come_back(ask: Inquirer, closed: str, silent: str) -> None:
    for host, said in (
        (closed, "refuses connections"),
        (silent, "does not answer"),
        ("db1.invalid", "no host named db1.invalid"),
    ):
        assert said in outage(ask.database(f"mysql://mlflow@{host}/mlflow", WRONG), "backend store: host")


def _bare(mariadb: Mariadb) -> str:
    return mariadb.uri_without_password


# --- S3 -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(here: str) -> Iterator[S3]:
    with running_s3(here) as server:
        yield server


def _s3(ask: Inquirer, s3: S3, **changes: str) -> Finding:
    """Try it with these keys of the configuration changed."""
    secrets = {"access_key": s3.access_key, "secret_key": changes.pop("secret_key", s3.secret_key)}
    if "ca_file" in changes and s3.ca_file:
        secrets["ca_file"] = s3.ca_file.read_text()
    store = {"uri": s3.uri, "endpoint": s3.endpoint, "region": s3.region, "addressing": "path"}
    return ask.artifacts(secrets, **{**store, "access_key": "env:UNUSED", "secret_key": "env:UNUSED", **changes})


def test_s3_keeps_and_gives_back_and_nothing_stays(ask: Inquirer, s3: S3) -> None:
    assert _s3(ask, s3).message == "the bucket models keeps, gives back and deletes an object"
    assert s3.keys() == []


def test_s3_refuses_a_wrong_key(ask: Inquirer, s3: S3) -> None:
    found = _s3(ask, s3, secret_key=WRONG)
    assert "refuses the credentials" in refusal(found, "artifact store: login")
    assert "artifact_store.secret_key" in found.remedy


def test_s3_has_no_such_bucket(ask: Inquirer, s3: S3) -> None:
    told = refusal(_s3(ask, s3, uri="s3://nonesuch/mlflow"), "artifact store: bucket")
    assert told == "The bucket nonesuch does not exist or is not readable with these credentials."


def test_s3_that_is_away_does_not_keep_the_server_from_starting(
    ask: Inquirer, s3: S3, closed: str, silent: str
) -> None:
    for host, said in (
        (closed, f"{closed} refuses connections: no S3 server listens there."),
        (silent, f"{silent} does not answer within 10 s."),
        ("minio.invalid:9000", "There is no host named minio.invalid (artifact_store.endpoint)."),
    ):
        assert caution(_s3(ask, s3, endpoint=f"http://{host}"), "artifact store: host") == said


def test_s3_of_an_authority_of_its_own_needs_its_certificate(ask: Inquirer, here: str) -> None:
    with running_s3(here, tls=True) as s3:
        found = _s3(ask, s3)
        assert "artifact_store.ca_file" in found.remedy
        assert "CERTIFICATE_VERIFY_FAILED" in refusal(found, "artifact store: TLS")
        assert _s3(ask, s3, ca_file=str(s3.ca_file)).level is Level.OK


# --- Azure, SFTP ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def azure(here: str) -> Iterator[Azure]:
    with running_azure(here) as server:
        yield server


def test_azure_answers_refuses_a_key_and_has_no_such_container(ask: Inquirer, azure: Azure) -> None:
    def look(text: str, uri: str = azure.uri) -> Finding:
        return ask.artifacts({"connection_string": text}, uri=uri, connection_string="env:UNUSED")

    assert look(azure.connection_string).level is Level.OK
    assert azure.names() == []
    wrong = look(azure.connection_string_with("YS13cm9uZy1zZWNyZXQ="))
    assert "refuses the credentials" in refusal(wrong, "artifact store: login")
    assert "RequestId" not in wrong.message
    other = look(azure.connection_string, azure.uri.replace(f"{azure.container}@", "nonesuch@"))
    assert "The container nonesuch does not exist" in refusal(other, "artifact store: container")


@pytest.fixture(scope="module")
def sftp(here: str) -> Iterator[Sftp]:
    with running_sftp(here) as server:
        yield server


def _sftp(ask: Inquirer, sftp: Sftp, **changes: str) -> Finding:
    """Try it with these secrets and files changed."""
    secrets = {"password": sftp.password, "known_hosts": sftp.known_hosts, **changes}
    store = {"uri": sftp.uri_for_password, "password": "env:UNUSED", "known_hosts": "/etc/mlflowd/known_hosts"}
    return ask.artifacts({name: text for name, text in secrets.items() if text}, **store)


def test_sftp_answers_and_refuses_a_wrong_password(ask: Inquirer, sftp: Sftp) -> None:
    assert _sftp(ask, sftp).level is Level.OK
    assert sftp.files() == []
    assert "refuses the credentials" in refusal(_sftp(ask, sftp, password=WRONG), "artifact store: login")


def test_sftp_of_an_unknown_host_key_is_refused_with_the_command(ask: Inquirer, sftp: Sftp) -> None:
    found = _sftp(ask, sftp, known_hosts="")
    assert "is not known" in refusal(found, "artifact store: host key")
    assert f"ssh-keyscan -p {sftp.port} {sftp.address}" in found.remedy
    assert "artifact_store.known_hosts" in found.remedy


def test_sftp_with_another_host_key_is_refused(ask: Inquirer, sftp: Sftp, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    found = _sftp(ask, sftp, known_hosts=f"[{sftp.address}]:{sftp.port} {other}")
    assert "has another host key" in refusal(found, "artifact store: host key")


# --- the throw-away container ---------------------------------------------------------------------


def test_what_is_asked_is_like_the_server_s_container_and_leaves_nothing(
    ask: Inquirer, api: docker.APIClient, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "told").write_text("from the mount")
    settings = Settings.model_validate({"container": {"network": f"{NETWORK}-asked"}})
    spec = ask.spec(settings, {})
    mount = replace(spec.mounts[0], source=str(tmp_path), target="/mlflow/private", read_only=True)
    spec = replace(spec, mounts=(mount,), host_names=("host.docker.internal",))
    program = (
        "import json, os, socket; print(json.dumps([os.getuid(), open('/mlflow/private/told').read(),"
        "os.environ['MLFLOW_DISABLE_TELEMETRY'], socket.gethostbyname('host.docker.internal'),"
        "open('/proc/self/status').read().split('CapEff:')[1].split()[0], os.access('/opt', os.W_OK)]))"
    )
    uid, told, telemetry, gateway, capabilities, writable = json.loads(
        ask.engine.ask(ask.image.id, ["python", "-c", program], 60, spec)
    )
    assert (uid, told, telemetry, writable) == (WHO.uid, "from the mount", "true", False)
    assert gateway
    assert int(capabilities, 16) == 0
    mounted = [mount.get("Source") for each in api.containers(all=True) for mount in each["Mounts"]]
    assert str(tmp_path) not in mounted
    assert api.networks(names=[f"{NETWORK}-asked"]) == []


def test_an_error_of_what_is_asked_repeats_no_secret(ask: Inquirer) -> None:
    settings = Settings.model_validate(
        {"backend_store": {"uri": "postgresql://mlflow@db1/mlflow"}, "container": {"network": f"{NETWORK}-asked"}}
    )
    spec = replace(ask.spec(settings, {"backend_store.password": "w/rong secret-4711"}), mounts=())
    program = "import os, sys; sys.exit('it was ' + os.environ['MLFLOW_BACKEND_STORE_URI'])"
    with pytest.raises(EngineError) as caught:
        ask.engine.ask(ask.image.id, ["python", "-c", program], 60, spec)
    assert "it was postgresql+psycopg2://mlflow:***@db1" in caught.value.message
