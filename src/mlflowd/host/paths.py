"""Where mlflowd keeps its things, and as whom it works.

Reads the environment (STATE_DIRECTORY and RUNTIME_DIRECTORY, as systemd sets them; systemd.exec(5)) and the user
database. `run_as` forks when this process is root, `become` gives up root; nothing else here has an effect.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mlflowd.errors import ExitStatus, MlflowdError

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE_USER = "mlflowd"


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that owns the stores, and that the container runs as."""

    uid: int
    gid: int
    name: str
    """The user's name, or its number where it has none."""

    @property
    def owner(self) -> str:
        """Return user:group as chown(1) takes it."""
        return f"{self.name}:{group_name(self.gid)}"


def state_directory() -> Path:
    """Return the directory of the stores and of what mlflowd remembers."""
    return _first("STATE_DIRECTORY", "/var/lib/mlflowd")


def runtime_directory() -> Path:
    """Return the directory of what lasts until a reboot: status.json and the lock."""
    return _first("RUNTIME_DIRECTORY", "/run/mlflowd")


def status_file() -> Path:
    """Return the file that `mlflowd status` reads."""
    return runtime_directory() / "status.json"


def fingerprint_file(state: Path) -> Path:
    """Return the file that remembers which database was served last, below the state directory `state`."""
    return state / "state" / "fingerprint.json"


def transaction_file(state: Path) -> Path:
    """Return the file that says which transaction is under way: operations/transaction.py."""
    return state / "state" / "transaction.json"


def outcomes_file(state: Path) -> Path:
    """Return the file that says what became of the last transactions, and which images were rejected."""
    return state / "state" / "transactions.json"


def identity() -> Identity:
    """Return the service's user: this process's own, or, when it is root, `mlflowd`.

    Raises MlflowdError (78) where root asks and there is no such user.
    """
    if (uid := os.geteuid()) != 0:
        return Identity(uid, os.getegid(), user_name(uid))
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        message = f"There is no user {SERVICE_USER!r} on this machine, and the server does not run as root."
        hint = f"run ./install.sh, or: sudo useradd --system --no-create-home --shell /usr/sbin/nologin {SERVICE_USER}"
        raise MlflowdError(message, hint, ExitStatus.CONFIGURATION) from None
    return Identity(user.pw_uid, user.pw_gid, user.pw_name)


def user_name(uid: int) -> str:
    """Return the name of this user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of this group, or its number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def run_as(who: Identity, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever JSON `work` returns
    """Return what `work` returns (a value of JSON), done with the rights of `who`.

    A root process does it in a forked child that has given up root: so the kernel itself judges (access lists
    included), and no file that appears, such as SQLite's -wal, is root's. Any other process does it as itself.
    What `work` raises of MlflowdError and its kinds is raised here too, an OSError as MlflowdError.
    """
    if os.geteuid() != 0 or who.uid == 0:
        return work()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        _child(who, work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise MlflowdError(f"A check as the user {who.name} ended without an answer.")
    told = json.loads(answer)
    if "error" in told:
        kind, message, hint, status = told["error"]
        raise _kinds(MlflowdError).get(kind, MlflowdError)(message, hint, ExitStatus(status))
    return told["value"]


def become(who: Identity, *sockets: Path) -> None:
    """Give up root for good: this process goes on as `who`, in the groups of these sockets (the engine's) besides.

    So a command that root runs makes files as the daemon makes them, and the kernel judges what it may touch. Nothing
    happens in a process that is not root's. Raises MlflowdError where that cannot be done.
    """
    if os.geteuid() != 0 or who.uid == 0:
        return
    groups = {socket.stat().st_gid for socket in sockets if socket.exists()} - {0}
    try:
        os.setgroups(sorted(groups))
        os.setgid(who.gid)
        os.setuid(who.uid)
    except OSError as error:
        raise MlflowdError(f"This process cannot go on as {who.name}: {error.strerror}.") from error
    os.environ["HOME"] = str(state_directory())


def _child(who: Identity, work: Callable[[], Any], writer: int) -> NoReturn:
    try:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(_told(who, work)).encode())
    finally:
        os._exit(0)  # whatever happens, a forked child does not run on into its parent's code


def _told(who: Identity, work: Callable[[], Any]) -> dict[str, Any]:
    try:
        os.setgroups([])
        os.setgid(who.gid)
        os.setuid(who.uid)
        return {"value": work()}
    except MlflowdError as error:
        return {"error": [type(error).__name__, error.message, error.hint, error.exit_status]}
    except OSError as error:
        return {"error": ["", str(error), "", ExitStatus.FAILURE]}


def _kinds(of: type[MlflowdError]) -> dict[str, type[MlflowdError]]:
    # by name and not by pickle: the child has given up root, and must not be able to give it back
    return {of.__name__: of} | {name: kind for below in of.__subclasses__() for name, kind in _kinds(below).items()}


def _first(variable: str, default: str) -> Path:
    # systemd separates several directories by colons; the first one is the unit's main one
    return Path(os.environ.get(variable, "").split(":")[0] or default)
