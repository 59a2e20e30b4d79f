"""The door to journald: entries with fields, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

Effects: datagrams to journald's socket, a sealed memfd for a large one. No call blocks: while journald is stopped
and its queue full, an entry is lost, and the caller told. The libraries for this protocol bind libsystemd in C, or
send with a blocking socket; hence these few lines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET = Path("/run/systemd/journal/socket")

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
"""journald takes a memfd only when nobody can change it any more."""


class Journald:
    """The sending side of journald's socket."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def send(self, fields: Mapping[str, object]) -> bool:
        """Send one entry, its field names in upper case. Returns False where journald does not take it.

        The socket is never connected: journald may be restarted, and the next datagram finds the new one.
        """
        data = encode(fields)
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            return error.errno in {errno.EMSGSIZE, errno.ENOBUFS} and self._send_large(data)
        return True

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _send_large(self, data: bytes) -> bool:
        """Hand journald a file in memory instead of a datagram that the kernel finds too large."""
        with suppress(OSError):
            memory = os.fdopen(os.memfd_create("mlflowd-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb")
            with closing(memory):
                memory.write(data)
                memory.flush()
                fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", memory.fileno()))
                self._socket.sendmsg([b""], [rights], 0, self._path)
                return True
        return False


def encode(fields: Mapping[str, object]) -> bytes:
    """Return the entry as journald reads it: NAME=value lines, a value of several lines by its length."""
    return b"".join(_encode(name.encode(), str(value)) for name, value in fields.items())


def _encode(name: bytes, text: str) -> bytes:
    value = text.encode(errors="backslashreplace")
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name, struct.pack("<Q", len(value)), value)
    return b"%s=%s\n" % (name, value)
