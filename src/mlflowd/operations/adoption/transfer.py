"""Files on their way to where mlflowd has them: renamed where that is possible, else copied and compared.

Effects: renames and writes files; nothing is removed but what an earlier, interrupted copy left. Links are copied as
links, never followed; pipes, sockets and devices are left behind and counted. What is copied is read back from the
disk and compared by SHA-256 before it counts.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.host import files
from mlflowd.host.paths import run_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflowd.engine.api import Progress
    from mlflowd.host.paths import Identity

_PIECE = 1 << 20
_HEARTBEAT = 5.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What was copied."""

    files: int = 0
    bytes: int = 0
    special: int = 0
    """Pipes, sockets and devices, which are left behind."""


def entries(directory: Path, *, experiments: bool = False) -> tuple[str, ...]:
    """Return the names in a directory, sorted; those of mlflowd's own (.mlflowd-…) are left out.

    `experiments`: only directories of experiments, whose names are numbers. Raises OSError.
    """
    names = (each.name for each in directory.iterdir())
    return tuple(
        sorted(name for name in names if not name.startswith(".mlflowd-") and (name.isdecimal() or not experiments))
    )


def renamable(source: Path, target: Path) -> bool:
    """Whether what is in `source` can be renamed into `target`: both on one mount of one file system."""
    there = files.nearest(target)
    here = files.mount_of(source)
    return source.stat().st_dev == there.stat().st_dev and here.path == files.mount_of(there).path


def clashing(source: Path, target: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that both directories have, so that neither may take the other's place."""
    return tuple(name for name in names if files.exists(source / name) and files.exists(target / name))


def move(source: Path, target: Path, names: Iterable[str]) -> None:
    """Rename these entries of `source` into `target`; may be done again after it was cut short. Raises MlflowdError."""
    for name in names:
        if files.exists(target / name):
            if files.exists(source / name):
                raise RefusedError(f"{target / name} is there already, so {source / name} stays where it is.")
            continue
        _rename(source / name, target / name)
    files.sync_directory(target)
    files.sync_directory(source)


def copy_tree(source: Path, target: Path, names: Sequence[str], progress: Progress) -> Tally:
    """Copy these entries of `source` into `target`, with their owners, modes and times, and compare each file.

    What an earlier attempt left of them is replaced. Raises MlflowdError.
    """
    copying = _Copying(progress)
    try:
        for name in names:
            remove(target / name)
            copying.entry(source / name, target / name)
        files.sync_directory(target)
    except OSError as error:
        raise _failed(error, source, target) from error
    return copying.tally


def copy_file(source: Path, target: Path, who: Identity) -> str:
    """Copy a file that this process may read to a new one of `who`, mode 0600, and return its SHA-256.

    `source` is only read. Read back and compared. Raises MlflowdError.
    """
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(error, source, target) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RefusedError(f"{source} is no regular file.")
        return copy_open(descriptor, target, who)
    finally:
        os.close(descriptor)


def copy_open(source: int, target: Path, who: Identity) -> str:
    """Copy the same from an open file: the child that writes has the descriptor, and the rights of `who` alone."""
    written = str(run_as(who, lambda: _anew(source, target)))
    if str(run_as(who, lambda: digest(target))) != written:
        raise MlflowdError(f"{target} is not what was read.", "look at the disk: sudo dmesg")
    return written


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as the disk has it, as far as the kernel lets its cache go. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def add_missing(source: Path, target: Path, names: Iterable[str]) -> int:
    """Copy what is below these entries of `source` and not in `target`, such as what came after a copy was made.

    Raises MlflowdError. Returns the number of files.
    """
    copying = _Copying(lambda _: None)
    try:
        for name in names:
            copying.missing(source / name, target / name)
    except OSError as error:
        raise _failed(error, source, target) from error
    return copying.tally.files


def measure(directory: Path, names: Iterable[str]) -> Tally:
    """Return how many files are below these entries, and their bytes. Raises OSError."""
    tally = Tally()
    for name in names:
        for path in _below(directory / name) if files.exists(directory / name) else ():
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                tally = replace(tally, files=tally.files + 1, bytes=tally.bytes + status.st_size)
    return tally


class _Copying:
    """One copy of several trees, and what it has told."""

    def __init__(self, progress: Progress) -> None:
        self.tally = Tally()
        self._progress = progress
        self._told = time.monotonic()

    def entry(self, source: Path, target: Path) -> None:
        """Copy one entry and what is below it."""
        status = source.lstat()
        if stat.S_ISDIR(status.st_mode):
            target.mkdir(mode=0o700)
            for each in source.iterdir():
                self.entry(each, target / each.name)
            files.sync_directory(target)
        elif stat.S_ISLNK(status.st_mode):
            target.symlink_to(source.readlink())
        elif stat.S_ISREG(status.st_mode):
            self._file(source, target)
        else:
            self.tally = replace(self.tally, special=self.tally.special + 1)
            return
        _like(target, status)

    def missing(self, source: Path, target: Path) -> None:
        """Copy what the target does not have, directories that both have looked through."""
        if not files.exists(source):
            return
        if not files.exists(target):
            self.entry(source, target)
        elif stat.S_ISDIR(source.lstat().st_mode) and stat.S_ISDIR(target.lstat().st_mode):
            for each in source.iterdir():
                self.missing(each, target / each.name)

    def _file(self, source: Path, target: Path) -> None:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            written = _written(descriptor, target)
        finally:
            os.close(descriptor)
        if digest(target) != written:
            raise MlflowdError(f"{target} is not what was read from {source}.", "look at the disk: sudo dmesg")
        size = target.lstat().st_size
        self.tally = replace(self.tally, files=self.tally.files + 1, bytes=self.tally.bytes + size)
        if time.monotonic() - self._told >= _HEARTBEAT:
            self._told = time.monotonic()
            self._progress(f"copied {self.tally.files} files, {self.tally.bytes / 1e6:.0f} MB")


def _anew(source: int, target: Path) -> str:
    target.unlink(missing_ok=True)
    return _written(source, target)


def _written(source: int, target: Path) -> str:
    """Copy what an open file holds to a new file, to the disk, and return its SHA-256."""
    seen = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(source, "rb", closefd=False) as old, os.fdopen(descriptor, "wb") as new:
        while piece := old.read(_PIECE):
            seen.update(piece)
            new.write(piece)
        new.flush()
        os.fsync(descriptor)
    return seen.hexdigest()


def _like(target: Path, status: os.stat_result) -> None:
    """Give a copy the owner, the mode and the times of what it was copied from."""
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        target.chmod(stat.S_IMODE(status.st_mode))  # made here, in a directory that is root's until all is done
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            message = f"{source} lies on another file system than {target.parent}, so it cannot be renamed."
            raise RefusedError(message, "leave it where it is: sudo mlflowd adopt --data reference") from error
        raise _failed(error, source, target) from error


def remove(path: Path) -> None:
    """Remove an entry and what is below it; a missing one is fine. Raises OSError."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path) if stat.S_ISDIR(path.lstat().st_mode) else path.unlink()


def _below(path: Path) -> Iterable[Path]:
    if not stat.S_ISDIR(path.lstat().st_mode):
        yield path
        return
    for directory, _, names in os.walk(path):
        yield from (Path(directory, name) for name in names)


def _failed(error: OSError, source: Path, target: Path) -> MlflowdError:
    where = error.filename or target
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return RefusedError(f"There is no room for what is in {source}: {where}.", f"df -h {target}")
    return MlflowdError(f"{source} cannot be brought to {target}: {where}: {error.strerror}.", "mlflowd check")
