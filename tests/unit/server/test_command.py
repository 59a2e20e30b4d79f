"""The container that settings and abilities make."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from mlflowd.config import Settings
from mlflowd.model import Address, ContainerSpec, Image, Mount
from mlflowd.server import command
from mlflowd.server.abilities import Abilities
from mlflowd.server.wiring import Machine

ABLE = Abilities("3.17.2", "3.11.2", True, True, frozenset(), "0.54.0")
IMAGE = Image("sha256:" + "a" * 64, ("ghcr.io/mlflow/mlflow:v3.17.2",), {})
GIB = 2**30


def spec(able: Abilities = ABLE, memory: int = 8 * GIB, **sections: Any) -> ContainerSpec:
    return command.container_spec(Settings(**sections), IMAGE, able, Machine(990, 991, memory))


def option(argv: tuple[str, ...], name: str) -> str:
    return argv[argv.index(name) + 1]


def environment(**sections: Any) -> dict[str, str]:
    return dict(spec(**sections).environment)


def test_the_defaults_make_a_server_on_sqlite_with_proxied_artifacts() -> None:
    made = spec()
    assert made.argv[:8] == ("mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "2")  # noqa: S104 - inside the container
    assert dict(made.environment) == {
        "HOME": "/tmp",  # noqa: S108 - the container's own
        "MLFLOW_ARTIFACTS_DESTINATION": "/mlflow/artifacts",
        "MLFLOW_BACKEND_STORE_URI": "sqlite:////mlflow/backend/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVE_ARTIFACTS": "true",
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "80",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert made.mounts == (
        Mount("/var/lib/mlflowd/backend", "/mlflow/backend"),
        Mount("/var/lib/mlflowd/artifacts", "/mlflow/artifacts"),
    )
    assert (made.user, made.image_id, made.memory) == ("990:991", IMAGE.id, 21 * GIB // 4)
    assert (made.tmpfs_size, made.shm_size, made.pids, made.stop_grace) == (2 * GIB, GIB // 4, 1024, 30)


def test_the_port_of_the_server_is_not_the_port_of_the_user() -> None:
    made = spec(server={"listen": "192.0.2.1:8080"})
    assert (made.publish, made.port) == (Address("192.0.2.1", 8080), 5000)
    assert option(made.argv, "--port") == "5000"


def test_workers_are_two_with_uvloop_and_one_without() -> None:
    assert option(spec().argv, "--workers") == "2"
    assert option(spec(replace(ABLE, uvloop=False)).argv, "--workers") == "1"
    assert option(spec(server={"workers": 5}).argv, "--workers") == "5"


def test_the_directory_of_the_database_is_mounted_and_its_file_name_kept() -> None:
    made = spec(
        backend_store={"uri": "sqlite:////srv/ml flow/tracking.sqlite"}, artifact_store={"uri": "file:///data/a"}
    )
    assert made.mounts == (Mount("/srv/ml flow", "/mlflow/backend"), Mount("/data/a", "/mlflow/artifacts"))
    assert dict(made.environment)["MLFLOW_BACKEND_STORE_URI"] == "sqlite:////mlflow/backend/tracking.sqlite"


def test_uvicorn_gets_the_settings_then_the_words_of_the_user() -> None:
    made = spec(server={"graceful_timeout": "7s", "uvicorn_options": "--limit-concurrency 200 "}, log={"access": True})
    assert shlex.split(option(made.argv, "--uvicorn-opts")) == [
        "--timeout-graceful-shutdown",
        "7",
        "--timeout-worker-healthcheck",
        "20",
        "--limit-concurrency",
        "200",
    ]


def test_requests_are_not_logged_unless_asked_for() -> None:
    assert "--no-access-log" in option(spec().argv, "--uvicorn-opts")
    assert "--no-access-log" not in option(spec(log={"access": True}).argv, "--uvicorn-opts")


@pytest.mark.parametrize("version", ["", "0.36.1", "unknown"])
def test_an_option_that_an_old_uvicorn_does_not_know_is_not_given(version: str) -> None:
    assert "healthcheck" not in option(spec(replace(ABLE, uvicorn=version)).argv, "--uvicorn-opts")


def test_extra_arguments_come_last() -> None:
    extra = ["--static-prefix", "/mlflow"]
    assert spec(server={"extra_arguments": extra}).argv[-2:] == tuple(extra)


def test_jobs_and_telemetry_are_off_unless_asked_for() -> None:
    values = environment(server={"jobs": True, "telemetry": True})
    assert values["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "true"
    assert values["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert "OPENBLAS_NUM_THREADS" not in values  # jobs may compute


def test_the_environment_of_the_user_is_taken_over_and_its_secrets_stay_out_of_argv() -> None:
    made = spec(server={"environment": {"AWS_SECRET_ACCESS_KEY": "correct horse battery"}})
    assert ("AWS_SECRET_ACCESS_KEY", "correct horse battery") in made.environment
    assert list(made.environment) == sorted(made.environment)
    assert not any("horse" in argument for argument in made.argv)


def test_memory_in_percent_does_not_drift_with_a_kernel() -> None:
    assert spec(memory=8 * GIB - 40960).memory == spec(memory=8 * GIB - 81920).memory
    assert spec(memory=8 * GIB - 40960).digest == spec(memory=8 * GIB - 81920).digest


def test_memory_may_be_fixed_unlimited_or_unknown() -> None:
    assert spec(container={"memory": "3000000"}).memory == 3000000
    assert spec(container={"memory": "none"}).memory is None
    assert spec(memory=0).memory is None


def test_an_image_with_turns_gets_the_plugin() -> None:
    made = dict(spec(replace(ABLE, packages=frozenset({"mlflowd-turns"}))).environment)
    assert made["MLFLOW_BACKEND_STORE_URI"] == "sqlite:////mlflow/backend/mlflow.db?plugin=mlflowd_turns"
