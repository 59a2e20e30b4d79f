"""Sockets between the outer machine and a guest: the guest's word that it is up, connections inside its network."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def notify_socket() -> Iterator[tuple[str, socket.socket]]:
    """Yield a socket that speaks sd_notify(3), with its path."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages:
        path = f"{directory}/notify"
        messages.bind(path)
        yield path, messages


def in_network(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    """Return the socket that `make` makes inside the network of process `pid`: a socket stays where it was made.

    A thread of its own enters, since setns(2) moves the calling thread for good (and os.setns came with 3.12).
    """
    result: list[socket.socket | BaseException] = []

    def enter() -> None:
        try:
            enter_network(pid)
            result.append(make())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            result.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def enter_network(pid: int) -> None:
    """Move the calling thread into the network of process `pid`."""
    with Path(f"/proc/{pid}/ns/net").open() as network:
        if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to the network of process {pid}")
