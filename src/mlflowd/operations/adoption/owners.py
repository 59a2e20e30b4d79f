"""Owners and modes of a tree become the service user's, and can become again what they were.

Effects: `give` changes owners and modes, after it has written down the former ones in a file; `give_back` sets those
again. Nothing is followed: neither links nor mounts. A file with several names (hard links) is changed where all of
them are in these trees; otherwise it is left alone, because another one may be another program's, and counted.
"""

from __future__ import annotations

import gzip
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlflowd.errors import MlflowdError
from mlflowd.host import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflowd.host.paths import Identity

DIRECTORY, FILE = 0o700, 0o600


@dataclass(frozen=True, slots=True)
class Given:
    """What `give` did."""

    changed: int = 0
    left: int = 0
    """Files with several hard links that belong to somebody else."""


class _Former(NamedTuple):
    uid: int
    gid: int
    mode: int
    path: str
    links: int = 1
    """How many names the file had."""


def give(tops: Iterable[Path], who: Identity, record: Path) -> Given:
    """Give these trees to `who`, 0700 and 0600; the former owners go into `record` first. Raises MlflowdError."""
    try:
        found, left = _judged(_look(tops))
        changes = [one for one in found if one[:3] != (who.uid, who.gid, _wanted(one.mode))]
        with _Record(record) as stream:
            for one in changes:
                line = f"{one.uid} {one.gid} {one.mode:o} {one.links} {one.path}\0"
                stream.write(line.encode("utf-8", "surrogateescape"))
        files.sync_directory(record.parent)
        for one in changes:
            _set(one, who.uid, who.gid, stat.S_IMODE(_wanted(one.mode)))
    except OSError as error:
        message = f"The owner of {error.filename or 'a file'} cannot be changed: {error.strerror}."
        raise MlflowdError(message, "is the file system read-only, or exported with root_squash?") from error
    return Given(len(changes), left)


def give_back(record: Path) -> int:
    """Set the owners and modes that `record` holds, for what is still there; may be done again. Raises OSError."""
    done = 0
    for former in _read(record):
        with suppress(FileNotFoundError):
            _set(former, former.uid, former.gid, former.mode & 0o7777)
            done += 1
    return done


def _judged(found: Iterable[_Former]) -> tuple[list[_Former], int]:
    """Return what may be changed, and how many files have names elsewhere."""
    kept: list[_Former] = []
    several: dict[tuple[int, int], list[_Former]] = {}
    for one in found:
        if one.links == 1:
            kept.append(one)
        else:
            status = os.lstat(one.path)
            several.setdefault((status.st_dev, status.st_ino), []).append(one)
    complete = [names for names in several.values() if len(names) == names[0].links]
    kept += [names[0] for names in complete]
    return kept, sum(len(names) for names in several.values()) - sum(len(names) for names in complete)


def _look(tops: Iterable[Path]) -> Iterator[_Former]:
    """Yield owner and mode of each entry, symbolic links and what is no file left out."""
    for top in tops:
        status = top.lstat()
        yield _former(status, str(top))
        if not stat.S_ISDIR(status.st_mode):
            continue
        for directory, below, names, handle in os.fwalk(top, follow_symlinks=False):
            for name in [*below, *names]:
                entry = os.stat(name, dir_fd=handle, follow_symlinks=False)
                if entry.st_dev != status.st_dev:
                    below[:] = [other for other in below if other != name]
                elif stat.S_ISREG(entry.st_mode) or stat.S_ISDIR(entry.st_mode):
                    yield _former(entry, f"{directory}/{name}")


def _former(status: os.stat_result, path: str) -> _Former:
    links = status.st_nlink if stat.S_ISREG(status.st_mode) else 1
    return _Former(status.st_uid, status.st_gid, status.st_mode, path, links)


def _wanted(mode: int) -> int:
    return stat.S_IFMT(mode) | (DIRECTORY if stat.S_ISDIR(mode) else FILE)


def _set(one: _Former, uid: int, gid: int, mode: int) -> None:
    """Change one entry through a handle on itself: what others put in its place meanwhile is not touched."""
    handle = os.open(one.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink > one.links):
            return
        itself = f"/proc/self/fd/{handle}"
        os.chown(itself, uid, gid)
        Path(itself).chmod(mode)
    finally:
        os.close(handle)


class _Record:
    """A compressed file, new, this user's alone, and on the disk when it is closed."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._stream = os.fdopen(os.open(path, flags, 0o600), "wb")
        self._zip = gzip.GzipFile(fileobj=self._stream, mode="wb", compresslevel=3)

    def __enter__(self) -> gzip.GzipFile:
        return self._zip

    def __exit__(self, *_: object) -> None:
        with self._stream:
            self._zip.close()
            self._stream.flush()
            os.fsync(self._stream.fileno())


def _read(record: Path) -> Iterator[_Former]:
    """Yield what a record holds; nothing where it was cut short: then no owner was changed yet.

    Root does what it says, so one that is not this user's own is not read: the directory is the service user's.
    """
    try:
        descriptor = os.open(record, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as stream:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise MlflowdError(f"{record} is not this user's own, so it is not known whose the files were.")
        try:
            text = gzip.GzipFile(fileobj=stream).read().decode("utf-8", "surrogateescape")
        except EOFError:
            return
    for line in text.split("\0")[:-1]:
        uid, gid, mode, links, path = line.split(" ", 4)
        yield _Former(int(uid), int(gid), int(mode, 8), path, int(links))
