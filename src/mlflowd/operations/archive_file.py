"""The file of an archive, unpacked as it is read: plain, gzip, bzip2, xz, zstd, told by its first bytes.

Effects: reads the file; runs zstd(1) for a file of that kind (Python has none before 3.14).
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol, cast

from mlflowd.errors import ExitStatus, MlflowdError, RefusedError
from mlflowd.host import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflowd.host.paths import Identity

_ZSTD = b"\x28\xb5\x2f\xfd"
_LONGEST = 6
_UNPACK_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)


class DamagedError(RefusedError):
    """The file cannot be read to its end."""


class Readable(Protocol):
    """What a tar archive is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """An open archive."""

    stream: Readable
    """What is in it, unpacked; reading it raises DamagedError."""
    size: int
    """Bytes of the file."""
    handle: int
    """The file's descriptor; its position says how much was read, by zstd too, which shares it."""

    @property
    def share(self) -> str:
        """Return how much was read: "120 of 480 MB"."""
        return f"{os.lseek(self.handle, 0, os.SEEK_CUR) // 10**6} of {self.size // 10**6} MB"


@contextmanager
def opened(path: Path, who: Identity, *, raw: bool = False) -> Iterator[Source]:
    """Open the archive at `path`; with `raw` as it is. Raises RefusedError and MlflowdError with the remedy."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb", buffering=0))
            magic = file.read(_LONGEST)
            file.seek(0)
        except OSError as error:
            raise refused(path, who, error) from error
        stream = file if raw else stack.enter_context(_unpacked(file, magic, path))
        yield Source(stream, os.fstat(file.fileno()).st_size, file.fileno())


def refused(path: Path, who: Identity, error: OSError) -> MlflowdError:
    """Return the error for a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return RefusedError(f"There is no file {path}.", "copy it there, or change image.archive")
    if not isinstance(error, PermissionError):
        return RefusedError(f"{path} cannot be read: {error.strerror}.", f"ls -l {path}")
    found = files.obstacle(path, who, os.R_OK)
    blame = found.path if found else path
    message = f"The user {who.name} may not read {path}" + (f": {found.message}" if found else "")
    mode = "g+rx" if blame.is_dir() else "g+r"
    remedy = f"sudo chgrp {who.owner.partition(':')[2]} {blame} && sudo chmod {mode} {blame}"
    return MlflowdError(f"{message}.", remedy, ExitStatus.PERMISSION)


@contextmanager
def _unpacked(file: IO[bytes], magic: bytes, path: Path) -> Iterator[Readable]:
    if magic.startswith(_ZSTD):
        with _zstd(file, path) as stream:
            yield stream
        return
    kinds = ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ", lzma.open), (b"BZh", bz2.open))
    unpack = next((unpack for start, unpack in kinds if magic.startswith(start)), None)
    yield _Careful(cast("Readable", unpack(file)) if unpack else file)


class _Careful:
    """Reads, and calls damage by its name."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except _UNPACK_ERRORS as error:
            raise DamagedError(str(error) or type(error).__name__) from error


class _Zstd:
    """What the program prints; a program that fails is damage."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, size: int = -1, /) -> bytes:
        assert self._process.stdout  # noqa: S101 - it was started with one
        assert self._process.stderr  # noqa: S101
        piece = self._process.stdout.read(size)
        if not piece and self._process.wait() != 0:
            words = self._process.stderr.read().decode(errors="replace").split(":")
            raise DamagedError(f"zstd says{':'.join(words[-2:]).rstrip() or ' nothing'}")
        return piece


@contextmanager
def _zstd(file: IO[bytes], path: Path) -> Iterator[Readable]:
    program = shutil.which("zstd")
    if program is None:
        install = "dnf install" if shutil.which("dnf") else "apt-get install"
        raise RefusedError(f"{path} is packed with zstd, which is not installed.", f"sudo {install} zstd")
    command = [program, "-dcq"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=file, stdout=pipe, stderr=pipe) as process:  # noqa: S603 (found just now)
        try:
            yield _Zstd(process)
        finally:
            process.kill()
