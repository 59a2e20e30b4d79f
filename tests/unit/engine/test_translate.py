from __future__ import annotations

import errno
import json

import pytest
import requests
import urllib3
from docker.errors import DockerException, ImageNotFound, StreamParseError

from mlflowd.engine.translate import answered, translated
from mlflowd.errors import (
    EngineError,
    EnginePermissionError,
    EngineUnreachableError,
    ImageMissingError,
    PortTakenError,
)

SOCKET = "/run/docker.sock"
ENDPOINT = "driver failed programming external connectivity on endpoint b (hash): "
TAKEN = {
    "20.10, a container": ENDPOINT + "Bind for 127.0.0.1:5000 failed: port is already allocated",
    "20.10, a process": ENDPOINT
    + "Error starting userland proxy: listen tcp4 127.0.0.1:5000: bind: address already in use",
    "26.1, a process": ENDPOINT + "failed to bind port 127.0.0.1:5000/tcp: "
    "Error starting userland proxy: listen tcp4 127.0.0.1:5000: bind: address already in use",
    "28, a process": "failed to set up container networking: " + ENDPOINT + "failed to bind host port for "
    "127.0.0.1:5000:172.18.0.2:5000/tcp: address already in use",
    "podman": "cannot listen on the TCP port: listen tcp4 127.0.0.1:5000: bind: address already in use",
}


def raised(error: BaseException, socket: str = SOCKET) -> EngineError:
    with pytest.raises(EngineError) as caught, translated("inspecting the container mlflowd", socket):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


def aborted(beneath: OSError) -> requests.ConnectionError:
    """Return what requests makes of a connection that fails."""
    return requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", beneath))


@pytest.mark.parametrize("said", TAKEN.values(), ids=TAKEN)
def test_a_taken_port_names_the_address_and_how_to_find_the_holder(said: str) -> None:
    error = answered(500, said, "starting the container mlflowd")
    assert isinstance(error, PortTakenError)
    assert error.message == "127.0.0.1:5000 is taken."
    assert "sport = :5000" in error.hint
    assert "server.listen" in error.hint


def test_a_taken_port_of_an_ipv6_address_is_named() -> None:
    error = answered(500, "listen tcp6 [::1]:5000: bind: address already in use", "starting")
    assert error.message == "[::1]:5000 is taken."


def test_a_taken_port_in_words_unknown_to_us_is_still_a_taken_port() -> None:
    assert isinstance(answered(500, "the address already in use by a goblin", "starting"), PortTakenError)


@pytest.mark.parametrize("beneath", [FileNotFoundError(2, "No such file"), ConnectionRefusedError(111, "refused")])
def test_an_absent_engine_is_unreachable_and_is_to_be_started(beneath: OSError) -> None:
    error = raised(aborted(beneath))
    assert isinstance(error, EngineUnreachableError)
    assert SOCKET in error.message
    assert error.hint == "sudo systemctl start docker"


@pytest.mark.parametrize(
    ("socket", "hint"),
    [
        ("/run/podman/podman.sock", "sudo systemctl start podman.socket"),
        ("/run/user/1000/docker.sock", "systemctl --user start docker"),
        ("/run/user/1000/podman/podman.sock", "systemctl --user start podman.socket"),
    ],
)
def test_the_remedy_fits_the_engine(socket: str, hint: str) -> None:
    assert raised(aborted(FileNotFoundError(2, "No such file")), socket).hint == hint


@pytest.mark.parametrize(
    "error",
    [
        requests.ReadTimeout("Read timed out. (read timeout=10)"),
        requests.ConnectTimeout("timed out"),
        requests.ConnectionError(urllib3.exceptions.ReadTimeoutError(None, "/", "Read timed out.")),  # type: ignore[arg-type]
        TimeoutError("timed out"),
    ],
)
def test_a_hung_engine_is_unreachable(error: Exception) -> None:
    found = raised(error)
    assert isinstance(found, EngineUnreachableError)
    assert "does not answer within the time limit" in found.message


@pytest.mark.parametrize(
    "error",
    [
        aborted(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")),
        urllib3.exceptions.ProtocolError("Connection broken: IncompleteRead"),
        requests.exceptions.ChunkedEncodingError("cut"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
    ],
)
def test_a_broken_connection_is_unreachable(error: Exception) -> None:
    assert isinstance(raised(error), EngineUnreachableError)


@pytest.mark.parametrize(
    "error",
    [requests.JSONDecodeError("x", "", 0), json.JSONDecodeError("x", "", 0), StreamParseError("x")],
)
def test_a_truncated_answer_is_unreachable(error: Exception) -> None:
    found = raised(error)
    assert isinstance(found, EngineUnreachableError)
    assert "no JSON" in found.message


def test_a_denied_socket_that_cannot_even_be_looked_at_has_a_remedy() -> None:
    error = raised(aborted(PermissionError(13, "Permission denied")), "/nonexistent/docker.sock")
    assert isinstance(error, EnginePermissionError)
    assert error.hint.startswith("sudo usermod -aG docker ")


def test_a_missing_image_is_told_apart() -> None:
    response = requests.Response()
    response.status_code = 404
    error = raised(ImageNotFound("404", response=response, explanation="No such image: sha256:1"))
    assert isinstance(error, ImageMissingError)
    assert "No such image: sha256:1" in error.message


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ('Conflict. The container name "/mlflowd" is already in use by container "1".', "docker ps -a"),
        ('invalid mount config for type "bind": bind source path does not exist: /x', "check --fix"),
        ("write /var/lib/docker/x: no space left on device", "docker system df"),
        ("listen tcp4 192.0.2.1:5000: bind: cannot assign requested address", "ip -brief address"),
        ("could not find an available, non-overlapping IPv4 address pool", "docker network prune"),
        ("something new", ""),
    ],
)
def test_an_error_status_keeps_the_engines_words_and_adds_a_remedy(said: str, hint: str) -> None:
    error = answered(500, said, "creating the container mlflowd")
    assert type(error) is EngineError
    assert error.message == f"Creating the container mlflowd failed: {said}."
    assert hint in error.hint


@pytest.mark.parametrize(
    ("status", "said"), [(502, "bad gateway"), (503, ""), (400, "client version 1.41 is too old.")]
)
def test_an_answer_that_the_next_call_may_cure_is_an_outage(status: int, said: str) -> None:
    assert isinstance(answered(status, said, "inspecting"), EngineUnreachableError)


def test_another_error_of_the_library_is_an_engine_error() -> None:
    assert type(raised(DockerException("odd"))) is EngineError


def test_errors_of_ours_pass_unchanged() -> None:
    mine = PortTakenError("127.0.0.1:5000 is taken.")
    with pytest.raises(PortTakenError) as caught, translated("starting"):
        raise mine
    assert caught.value is mine


def test_an_error_about_a_file_of_ours_passes_unchanged() -> None:
    with pytest.raises(FileNotFoundError), translated("importing"):
        open("/nonexistent/archive.tar", "rb")  # noqa: SIM115, PTH123 - it cannot be opened
