"""What a try of a remote artifact store means for a start: the inquiry's answer as a finding. No effects.

A store that is away is a warning, since tracking works without it; one that refuses the credentials, or is not there,
is a failure: each upload would fail until a person has seen to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mlflowd.config.uris import StoreKind
from mlflowd.server.inquiry import PATIENCE, Answer, Kind
from mlflowd.server.schema import RESTART
from mlflowd.stores.findings import fine, refused, warning

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.config.settings import ArtifactStoreSettings
    from mlflowd.model import Finding

_NAME: Final = "artifact store"
_MEANWHILE: Final = "tracking works meanwhile, artifacts do not"

_SENTENCES: Final = {
    Kind.NO_HOST: ("host", "There is no host named {host} ({key}).", f"getent hosts {{host}}; {_MEANWHILE}"),
    Kind.NO_NAMES: (
        "host",
        "The name {host} cannot be looked up: no name server answers the container.",
        f"getent hosts {{host}}; cat /etc/resolv.conf; {_MEANWHILE}",
    ),
    Kind.REFUSED: (
        "host",
        "{where} refuses connections: no {product} listens there.",
        f"see whether it runs and listens on this address ({{key}}); {_MEANWHILE}",
    ),
    Kind.NO_ROUTE: ("host", "There is no route to {where}.", f"ip route get {{host}}; {_MEANWHILE}"),
    Kind.SILENT: (
        "host",
        f"{{where}} does not answer within {PATIENCE} s.",
        f"see whether it runs, and whether a firewall drops what goes there; {_MEANWHILE}",
    ),
    Kind.CLOSED: (
        "host",
        "{where} closes the connection before it has answered.",
        f"see whether it is {{article}} {{product}} that listens there; {_MEANWHILE}",
    ),
    Kind.BUSY: ("host", "{where} cannot serve now: {said}.", f"see its own log; {_MEANWHILE}"),
    Kind.CLOCK: (
        "login",
        "{where} refuses the credentials because this machine's clock differs from its own.",
        "timedatectl set-ntp true",
    ),
    Kind.LOGIN: ("login", "{where} refuses the credentials: {said}.", "correct {keys}; then: {start}"),
    Kind.NO_LOGIN: (
        "login",
        "{where} wants credentials, and there are none.",
        "set {keys} in /etc/mlflowd.toml (docs/secrets.md); then: {start}",
    ),
    Kind.ABSENT: (
        "{thing}",
        "The {thing} {name} does not exist or is not readable with these credentials.",
        "make it, or correct artifact_store.uri or {keys}; then: {start}",
    ),
    Kind.DENIED: (
        "{thing}",
        "The {thing} {name} does not exist or is not readable with these credentials.",
        "give the account the right to list, read, write and delete there, or correct {keys}; then: {start}",
    ),
    Kind.TLS: (
        "TLS",
        "There is no encrypted connection to {where}: {said}.",
        (
            "name the certificate authority that signed its certificate in artifact_store.ca_file, a PEM file; then: "
            "{start}"
        ),
    ),
    Kind.HOST_KEY: (
        "host key",
        "The host key of {where} is not known, so it could be anybody.",
        (
            "ssh-keyscan -p {port} {host} | sudo tee /etc/mlflowd/known_hosts; compare the key with the server's own "
            '(ssh-keygen -lf), then set artifact_store.known_hosts = "/etc/mlflowd/known_hosts"; then: {start}'
        ),
    ),
    Kind.HOST_KEY_OTHER: (
        "host key",
        "{where} has another host key than artifact_store.known_hosts says: it may be somebody else.",
        (
            "where its administrator confirms the new key: ssh-keyscan -p {port} {host} | sudo tee "
            "/etc/mlflowd/known_hosts, the file of artifact_store.known_hosts; then: {start}"
        ),
    ),
    Kind.KEY: (
        "key",
        "The private key of artifact_store.key_file cannot be used: {said}.",
        "MLflow's SFTP reads RSA keys without a passphrase: ssh-keygen -t rsa -b 3072 -m PEM -N ''; then: {start}",
    ),
    Kind.REGION: (
        "region",
        "The bucket {name} is in another region: {said}.",
        "set artifact_store.region to the bucket's; then: {start}",
    ),
    Kind.DRIVER: (
        "driver",
        "The image lacks what the artifact store needs: {said}.",
        "name the package in image.packages, or use an image that has it; then: {start}",
    ),
    Kind.OTHER: ("", "{where} cannot be used: {said}.", f"see the store's own log; {_MEANWHILE}"),
}
_UNWRITABLE: Final = "Nothing can be written to the {thing} {name} with these credentials."
_UNREADABLE: Final = "What was written to the {thing} {name} cannot be read with these credentials."
_UNDELETED: Final = "Nothing can be deleted from the {thing} {name}: {said}."
_KEYS: Final = {
    StoreKind.S3: "artifact_store.access_key and artifact_store.secret_key",
    StoreKind.GCS: "artifact_store.key_file",
    StoreKind.AZURE: "artifact_store.secret_key or artifact_store.connection_string",
    StoreKind.SFTP: "the user in artifact_store.uri and artifact_store.password or artifact_store.key_file",
    StoreKind.FTP: "the user in artifact_store.uri and artifact_store.password",
}
_THINGS: Final = {StoreKind.S3: "bucket", StoreKind.GCS: "bucket", StoreKind.AZURE: "container"}
_PRODUCTS: Final = {
    StoreKind.S3: ("an", "S3 server"),
    StoreKind.GCS: ("a", "Google Cloud Storage"),
    StoreKind.AZURE: ("an", "Azure Blob server"),
    StoreKind.SFTP: ("an", "SFTP server"),
    StoreKind.FTP: ("an", "FTP server"),
}


def check(settings: Settings, answer: Answer) -> Finding:
    """Return what is to be said of an artifact store that was tried."""
    words = _words(settings.artifact_store, answer)
    if answer.kind is Kind.OK:
        return fine(_NAME, "the {thing} {name} keeps, gives back and deletes an object".format_map(words))
    if answer.kind is Kind.UNASKED:
        message = "The image took too long to load what it needs to try the artifact store."
        return warning(_NAME, message, "see what keeps this machine busy: top")
    check, sentence, remedy = _SENTENCES[answer.kind]
    if answer.kind is Kind.DENIED:
        sentence = {"write": _UNWRITABLE, "read": _UNREADABLE, "delete": _UNDELETED}.get(answer.step, sentence)
    name = f"{_NAME}: {check}".format_map(words).removesuffix(": ")
    found = refused(name, sentence.format_map(words), remedy.format_map(words))
    if answer.kind.away or answer.kind in {Kind.OTHER, Kind.CLOCK} or answer.step == "delete":
        return warning(found.check, found.message, found.remedy)
    return found


def _words(store: ArtifactStoreSettings, answer: Answer) -> dict[str, str]:
    place = store.place
    endpoint = urlsplit(store.endpoint)
    host = endpoint.hostname or place.host or _implied(place.kind)
    port = endpoint.port or place.port or {StoreKind.SFTP: 22, StoreKind.FTP: 21}.get(place.kind)
    article, product = _PRODUCTS[place.kind]
    return {
        "host": host,
        "port": str(port or ""),
        "where": f"{host}:{port}" if port else host,
        "key": "artifact_store.endpoint" if endpoint.hostname else "artifact_store.uri",
        "keys": _KEYS[place.kind],
        "thing": _THINGS.get(place.kind, "directory"),
        "name": place.bucket or place.path or "/",
        "article": article,
        "product": product,
        "said": answer.said.rstrip("."),
        "start": RESTART,
    }


def _implied(kind: StoreKind) -> str:
    """Return what people call the one place that a kind of store has without a host of its own."""
    return {StoreKind.S3: "Amazon S3", StoreKind.GCS: "Google Cloud Storage"}.get(kind, kind)
