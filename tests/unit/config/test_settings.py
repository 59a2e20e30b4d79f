from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlflowd.config import Settings, Size
from mlflowd.config.catalogue import KEYS, kind_of
from mlflowd.model import Address


def given(section: str, key: str, value: Any) -> Any:
    return getattr(getattr(Settings.model_validate({section: {key: value}}), section), key)


def refusal(section: str, key: str, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({section: {key: value}})
    fault = caught.value.errors()[0]["ctx"]["error"].faults[0]
    return f"{fault.reason} | {fault.hint}"


def test_spans_are_seconds_and_the_address_is_one() -> None:
    settings = Settings()
    assert settings.engine.timeout == 10.0
    assert settings.health.starting_interval == 0.1
    assert settings.server.listen == Address("127.0.0.1", 5000)
    assert settings.container.memory == "auto"
    assert settings.backend_store.file == Path("/var/lib/mlflowd/backend/mlflow.db")
    assert settings.artifact_store.directory == Path("/var/lib/mlflowd/artifacts")


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.server.jobs = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.server.environment["A"] = "1"  # type: ignore[index]


def test_every_key_says_what_it_takes_and_what_for() -> None:
    for (section, key), field in KEYS.items():
        assert kind_of(section, key).phrase, key
        assert field.description, key
        assert "\n" not in field.description
        assert not field.description.endswith(".")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:80", Address("0.0.0.0", 80)),  # noqa: S104 - nothing is bound
        ("[::1]:5000", Address("::1", 5000)),
        ("10.0.0.7:65535", Address("10.0.0.7", 65535)),
    ],
)
def test_listen_takes_an_address(text: str, address: Address) -> None:
    assert given("server", "listen", text) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost:5000", 'write "127.0.0.1:5000"'),
        (":5000", 'write "0.0.0.0:5000"'),
        ("mlflow.example:5000", "name an IP address"),
        ("127.0.0.1", "the port"),
        ("127.0.0.1:0", "the port"),
        ("127.0.0.1:65536", "the port"),
        ("::1:5000", "in brackets"),
        ("[fe80::1%eth0]:5000", "without a zone"),
        (5000, "put it into quotes"),
    ],
)
def test_listen_refuses_what_cannot_be_published_on(text: object, said: str) -> None:
    assert said in refusal("server", "listen", text)


@pytest.mark.parametrize("value", ["auto", 1, 64])
def test_workers_takes_auto_or_a_number(value: object) -> None:
    assert given("server", "workers", value) == value


@pytest.mark.parametrize("value", ["Auto", "2", 0, 65, True, 2.0])
def test_workers_refuses_the_rest(value: object) -> None:
    refusal("server", "workers", value)


@pytest.mark.parametrize("value", [1, 0, "true", "yes"])
def test_a_flag_is_true_or_false_alone(value: object) -> None:
    assert "without quotes" in refusal("server", "jobs", value)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///mlflow.db", 'write "sqlite:////mlflow.db"'),
        ("sqlite:///srv/mlflow/mlflow.db", 'write "sqlite:////srv/mlflow/mlflow.db"'),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////srv/mlflow/", "names a directory"),
        ("sqlite:////srv/../etc/x.db", '".."'),
        ("sqlite:////srv/mlflow/x.db?mode=ro", "not supported"),
        ("sqlite:////mlflow.db", 'write "sqlite:////mlflow/mlflow.db"'),
        ("sqlite:////srv/mlflow.db", 'write "sqlite:////srv/mlflow/mlflow.db"'),
        ("sqlite:////proc/self/x.db", "not a directory of the store's own"),
        ("/srv/mlflow/mlflow.db", 'write "sqlite:////srv/mlflow/mlflow.db"'),
        ("file:///srv/mlruns", "file store"),
        ("mlruns", "not the URI of a database that MLflow knows"),
        ("quantum://x", "not the URI of a database that MLflow knows"),
        ("oracle://u@db/x", "not the URI of a database that MLflow knows"),
    ],
)
def test_a_backend_store_that_cannot_be_is_refused_in_a_sentence(uri: str, said: str) -> None:
    assert said in refusal("backend_store", "uri", uri)


def test_a_database_may_lie_anywhere_in_a_directory_of_its_own() -> None:
    assert given("backend_store", "uri", "sqlite:////srv/mlflow/mlflow.db") == "sqlite:////srv/mlflow/mlflow.db"
    assert given("backend_store", "uri", "sqlite://///data//./m.db") == "sqlite:////data/m.db"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/srv/mlflow/artifacts", "/srv/mlflow/artifacts"),
        ("/srv/mlflow/artifacts/", "/srv/mlflow/artifacts"),
        ("file:///srv/mlflow/my%20artifacts", "/srv/mlflow/my artifacts"),
        ("/srv/mlflow/100%25", "/srv/mlflow/100%25"),
    ],
)
def test_an_artifact_store_is_a_directory(uri: str, path: str) -> None:
    assert Settings.model_validate({"artifact_store": {"uri": uri}}).artifact_store.directory == Path(path)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mlflow-artifacts:/", "must be absolute"),
        ("hdfs://nn/x", "not among the artifact stores that mlflowd serves"),
        ("hf://x", "not supported"),
        ("./artifacts", "must be absolute"),
        ("file://host/srv/x", "must be absolute"),
        ("file:///srv/%00", "control character"),
        ("file:///srv/%ff/x", "not UTF-8"),
        ("/", "must be absolute"),
        ("/srv", 'write "/srv/mlflow"'),
        ("/srv/a/../b", '".."'),
    ],
)
def test_an_artifact_store_that_cannot_be_is_refused_in_a_sentence(uri: str, said: str) -> None:
    assert said in refusal("artifact_store", "uri", uri)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MLFLOW_BACKEND_STORE_URI", "use backend_store.uri"),
        ("MLFLOW_WORKERS", "use server.workers"),
        ("HOME", "mlflowd needs it"),
        ("MLFLOW_DISABLE_TELEMETRY", "use server.telemetry"),
    ],
)
def test_the_environment_cannot_override_what_mlflowd_sets(name: str, said: str) -> None:
    assert f"{name} is set by mlflowd itself | " in refusal("server", "environment", {name: "x"})
    assert said in refusal("server", "environment", {name: "x"})


@pytest.mark.parametrize("entries", [{"A B": "x"}, {"": "x"}, {"1A": "x"}, {"A": 1}, {"A": "\0"}, {"A": ["x"]}])
def test_an_environment_entry_is_a_name_and_a_text(entries: dict[str, Any]) -> None:
    refusal("server", "environment", entries)


def test_an_environment_entry_may_hold_several_lines() -> None:
    assert given("server", "environment", {"KEY": "-----BEGIN\nx\n"}) == {"KEY": "-----BEGIN\nx\n"}


@pytest.mark.parametrize(
    "argument",
    [
        *("--host", "--port=1", "-p5001", "-w", "--backend-store-uri=x", "--uvicorn-opts", "--app-name=basic-auth"),
        *("--allowed-hosts", "--cors-allowed-origins=*", "--no-serve-artifacts", "--default-artifact-root"),
    ],
)
def test_an_argument_that_mlflowd_sets_is_refused(argument: str) -> None:
    assert "is set by mlflowd itself" in refusal("server", "extra_arguments", ["--static-prefix", "/x", argument])


def test_other_arguments_pass_in_their_order() -> None:
    arguments = ["--trace-archival-config", "/x", "--static-prefix", "/mlflow", "--x-frame-options=NONE"]
    assert given("server", "extra_arguments", arguments) == tuple(arguments)


@pytest.mark.parametrize("options", ["--port 1", "--uds=/x", "--no-access-log", "--timeout-graceful-shutdown 1", "'"])
def test_an_option_of_uvicorn_that_mlflowd_sets_is_refused(options: str) -> None:
    refusal("server", "uvicorn_options", f"--limit-concurrency 200 {options}")


@pytest.mark.parametrize(
    "reference", ["", "a b", "-x", "ghcr.io/x:", "ghcr.io/X/y:1", "x@sha256:12", "x/../y", "http://x/y"]
)
def test_an_image_reference_that_no_engine_takes_is_refused(reference: str) -> None:
    refusal("image", "reference", reference)


@pytest.mark.parametrize(
    "reference",
    [
        "mlflow",
        "team/mlflow:3.17.2",
        "localhost:5001/a/b_c:x",
        "ghcr.io/mlflow/mlflow@sha256:" + "a" * 64,
        "sha256:" + "a" * 64,
    ],
)
def test_image_references_pass(reference: str) -> None:
    assert given("image", "reference", reference) == reference


@pytest.mark.parametrize("package", ["-r requirements.txt", "--index-url=x", "", " ", "./local"])
def test_a_package_that_pip_would_take_for_an_option_is_refused(package: str) -> None:
    assert "not a Python package" in refusal("image", "packages", [package])


@pytest.mark.parametrize("name", ["", "x", "-x", "a b", "a/b", "é" * 3, "a\nb", "a" * 64])
def test_a_name_that_no_container_can_have_is_refused(name: str) -> None:
    refusal("container", "name", name)


@pytest.mark.parametrize("network", ["host", "none"])
def test_a_network_that_is_no_network_of_its_own_is_refused(network: str) -> None:
    refusal("container", "network", network)


def test_no_limit_of_memory_is_the_word_none() -> None:
    assert given("container", "memory", "none") is None
    assert given("container", "memory", "4G") == Size(bytes=4 * 2**30)


@pytest.mark.parametrize(
    ("value", "said"), [("4GB", 'write "4G"'), ("4g", 'write "4G"'), ("512MiB", 'write "512M"'), ("0", "nothing")]
)
def test_a_size_in_another_notation_says_ours(value: str, said: str) -> None:
    assert said in refusal("container", "memory", value)


def test_a_limit_of_the_disk_may_be_nothing() -> None:
    assert given("disk", "require_free", "0") == Size()


@pytest.mark.parametrize("value", ["1ms", "0", 0, -1, float("nan"), float("inf"), 10**400, "", True, [], "-5s"])
def test_an_interval_that_would_spin_or_makes_no_sense_is_refused(value: object) -> None:
    refusal("health", "interval", value)


def test_plain_numbers_are_seconds() -> None:
    assert given("health", "interval", 5) == 5.0
    assert given("health", "interval", 2.5) == 2.5


def test_the_graceful_timeout_is_whole_seconds_for_uvicorn_takes_no_other() -> None:
    assert "whole number of seconds" in refusal("server", "graceful_timeout", "1500ms")
    assert given("server", "graceful_timeout", "12s") == 12.0


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"health": {"timeout": "4min"}}, "health.timeout"),
        ({"health": {"starting_interval": "4min"}}, "health.starting_interval"),
        ({"restart": {"backoff_first": "2min"}}, "restart.backoff_first"),
        ({"container": {"stop_grace": "10s"}}, "server.graceful_timeout"),
        ({"disk": {"warn": "2%"}}, "disk.critical"),
        ({"disk": {"warn": "1G", "critical": "2G"}}, "disk.critical"),
        ({"artifact_store": {"uri": "/var/lib/mlflowd"}}, "artifact_store.uri"),
        ({"artifact_store": {"uri": "/var/lib/mlflowd/backend"}}, "artifact_store.uri"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        Settings.model_validate(wrong)


def test_limits_of_different_kinds_are_left_to_the_disk() -> None:
    Settings.model_validate({"disk": {"warn": "1%", "critical": "2G"}})


def test_artifacts_may_lie_below_the_directory_of_the_database() -> None:
    Settings.model_validate(
        {
            "backend_store": {"uri": "sqlite:////srv/mlflow/mlflow.db"},
            "artifact_store": {"uri": "/srv/mlflow/artifacts"},
        }
    )
