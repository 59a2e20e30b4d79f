"""The login's wiring: MLflow's file, read as MLflow reads it, and the passwords that are refused."""

from __future__ import annotations

import configparser
from typing import Any

import pytest

from mlflowd.config import Settings
from mlflowd.errors import ConfigurationError, ExitStatus
from mlflowd.model import ContainerSpec, Image, Mount, Secrets
from mlflowd.server import command, login
from mlflowd.server.abilities import Abilities
from mlflowd.server.wiring import Machine, Wiring

ABLE = Abilities("3.17.2", "3.11.2", True, True, frozenset(), "0.54.0")
IMAGE = Image("sha256:" + "a" * 64, ("ghcr.io/mlflow/mlflow:v3.17.2",), {})
MACHINE = Machine(990, 991, state="/var/lib/mlflowd")
GOOD = "correct horse battery"


def settings(**login_keys: Any) -> Settings:
    return Settings(login={"enabled": True, "admin_password": "credential:admin-password", **login_keys})


def secrets(password: str = GOOD) -> Secrets:
    values = {"login.admin_password": password, "login.secret_key": "of-the-session", "login.probe_password": "probe"}
    return Secrets(values)


def wired(password: str = GOOD, **login_keys: Any) -> Wiring:
    return login.wiring(settings(**login_keys), secrets(password), MACHINE)


def read(wiring: Wiring) -> configparser.SectionProxy:
    """Read the file as mlflow/server/auth/config.py does."""
    parser = configparser.ConfigParser()
    parser.read_string(wiring.files[0].content)
    return parser["mlflow"]


def spec(password: str = GOOD, **login_keys: Any) -> ContainerSpec:
    return command.container_spec(settings(**login_keys), IMAGE, ABLE, MACHINE, secrets(password))


def test_without_a_login_nothing_is_added() -> None:
    assert login.wiring(Settings(), Secrets(), MACHINE) == Wiring()


def test_the_server_runs_with_basic_auth_and_keeps_its_users_in_the_state_directory() -> None:
    made = spec()
    assert made.argv[made.argv.index("--app-name") + 1] == "basic-auth"
    assert Mount("/var/lib/mlflowd/login", "/mlflow/login") in made.mounts
    assert Mount("/run/mlflowd/private", "/mlflow/private", read_only=True) in made.mounts
    assert dict(made.environment)["MLFLOW_AUTH_CONFIG_PATH"] == "/mlflow/private/basic_auth.ini"
    assert ("MLFLOW_FLASK_SERVER_SECRET_KEY", "of-the-session") in made.environment


def test_the_file_says_who_may_what_and_where_the_users_are() -> None:
    assert dict(read(wired(default_permission="NO_PERMISSIONS"))) == {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": "sqlite:////mlflow/login/basic_auth.db",
        "admin_username": "admin",
        "admin_password": GOOD,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": "60",
    }


@pytest.mark.parametrize(
    "password",
    [
        "100%secret%(x)s%%",
        "; a comment? # no",
        "# a comment? ; no",
        "quotes \"and\" 'so'",
        "key = value : value",
        "[section] $HOME `id`",
        "backslash \\n and \\",
    ],
)
def test_a_password_arrives_whatever_it_is_made_of(password: str) -> None:
    assert read(wired(password))["admin_password"] == password


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "it has 0 characters"),
        ("elevenchars", "it has 11 characters, and MLflow wants 12 or more"),
        ("password1234", "which everybody knows"),
        ("two lines\nof a password", "a line break"),
        ("a null\x00 in the middle", "a control character"),
        ("grüße-aus-köln", "a letter beyond ASCII"),
        ("half of a pair \ud83d", "a letter beyond ASCII"),
        (" begins with a space", "a space, which MLflow drops"),
        ("ends with a space ", "a space, which MLflow drops"),
    ],
)
def test_a_password_that_mlflow_would_not_take_is_refused_and_not_repeated(password: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        login.check(settings(), secrets(password))
    assert reason in caught.value.message
    assert caught.value.exit_status is ExitStatus.CONFIGURATION
    assert not password or password not in str(caught.value)
    with pytest.raises(ConfigurationError):
        wired(password)


def test_a_password_is_not_judged_where_nobody_logs_in() -> None:
    login.check(Settings(), Secrets())


def test_the_password_stands_in_the_private_file_alone() -> None:
    made = spec()
    assert GOOD in made.files[0].content
    assert not any(GOOD in value for _, value in made.environment)
    assert not any(GOOD in word for word in made.argv)
    assert GOOD not in repr(made) + repr(wired()) + repr(secrets())


def test_another_password_of_the_admin_is_no_reason_for_another_container() -> None:
    assert spec().digest == spec("another password").digest
    assert spec().files != spec("another password").files


def test_another_permission_is_one() -> None:
    assert spec().digest != spec(default_permission="EDIT").digest
