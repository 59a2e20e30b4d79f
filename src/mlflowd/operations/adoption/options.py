"""The other options of the server: processes, names, login, what its programs are told. No effects."""

from __future__ import annotations

import re
import shlex
from configparser import ConfigParser, Error
from typing import TYPE_CHECKING

from mlflowd.config import uris
from mlflowd.config.uris import Dialect
from mlflowd.server import login

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflowd.operations.adoption.draft import Draft

_JOBS_SINCE = (3, 9)
_SHIPPED_UNTIL = (3, 15)
_MOST_WORKERS = 64
_PASSED = ("--static-prefix", "--x-frame-options", "--secrets-cache-ttl", "--secrets-cache-max-size")
"""Options that go on to the server as they are."""
_OURS = {"--host", "--port", "--workers", "--access-log", "--no-access-log", "--reload", "--log-level", "--log-config"}
"""Options of uvicorn that mlflowd sets, or that have a place of their own."""
_TLS = re.compile(r"--(?:ssl-\w+|certfile|keyfile|ca-certs|fd|uds|bind)\b|(?<!\S)-b\b")
_MIDDLEWARE = ("localhost", "127.0.0.1", "[::1]", "[[]::1]", "0.0.0.0", "10.", "192.168.", "172.", "fc00:", "fd00:")  # noqa: S104 - header values
"""What entries of MLflow's own list of hosts begin with."""
_HOST = re.compile(r"[A-Za-z0-9*][A-Za-z0-9*.-]*(:([0-9]{1,5}|\*))?")


def read(draft: Draft, version: tuple[int, ...]) -> None:
    """Take over what is no store."""
    told = draft.told
    for option in told.unknown:
        draft.reason(f"MLflow is told {option}, which mlflowd does not know.", "take it away, if it is not needed")
    if (workers := told.get("--workers")).isdigit() and workers != "0":
        draft.set("server", "workers", min(int(workers), _MOST_WORKERS))
    for option in _PASSED:
        if value := told.get(option):
            draft.extend("server", "extra_arguments", f"{option}={value}")
    for flag in ("--disable-security-middleware", "--enable-workspaces"):
        if told.flag(flag, default=False):
            draft.extend("server", "extra_arguments", flag)
    if told.get("--trace-archival-config"):
        draft.reason("Traces are archived by a file inside the container (--trace-archival-config).", "take it away")
    _programs(draft)
    _metrics(draft)
    _names(draft)
    _jobs(draft, version)
    _login(draft, version)


def _programs(draft: Draft) -> None:
    """Take over the options of the web server below MLflow."""
    for option in ("--uvicorn-opts", "--gunicorn-opts"):
        if found := _TLS.search(draft.told.get(option)):
            draft.reason(f"The server is told {found[0]} ({option}), which mlflowd has no place for.",
                         "let a proxy in front of it do TLS, and publish a port")  # fmt: skip
    if draft.told.get("--gunicorn-opts") or draft.told.get("--waitress-opts"):
        draft.note("The server runs under uvicorn from now on; options of gunicorn are not carried over.")
    try:
        words = shlex.split(draft.told.get("--uvicorn-opts"))
    except ValueError:
        draft.reason("The options of uvicorn (--uvicorn-opts) have a quote that is not closed.")
        return
    rest = shlex.join(_uvicorn(draft, iter(words)))
    if rest:
        draft.set("server", "uvicorn_options", rest)


def _uvicorn(draft: Draft, words: Iterator[str]) -> Iterator[str]:
    """Yield the options of uvicorn that are not mlflowd's own."""
    for word in words:
        name, mark, value = word.partition("=")
        if name == "--timeout-graceful-shutdown":
            seconds = value if mark else next(words, "")
            if seconds.isdigit() and seconds != "0":
                draft.set("server", "graceful_timeout", f"{seconds}s")
                if int(seconds) >= 30:  # noqa: PLR2004 - container.stop_grace as shipped, which must be longer
                    draft.set("container", "stop_grace", f"{int(seconds) + 20}s")
        elif name in {"--access-log", "--no-access-log", "--reload"}:
            continue
        elif name in _OURS:
            _ = None if mark else next(words, "")
        else:
            yield word


def _metrics(draft: Draft) -> None:
    if not (directory := draft.told.get("--expose-prometheus")):
        return
    # The root is read-only: the counters go to the container's /tmp, where a restart empties them, as it should.
    draft.extend("server", "extra_arguments", "--expose-prometheus=/tmp/prometheus")
    draft.extend("image", "packages", "prometheus-flask-exporter")
    draft.note(f"The files of --expose-prometheus go to /tmp/prometheus in the container instead of {directory}.")


def _names(draft: Draft) -> None:
    hosts = [each.strip() for each in draft.told.get("--allowed-hosts").split(",") if each.strip()]
    origins = [each.strip() for each in draft.told.get("--cors-allowed-origins").split(",") if each.strip()]
    more = [each for each in hosts if not each.startswith(_MIDDLEWARE)]
    if "*" in more:
        more = ["*"]
    for each in more:
        if not _HOST.fullmatch(each):
            draft.reason(f"The entry {each!r} of --allowed-hosts is no host name that mlflowd takes.")
    # name and name:* are one entry of mlflowd's
    kept = [each for each in more if not (each.endswith(":*") and each[:-2] in more)]
    if kept:
        draft.set(
            "server", "allowed_hosts", [each.removesuffix(":*") if "*" not in each[:-2] else each for each in kept]
        )
    if origins:
        draft.set("server", "cors_origins", origins)


def _jobs(draft: Draft, version: tuple[int, ...]) -> None:
    wanted = draft.take("MLFLOW_SERVER_ENABLE_JOB_EXECUTION").lower()
    if wanted in {"true", "1"}:
        draft.set("server", "jobs", value=True)
    elif not wanted and version >= _JOBS_SINCE:
        draft.note("MLflow's background jobs are off from now on (GenAI scoring, trace archival; 1 GiB of memory): "
                   "server.jobs = true brings them back.")  # fmt: skip


# --- basic-auth ---------------------------------------------------------------------------------


def _login(draft: Draft, version: tuple[int, ...]) -> None:
    app = draft.told.get("--app-name")
    path, password = draft.take("MLFLOW_AUTH_CONFIG_PATH"), draft.take("MLFLOW_AUTH_ADMIN_PASSWORD")
    draft.take("MLFLOW_FLASK_SERVER_SECRET_KEY")
    user = draft.take("MLFLOW_AUTH_ADMIN_USERNAME")
    if not app:
        return
    if app != "basic-auth":
        draft.reason(f"MLflow runs the application {app!r} (--app-name); mlflowd knows basic-auth alone.")
        return
    told = _ini(draft, path)
    if told is None:
        return
    if (function := told.get("authorization_function", "")) and not function.endswith(
        "authenticate_request_basic_auth"
    ):
        draft.reason(f"Users log in by {function}, a function of somebody's own.")
    if (admin := user or told.get("admin_username") or login.ADMIN) != login.ADMIN:
        draft.reason(f"The login's administrator is {admin!r}; mlflowd's is {login.ADMIN!r}.",
                     f"make a user {login.ADMIN!r} who is one, and name it in MLflow's configuration")  # fmt: skip
    _users(draft, told.get("database_uri") or "sqlite:///basic_auth.db")
    password = password or told.get("admin_password", "") or ("password1234" if version <= _SHIPPED_UNTIL else "")
    _password(draft, password)
    draft.set("login", "enabled", value=True)
    if told.get("default_permission"):
        draft.set("login", "default_permission", told["default_permission"].upper())
    draft.note("Whoever is logged in to MLflow's pages has to log in again.")


def _ini(draft: Draft, path: str) -> Mapping[str, str] | None:
    if not path:
        return {}
    draft.place(path)
    parser = ConfigParser()
    try:
        parser.read_string(draft.facts.files.get(path, ""))
        return dict(parser["mlflow"])
    except (Error, KeyError):
        draft.reason(f"The login's configuration {path} (MLFLOW_AUTH_CONFIG_PATH) is not there or cannot be read.")
        return None


def _users(draft: Draft, uri: str) -> None:
    if not uri.startswith("sqlite:") or uris.database(uri).dialect is not Dialect.SQLITE:
        draft.reason("The users of the login are in a database server; mlflowd keeps them in a file of its own.")
        return
    draft.store("login", uri.partition("://")[2].partition("?")[0].removeprefix("/"), "The database of users")


def _password(draft: Draft, password: str) -> None:
    draft.secret("login", "admin_password", "admin-password", password)
    if fault := login.fault(password):
        draft.reason(f"The password of the user {login.ADMIN} will not do: {fault}.",
                     "change it in MLflow and in its configuration (or MLFLOW_AUTH_ADMIN_PASSWORD)")  # fmt: skip
