"""What restic says when it fails, as errors for people. No effects.

The texts are those of restic 0.14 and 0.18 and of OpenSSH; the exit statuses are newer than Debian 12's restic
(its manual, "Exit codes"), so the texts decide.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from mlflowd.errors import ExitStatus, MlflowdError

if TYPE_CHECKING:
    from collections.abc import Iterable


class ResticError(MlflowdError):
    """restic failed, in words of its own."""


class NoRepositoryError(ResticError):
    """There is no repository at this place."""

    exit_status = ExitStatus.REFUSED


class BusyRepositoryError(ResticError):
    """Another restic, on this machine or another one, is at work on the repository; that passes."""

    exit_status = ExitStatus.LOCKED


class UnreachableRepositoryError(ResticError):
    """The repository's machine does not answer; that passes."""


class NoRoomError(ResticError):
    """The repository's file system, or that of the copies, is full."""

    exit_status = ExitStatus.REFUSED


class DamagedRepositoryError(ResticError):
    """What the repository holds is not what was put there."""

    exit_status = ExitStatus.REFUSED


_HOST_KEY: Final = re.compile(r"host key verification failed|host identification has changed|no .* host key is known")
_CERTIFICATE: Final = re.compile(r"x509:|certificate (?:signed by|is not|has expired)|tls: ")
_CREDENTIALS: Final = re.compile(
    r"permission denied \((?:publickey|password|keyboard)|access ?denied|invalidaccesskeyid|signaturedoesnotmatch"
    r"|403 forbidden|access key id you provided|no such identity|load key .*(?:invalid|error)|too many authentication"
)
_UNREACHABLE: Final = re.compile(
    r"connection (?:refused|timed out|reset|closed)|no such host|could not resolve|i/o timeout|no route to host"
    r"|network is unreachable|unable to start the sftp session|timeout awaiting|context deadline|server misbehaving"
)
_BUSY: Final = re.compile(r"already locked")
_FULL: Final = re.compile(r"no space left on device|disk quota exceeded|quota exceeded|storagefull")
_PASSWORD: Final = re.compile(r"wrong password or no key found")
_DAMAGED: Final = re.compile(
    r"ciphertext verification failed|invalid data returned|is damaged|repository contains errors|data seems corrupt"
    r"|(?:pack|blob|id|tree) .*(?:does not exist|not found)|does not match id|loadindex returned errors"
    r"|wrong data returned|hash mismatch|load.*returned errors|failed to load"
)
_NONE: Final = re.compile(r"repository does not exist|is there a repository at|bucket does not exist|nosuchbucket")
_DENIED: Final = re.compile(r"permission denied|operation not permitted")
_READ_ONLY: Final = re.compile(r"read-only file system")
_DISK: Final = re.compile(r"input/output error")
_NO_SSH: Final = re.compile(r'exec: "?ssh"?: executable file not found|ssh.*: executable file not found')
_COMPLAINTS: Final = frozenset({"error", "exit_error"})
_LOST: Final = re.compile(
    r"retrying after .*(?:no such file|does not exist|not exist|invalid data)|ciphertext verification"
)
_LINES: Final = 3
_LONGEST: Final = 300


def translate(verb: str, where: str, said: Iterable[str]) -> MlflowdError:
    """Return the error for what restic printed before it failed at `verb` on the repository `where`."""
    lines = [words for line in said if (words := plain(line))]
    text = "\n".join(lines)
    low = text.lower()
    for found, make in _FAULTS:
        if found.search(low):
            return make(where, low)
    last = "; ".join(lines[-_LINES:])[:_LONGEST] or "it said nothing"
    return ResticError(f"restic {verb} failed on {where}: {last}.", "its own manual: man restic")


def is_locked(said: Iterable[str]) -> bool:
    """Whether it failed because of another's lock."""
    return any(_BUSY.search(plain(line).lower()) for line in said)


def is_lost(line: str) -> bool:
    """Whether restic says here of data that no second try brings back; it goes on trying for up to 15 minutes."""
    return bool(_LOST.search(line))


def plain(line: str) -> str:
    """Return the words of a line of restic's, which may be JSON; "" where it tells of no error."""
    if not line.startswith("{"):
        return line.strip()
    try:
        told = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(told, dict) or told.get("message_type") not in _COMPLAINTS:
        return ""
    error = told.get("error")
    message = told.get("message") or (error.get("message") if isinstance(error, dict) else error)
    return str(message or "").strip()


def missing() -> MlflowdError:
    """Return the error for a machine without restic."""
    return MlflowdError("restic is not installed, and it keeps the backups.", "sudo apt-get install restic")


def damaged(where: str) -> MlflowdError:
    """Return the error for a repository that lacks data."""
    return DamagedRepositoryError(f"The repository {where} is damaged.", "sudo mlflowd backup check --read-data")


def late(verb: str, where: str, limit: float) -> MlflowdError:
    """Return the error for a call that took longer than backup.time_limit."""
    message = f"restic {verb} on {where} was ended: backup.time_limit ({limit / 3600:.1f} h) is over."
    return ResticError(message, "raise backup.time_limit, or look at what is slow: the network, the disk")


def _host_key(where: str, said: str) -> MlflowdError:
    changed = "changed" in said
    message = (
        f"The host key of {where} is not the one that is known."
        if changed
        else f"{where} is not known by its host key."
    )
    hint = "ssh-keyscan -p PORT HOST >FILE, compare it with the server's own, and name FILE in backup.known_hosts"
    return ResticError(message, hint, ExitStatus.CONFIGURATION)


def _certificate(where: str, _said: str) -> MlflowdError:
    hint = "name its certificate authority in backup.ca_file, and the host as in the certificate"
    return ResticError(f"The certificate of {where} cannot be trusted.", hint, ExitStatus.CONFIGURATION)


def _credentials(where: str, _said: str) -> MlflowdError:
    hint = "look at backup.access_key and backup.secret_key (S3) or backup.key_file (SFTP)"
    return ResticError(f"{where} refuses the credentials, or denies access with them.", hint, ExitStatus.PERMISSION)


def _unreachable(where: str, _said: str) -> MlflowdError:
    return UnreachableRepositoryError(f"{where} cannot be reached.", "look at the other machine and at the network")


def _busy(where: str, _said: str) -> MlflowdError:
    hint = "wait for it; where that process is gone for certain: sudo mlflowd backup unlock"
    return BusyRepositoryError(f"Another restic is at work on {where}.", hint)


def _full(where: str, said: str) -> MlflowdError:
    place = (
        "There is no room left for temporary files" if "/backup/tmp/" in said else f"There is no room left at {where}"
    )
    return NoRoomError(f"{place}.", f"make room (df -h), or keep less: backup.keep; {where} is as it was")


def _password(where: str, _said: str) -> MlflowdError:
    hint = "backup.password has to be the one that the repository was made with"
    return ResticError(f"The password does not open {where}.", hint, ExitStatus.CONFIGURATION)


def _damaged(where: str, _said: str) -> MlflowdError:
    return damaged(where)


def _none(where: str, _said: str) -> MlflowdError:
    return NoRepositoryError(
        f"There is no repository at {where}.", "is it mounted? Where there is none yet: sudo mlflowd backup"
    )


def _denied(where: str, _said: str) -> MlflowdError:
    hint = "give the directory on that machine to the user of the repository"
    if where.startswith("/"):
        hint = f"sudo chown -R mlflowd:mlflowd {where} (the directories above it need a+x)"
    return ResticError(f"{where} may not be used by the user mlflowd.", hint, ExitStatus.PERMISSION)


def _read_only(where: str, _said: str) -> MlflowdError:
    return ResticError(f"{where} is on a file system that is read-only.", "sudo dmesg; mount it for writing")


def _disk(where: str, _said: str) -> MlflowdError:
    return DamagedRepositoryError(f"A disk fails while {where} is read or written.", "sudo dmesg --level=err,warn")


def _no_ssh(_where: str, _said: str) -> MlflowdError:
    return MlflowdError("OpenSSH's client is not installed.", "sudo apt-get install openssh-client")


_FAULTS: Final = (
    (_NO_SSH, _no_ssh),
    (_PASSWORD, _password),
    (_BUSY, _busy),
    (_HOST_KEY, _host_key),
    (_CERTIFICATE, _certificate),
    (_CREDENTIALS, _credentials),
    (_UNREACHABLE, _unreachable),
    (_FULL, _full),
    (_READ_ONLY, _read_only),
    (_DISK, _disk),
    (_DENIED, _denied),
    (_NONE, _none),
    (_DAMAGED, _damaged),
)
"""The first that fits counts: "Is there a repository at …" stands below every failure to open one."""
