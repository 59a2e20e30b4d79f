"""Who has a TCP port: the kernel's tables under /proc, and one trial bind.

Effects: none that last; `free` binds a socket for a moment and never listens. A process's name needs the right to
look into /proc/PID/fd: root sees every one, the service user its own; of others it learns the user.
"""

from __future__ import annotations

import errno
import ipaddress
import pwd
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.errors import ExitStatus, MlflowdError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.model import Address

    _Host = ipaddress.IPv4Address | ipaddress.IPv6Address

_PROC = Path("/proc")
_LISTEN = "0A"
"""TCP_LISTEN of the kernel's net/tcp_states.h, as /proc/net/tcp prints it."""


@dataclass(frozen=True, slots=True)
class _Listener:
    host: _Host
    port: int
    uid: int
    inode: str


def free(address: Address) -> bool:
    """Tell whether a server could listen there now. Raises MlflowdError where the host is no address.

    Connections in TIME_WAIT do not count: whoever publishes the port sets SO_REUSEADDR, as this does. A port that
    only root may bind is judged by the kernel's table, since the engine binds it. An address that this machine
    does not have counts as free: see `local`.
    """
    result = _bind(address)
    return not any(_listeners(address)) if result == errno.EACCES else result != errno.EADDRINUSE


def local(address: Address) -> bool:
    """Tell whether this machine has the address. Raises MlflowdError where the host is no address."""
    return _bind(address) != errno.EADDRNOTAVAIL


def holder(address: Address) -> str:
    """Name who listens there, such as "nginx (pid 812)" or "a process of user root".

    "" where nobody does, which includes a process that bound the port and does not listen. Raises MlflowdError
    where the host is no address.
    """
    listeners = list(_listeners(address))
    processes = _processes({listener.inode for listener in listeners})
    names = (processes.get(listener.inode) or f"a process of user {_user(listener.uid)}" for listener in listeners)
    return " and ".join(dict.fromkeys(names))


def _bind(address: Address) -> int:
    """Bind and let go; return the errno, 0 where it went well."""
    family, target = _resolve(address)
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(target)
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def _resolve(address: Address) -> tuple[int, tuple[str, int]]:
    """Return the address family and what bind(2) wants."""
    try:
        family, _, _, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise MlflowdError(
            f"{address.host} is not an address of this machine: {error.strerror}.",
            hint="`ip -brief address` lists them; change server.listen in /etc/mlflowd.toml.",
            exit_status=ExitStatus.CONFIGURATION,
        ) from error
    return family, (str(target[0]), address.port)


def _listeners(address: Address) -> Iterator[_Listener]:
    """Yield the sockets that keep another one from listening on the address."""
    wanted = _plain(ipaddress.ip_address(_resolve(address)[1][0].partition("%")[0]))
    for table in ("tcp", "tcp6"):
        for found in _table(_PROC / "self/net" / table):
            same = found.host == wanted or found.host.is_unspecified or wanted.is_unspecified
            if found.port == address.port and same:
                yield found


def _table(path: Path) -> Iterator[_Listener]:
    """Yield the listening sockets of one of the kernel's tables (proc(5), /proc/net/tcp)."""
    lines: list[str] = []
    with suppress(OSError):  # tcp6 is not there where IPv6 is off
        lines = path.read_text().splitlines()[1:]
    for columns in map(str.split, lines):
        if columns[3] == _LISTEN:
            host, _, port = columns[1].partition(":")
            yield _Listener(_parse(host), int(port, 16), int(columns[7]), columns[9])


def _parse(text: str) -> _Host:
    """Read an address as the kernel prints it: 32-bit words in this machine's byte order, as hex."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return _plain(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def _plain(host: _Host) -> _Host:
    """Return the IPv4 address that an IPv6 one stands for (::ffff:a.b.c.d), else the address itself."""
    return getattr(host, "ipv4_mapped", None) or host


def _processes(inodes: set[str]) -> dict[str, str]:
    """Name the process behind each socket inode, as far as this user may see."""
    found: dict[str, str] = {}
    for process in _PROC.glob("[0-9]*") if inodes else ():
        with suppress(OSError):  # gone since, or not ours to see
            held = inodes & set(_sockets(process))
            name = f"{(process / 'comm').read_text().strip()} (pid {process.name})" if held else ""
            found |= dict.fromkeys(held, name)
    return found


def _sockets(process: Path) -> Iterator[str]:
    """Yield the inodes of a process's sockets; its descriptors are links such as "socket:[4711]"."""
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):  # closed since
            kind, _, inode = descriptor.readlink().name.partition(":")
            if kind == "socket":
                yield inode.strip("[]")


def _user(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)
