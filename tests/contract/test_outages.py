"""Every method of DockerEngine, on a socket behind which there is no engine, a hung one, or nonsense."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contract.worlds import a_spec
from fakes.unix_http import UnixHttp
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import EngineError, EnginePermissionError, EngineUnreachableError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPEC = a_spec("contract", "sha256:" + "1" * 64, 5000)
LIMIT = 0.3
NOBODY = 65534

METHODS: dict[str, Callable[[DockerEngine], object]] = {
    "info": lambda e: e.info(),
    "inspect": lambda e: e.inspect("x"),
    "create": lambda e: e.create(SPEC),
    "start": lambda e: e.start("x"),
    "stop": lambda e: e.stop("x", 0),
    "unpause": lambda e: e.unpause("x"),
    "remove": lambda e: e.remove("x"),
    "publishers": lambda e: e.publishers(5000),
    "image": lambda e: e.image("x"),
    "stand_in": lambda e: e.stand_in("x"),
    "pull": lambda e: e.pull("x", print),
    "build": lambda e: e.build(b"", tag="x", labels={}, build_args={}, progress=print),
    "import_root": lambda e: e.import_root("/dev/null", tag="x", changes=[]),
    "ask": lambda e: e.ask("x", ["true"], 1),
    "end": lambda e: e.end("x"),
    "events": lambda e: list(e.events("x")),
    "logs": lambda e: list(e.logs("x", since=0, follow=True)),
}
VERSION = (200, b'{"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}')

LOOKS_AT_NO_BODY = [METHODS[name] for name in ("start", "stop", "unpause", "remove", "events", "logs")]

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@contextmanager
def engine_at(path: Path) -> Iterator[DockerEngine]:
    engine = DockerEngine(str(path), LIMIT)
    yield engine
    engine.close()


@every_method
def test_no_socket_is_unreachable(tmp_path: Path, method: Callable[[DockerEngine], object]) -> None:
    with engine_at(tmp_path / "docker.sock") as engine, pytest.raises(EngineUnreachableError) as raised:
        method(engine)
    assert str(tmp_path / "docker.sock") in raised.value.message
    assert raised.value.hint == "sudo systemctl start docker"


@every_method
def test_a_socket_that_nobody_listens_on_is_unreachable(
    tmp_path: Path, method: Callable[[DockerEngine], object]
) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with engine_at(path) as engine, pytest.raises(EngineUnreachableError, match="not running"):
        method(engine)


@every_method
def test_a_hung_engine_is_unreachable_within_the_limit(
    tmp_path: Path, method: Callable[[DockerEngine], object]
) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as hung, engine_at(path) as engine:
        hung.bind(str(path))
        hung.listen()
        before = time.monotonic()
        with pytest.raises(EngineUnreachableError, match="does not answer"):
            method(engine)
        assert time.monotonic() - before < LIMIT + 1


@every_method
def test_an_engine_that_hangs_later_is_unreachable_within_the_limit(
    tmp_path: Path, method: Callable[[DockerEngine], object]
) -> None:
    path, asked = tmp_path / "docker.sock", []

    def answer(_: str, target: str) -> tuple[int, bytes]:
        asked.append(target)
        if len(asked) > 1:
            time.sleep(LIMIT * 2)
        return VERSION

    with UnixHttp(path, answer), engine_at(path) as engine:
        before = time.monotonic()
        with pytest.raises(EngineError):
            method(engine)
        assert time.monotonic() - before < 2 * LIMIT + 1.5


@every_method
@pytest.mark.parametrize(
    "nonsense",
    [(200, b'{"Id": "abc", "Sta'), (200, b"\xff\xfe"), (-1, b""), (-1, b"garbage\r\n")],
    ids=["truncated JSON", "no UTF-8", "nothing", "no HTTP"],
)
def test_nonsense_is_an_engine_error(
    tmp_path: Path, method: Callable[[DockerEngine], object], nonsense: tuple[int, bytes]
) -> None:
    path = tmp_path / "docker.sock"
    with UnixHttp(path, lambda _, target: VERSION if target == "/version" else nonsense), engine_at(path) as engine:
        if method in LOOKS_AT_NO_BODY:
            with suppress(EngineError):
                method(engine)
        else:
            with pytest.raises(EngineError):
                method(engine)


@pytest.mark.parametrize("answer", [b"[]", b"null", b"{}", b'[{"Ports": 1}]'])
@pytest.mark.parametrize("name", ["info", "inspect", "create", "publishers"])
def test_an_answer_of_another_shape_is_an_engine_error(tmp_path: Path, name: str, answer: bytes) -> None:
    path = tmp_path / "docker.sock"
    with (
        UnixHttp(path, lambda _, target: VERSION if target == "/version" else (200, answer)),
        engine_at(path) as engine,
    ):
        if (name, answer) in {("info", b"{}"), ("publishers", b"[]"), ("publishers", b"{}")}:
            METHODS[name](engine)
        else:
            with pytest.raises(EngineUnreachableError, match="makes no sense"):
                METHODS[name](engine)


@pytest.mark.parametrize("sent", [b"", b'{"Actor": {"ID": "1", "Attr', b"[]\n", b"\xff\n"])
def test_an_event_stream_of_nonsense_ends(tmp_path: Path, sent: bytes) -> None:
    path = tmp_path / "docker.sock"
    with UnixHttp(path, lambda _, target: VERSION if target == "/version" else (200, sent)), engine_at(path) as engine:
        assert list(engine.events("x")) == []


@every_method
@pytest.mark.parametrize("status", [400, 409, 500, 503])
def test_an_error_status_is_an_engine_error_with_the_engines_words(
    tmp_path: Path, method: Callable[[DockerEngine], object], status: int
) -> None:
    path = tmp_path / "docker.sock"
    failing = (status, b'{"message": "the proxy is not amused"}')
    with (
        UnixHttp(path, lambda _, target: VERSION if target == "/version" else failing),
        engine_at(path) as engine,
        pytest.raises(EngineError, match="the proxy is not amused"),
    ):
        method(engine)


@every_method
def test_a_denied_socket_names_socket_and_remedy(method: Callable[[DockerEngine], object]) -> None:
    with denied_socket(0o060) as path, engine_at(path) as engine, pytest.raises(EnginePermissionError) as raised:
        method(engine)
    assert str(path) in raised.value.message
    assert raised.value.exit_status is ExitStatus.PERMISSION
    assert "usermod -aG" in raised.value.hint


def test_a_socket_with_a_wrong_mode_is_named_with_its_mode() -> None:
    with denied_socket(0o000) as path, engine_at(path) as engine, pytest.raises(EnginePermissionError) as raised:
        engine.inspect("x")
    assert "its mode is 0000" in raised.value.message
    assert raised.value.hint == f"sudo chmod 0660 {path}"


@contextmanager
def denied_socket(mode: int) -> Iterator[Path]:
    """Give a listening socket of this mode, as nobody where the tests run as root (whom no mode stops)."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory, "docker.sock")
        Path(directory).chmod(0o755)
        listener.bind(str(path))
        listener.listen()
        path.chmod(mode)
        with as_nobody() if os.geteuid() == 0 else nullcontext():
            yield path


@contextmanager
def as_nobody() -> Iterator[None]:
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def test_a_silent_event_stream_is_no_outage(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    line = b'{"Action": "die", "Actor": {"ID": "1", "Attributes": {"name": "x"}}}\n'

    def slowly() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        time.sleep(LIMIT * 3)
        yield line

    with (
        UnixHttp(path, lambda _, target: VERSION if target == "/version" else (-1, slowly())),
        engine_at(path) as engine,
    ):
        assert [event.action for event in engine.events("x")] == ["die"]


def test_the_engine_is_found_again_after_its_restart(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"

    def answer(_: str, target: str) -> tuple[int, bytes]:
        return VERSION if target == "/version" else (404, b'{"message": "No such container: x"}')

    with engine_at(path) as engine:
        for _ in range(3):
            with UnixHttp(path, answer):
                assert engine.inspect("x") is None
            path.unlink()
            with pytest.raises(EngineUnreachableError):
                engine.inspect("x")


def test_nothing_is_asked_before_the_first_call(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with UnixHttp(path, lambda *_: VERSION) as server, engine_at(path):
        assert server.asked == []
