"""Reads one small file that holds a secret, or that the server needs beside them. Effects: reads it.

Each raises MlflowdError, whose sentence and remedy never hold what the file holds.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.host.paths import run_as, user_name

if TYPE_CHECKING:
    from mlflowd.host.paths import Identity

MOST_BYTES: Final = 1 << 20
"""systemd's own limit for credentials; a bundle of certificate authorities has some 250 KB."""
_OTHERS: Final = 0o077


def private(path: Path, who: Identity) -> str:
    """Return the text of a file that only its owner may use, the service user or root.

    Read with the rights of `who`, so that root hears of what the daemon could not read.
    """
    return str(run_as(who, lambda: _text(path, _contents(path, who))))


def public(path: Path, who: Identity) -> str:
    """Return the text of a file that anybody may read; here a symbolic link is followed, as in /etc/ssl/certs."""
    return str(run_as(who, lambda: _text(path, _contents(Path(os.path.realpath(path)), None))))


def credential(path: Path) -> str | None:
    """Return the text of a systemd credential, None where there is none; owner and mode are systemd's to choose."""
    if not os.path.lexists(path):
        return None
    return _text(path, _contents(path, None))


def _contents(path: Path, owner: Identity | None) -> bytes:
    """Read a regular file; with `owner`, one that nobody else can read or exchange."""
    try:
        # not blocking: a pipe would wait for its writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unopened(path, error, owner) from None
    try:
        status = os.fstat(descriptor)
        _regular(path, status)
        if owner is not None:
            _private(path, status, owner)
        with open(descriptor, "rb", closefd=False) as stream:
            contents = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise _unopened(path, error, owner) from None
    finally:
        os.close(descriptor)
    if len(contents) > MOST_BYTES:
        raise _wrong(f"{path} is larger than {MOST_BYTES >> 20} MiB", "is it the right file?")
    return contents


def _text(path: Path, contents: bytes) -> str:
    try:
        text = contents.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise _wrong(f"{path} is not UTF-8 text", "is it the right file, and in the right form?") from None
    if not text.strip():
        raise _wrong(f"{path} is empty", "write the secret into it")
    return text


def _regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise _wrong(f"{path} is {what}", "name a file")


def _private(path: Path, status: os.stat_result, who: Identity) -> None:
    name, mode = shlex.quote(str(path)), stat.S_IMODE(status.st_mode)
    if status.st_uid not in {0, who.uid}:
        reason = f"{path} belongs to {user_name(status.st_uid)}, who could change it"
        raise _wrong(reason, f"sudo chown {who.owner} {name} && sudo chmod 0400 {name}")
    if mode & _OTHERS:
        raise _wrong(f"{path} has the mode {mode:04o}: others may use it", f"sudo chmod 0{mode & 0o700:o} {name}")


def _unopened(path: Path, error: OSError, owner: Identity | None) -> MlflowdError:
    name = shlex.quote(str(path))
    if error.errno == errno.ENOENT:
        return _wrong(f"there is no file {path}", "make it, or name another one")
    if error.errno == errno.ELOOP:
        return _wrong(f"{path} is a symbolic link", f"name the file itself: {os.path.realpath(path)}")
    if not isinstance(error, PermissionError):
        return _wrong(f"{path} cannot be read: {error.strerror}", "name a file that can be")
    if owner is None:
        remedy = f"sudo chmod a+r {name} (the directories above it need a+x)"
        return MlflowdError(f"{path} may not be read by this user", remedy, ExitStatus.PERMISSION)
    remedy = f"sudo chown {owner.owner} {name} (the directories above it need a+x), or let systemd read it"
    return MlflowdError(f"{path} may not be read by {owner.name}", remedy, ExitStatus.PERMISSION)


def _wrong(reason: str, remedy: str) -> MlflowdError:
    return MlflowdError(reason, remedy, ExitStatus.CONFIGURATION)
