"""Where a deployment keeps its artifacts, and what clients are told of it. No effects.

Facts are of mlflow/server (3.3 to 3.17): clients are given --default-artifact-root; where that is missing, the proxy
(mlflow-artifacts:/) while artifacts are served, else ./mlruns. The proxy's files are in --artifacts-destination, or in
./mlartifacts.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from mlflowd.config import uris
from mlflowd.config.masking import mask
from mlflowd.config.uris import StoreKind
from mlflowd.operations.adoption.databases import local_path, this_machine

if TYPE_CHECKING:
    from mlflowd.operations.adoption.draft import Draft

_PROXY = ("mlflow-artifacts:", "http:", "https:")
_DESTINATION = "--artifacts-destination"
_S3 = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def read(draft: Draft) -> None:
    """Take over the artifact store."""
    told = draft.told
    if told.flag("--artifacts-only", default=False):
        draft.reason("It serves artifacts alone (--artifacts-only): it is no tracking server.")
    served = told.flag("--serve-artifacts", default=True)
    root = told.get("--default-artifact-root") or ("mlflow-artifacts:/" if served else _unserved(draft))
    destination = told.get(_DESTINATION)
    if root.startswith(_PROXY):
        if not served:
            draft.reason("Clients are told the proxy (--default-artifact-root), which is switched off.",
                         "take --no-serve-artifacts away")  # fmt: skip
        _proxied(draft, destination or "./mlartifacts")
    elif is_local(root):
        draft.store("root", local_path(root), "The artifact root")
        _proxied(draft, destination, old=True)
    else:
        _direct(draft, root, destination)


def _unserved(draft: Draft) -> str:
    """Return what clients are told where nothing says it and artifacts are not served."""
    files = draft.places.get("file_store")
    return str(files.path) if files else "./mlruns"


def is_local(uri: str) -> bool:
    """Whether a URI of artifacts is a path of the server's."""
    return "://" not in uri.replace("file://", "") and (":" not in uri.partition("/")[0] or uri.startswith("file:"))


def _proxied(draft: Draft, destination: str, *, old: bool = False) -> None:
    """Take over what the server hands on; where clients are told a path, there may be nothing yet (`old`)."""
    if is_local(destination):
        if destination or str(draft.place("./mlartifacts").path) in draft.facts.holding:
            draft.store("artifacts", local_path(destination or "./mlartifacts"), "The artifact directory")
        return
    if old:
        draft.reason("Clients are told a server path (--default-artifact-root), and the proxy has an object store "
                     f"({_DESTINATION}): mlflowd moves no files into one.",
                     "take --default-artifact-root away, make the container anew, and adopt then")  # fmt: skip
    _remote(draft, destination, proxied=True)


def _direct(draft: Draft, root: str, destination: str) -> None:
    """Take over a store that clients reach by themselves."""
    if destination and destination.rstrip("/") != root.rstrip("/"):
        draft.reason(f"There are two artifact stores: {mask(root)} (--default-artifact-root) and {mask(destination)} "
                     f"({_DESTINATION}).", "leave the one that is not used away")  # fmt: skip
        return
    _remote(draft, root, proxied=False)
    draft.note("Clients go on using the artifact store with credentials of their own (artifact_store.proxied = false).")


def _remote(draft: Draft, uri: str, *, proxied: bool) -> None:
    try:
        place = uris.artifacts(uri)
    except ValueError as error:
        draft.reason(f"The artifact store {mask(uri)} is none that mlflowd serves: {error}.", "see docs/stores.md")
        return
    draft.set("artifact_store", "uri", place.written())
    if not proxied:
        draft.set("artifact_store", "proxied", value=False)
    if place.kind is StoreKind.S3:
        _s3(draft)
    elif place.kind is StoreKind.AZURE:
        _azure(draft)
    elif place.kind is StoreKind.GCS:
        _google(draft)
    elif place.kind is StoreKind.FTP:
        _ftp(draft, place)
    else:
        draft.reason("Artifacts are on an SFTP server, whose host key and login are settings of the container's user.",
                     "write /etc/mlflowd.toml by hand: docs/stores.md, SFTP")  # fmt: skip


def _s3(draft: Draft) -> None:
    endpoint = next((value for name in _S3 if (value := draft.take(name))), "")
    if endpoint:
        parts = urlsplit(endpoint)
        host = this_machine(draft, parts.hostname or "")
        draft.hosts.append(host)
        port = f":{parts.port}" if parts.port else ""
        draft.set("artifact_store", "endpoint", urlunsplit((parts.scheme, host + port, "", "", "")))
    if region := draft.take("AWS_DEFAULT_REGION") or draft.take("AWS_REGION"):
        draft.set("artifact_store", "region", region)
    draft.take("AWS_REGION")
    if (style := draft.take("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE")) in {"path", "virtual"}:
        draft.set("artifact_store", "addressing", style)
    key, secret = draft.take("AWS_ACCESS_KEY_ID"), draft.take("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        draft.secret("artifact_store", "access_key", "s3-access-key", key)
        draft.secret("artifact_store", "secret_key", "s3-secret-key", secret)
    elif _mounted(draft, ".aws"):
        draft.reason("The keys of S3 are in a file that is mounted (~/.aws), which mlflowd does not mount.",
                     "give the container AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")  # fmt: skip
    if path := draft.take("AWS_CA_BUNDLE"):
        draft.set("artifact_store", "ca_file", draft.file(path, "AWS_CA_BUNDLE"))


def _azure(draft: Draft) -> None:
    connection, key = draft.take("AZURE_STORAGE_CONNECTION_STRING"), draft.take("AZURE_STORAGE_ACCESS_KEY")
    if connection:
        draft.secret("artifact_store", "connection_string", "azure-connection", connection)
    elif key:
        draft.secret("artifact_store", "secret_key", "azure-key", key)


def _google(draft: Draft) -> None:
    if not (path := draft.take("GOOGLE_APPLICATION_CREDENTIALS")):
        return
    draft.place(path)
    content = draft.facts.files.get(path, "")
    try:
        json.loads(content)
    except ValueError:
        draft.reason(f"GOOGLE_APPLICATION_CREDENTIALS names {path}, which is not there or is no JSON.")
        return
    draft.secret("artifact_store", "key_file", "google-key.json", content)


def _ftp(draft: Draft, place: uris.ArtifactUri) -> None:
    if place.password:
        draft.set("artifact_store", "uri", replace(place, password="").written())
        draft.secret("artifact_store", "password", "ftp-password", place.password)
    draft.hosts.append(place.host)


def _mounted(draft: Draft, name: str) -> bool:
    return any(name in mount.target.split("/") for mount in draft.container.mounts)
