"""What server/backend.py and server/artifact_stores.py describe, held against a real MLflow and real stores.

The stores listen at the address of the engine's bridge, as a service of this machine would. The image is the one of
the other tests with the drivers of all these stores.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

from mlflowd.config import Settings
from mlflowd.model import ContainerStatus, Secrets
from mlflowd.server import abilities, command, probe
from mlflowd.server.wiring import Machine
from services.azure import running_azure
from services.mariadb import running_mariadb
from services.postgres import running_postgres
from services.process import workplace
from services.s3 import S3, certificate, running_s3
from services.sftp import UID as SFTP_UID
from services.sftp import running_sftp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflowd.engine.docker import DockerEngine
    from mlflowd.model import Address, ContainerSpec, Image

pytestmark = pytest.mark.engine

UID = 990
START_LIMIT = 120.0
ODD = "p@s:w/o%r d#+?&=;'\"\\`$(id)é"
"""A password with all that means something in a URI, a shell or an INI file."""
PLAIN = "p@s%2Fw:ord+&=;'\"`$(id)"
"""The same without what SFTP's repository cannot take."""
PACKAGES = ("azure-storage-blob>=12", "boto3", "paramiko<4", "psycopg2-binary", "PyMySQL[rsa]", "pysftp")


@pytest.fixture(scope="module")
def image(image_with: Callable[..., Image]) -> Image:
    return image_with(*PACKAGES)


@pytest.fixture(scope="module")
def bridge(engine_socket: str) -> str:
    """The address of this machine that host.docker.internal means."""
    api = docker.APIClient(f"unix://{engine_socket}", version="1.41")
    gateway = str(api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"])
    api.close()
    return gateway


@pytest.fixture
def serve(engine: DockerEngine, image: Image, able: abilities.Abilities, network: str, tmp_path: Path) -> Serve:
    return Serve(engine, image, able, network, tmp_path)


class Serve:
    """Starts servers; what it starts is removed in the end."""

    def __init__(
        self, engine: DockerEngine, image: Image, able: abilities.Abilities, network: str, place: Path
    ) -> None:
        self.engine, self.image, self.able, self.network, self.place = engine, image, able, network, place

    def take(self, image: Image) -> None:
        """Run the servers from another image."""
        answer = self.engine.ask(image.id, abilities.QUESTION, 60)
        self.image, self.able = image, abilities.parse(answer, "the test's image")

    @contextmanager
    def __call__(self, secrets: Mapping[str, str], **sections: Any) -> Iterator[tuple[Address, str, ContainerSpec]]:
        """Yield a serving server's address, its container and what describes it."""
        for store in ("backend", "artifacts"):
            (self.place / store).mkdir(exist_ok=True)
            os.chown(self.place / store, UID, UID)
        settings = Settings(
            **{"backend_store": {"uri": f"sqlite:///{self.place}/backend/mlflow.db"}}
            | {"artifact_store": {"uri": str(self.place / "artifacts")}}
            | sections,
            container={"name": f"mlflowd-test-{uuid.uuid4().hex[:8]}", "network": self.network},
            server={"listen": f"127.0.0.1:{free_port()}"},
        )
        machine = Machine(UID, UID, state=str(self.place / "state"), private=str(self.place / "private"))
        spec = command.container_spec(settings, self.image, self.able, machine, Secrets(secrets))
        self._write(spec)
        container_id = self.engine.create(spec)
        try:
            self.engine.start(container_id)
            self._await(spec, container_id)
            yield spec.publish, container_id, spec
        except AssertionError as error:
            error.add_note(self._log(container_id))
            raise
        finally:
            self.engine.stop(container_id, 0)
            self.engine.remove(container_id)

    def _write(self, spec: ContainerSpec) -> None:
        """Write the private files as host/secrets.py does; pytest's directories are closed to the server's user."""
        for file in spec.files:
            path = self.place / "private" / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.content)
            for each in (path, *path.parents):
                if each == self.place:
                    break
                os.chown(each, UID, UID)
                each.chmod(0o700 if each.is_dir() else 0o400)

    def _await(self, spec: ContainerSpec, container_id: str) -> None:
        end = time.monotonic() + START_LIMIT
        while not probe.health(spec.publish, 1).ok:
            container = self.engine.inspect(container_id)
            assert container is not None
            assert container.status is ContainerStatus.RUNNING
            assert time.monotonic() < end
            time.sleep(0.1)

    def _log(self, container_id: str) -> str:
        """Return the end of what the server wrote, for who reads why a test failed."""
        return b"\n".join(self.engine.logs(container_id, since=0, follow=False)).decode(errors="replace")[-6000:]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def assert_hidden(secret: str, container_id: str, spec: ContainerSpec, engine_socket: str) -> None:
    """The secret stands in no argument of any process, and in no line that the server wrote."""
    assert not any(secret in argument for argument in spec.argv)
    assert secret not in repr(spec)
    api = docker.APIClient(f"unix://{engine_socket}", version="1.41")
    processes = json.dumps(api.top(container_id, "-eo pid,args"))
    log = api.logs(container_id).decode(errors="replace")
    inspected = api.inspect_container(container_id)
    api.close()
    assert secret not in processes
    assert secret not in log
    assert secret not in json.dumps([inspected["Path"], inspected["Args"], inspected["Config"]["Labels"]])


# --- databases ----------------------------------------------------------------------------------


def test_postgresql_takes_a_password_of_any_characters(serve: Serve, bridge: str, engine_socket: str) -> None:
    with running_postgres((bridge,), password=ODD) as postgres:
        uri = f"postgresql://{postgres.user}@host.docker.internal:{postgres.port}/{postgres.database}"
        store = {"uri": uri, "password": "env:TEST"}
        with serve({"backend_store.password": ODD}, backend_store=store) as (address, container_id, spec):
            assert probe.database(address, 25).ok
            assert_hidden(ODD, container_id, spec, engine_socket)


def test_mysql_takes_a_password_of_any_characters(serve: Serve, bridge: str, engine_socket: str) -> None:
    with running_mariadb(bridge, password=ODD) as mariadb:
        uri = f"mariadb://{mariadb.user}@{bridge}:{mariadb.port}/{mariadb.database}"
        store = {"uri": uri, "password": "env:TEST"}
        with serve({"backend_store.password": ODD}, backend_store=store) as (address, container_id, spec):
            assert probe.database(address, 25).ok
            assert_hidden(ODD, container_id, spec, engine_socket)


def test_postgresql_is_reached_by_tls_with_an_authority_of_its_own(serve: Serve, bridge: str) -> None:
    with running_postgres((bridge,)) as postgres, workplace("tls", "postgres") as place:
        certificate(place, bridge)
        for file in place.iterdir():
            shutil.chown(file, "postgres", "postgres")
            file.chmod(0o600)
        for name, value in {"cert_file": "server.pem", "key_file": "server.key"}.items():
            postgres.sql(f"ALTER SYSTEM SET ssl_{name} = '{place / value}'")
        postgres.sql("ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()")
        uri = f"{postgres.uri_without_password}?sslmode=verify-full&sslrootcert={place / 'ca.pem'}"
        secrets = {
            "backend_store.password": postgres.password,
            "backend_store.uri.sslrootcert": (place / "ca.pem").read_text(),
        }
        with serve(secrets, backend_store={"uri": uri, "password": "env:TEST"}) as (address, _, _):
            assert probe.database(address, 25).ok
            encrypted = postgres.sql(
                "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'mlflow'"
            )
            assert encrypted == "t"


def test_postgresql_is_reached_by_its_socket_through_a_read_only_mount(serve: Serve) -> None:
    with running_postgres(("127.0.0.1",)) as postgres:
        uri = f"postgresql://{postgres.user}@:{postgres.port}/{postgres.database}?host={postgres.socket_directory}"
        store = {"uri": uri, "password": "env:TEST"}
        with serve({"backend_store.password": postgres.password}, backend_store=store) as (address, _, spec):
            assert any(mount.target == str(postgres.socket_directory) and mount.read_only for mount in spec.mounts)
            assert probe.database(address, 25).ok


def test_mariadb_is_reached_by_its_socket_through_a_read_only_mount(serve: Serve) -> None:
    with running_mariadb("127.0.0.1") as mariadb:
        mariadb.sql(f"GRANT ALL ON `{mariadb.database}`.* TO '{mariadb.user}'@'localhost' IDENTIFIED BY 'word'")
        uri = f"mysql://{mariadb.user}@/{mariadb.database}?unix_socket={mariadb.socket}"
        store = {"uri": uri, "password": "env:TEST"}
        with serve({"backend_store.password": "word"}, backend_store=store) as (address, _, _):
            assert probe.database(address, 25).ok


# --- SFTP ---------------------------------------------------------------------------------------


def sftp_store(**further: str) -> dict[str, str]:
    return {"known_hosts": "/etc/mlflowd/known_hosts", **further}


def test_sftp_works_with_a_key_and_comes_back_after_its_connections_were_cut(serve: Serve, bridge: str) -> None:
    with running_sftp(bridge) as sftp:
        store = sftp_store(uri=sftp.uri, key_file="file:/etc/mlflowd/key")
        secrets = {
            "artifact_store.key_file": sftp.key_file.read_text(),
            "artifact_store.known_hosts": sftp.known_hosts,
        }
        with serve(secrets, artifact_store=store) as (address, _, _):
            assert probe.artifacts(address, 25).ok
            for _ in range(2):  # each worker has connections of its own
                assert cut_sessions()
                end = time.monotonic() + 20
                while not probe.artifacts(address, 25).ok:
                    assert time.monotonic() < end


def test_sftp_works_beside_a_paramiko_that_pysftp_does_not_know(
    serve: Serve, image_with: Callable[..., Image], bridge: str
) -> None:
    serve.take(image_with("pysftp", "paramiko>=4"))
    with running_sftp(bridge) as sftp:
        store = sftp_store(uri=sftp.uri, key_file="file:/etc/mlflowd/key")
        secrets = {
            "artifact_store.key_file": sftp.key_file.read_text(),
            "artifact_store.known_hosts": sftp.known_hosts,
        }
        with serve(secrets, artifact_store=store) as (address, _, _):
            assert probe.artifacts(address, 25).ok


def cut_sessions() -> int:
    """Kill the processes of the SFTP server's sessions, which run as their user; return how many there were."""
    found = [path for path in Path("/proc").glob("[0-9]*") if path.stat().st_uid == SFTP_UID]
    for path in found:
        os.kill(int(path.name), signal.SIGKILL)
    return len(found)


def test_sftp_works_with_a_password(serve: Serve, bridge: str, engine_socket: str) -> None:
    with running_sftp(bridge, password=PLAIN) as sftp:
        store = sftp_store(uri=sftp.uri_for_password, password="env:TEST")  # noqa: S106 - where it would be
        secrets = {"artifact_store.password": PLAIN, "artifact_store.known_hosts": sftp.known_hosts}
        with serve(secrets, artifact_store=store) as (address, container_id, spec):
            assert probe.artifacts(address, 25).ok
            assert_hidden(PLAIN, container_id, spec, engine_socket)


# --- S3 -----------------------------------------------------------------------------------------


def s3_store(s3: S3, **further: object) -> tuple[dict[str, object], dict[str, str]]:
    assert s3.ca_file
    store = {"uri": s3.uri, "endpoint": s3.endpoint, "addressing": "path", "ca_file": str(s3.ca_file)}
    secrets = {"access_key": s3.access_key, "secret_key": s3.secret_key}
    texts = {"ca_file": s3.ca_file.read_text(), **secrets}
    named = {f"artifact_store.{name}": text for name, text in texts.items()}
    return {**store, **dict.fromkeys(secrets, "env:TEST"), **further}, named


def links_offered(address: Address) -> bool:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=25)
    connection.request("GET", "/api/3.0/mlflow/server-info")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    offers = [value for name, value in answer.items() if name.startswith("multipart")]
    assert offers
    return any(offers)


def test_s3_with_an_authority_of_its_own_is_handed_on_by_the_server_alone(serve: Serve, bridge: str) -> None:
    with running_s3(bridge, tls=True) as s3:
        store, secrets = s3_store(s3)
        with serve(secrets, artifact_store=store) as (address, _, _):
            assert probe.artifacts(address, 25).ok
            assert not links_offered(address)


def test_links_to_the_store_are_offered_where_they_are_wished(serve: Serve, bridge: str) -> None:
    with running_s3(bridge, tls=True) as s3:
        store, secrets = s3_store(s3, signed_links=True)
        with serve(secrets, artifact_store=store) as (address, _, _):
            assert probe.artifacts(address, 25).ok
            assert links_offered(address)


# --- Azure --------------------------------------------------------------------------------------


def test_azure_is_handed_on_by_the_server_alone(serve: Serve, bridge: str, engine_socket: str) -> None:
    with running_azure(bridge) as azure:
        store = {"uri": azure.uri, "connection_string": "env:TEST"}
        secrets = {"artifact_store.connection_string": azure.connection_string}
        with serve(secrets, artifact_store=store) as (address, container_id, spec):
            assert probe.artifacts(address, 25).ok
            assert not links_offered(address)
            assert_hidden(azure.key, container_id, spec, engine_socket)
