from __future__ import annotations

import json
from typing import Any

import pytest

from mlflowd.engine import answers
from mlflowd.errors import EngineUnreachableError
from mlflowd.model import Address, ContainerStatus, EngineEvent


def inspected(**state: object) -> dict[str, Any]:
    base = {"Status": "running", "StartedAt": "2026-11-20T14:44:10.7Z", "ExitCode": 0, "OOMKilled": False, "Error": ""}
    return {
        "Id": "f" * 64,
        "Name": "/mlflowd",
        "Image": "sha256:1",
        "State": {**base, **state},
        "Config": {"Labels": None},
        "HostConfig": {"PortBindings": {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5000"}]}},
    }


def test_a_container_is_read_whole() -> None:
    found = answers.container(inspected(ExitCode=137, OOMKilled=True, Error="no"))
    assert (found.id, found.name, found.image_id) == ("f" * 64, "mlflowd", "sha256:1")
    assert (found.exit_code, found.oom_killed, found.error) == (137, True, "no")
    assert found.published == Address("127.0.0.1", 5000)
    assert found.labels == {}


def test_gos_zero_time_means_never_started() -> None:
    assert answers.container(inspected(StartedAt="0001-01-01T00:00:00Z")).started_at == ""


@pytest.mark.parametrize("bindings", [None, {}, {"5000/tcp": None}, {"5000/tcp": []}, {"5000/tcp": [{"HostPort": ""}]}])
def test_a_container_may_publish_nothing(bindings: object) -> None:
    assert answers.container({**inspected(), "HostConfig": {"PortBindings": bindings}}).published is None


@pytest.mark.parametrize(
    ("word", "status"),
    [("configured", "created"), ("stopping", "running"), ("stopped", "exited"), ("paused", "paused")],
)
def test_podmans_states_are_known(word: str, status: str) -> None:
    assert answers.container(inspected(Status=word)).status is ContainerStatus(status)


@pytest.mark.parametrize("answer", [None, [], {}, "x", {**inspected(), "State": {}}, inspected(Status="levitating")])
def test_an_answer_that_makes_no_sense_is_an_outage(answer: object) -> None:
    with pytest.raises(EngineUnreachableError, match="makes no sense"):
        answers.container(answer)


def test_podman_is_told_from_docker_by_its_components() -> None:
    version = {"Version": "4.3.1", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]}
    assert answers.info(version, {}).name == "podman"
    assert answers.info({**version, "Components": [{"Name": "Engine"}]}, {}).name == "docker"
    assert answers.info({**version, "Components": None}, {"MemTotal": 7}).memory == 7


def test_an_event_is_read_from_its_line() -> None:
    actor = {"ID": "f" * 64, "Attributes": {"name": "mlflowd", "exitCode": "137"}}
    line = json.dumps({"status": "die", "Type": "container", "Action": "die", "Actor": actor}).encode()
    assert answers.event(line) == EngineEvent("die", "f" * 64, {"name": "mlflowd", "exitCode": "137"})


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"null", b'{"Action": "die"}', b"\xff", b'{"Action":"a","Actor":[]}']
)
def test_a_line_that_is_no_event_is_none(line: bytes) -> None:
    assert answers.event(line) is None


def test_publishers_are_named_once_and_sorted() -> None:
    answer = [
        {"Names": ["/b"], "Ports": [{"PublicPort": 5000}, {"PublicPort": 5000, "IP": "::"}]},
        {"Names": ["/a"], "Ports": [{"PublicPort": 5000}]},
        {"Names": ["/c"], "Ports": [{"PrivatePort": 5000}]},
        {"Names": ["/d"], "Ports": None},
    ]
    assert answers.publishers(answer, 5000) == ("a", "b")
