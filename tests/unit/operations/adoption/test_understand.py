"""Containers as deployments: what the configuration becomes, where data lie, and every reason against it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlflowd.model import LABEL_SPEC, Address, ContainerStatus
from mlflowd.model.deployed import Attachment, Deployed, Membership, MountKind, Publication
from mlflowd.operations.adoption.configuration import validated
from mlflowd.operations.adoption.deployment import Deployment, NotUnderstoodError, Where
from unit.operations.adoption.deployments import ABLE, EVERYWHERE, FACTS, PLAIN, SERVER, bind, told, understood

LOCAL = ("--backend-store-uri", "sqlite:////data/mlflow.db", "--artifacts-destination", "/data/artifacts")
REMOTE = ("--backend-store-uri", "postgresql://u:p%40ss@db:5432/mlflow", "--artifacts-destination", "s3://bucket/x")
DB = replace(PLAIN, id="b" * 64, name="project-db-1", command=("postgres",), networks=(Membership("net", ("db",)),))
BESIDE = replace(FACTS, others=(DB,))
JOINED = (Membership("net", ("mlflow",)),)


def reasons(deployed: Deployed, facts: Any = FACTS) -> str:
    with pytest.raises(NotUnderstoodError) as caught:
        understood(deployed, facts)
    return "\n".join(" | ".join(each) for each in caught.value.reasons)


def settings(deployment: Deployment, key: str) -> Any:
    section, name = key.split(".")
    return deployment.settings.get(section, {}).get(name)


def check(deployment: Deployment) -> None:
    """The settings are ones that mlflowd takes, but for the URIs of local stores, which the plan adds."""
    assert list(validated(deployment.settings)) == []


# --- local stores -------------------------------------------------------------------------------


def test_the_plain_deployment_is_understood() -> None:
    found = understood(PLAIN)
    assert found.database
    assert found.artifacts
    assert (found.database.host, found.artifacts.host) == (Path("/srv/mlflow/mlflow.db"), Path("/srv/mlflow/artifacts"))
    assert settings(found, "server.listen") == "0.0.0.0:5000"
    assert settings(found, "image.reference") == "registry/mlflow:v3.17.2"
    assert found.root is None
    check(found)


@pytest.mark.parametrize(
    ("uri", "working_dir", "mounts", "host", "where", "alone"),
    [
        ("sqlite:///mlflow.db", "/data", [("/srv", "/data")], "/srv/mlflow.db", Where.HOST, False),
        ("sqlite:///data/mlflow.db", "/", [("/srv", "/data")], "/srv/mlflow.db", Where.HOST, False),
        ("sqlite:///./x/../mlflow.db", "/data", [("/srv", "/data")], "/srv/mlflow.db", Where.HOST, False),
        ("sqlite:////data/mlflow.db", "/", [("/srv/x.db", "/data/mlflow.db")], "/srv/x.db", Where.HOST, True),
        ("sqlite:////data/a/m.db", "/", [("/one", "/data"), ("/two", "/data/a")], "/two/m.db", Where.HOST, False),
        ("sqlite:////data2/mlflow.db", "/", [("/srv", "/data")], None, Where.INSIDE, False),
        ("sqlite:////data/mlflow.db?timeout=60", "/", [("/srv", "/data")], "/srv/mlflow.db", Where.HOST, False),
        ("sqlite:////data/my%20flow.db", "/", [("/srv", "/data")], "/srv/my flow.db", Where.HOST, False),
    ],
)  # fmt: skip
def test_a_database_file_is_found_through_the_mounts(  # noqa: PLR0913, PLR0917 - a row of the table
    uri: str, working_dir: str, mounts: list[tuple[str, str]], host: str | None, where: Where, alone: bool
) -> None:
    container = told("--backend-store-uri", uri)
    container = replace(container, working_dir=working_dir, mounts=tuple(bind(*each) for each in mounts))
    place = understood(container).database
    assert place
    assert (place.host and str(place.host), place.where, place.alone) == (host, where, alone)


def test_a_volume_is_a_place_on_this_machine() -> None:
    volume = Attachment(MountKind.VOLUME, "/var/lib/docker/volumes/v/_data", "/data", volume="v")
    found = understood(replace(PLAIN, mounts=(volume,)))
    assert found.database
    assert found.database.host == Path("/var/lib/docker/volumes/v/_data/mlflow.db")


def test_what_nothing_says_is_mlflows_default_in_the_working_directory() -> None:
    container = replace(told(), working_dir="/data")
    found = understood(container)
    assert found.database
    assert found.database.host == Path("/srv/mlflow/mlflow.db")
    assert found.artifacts
    assert found.artifacts.host == Path("/srv/mlflow/mlartifacts")
    holding = replace(FACTS, holding=frozenset({"/data/mlruns", "/data/mlartifacts"}))
    found = understood(container, holding)
    assert (found.database, found.file_store and found.file_store.host) == (None, Path("/srv/mlflow/mlruns"))


def test_before_3_7_the_default_is_a_file_store() -> None:
    facts = replace(FACTS, able=replace(ABLE, mlflow="3.6.0"))
    assert understood(replace(told(), working_dir="/data"), facts).file_store


@pytest.mark.parametrize(
    "uri", ["/data/mlruns", "file:/data/mlruns", "file:///data/mlruns", "file://localhost/data/mlruns"]
)
def test_a_file_store_is_found_however_it_is_written(uri: str) -> None:
    place = understood(told("--backend-store-uri", uri)).file_store
    assert place
    assert place.host == Path("/srv/mlflow/mlruns")


@pytest.mark.parametrize("uri", ["/data/mlruns", "file:///data/mlruns", "data/mlruns", "./data/mlruns"])
def test_a_server_path_that_clients_were_given_is_found(uri: str) -> None:
    found = understood(told(*LOCAL[:2], "--default-artifact-root", uri))
    assert found.root
    assert (found.root.host, found.root_uri) == (Path("/srv/mlflow/mlruns"), uri)
    assert found.artifacts is None


def test_without_the_proxy_clients_are_given_a_path_by_default() -> None:
    found = understood(replace(told(*LOCAL[:2], "--no-serve-artifacts"), working_dir="/data"))
    assert found.root
    assert found.root.host == Path("/srv/mlflow/mlruns")


@pytest.mark.parametrize("root", ["mlflow-artifacts:/", "mlflow-artifacts://tracking:5000/mlartifacts"])
def test_a_root_at_the_proxy_is_none(root: str) -> None:
    found = understood(told(*LOCAL, "--default-artifact-root", root))
    assert found.root is None
    assert found.artifacts


# --- remote stores ------------------------------------------------------------------------------


def remote(*options: str, **environment: str) -> Deployed:
    return replace(told(*options, **environment), networks=JOINED, mounts=())


def test_a_database_servers_password_becomes_a_private_file() -> None:
    found = understood(remote(*REMOTE), BESIDE)
    assert settings(found, "backend_store.uri") == "postgresql://u@db:5432/mlflow"
    assert settings(found, "backend_store.password") == "file:/etc/mlflowd/database-password"
    assert [(each.key, each.content) for each in found.secrets] == [("backend_store.password", "p@ss")]
    assert settings(found, "container.network") == "net"
    check(found)


def test_the_keys_of_an_object_store_become_private_files() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "eu-central-1"}
    endpoint = {"MLFLOW_S3_ENDPOINT_URL": "http://minio:9000", "MLFLOW_S3_IGNORE_TLS": "true"}
    minio = replace(DB, name="minio", networks=(Membership("net"),))
    found = understood(remote(*REMOTE, **keys, **endpoint), replace(BESIDE, others=(DB, minio)))
    assert settings(found, "artifact_store.endpoint") == "http://minio:9000"
    assert settings(found, "artifact_store.region") == "eu-central-1"
    assert settings(found, "artifact_store.access_key") == "file:/etc/mlflowd/s3-access-key"
    assert settings(found, "server.environment") == {"MLFLOW_S3_IGNORE_TLS": "true"}
    assert {each.content for each in found.secrets} == {"p@ss", "id", "key"}
    check(found)


def test_a_store_that_clients_reach_themselves_stays_one() -> None:
    found = understood(remote(*REMOTE[:2], "--default-artifact-root", "s3://bucket/x"), BESIDE)
    assert settings(found, "artifact_store.proxied") is False
    assert any("credentials of their own" in note for note in found.notes)


def test_a_service_account_comes_along_as_a_private_file() -> None:
    facts = replace(BESIDE, files={"/keys/key.json": json.dumps({"type": "service_account"})})
    uri = ("--artifacts-destination", "gs://bucket/x")
    found = understood(remote(*REMOTE[:2], *uri, GOOGLE_APPLICATION_CREDENTIALS="/keys/key.json"), facts)
    assert settings(found, "artifact_store.key_file") == "file:/etc/mlflowd/google-key.json"


def test_azure_has_a_connection_string_or_a_key() -> None:
    uri = ("--artifacts-destination", "wasbs://models@account.blob.core.windows.net/x")
    found = understood(remote(*REMOTE[:2], *uri, AZURE_STORAGE_CONNECTION_STRING="x"), BESIDE)
    assert settings(found, "artifact_store.connection_string") == "file:/etc/mlflowd/azure-connection"
    found = understood(remote(*REMOTE[:2], *uri, AZURE_STORAGE_ACCESS_KEY="x"), BESIDE)
    assert settings(found, "artifact_store.secret_key") == "file:/etc/mlflowd/azure-key"


def test_a_certificate_that_the_uri_names_is_the_one_on_this_machine() -> None:
    uri = "postgresql://u:p@db.example/mlflow?sslmode=verify-full&sslrootcert=/certs/ca.pem"
    found = understood(replace(told("--backend-store-uri", uri), mounts=(bind("/etc/db", "/certs"),)))
    written = settings(found, "backend_store.uri")
    assert written == "postgresql://u@db.example/mlflow?sslmode=verify-full&sslrootcert=/etc/db/ca.pem"


def test_variables_of_the_database_alone_are_left_behind() -> None:
    script = "mlflow server --backend-store-uri postgresql://$DB_USER:$POSTGRES_PASSWORD@db.example/x"
    environment = {"POSTGRES_PASSWORD": "secret", "DB_USER": "u", "PGAPPNAME": "x"}
    found = understood(replace(told(**environment), command=("sh", "-c", script)))
    assert settings(found, "server.environment") == {"PGAPPNAME": "x"}
    assert settings(found, "server.secrets") is None


def test_secrets_are_nowhere_but_in_their_files() -> None:
    environment = {"AWS_ACCESS_KEY_ID": "theid1", "AWS_SECRET_ACCESS_KEY": "thekey1", "X_TOKEN": "thetoken1"}
    found = understood(remote(*REMOTE, **environment), BESIDE)
    for text in (repr(found), json.dumps(found.settings), " ".join(found.notes)):
        assert not any(secret in text for secret in ("p@ss", "p%40ss", "theid1", "thekey1", "thetoken1"))


# --- the rest of the command line ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key", "expected"),
    [
        (("--workers", "3"), "server.workers", 3),
        (("-w", "200"), "server.workers", 64),
        ((), "server.workers", None),
        (("--static-prefix", "/mlflow"), "server.extra_arguments", ["--static-prefix=/mlflow"]),
        (("--disable-security-middleware",), "server.extra_arguments", ["--disable-security-middleware"]),
        (("--allowed-hosts", "*"), "server.allowed_hosts", ["*"]),
        (("--allowed-hosts", "localhost:*,ml.example,ml.example:*,10.*"), "server.allowed_hosts", ["ml.example"]),
        (("--allowed-hosts", "ml.example:5000"), "server.allowed_hosts", ["ml.example:5000"]),
        (("--allowed-hosts", "*.example"), "server.allowed_hosts", ["*.example"]),
        (("--cors-allowed-origins", "https://nb.example"), "server.cors_origins", ["https://nb.example"]),
        (("--uvicorn-opts", "--no-access-log --log-level x --backlog 9"), "server.uvicorn_options", "--backlog 9"),
        (("--uvicorn-opts", "--timeout-graceful-shutdown 60"), "container.stop_grace", "80s"),
        (("--gunicorn-opts", "--timeout 120"), "server.uvicorn_options", None),
        (("--expose-prometheus", "/metrics"), "image.packages", ["prometheus-flask-exporter"]),
        (("--x-frame-options", "DENY"), "server.extra_arguments", ["--x-frame-options=DENY"]),
    ],
)  # fmt: skip
def test_options_get_their_place(options: tuple[str, ...], key: str, expected: object) -> None:
    found = understood(told(*LOCAL, *options))
    assert settings(found, key) == expected
    check(found)


def test_packages_of_each_start_go_into_the_image() -> None:
    script = "pip install psycopg2-binary boto3 && mlflow server --backend-store-uri sqlite:////data/mlflow.db"
    found = understood(replace(told(), command=("sh", "-c", script)))
    assert settings(found, "image.packages") == ["psycopg2-binary"]


def test_jobs_stay_on_only_where_they_were_asked_for() -> None:
    assert settings(understood(told(*LOCAL, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="true")), "server.jobs") is True
    found = understood(PLAIN)
    assert settings(found, "server.jobs") is None
    assert any("server.jobs = true" in note for note in found.notes)


def test_variables_of_the_image_itself_are_not_repeated() -> None:
    container = replace(told(*LOCAL, LANG="C", TZ="UTC"), image_environment={"LANG": "C"})
    assert settings(understood(container), "server.environment") == {"TZ": "UTC"}


INI = """\
[mlflow]
default_permission = EDIT
database_uri = sqlite:////data/users.db
admin_username = {}
admin_password = {}
"""
AUTH = ("--app-name", "basic-auth")


def test_a_login_comes_along_with_its_users() -> None:
    facts = replace(FACTS, files={"/data/auth.ini": INI.format("admin", "a-long-password")})
    environment = {"MLFLOW_AUTH_CONFIG_PATH": "/data/auth.ini", "MLFLOW_FLASK_SERVER_SECRET_KEY": "x"}
    found = understood(told(*LOCAL, *AUTH, **environment), facts)
    assert found.login
    assert found.login.host == Path("/srv/mlflow/users.db")
    assert settings(found, "login.enabled") is True
    assert settings(found, "login.default_permission") == "EDIT"
    assert settings(found, "login.admin_password") == "file:/etc/mlflowd/admin-password"
    check(found)


@pytest.mark.parametrize(
    ("user", "password", "reason"),
    [
        ("root", "a-long-password", "administrator is 'root'"),
        ("admin", "short", "has 5 characters"),
        ("admin", "password1234", "the one that MLflow used to ship"),
    ],
)
def test_a_login_that_mlflowd_cannot_serve_is_refused(user: str, password: str, reason: str) -> None:
    facts = replace(FACTS, files={"/data/auth.ini": INI.format(user, password)})
    said = reasons(told(*LOCAL, *AUTH, MLFLOW_AUTH_CONFIG_PATH="/data/auth.ini"), facts)
    assert reason in said
    assert password not in said.replace("password", "") or password == "password1234"  # noqa: S105 - as shipped


# --- how it is reached --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "listen"),
    [
        ([(5000, "127.0.0.1", 5000)], "127.0.0.1:5000"),
        ([(5000, EVERYWHERE, 80)], "0.0.0.0:80"),
        ([(5000, EVERYWHERE, 80), (5000, "::", 80)], "0.0.0.0:80"),
        ([(5000, "::1", 5000)], "[::1]:5000"),
        ([(9000, "127.0.0.1", 9000), (5000, "127.0.0.1", 5001)], "127.0.0.1:5001"),
    ],
)
def test_the_published_address_is_kept(published: list[tuple[int, str, int]], listen: str) -> None:
    ports = tuple(Publication(inside, Address(host, port)) for inside, host, port in published)
    found = understood(replace(PLAIN, published=ports))
    assert settings(found, "server.listen") == listen
    check(found)


def test_on_the_machines_own_network_the_option_says_where() -> None:
    container = replace(told(*LOCAL, "--port", "7000"), network_mode="host", published=(), networks=())
    assert settings(understood(container), "server.listen") == "0.0.0.0:7000"


def test_there_localhost_was_this_machine() -> None:
    uri = ("--backend-store-uri", "postgresql://u@localhost/x")
    found = understood(replace(told(*uri), network_mode="host", published=(), networks=()))
    assert settings(found, "backend_store.uri") == "postgresql://u@host.docker.internal/x"


def test_neighbours_that_are_told_of_are_named() -> None:
    found = understood(replace(PLAIN, networks=JOINED), BESIDE)
    assert any("project-db-1" in note and "mlflow or tracking" in note for note in found.notes)


# --- refusals -----------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Deployed, Any, str]] = {
    "no MLflow": (replace(PLAIN, image="nginx", command=("nginx",)), FACTS, "runs no MLflow server"),
    "a script": (replace(PLAIN, command=("/entrypoint.sh",)), FACTS, "mlflowd cannot see what that does"),
    "mlflowd's own": (replace(PLAIN, labels={LABEL_SPEC: "x"}), FACTS, "mlflowd's own"),
    "Kubernetes": (replace(PLAIN, labels={"io.kubernetes.pod.name": "x"}), FACTS, "another supervisor"),
    "Swarm": (replace(PLAIN, labels={"com.docker.swarm.service.name": "x"}), FACTS, "another supervisor"),
    "--rm": (replace(PLAIN, auto_remove=True), FACTS, "--rm"),
    "no MLflow in the image": (PLAIN, replace(FACTS, able=None), "has no MLflow"),
    "an old MLflow": (PLAIN, replace(FACTS, able=replace(ABLE, mlflow="2.19.0")), "2.19.0.*3.3 or newer"),
    "MLflow by pip": (
        replace(PLAIN, command=("sh", "-c", "pip install mlflow==3.4.0 && mlflow server")),
        FACTS,
        r"installs MLflow itself at each start \(mlflow==3.4.0\)",
    ),
    "an unknown option": (told(*LOCAL, "--magic", "x"), FACTS, "--magic"),
    "a registry of its own": (told(*LOCAL, "--registry-store-uri", "sqlite:///r.db"), FACTS, "registry"),
    "a replica": (told(*LOCAL, "--read-replica-backend-store-uri", "sqlite:///r.db"), FACTS, "replica"),
    "artifacts alone": (told(*LOCAL, "--artifacts-only"), FACTS, "--artifacts-only"),
    "another application": (told(*LOCAL, "--app-name", "mine"), FACTS, "'mine'"),
    "TLS": (told(*LOCAL, "--uvicorn-opts", "--ssl-keyfile /k --ssl-certfile /c"), FACTS, "--ssl-keyfile"),
    "gunicorn's TLS": (told(*LOCAL, "--gunicorn-opts", "--keyfile /k"), FACTS, "--keyfile"),
    "a database in memory": (told("--backend-store-uri", "sqlite:///:memory:"), FACTS, "in memory"),
    "a database in a tmpfs": (
        replace(PLAIN, mounts=(Attachment(MountKind.TMPFS, "", "/data"),)),
        FACTS,
        "lies in memory",
    ),
    "a source that is gone": (PLAIN, replace(FACTS, gone=frozenset({"/srv/mlflow"})), "at /data, is not there"),
    "a source of a mount for nothing": (
        replace(PLAIN, mounts=(*PLAIN.mounts, bind("/srv/x", "/x"))),
        replace(FACTS, gone=frozenset({"/srv/x"})),
        "/srv/x, which is mounted at /x, is not there",
    ),
    "a database beside it": (told("--backend-store-uri", "postgresql://u@localhost/x"), FACTS, "the container itself"),
    "another kind of database": (told("--backend-store-uri", "oracle://u@h/x"), FACTS, "does not know"),
    "a Databricks": (told("--backend-store-uri", "databricks"), FACTS, ""),
    "another kind of store": (told(*LOCAL[:2], "--artifacts-destination", "hdfs://h/x"), FACTS, "hdfs"),
    "SFTP": (told(*LOCAL[:2], "--artifacts-destination", "sftp://u@h/x"), FACTS, "SFTP"),
    "two stores": (
        told(*LOCAL[:2], "--default-artifact-root", "s3://a", "--artifacts-destination", "s3://b"),
        FACTS,
        "two artifact stores",
    ),
    "a path and an object store": (
        told(*LOCAL[:2], "--default-artifact-root", "/data/x", "--artifacts-destination", "s3://b"),
        FACTS,
        "moves no files",
    ),
    "no port": (replace(PLAIN, published=()), FACTS, "not published"),
    "two addresses": (
        replace(PLAIN, published=tuple(Publication(5000, Address(f"127.0.0.{n}", 5000)) for n in (1, 2))),
        FACTS,
        "publishes at one address",
    ),
    "any port": (replace(PLAIN, published=(Publication(5000, Address("127.0.0.1", 0)),)), FACTS, "chooses its port"),
    "another's network": (replace(PLAIN, network_mode="container:abc"), FACTS, "network is container:abc"),
    "a host of its own": (
        replace(remote(*REMOTE), extra_hosts=("db:192.0.2.1",)),
        FACTS,
        "known to this container alone",
    ),
    "a second server": (
        PLAIN,
        replace(FACTS, others=(replace(PLAIN, id="c", name="twin"),)),
        "twin is another MLflow that runs on the same data",
    ),
    "a mounted login": (
        replace(remote(*REMOTE), mounts=(bind("/home/u/.aws", "/root/.aws"),)),
        BESIDE,
        "~/.aws",
    ),
    "a policy that stays": (PLAIN, replace(FACTS, fixed_policy=True), r"restart policy \(always\)"),
    "a variable without a place": (told(*LOCAL, PYTHONPATH="/plugins"), FACTS, "PYTHONPATH"),
    "an image with a mind of its own": (
        replace(told(*LOCAL), image_environment={"MLFLOW_DEFAULT_ARTIFACT_ROOT": "/x"}),
        FACTS,
        "The image itself sets",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("container", "facts", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_over_is_refused_with_the_reason(container: Deployed, facts: Any, reason: str) -> None:
    if not reason:
        understood(container, facts)  # a relative path, as MLflow reads it
        return
    assert re.search(reason, reasons(container, facts))


def test_every_reason_is_told_at_once() -> None:
    container = replace(told(*LOCAL, "--magic", "--artifacts-only"), published=())
    with pytest.raises(NotUnderstoodError) as caught:
        understood(container)
    assert len(caught.value.reasons) == 3
    assert caught.value.message.count("\n  - ") == 3


def test_each_reason_has_a_remedy() -> None:
    for container, facts, reason in REFUSED.values():
        if reason and "does not know" not in reason and reason not in {"--artifacts-only", "'mine'"}:
            assert all(line.split(" | ")[1] for line in reasons(container, facts).splitlines() if " | " in line)


def test_the_owner_of_a_compose_file_is_told_to_take_the_service_out() -> None:
    labels = {"com.docker.compose.service": "tracker", "com.docker.compose.project.config_files": "/srv/compose.yml"}
    found = understood(replace(PLAIN, labels=labels))
    assert any("Take the service tracker out of /srv/compose.yml" in note for note in found.notes)


def test_a_stopped_server_is_no_second_one() -> None:
    twin = replace(PLAIN, id="c", name="twin", status=ContainerStatus.EXITED)
    understood(PLAIN, replace(FACTS, others=(twin,)))


def test_an_entrypoint_and_a_command_are_one_command_line() -> None:
    container = replace(PLAIN, entrypoint=SERVER[:2], command=(*SERVER[2:], *LOCAL))
    assert understood(container).database == understood(PLAIN).database
