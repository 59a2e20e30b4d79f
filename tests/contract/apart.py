"""A forked child with mounts of its own: what it mounts, nobody else sees, and all is gone when it ends."""

from __future__ import annotations

import ctypes
import os
import subprocess
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CLONE_NEWNS = 0x00020000
_libc = ctypes.CDLL(None, use_errno=True)


def with_own_mounts(work: Callable[[], None]) -> None:
    """Do the work in such a child; an exception there fails here, with its traceback. Needs root."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        _child(work, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    assert not told, told
    assert os.waitstatus_to_exitcode(status) == 0


def mount(kind: str, where: Path, *options: str) -> None:
    subprocess.run(["mount", "-t", kind, *options, "test", str(where)], check=True)


def bind(what: Path, where: Path) -> None:
    subprocess.run(["mount", "--bind", str(what), str(where)], check=True)


def unmount(where: Path) -> None:
    subprocess.run(["umount", str(where)], check=True)


@contextmanager
def dead_file_system(where: Path) -> Iterator[None]:
    """Mount one whose server never answers, as a dead NFS server does; the end lets everybody who waits for it go."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    _succeed(_libc.mount(b"test", str(where).encode(), b"fuse", 0, options))
    try:
        yield
    finally:
        os.close(device)  # the kernel's connection ends with its server
        _libc.umount2(str(where).encode(), 2)


def _succeed(answer: int) -> None:
    if answer:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _child(work: Callable[[], None], writer: int) -> NoReturn:
    told = ""
    try:
        _succeed(_libc.unshare(CLONE_NEWNS))
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        work()
    except BaseException:  # noqa: BLE001 - pytest's own Failed is one
        told = traceback.format_exc()
    os.write(writer, told.encode()[:60_000])
    os._exit(0)
