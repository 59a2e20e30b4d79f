from __future__ import annotations

import os
import pwd
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflowd.errors import MlflowdError
from mlflowd.host import ports
from mlflowd.model import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = f"{Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})"


@contextmanager
def listener(host: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET) -> Iterator[int]:
    """A server on a port of the kernel's choice."""
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_listener_is_named_with_its_pid() -> None:
    with listener() as port:
        assert ports.holder(Address("127.0.0.1", port)) == ME


def test_a_port_in_use_is_not_free() -> None:
    with listener() as port:
        assert not ports.free(Address("127.0.0.1", port))


def test_a_port_is_free_again_once_its_listener_is_gone() -> None:
    with listener() as port:
        pass

    assert ports.free(Address("127.0.0.1", port))
    assert ports.holder(Address("127.0.0.1", port)) == ""


@pytest.mark.parametrize(("held", "wanted"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")])  # noqa: S104 the case itself
def test_a_listener_on_every_address_holds_each_of_them(held: str, wanted: str) -> None:
    with listener(held) as port:
        assert ports.holder(Address(wanted, port)) == ME
        assert not ports.free(Address(wanted, port))


def test_a_listener_on_another_address_holds_nothing() -> None:
    with listener("127.0.0.2") as port:
        assert ports.holder(Address("127.0.0.1", port)) == ""
        assert ports.free(Address("127.0.0.1", port))


def test_a_dual_stack_listener_holds_the_ipv4_address() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]

        assert ports.holder(Address("127.0.0.1", port)) == ME
        assert not ports.free(Address("127.0.0.1", port))


def test_an_ipv6_listener_is_named() -> None:
    if not Path("/proc/net/if_inet6").read_text():
        pytest.skip("no IPv6 here")
    with listener("::1", socket.AF_INET6) as port:
        assert ports.holder(Address("::1", port)) == ME


def test_connections_in_time_wait_do_not_take_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # who closes first keeps the port in TIME_WAIT, here the server's side
        client.close()

    assert f":{port:04X} " in Path("/proc/net/tcp").read_text()
    assert ports.free(Address("127.0.0.1", port))
    assert ports.holder(Address("127.0.0.1", port)) == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind every port")
def test_a_privileged_port_that_nobody_has_is_free() -> None:
    assert ports.free(Address("127.0.0.1", 1))


def test_an_address_of_another_machine_is_free_but_not_local() -> None:
    address = Address("192.0.2.1", 5000)

    assert ports.free(address)
    assert not ports.local(address)
    assert ports.local(Address("127.0.0.1", 5000))


def test_a_host_that_is_no_address_is_refused_with_the_way_out() -> None:
    with pytest.raises(MlflowdError, match=r"no-such-host\.invalid is not an address") as error:
        ports.free(Address("no-such-host.invalid", 5000))

    assert "server.listen" in error.value.hint


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TAIL = "00000000:00000000 00:00000000 00000000"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of a little-endian machine where no process's descriptors may be seen."""
    (tmp_path / "self/net").mkdir(parents=True)
    monkeypatch.setattr(ports, "_PROC", tmp_path)
    return tmp_path / "self/net"


little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="the table is of a little-endian machine")


@little_endian
def test_a_holder_of_another_user_is_named_by_its_user(proc: Path) -> None:
    (proc / "tcp").write_text(f"{HEAD}   0: 0100007F:1388 00000000:0000 0A {TAIL}     0        0 4711 1 0 100 0\n")

    assert ports.holder(Address("127.0.0.1", 5000)) == f"a process of user {pwd.getpwuid(0).pw_name}"


@little_endian
def test_a_holder_whose_user_has_no_name_is_named_by_its_uid(proc: Path) -> None:
    mapped = "0000000000000000FFFF00000100007F:1388 00000000000000000000000000000000:0000"
    (proc / "tcp6").write_text(f"{HEAD}   0: {mapped} 0A {TAIL} 4000000        0 4711 1 0 100 0\n")

    assert ports.holder(Address("127.0.0.1", 5000)) == "a process of user 4000000"


@little_endian
def test_a_connection_is_no_listener(proc: Path) -> None:
    (proc / "tcp").write_text(f"{HEAD}   0: 0100007F:1388 0100007F:C350 01 {TAIL}     0        0 4711 1 0 100 0\n")

    assert ports.holder(Address("127.0.0.1", 5000)) == ""
