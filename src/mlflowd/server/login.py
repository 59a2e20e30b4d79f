"""MLflow's basic-auth: its configuration file, its database's place, its command line. No effects.

Facts are of mlflow/server/auth/{__init__,config}.py of 3.17.2, compared with 3.10.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflowd.errors import ConfigurationError
from mlflowd.model import Mount, PrivateFile
from mlflowd.server.wiring import LOGIN, PRIVATE, Machine, Wiring

if TYPE_CHECKING:
    from mlflowd.config import Settings
    from mlflowd.model import Secrets

ADMIN = "admin"
PROBE = "mlflowd-probe"
"""The user that mlflowd's own probes log in as."""
FILE = "basic_auth.ini"
DATABASE = "basic_auth.db"
DIRECTORY = "login"
"""Of the state directory: it holds the users, and is mounted."""
CACHE_SECONDS = 60
"""How long a worker believes a password without computing its hash again; MLflow's own default is not at all.

A hash costs 0.1 s of a processor and 32 MB for a moment, and a request of a user who is no admin asks for four: without
the cache each probe of the database takes 0.42 s, with it 9 ms (docs/login.md). The price: with several workers, those
that did not handle a change take the old password, or the deleted user, for up to this long."""

ADMIN_PASSWORD = "login.admin_password"  # noqa: S105 - the key of the configuration
PROBE_PASSWORD = "login.probe_password"  # noqa: S105 - likewise
SECRET_KEY = "login.secret_key"  # noqa: S105 - likewise
LEAST = 12
"""Characters of a password: MLflow's own rule since 3.0, refused by its server in the middle of a start."""
_SHIPPED = "password1234"
"""What MLflow shipped as the admin's password until 3.15 (GHSA-gq3w-7jj3-x7gr), and refuses since."""
_FUNCTION = "mlflow.server.auth:authenticate_request_basic_auth"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""What would end the line of the file, or be lost in it."""
_ELSEWHERE = f"put another password where {ADMIN_PASSWORD} says"


def wiring(settings: Settings, secrets: Secrets, machine: Machine) -> Wiring:
    """Return what the login needs; nothing where it is off. Raises ConfigurationError as `check` does."""
    if not settings.login.enabled:
        return Wiring()
    check(settings, secrets)
    return Wiring(
        environment={
            "MLFLOW_AUTH_CONFIG_PATH": f"{PRIVATE}/{FILE}",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.get(SECRET_KEY),
        },
        # In the file and not in the environment, because MLflow before 3.16 reads it from the file alone. It matters
        # when the user is made: that it changed later is no reason for another container.
        files=(PrivateFile(FILE, _file(settings, secrets.get(ADMIN_PASSWORD)), counted=_file(settings, "")),),
        mounts=(Mount(f"{machine.state}/{DIRECTORY}", LOGIN),),
        arguments=("--app-name", "basic-auth"),
    )


def check(settings: Settings, secrets: Secrets) -> None:
    """Refuse an admin's password that MLflow would refuse, or would read as another. Raises ConfigurationError.

    The reason never repeats the password.
    """
    if not settings.login.enabled:
        return
    password = secrets.get(ADMIN_PASSWORD)
    if reason := fault(password):
        message = f"The password of {ADMIN_PASSWORD} will not do: {reason}."
        raise ConfigurationError(message, _ELSEWHERE)


def fault(password: str) -> str:
    """Return why MLflow would refuse this password of an admin, or read it as another; "" for one that will do."""
    if len(password) < LEAST:
        return f"it has {len(password)} characters, and MLflow wants {LEAST} or more"
    if password == _SHIPPED:
        return "it is the one that MLflow used to ship, which everybody knows"
    if not password.isascii():
        # _authenticate_fastapi_request of mlflow/server/auth, seen with 3.17.2: search works, an upload gets 401.
        return "it holds a letter beyond ASCII, with which MLflow refuses every artifact"
    if _CONTROL.search(password):
        return "it holds a control character or a line break"
    if password != password.strip():
        return "it begins or ends with a space, which MLflow drops"
    return ""


def _file(settings: Settings, password: str) -> str:
    """Return MLflow's own file; configparser takes "%" for an interpolation unless it is doubled."""
    entries = {
        "default_permission": settings.login.default_permission,
        "database_uri": f"sqlite:///{LOGIN}/{DATABASE}",
        "admin_username": ADMIN,
        "admin_password": password,
        "authorization_function": _FUNCTION,
        "auth_cache_ttl_seconds": str(CACHE_SECONDS),
    }
    lines = [f"{name} = {value.replace('%', '%%')}" for name, value in entries.items()]
    return "\n".join(["[mlflow]", *lines, ""])
