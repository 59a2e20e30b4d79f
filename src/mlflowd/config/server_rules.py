"""What a person may hand to the server past mlflowd's own settings, and what mlflowd keeps for itself. No effects.

The options are those that `mlflow server --help` (3.17.2) and `python -m uvicorn --help` list, the variables those that
MLflow reads for them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Final

from mlflowd.config.notation import quoted, shown
from mlflowd.config.secret_sources import SecretSource, secret_table
from mlflowd.config.values import Fault, Kind, Wrong, entries, matching, text_of, texts, wrong

_PROBES: Final = "mlflowd needs it as it is"

RESERVED_ARGUMENTS: Final = {
    "--host": "server.listen",
    "-h": "server.listen",
    "--port": "server.listen",
    "-p": "server.listen",
    "--workers": "server.workers",
    "-w": "server.workers",
    "--backend-store-uri": "backend_store.uri",
    "--registry-store-uri": "backend_store.uri",
    "--read-replica-backend-store-uri": "backend_store.uri",
    "--artifacts-destination": "artifact_store.uri",
    "--default-artifact-root": "artifact_store.proxied",
    "--serve-artifacts": "artifact_store.proxied",
    "--no-serve-artifacts": "artifact_store.proxied",
    "--artifacts-only": "",
    "--uvicorn-opts": "server.uvicorn_options",
    "--gunicorn-opts": "server.uvicorn_options",
    "--waitress-opts": "server.uvicorn_options",
    "--dev": "",
    "--app-name": "login.enabled",
    "--allowed-hosts": "server.allowed_hosts",
    "--cors-allowed-origins": "server.cors_origins",
}
"""Arguments of `mlflow server` that mlflowd sets itself, and the key to use instead ("" where there is none)."""

RESERVED_OPTIONS: Final = {
    "--host": "server.listen",
    "--port": "server.listen",
    "--uds": "server.listen",
    "--fd": "server.listen",
    "--workers": "server.workers",
    "--timeout-graceful-shutdown": "server.graceful_timeout",
    "--access-log": "log.access",
    "--no-access-log": "log.access",
    "--ssl-keyfile": "",
    "--ssl-certfile": "",
    "--reload": "",
}
"""Options of uvicorn likewise."""

RESERVED_ENVIRONMENT: Final = {
    "MLFLOW_HOST": "server.listen",
    "MLFLOW_PORT": "server.listen",
    "MLFLOW_WORKERS": "server.workers",
    "MLFLOW_UVICORN_OPTS": "server.uvicorn_options",
    "MLFLOW_GUNICORN_OPTS": "server.uvicorn_options",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "server.jobs",
    "MLFLOW_DISABLE_TELEMETRY": "server.telemetry",
    "DO_NOT_TRACK": "server.telemetry",
    "MLFLOW_BACKEND_STORE_URI": "backend_store.uri",
    "MLFLOW_REGISTRY_STORE_URI": "backend_store.uri",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI": "backend_store.uri",
    "MLFLOW_TRACKING_URI": "backend_store.uri",
    "MLFLOW_ARTIFACTS_DESTINATION": "artifact_store.uri",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "artifact_store.proxied",
    "MLFLOW_SERVE_ARTIFACTS": "artifact_store.proxied",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "server.allowed_hosts",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "server.cors_origins",
    "MLFLOW_AUTH_CONFIG_PATH": "login.enabled",
    "MLFLOW_AUTH_ADMIN_USERNAME": "login.enabled",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "login.admin_password",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "login.enabled",
    "MLFLOW_S3_ENDPOINT_URL": "artifact_store.endpoint",
    "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "artifact_store.addressing",
    "MLFLOW_ARTIFACTS_ONLY": "",
    "HOME": "",
    "PYTHONPATH": "",
}
"""Variables that mlflowd sets in the container likewise."""


def _reserved(name: str, key: str) -> Fault:
    return Fault(f"{name} is set by mlflowd itself", f"use {key}" if key else _PROBES)


def _option_in(token: str, reserved: dict[str, str]) -> str | None:
    """Return the reserved option that a token of the command line is, "-p5000" and "--port=5000" included."""
    name = token.partition("=")[0] if token.startswith("--") else token[:2]
    return name if name in reserved else None


def _argument(token: str) -> Fault | None:
    name = _option_in(token, RESERVED_ARGUMENTS)
    return _reserved(name, RESERVED_ARGUMENTS[name]) if name else None


def _options(value: object) -> str:
    text = text_of(value)
    try:
        tokens = shlex.split(text)
    except ValueError:
        raise wrong("a quote is not closed") from None
    for token in tokens:
        if name := _option_in(token, RESERVED_OPTIONS):
            raise Wrong(_reserved(name, RESERVED_OPTIONS[name]))
    return text


def _variable(name: str, value: object) -> Fault | None:
    """Check one entry of server.environment; its value is never repeated, it may be a secret."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
        return Fault("not the name of an environment variable", "letters, digits, underscores")
    if name in RESERVED_ENVIRONMENT:
        return _reserved(name, RESERVED_ENVIRONMENT[name])
    if not isinstance(value, str):
        return Fault("expected text in quotes", "an environment variable is always text")
    if re.search(r"[\x00\ud800-\udfff]", value):
        return Fault("holds a NUL or a byte that is not UTF-8")
    return None


def _host(text: str) -> Fault | None:
    if re.fullmatch(
        r"[A-Za-z0-9*]([A-Za-z0-9*.-]*[A-Za-z0-9*])?(:([0-9]{1,5}|\*))?|\[[0-9a-fA-F:]+\](:([0-9]{1,5}|\*))?", text
    ):
        return None
    return Fault(f"{shown(text)} is no host name", 'such as "mlflow.example.org", without https:// and path')


def _web_origin(text: str) -> Fault | None:
    if text == "*" or re.fullmatch(r"https?://[A-Za-z0-9*\[][A-Za-z0-9*.:\]-]*", text):
        return None
    return Fault(f"{shown(text)} is no web origin", 'such as "https://notebooks.example.org", without a path')


def _package(requirement: str) -> Fault | None:
    if re.match(r"[A-Za-z0-9]", requirement.strip()):
        return None
    return Fault(f"{shown(requirement)} is not a Python package", f"such as {quoted('psycopg2-binary')}")


UvicornOptions = Annotated[str, Kind('options of uvicorn such as "--limit-concurrency 200"', _options)]
Arguments = Annotated[tuple[str, ...], texts('a list of texts such as ["--static-prefix", "/mlflow"]', _argument)]
Reference = Annotated[
    str,
    matching(
        'an image reference such as "ghcr.io/mlflow/mlflow:v3.17.2"',
        r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    ),
]
Packages = Annotated[tuple[str, ...], texts('a list of Python packages such as ["psycopg2-binary"]', _package)]
Environment = Annotated[Mapping[str, str], entries('a table of texts such as {TZ = "Europe/Berlin"}', _variable)]
Hosts = Annotated[tuple[str, ...], texts('a list of host names such as ["mlflow.example.org"]', _host)]
Origins = Annotated[
    tuple[str, ...], texts('a list of web origins such as ["https://notebooks.example.org"]', _web_origin)
]
ServerSecrets = Annotated[Mapping[str, SecretSource], secret_table(_variable)]
