"""How the server is given its artifact store: the URI, credentials and files of each kind. No effects.

Facts are of MLflow 3.17.2's repositories (mlflow/store/artifact) and the libraries that they use. What cannot work is
refused with the reason (ConfigurationError), which never repeats a secret.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mlflowd.config import reach
from mlflowd.config.uris import StoreKind
from mlflowd.errors import ConfigurationError
from mlflowd.model import Mount, PrivateFile
from mlflowd.server import ssh
from mlflowd.server.wiring import ARTIFACTS, PRIVATE, THIS_MACHINE, Machine, Wiring

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.config.settings import ArtifactStoreSettings
    from mlflowd.config.uris import ArtifactUri
    from mlflowd.model import Secrets

_CA: Final = "artifacts-ca.pem"
_GOOGLE_KEY: Final = "google-key.json"
_SSH: Final = "ssh"
_SSH_KEY: Final = f"{_SSH}/key"
_HOME_SSH: Final = "/tmp/.ssh"  # noqa: S108 - the container's own; HOME is /tmp
_RELAY: Final = "relay"
_RELAY_FILES: Final = (
    "mlflowd_relay.py",
    "mlflowd_relay-1.dist-info/METADATA",
    "mlflowd_relay-1.dist-info/entry_points.txt",
)
"""A plugin of MLflow that keeps links to the store from the clients, and opens SFTP's connections again."""
_ON_REQUIREMENT: Final = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}
"""boto3 from 1.36 on adds checksums of Amazon's own to every upload, which many other stores refuse."""


def wiring(settings: Settings, secrets: Secrets, machine: Machine) -> Wiring:
    """Return what the artifact store needs. Raises ConfigurationError for a secret that MLflow could not use."""
    store = settings.artifact_store
    if store.directory is not None:
        return Wiring(
            environment={"MLFLOW_ARTIFACTS_DESTINATION": ARTIFACTS, "MLFLOW_SERVE_ARTIFACTS": "true"},
            mounts=(Mount(str(store.directory), ARTIFACTS),),
        )
    made = _KINDS[store.place.kind](store, secrets, machine)
    reached = Wiring(host_names=(THIS_MACHINE,) if reach.artifact_host(store) == THIS_MACHINE else ())
    return _served(store, _uri(store.place, secrets)) | made | _relay(store) | reached


def check(settings: Settings, secrets: Secrets) -> None:
    """Refuse what `wiring` refuses, before there is an image to describe a container with."""
    wiring(settings, secrets, Machine(0, 0))


def _served(store: ArtifactStoreSettings, uri: str) -> Wiring:
    """Return how clients get at the artifacts: by the server, or each by itself."""
    if store.proxied:
        return Wiring(environment={"MLFLOW_ARTIFACTS_DESTINATION": uri, "MLFLOW_SERVE_ARTIFACTS": "true"})
    return Wiring(environment={"MLFLOW_DEFAULT_ARTIFACT_ROOT": uri, "MLFLOW_SERVE_ARTIFACTS": "false"})


def _relay(store: ArtifactStoreSettings) -> Wiring:
    """Return the plugin by which all artifacts go through the server."""
    kind = store.place.kind
    if not store.proxied or kind is StoreKind.FTP or (store.signed_links and kind is not StoreKind.SFTP):
        return Wiring()
    source = resources.files("mlflowd.server").joinpath(_RELAY)
    texts = {name: source.joinpath(name).read_text(encoding="utf-8") for name in _RELAY_FILES}
    return Wiring(
        environment={"PYTHONPATH": f"{PRIVATE}/{_RELAY}"},
        files=tuple(PrivateFile(f"{_RELAY}/{name}", text) for name, text in texts.items()),
    )


def _uri(place: ArtifactUri, secrets: Secrets) -> str:
    """Return the URI as MLflow's repository reads it."""
    password = secrets.get("artifact_store.password") or place.password
    if place.kind not in {StoreKind.SFTP, StoreKind.FTP}:
        return place.written()
    _check_plain("artifact_store.uri: the name of the user", place.user, ":")
    if place.kind is StoreKind.SFTP:  # its repository decodes nothing, that of FTP the password alone
        _check_plain("artifact_store.password", password)
    else:
        password = quote(password, safe="")
    login = place.user + (f":{password}" if password else "")
    host = f"[{place.host}]" if ":" in place.host else place.host
    port = f":{place.port}" if place.port else ""
    return f"{place.kind}://{login}{'@' if login else ''}{host}{port}{place.path}"


def _check_plain(what: str, text: str, further: str = "") -> None:
    """Refuse what cannot stand in the login's part of a URI that MLflow does not decode."""
    if all("!" <= each <= "~" and each not in f"/?#[]\\{further}" for each in text):
        return
    raise ConfigurationError(
        f"{what} holds a character that MLflow cannot take for this kind of store.",
        f"it decodes nothing there: change it to ASCII without blanks and without / ? # [ ] \\ {further}".rstrip(),
    )


# --- the kinds ----------------------------------------------------------------------------------


def _s3(store: ArtifactStoreSettings, secrets: Secrets, machine: Machine) -> Wiring:
    del machine
    ca = secrets.get("artifact_store.ca_file")
    values = {
        "MLFLOW_S3_ENDPOINT_URL": store.endpoint,
        "AWS_DEFAULT_REGION": store.region,
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": store.addressing if store.addressing != "auto" else "",
        "AWS_ACCESS_KEY_ID": (key := secrets.get("artifact_store.access_key")),
        "AWS_SECRET_ACCESS_KEY": secrets.get("artifact_store.secret_key"),
        # With keys, nobody asks a cloud's metadata service: where there is none that costs seconds.
        "AWS_EC2_METADATA_DISABLED": "true" if key else "",
        "AWS_CA_BUNDLE": f"{PRIVATE}/{_CA}" if ca else "",
    } | (_ON_REQUIREMENT if store.endpoint else {})
    return Wiring(_filled(values), _file(_CA, ca))


def _gcs(store: ArtifactStoreSettings, secrets: Secrets, machine: Machine) -> Wiring:
    del store, machine
    key, ca = secrets.get("artifact_store.key_file"), secrets.get("artifact_store.ca_file")
    values = {
        "GOOGLE_APPLICATION_CREDENTIALS": f"{PRIVATE}/{_GOOGLE_KEY}" if key else "",
        "REQUESTS_CA_BUNDLE": f"{PRIVATE}/{_CA}" if ca else "",
    }
    return Wiring(_filled(values), _file(_GOOGLE_KEY, key) + _file(_CA, ca))


def _azure(store: ArtifactStoreSettings, secrets: Secrets, machine: Machine) -> Wiring:
    """Return a connection string or a key; with neither, MLflow asks azure-identity for the machine's role."""
    del store, machine
    ca = secrets.get("artifact_store.ca_file")
    values = {
        "AZURE_STORAGE_CONNECTION_STRING": secrets.get("artifact_store.connection_string"),
        "AZURE_STORAGE_ACCESS_KEY": secrets.get("artifact_store.secret_key"),
        # The repository leaves the check to requests, which takes its authorities from this variable.
        "REQUESTS_CA_BUNDLE": f"{PRIVATE}/{_CA}" if ca else "",
    }
    return Wiring(_filled(values), _file(_CA, ca))


def _sftp(store: ArtifactStoreSettings, secrets: Secrets, machine: Machine) -> Wiring:
    """Return ~/.ssh: MLflow reads config there for the private key, and pysftp known_hosts for the host's key."""
    place, key = store.place, secrets.get("artifact_store.key_file")
    files = _file(_SSH_KEY, key) + (
        _file(f"{_SSH}/config", f"Host *\n  IdentityFile {PRIVATE}/{_SSH_KEY}\n") if key else ()
    )
    if fault := ssh.key_fault(key) if key else "":
        raise ConfigurationError(
            f"artifact_store.key_file {fault}.",
            "ssh-keygen -t rsa -b 3072 -N '' -f mlflow-key, and its .pub to the server's authorized_keys",
        )
    if known := secrets.get("artifact_store.known_hosts"):
        files += _file(f"{_SSH}/known_hosts", _host_key(known, place))
    return Wiring(
        # paramiko asks for the name of the process's user, and the image has none for the service user's number.
        environment={"LOGNAME": place.user},
        files=files,
        mounts=(Mount(f"{machine.private}/{_SSH}", _HOME_SSH, read_only=True),) if files else (),
    )


def _host_key(known_hosts: str, place: ArtifactUri) -> str:
    host, port = place.host.lower(), place.port or 22
    if line := ssh.host_key(known_hosts, host, port):
        return line
    raise ConfigurationError(
        f"artifact_store.known_hosts has no key of {place.address}.",
        f"ssh-keyscan -p {port} {host}, and compare the key with the server's own before you keep it",
    )


def _ftp(store: ArtifactStoreSettings, secrets: Secrets, machine: Machine) -> Wiring:
    del store, secrets, machine
    return Wiring()


_KINDS: Final = {
    StoreKind.S3: _s3,
    StoreKind.GCS: _gcs,
    StoreKind.AZURE: _azure,
    StoreKind.SFTP: _sftp,
    StoreKind.FTP: _ftp,
}


def _filled(values: dict[str, str]) -> dict[str, str]:
    """Return the variables that have a value: an empty one is another thing than none to most libraries."""
    return {name: value for name, value in values.items() if value}


def _file(name: str, text: str) -> tuple[PrivateFile, ...]:
    return (PrivateFile(name, text),) if text else ()
