"""How the server is given its artifact store, kind by kind."""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import json
import struct
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from mlflowd.config import Settings
from mlflowd.errors import ConfigurationError
from mlflowd.model import ContainerSpec, Image, Mount, Secrets
from mlflowd.server import artifact_stores, command, ssh
from mlflowd.server.abilities import Abilities
from mlflowd.server.wiring import Machine, Wiring

MACHINE = Machine(990, 991, private="/run/mlflowd/private")
AZURE = "wasbs://models@account.blob.core.windows.net/mlflow"
SFTP = "sftp://mlflow@files.example:2222/srv/mlflow"
HOST_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake"
KNOWN = f"[files.example]:2222 ssh-ed25519 {HOST_KEY}\n"


def key(kind: str = "ssh-rsa", cipher: str = "none") -> str:
    """Make the beginning of a private key in OpenSSH's format, which is all that is read of it."""

    def text(value: bytes) -> bytes:
        return struct.pack(">I", len(value)) + value

    public = text(text(kind.encode()) + b"rest")
    blob = b"openssh-key-v1\0" + text(cipher.encode()) + text(b"none") + text(b"") + struct.pack(">I", 1) + public
    return (
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{base64.encodebytes(blob).decode()}-----END OPENSSH PRIVATE KEY-----\n"
    )


def settings(uri: str, *given: str, **store: Any) -> Settings:
    sources = dict.fromkeys(given, "env:SECRET") | {
        name: "/etc/mlflowd/file" for name in given if name in {"ca_file", "known_hosts"}
    }
    return Settings(artifact_store={"uri": uri, **sources, **store})


def read(secrets: dict[str, str]) -> Secrets:
    return Secrets({f"artifact_store.{name}": value for name, value in secrets.items()})


def wired(uri: str, secrets: dict[str, str] | None = None, **store: Any) -> Wiring:
    given = secrets or {}
    return artifact_stores.wiring(settings(uri, *given, **store), read(given), MACHINE)


def spec(uri: str, secrets: dict[str, str]) -> ContainerSpec:
    able = Abilities("3.17.2", "3.13.5", True, True, frozenset(), "0.54.0")
    return command.container_spec(settings(uri, *secrets), Image("sha256:0", (), {}), able, MACHINE, read(secrets))


def ours(wiring: Wiring) -> dict[str, str]:
    """Return the variables without those that every store has."""
    return {name: value for name, value in wiring.environment.items() if name != "PYTHONPATH"}


def named(wiring: Wiring) -> dict[str, str]:
    return {each.name: each.content for each in wiring.files if not each.name.startswith("relay/")}


def served(uri: str) -> dict[str, str]:
    return {"MLFLOW_ARTIFACTS_DESTINATION": uri, "MLFLOW_SERVE_ARTIFACTS": "true"}


# --- S3 -----------------------------------------------------------------------------------------


def test_amazons_store_takes_what_the_machines_role_gives() -> None:
    made = wired("s3://models/mlflow", region="eu-central-1")
    assert ours(made) == served("s3://models/mlflow") | {"AWS_DEFAULT_REGION": "eu-central-1"}
    assert (named(made), made.mounts, made.host_names) == ({}, (), ())


def test_an_endpoint_of_its_own_has_keys_path_style_and_its_authority() -> None:
    secrets = {"access_key": "mlflow", "secret_key": "word", "ca_file": "-----BEGIN"}
    made = wired("s3://models/mlflow", secrets, endpoint="https://minio.example:9000", addressing="path")
    assert ours(made) == served("s3://models/mlflow") | {
        "MLFLOW_S3_ENDPOINT_URL": "https://minio.example:9000",
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
        "AWS_ACCESS_KEY_ID": "mlflow",
        "AWS_SECRET_ACCESS_KEY": "word",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": "/mlflow/private/artifacts-ca.pem",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    assert named(made) == {"artifacts-ca.pem": "-----BEGIN"}


def test_an_endpoint_on_this_machine_gets_its_name() -> None:
    made = wired("s3://models", endpoint="http://host.docker.internal:9000")
    assert made.host_names == ("host.docker.internal",)


# --- Google and Azure ---------------------------------------------------------------------------


def test_google_gets_the_service_accounts_key_as_a_file() -> None:
    text = json.dumps({"type": "service_account"})
    made = wired("gs://models/mlflow", {"key_file": text})
    assert ours(made) == served("gs://models/mlflow") | {
        "GOOGLE_APPLICATION_CREDENTIALS": "/mlflow/private/google-key.json"
    }
    assert named(made) == {"google-key.json": text}


def test_google_without_a_key_asks_for_the_machines_role() -> None:
    assert ours(wired("gs://models/mlflow")) == served("gs://models/mlflow")


@pytest.mark.parametrize(
    ("name", "variable"),
    [("secret_key", "AZURE_STORAGE_ACCESS_KEY"), ("connection_string", "AZURE_STORAGE_CONNECTION_STRING")],
)
def test_azure_gets_a_key_or_a_connection_string(name: str, variable: str) -> None:
    made = wired(AZURE, {name: "word"})
    assert ours(made) == served(AZURE) | {variable: "word"}


def test_azure_and_google_find_an_authority_of_their_own() -> None:
    for uri in (AZURE, "gs://models/mlflow"):
        made = wired(uri, {"ca_file": "-----BEGIN"})
        assert made.environment["REQUESTS_CA_BUNDLE"] == "/mlflow/private/artifacts-ca.pem"
        assert named(made) == {"artifacts-ca.pem": "-----BEGIN"}


# --- SFTP ---------------------------------------------------------------------------------------


def test_sftp_gets_its_key_and_the_hosts_key_where_they_are_looked_for() -> None:
    made = wired(SFTP, {"key_file": key(), "known_hosts": KNOWN})
    assert ours(made) == served(SFTP) | {"LOGNAME": "mlflow"}
    assert named(made) == {
        "ssh/key": key(),
        "ssh/config": "Host *\n  IdentityFile /mlflow/private/ssh/key\n",
        "ssh/known_hosts": f"files.example ssh-ed25519 {HOST_KEY}\n",
    }
    assert made.mounts == (Mount("/run/mlflowd/private/ssh", "/tmp/.ssh", read_only=True),)  # noqa: S108 - the container's


def test_a_password_of_sftp_stands_as_it_is_because_mlflow_decodes_nothing() -> None:
    made = wired(SFTP, {"password": "p%2F@:&=", "known_hosts": KNOWN})
    uri = made.environment["MLFLOW_ARTIFACTS_DESTINATION"]
    assert uri == "sftp://mlflow:p%2F@:&=@files.example:2222/srv/mlflow"
    assert (urlsplit(uri).password, urlsplit(uri).hostname) == ("p%2F@:&=", "files.example")
    assert set(named(made)) == {"ssh/known_hosts"}


@pytest.mark.parametrize("password", ["a/b", "a?b", "a#b", "a[b", "a b", "a\\b", "ä"])
def test_a_password_that_sftp_cannot_take_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(ConfigurationError, match=r"artifact_store\.password holds a character") as caught:
        wired(SFTP, {"password": password, "known_hosts": KNOWN})
    assert password not in str(caught.value)


def test_a_host_that_the_file_does_not_know_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no key of files\.example:2222"):
        wired(SFTP, {"password": "word", "known_hosts": "other.example ssh-ed25519 AAAA\n"})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (key(), ""),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n", ""),
        (key("ssh-ed25519"), "is of the type ssh-ed25519, and pysftp reads RSA keys alone"),
        (key(cipher="aes256-ctr"), "has a passphrase, which nobody could type"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE\n-----END RSA PRIVATE KEY-----\n",
            "has a passphrase, which nobody could type",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
            'has the format "Private Key", which pysftp does not read',
        ),
        ("ssh-rsa AAAA mlflow", "is no private key of OpenSSH"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "is damaged"),
    ],
)  # fmt: skip
def test_a_key_that_pysftp_cannot_use_is_told_by_its_text(text: str, fault: str) -> None:
    assert ssh.key_fault(text) == fault


def test_a_key_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"artifact_store\.key_file is of the type ssh-ed25519"):
        wired(SFTP, {"key_file": key("ssh-ed25519"), "known_hosts": KNOWN})


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    digest = hmac.digest(salt, name.encode(), hashlib.sha1)
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("line", "port", "found"),
    [
        ("files.example ssh-rsa KEY", 22, True),
        ("files.example ssh-rsa KEY", 2222, True),
        ("[files.example]:2222 ssh-rsa KEY comment", 2222, True),
        ("[files.example]:2222 ssh-rsa KEY", 22, False),
        ("Files.Example,192.0.2.7 ssh-rsa KEY", 22, True),
        ("*.example,!files.example ssh-rsa KEY", 22, False),
        ("*.example ssh-rsa KEY", 22, True),
        ("@revoked files.example ssh-rsa KEY", 22, False),
        ("# files.example ssh-rsa KEY", 22, False),
        (f"{hashed('files.example')} ssh-rsa KEY", 22, True),
        (f"{hashed('[files.example]:2222')} ssh-rsa KEY", 2222, True),
        (f"{hashed('other.example')} ssh-rsa KEY", 22, False),
        ("files.example ssh-dss KEY", 22, False),
        ("|1|broken ssh-rsa KEY", 22, False),
    ],
)
def test_a_line_of_known_hosts_is_read_as_openssh_reads_it(line: str, port: int, found: bool) -> None:
    assert ssh.host_key(line, "files.example", port) == ("files.example ssh-rsa KEY\n" if found else "")


def test_of_several_host_keys_the_best_is_given_because_pysftp_takes_the_first() -> None:
    lines = "h ssh-rsa ONE\nh ecdsa-sha2-nistp256 TWO\nh ssh-ed25519 THREE\n"
    assert ssh.host_key(lines, "h", 22) == "h ssh-ed25519 THREE\n"


# --- FTP ----------------------------------------------------------------------------------------


def test_a_password_of_ftp_is_encoded_because_mlflow_decodes_it() -> None:
    made = wired("ftp://mlflow@files.example/srv", {"password": "p@s/s w#rd"})
    uri = made.environment["MLFLOW_ARTIFACTS_DESTINATION"]
    assert unquote(urlsplit(uri).password or "") == "p@s/s w#rd"
    assert (urlsplit(uri).username, urlsplit(uri).path) == ("mlflow", "/srv")
    assert made.files == ()


def test_a_user_of_ftp_that_mlflow_would_not_decode_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the name of the user holds a character"):
        wired("ftp://ml%2Fflow@files.example/srv")


# --- all ----------------------------------------------------------------------------------------


def test_a_directory_is_mounted() -> None:
    made = wired("/srv/artifacts")
    assert ours(made) == served("/mlflow/artifacts")
    assert made.mounts == (Mount("/srv/artifacts", "/mlflow/artifacts"),)


@pytest.mark.parametrize("uri", ["s3://models", "gs://models", AZURE])
def test_clients_get_no_links_to_the_store_unless_wished(uri: str) -> None:
    made = wired(uri)
    assert made.environment["PYTHONPATH"] == "/mlflow/private/relay"
    assert {each.name for each in made.files} == {
        "relay/mlflowd_relay.py",
        "relay/mlflowd_relay-1.dist-info/METADATA",
        "relay/mlflowd_relay-1.dist-info/entry_points.txt",
    }
    assert "PYTHONPATH" not in wired(uri, signed_links=True).environment


def test_every_entry_point_of_the_plugin_has_its_function() -> None:
    files = {each.name.rpartition("/")[2]: each.content for each in wired("gs://models").files}
    lines = files["entry_points.txt"].splitlines()
    assert lines[0] == "[mlflow.artifact_repository]"
    functions = {node.name for node in ast.parse(files["mlflowd_relay.py"]).body if isinstance(node, ast.FunctionDef)}
    entries = dict(line.split(" = mlflowd_relay:") for line in lines[1:])
    assert set(entries) == {"s3", "gs", "wasbs", "sftp"}
    assert set(entries.values()) <= functions


def test_a_store_without_the_proxy_is_the_root_that_clients_are_given() -> None:
    made = wired("s3://models/mlflow", proxied=False)
    assert ours(made) == {"MLFLOW_DEFAULT_ARTIFACT_ROOT": "s3://models/mlflow", "MLFLOW_SERVE_ARTIFACTS": "false"}
    assert made.files == ()


@pytest.mark.parametrize(
    ("uri", "secrets"),
    [
        ("s3://models/mlflow", {"access_key": "first-word", "secret_key": "second-word"}),
        (AZURE, {"secret_key": "second-word"}),
        (AZURE, {"connection_string": "AccountKey=second-word"}),
        ("gs://models/mlflow", {"key_file": '{"private_key": "second-word"}'}),
        (SFTP, {"password": "second-word", "known_hosts": KNOWN}),
        ("ftp://mlflow@files.example/srv", {"password": "second-word"}),
    ],
)
def test_a_secret_is_in_the_container_and_in_no_text_about_it(uri: str, secrets: dict[str, str]) -> None:
    made = spec(uri, secrets)
    assert "second-word" in "".join(_contents(made))
    shown = [*made.argv, repr(made), made.digest, *(mount.source + mount.target for mount in made.mounts)]
    assert not any("second-word" in text or "first-word" in text for text in shown)


def _contents(made: ContainerSpec) -> list[str]:
    return [value for _, value in made.environment] + [each.content for each in made.files]
