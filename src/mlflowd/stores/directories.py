"""The checks of a store's directory: there, ours, writable, what it holds.

Effects: `present` makes a missing directory where that is allowed; all else only looks.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError
from mlflowd.host.files import (
    Survey,
    describe,
    exists,
    home_of_another,
    make_directory,
    mount_of,
    nearest,
    obstacle,
    survey,
)
from mlflowd.model import Finding, Level, Mend, MendKind
from mlflowd.stores import mounts
from mlflowd.stores.findings import chown, fine, misplaced, permission, refused, warning

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.files import Obstacle
    from mlflowd.host.paths import Identity
    from mlflowd.stores.places import Directory


def check(at: Directory, who: Identity, state: Path, *, make: bool) -> list[Finding]:
    """Return what is to be said of a directory, up to the first failure; `make` a missing one where that is allowed."""
    # Before all others: nothing is written, or even looked for, under a mount point that waits for its file system.
    if (standing := mounts.standing(at, state)) is not None and standing.level is Level.FAILURE:
        return [standing]
    found = [standing] if standing else []
    for look in (_mount, partial(_reachable, state=state), _place, partial(present, make=make), _access):
        if (finding := look(at, who)) is not None:
            found.append(finding)
            if finding.level is Level.FAILURE or not exists(at.path):
                break
    return found


def contents(at: Directory, who: Identity, limit: int) -> list[Finding]:
    """Return what is odd among the first `limit` entries: links that lead out, things of other users."""
    if not at.path.is_dir():
        return []
    found = survey(at.path, who, limit)
    findings = [*_links(at, found), *_strangers(at, who, found)]
    scope = "no link leads out, all is usable" if found.complete else f"looked at the first {limit} entries"
    return findings or [fine(f"{at.name}: contents", f"{at.path}: {scope}")]


def present(at: Directory, who: Identity, *, make: bool) -> Finding | None:
    """Make a missing directory, or say why not; None where it is there."""
    name, path = f"{at.name}: directory", at.path
    if exists(path):
        return None if path.is_dir() else misplaced(name, f"{path} is not a directory.", f"ls -ld {path}")
    by_hand = f"sudo install -d -o {who.owner.replace(':', ' -g ')} -m 0700 {path}"
    if not at.create:
        message = f"{path} does not exist, and {at.section}.create is false."
        return refused(name, message, f"mount what belongs there, or: {by_hand}")
    mend = Mend(MendKind.MAKE_DIRECTORY, str(path), who.uid, who.gid)
    if not make:
        return warning(name, f"{path} does not exist yet; it is made at the start.", by_hand, mend)
    try:
        make_directory(path, who)
    except (OSError, MlflowdError) as error:
        return _not_made(at, name, error, by_hand, mend)
    return fine(name, f"made {path}")


def _not_made(at: Directory, name: str, error: Exception, by_hand: str, mend: Mend) -> Finding:
    message = f"{at.path} does not exist and cannot be made: {error}."
    mount = mount_of(at.path)
    if not mount.kind.startswith("nfs"):
        return permission(name, message, by_hand, mend)
    message = f"{message} The NFS server {mount.source} probably maps root to nobody (root_squash)."
    return permission(name, message, f"on that server: {by_hand} (with the numbers of the user and group here), "
                                     "or export it with no_root_squash")  # fmt: skip


def _reachable(at: Directory, who: Identity, *, state: Path) -> Finding | None:
    found = obstacle(nearest(at.path.parent), who, os.X_OK)
    if found is None:
        return None
    name, message = f"{at.name}: directory", f"{at.path} cannot be reached: {found.message}."
    if found.path.is_relative_to(state):
        return replace(unusable(name, found, who), message=message)
    return permission(name, message, f"sudo chmod o+x {found.path}")


def _place(at: Directory, who: Identity) -> Finding | None:
    name, path = f"{at.name}: directory", at.path
    if path.is_symlink():
        message = f"{path} is a symbolic link to {path.readlink()}; links are not followed."
        remedy = f"name the real directory in {at.section}.uri: {path.resolve()}" if at.section else f"sudo rm {path}"
        return misplaced(name, message, remedy)
    if home_of_another(path, who):
        message = f"{path} is somebody's home directory, and the container would see all of it."
        return misplaced(name, message, f"use a directory of its own, such as {path / 'mlflow'}")
    return None


def _mount(at: Directory, _who: Identity) -> Finding | None:
    mount = mount_of(at.path)
    if mount.private:
        message = f"{at.path} lies in the service's private {mount.path}, which the container engine does not see."
        return misplaced(f"{at.name}: mount", message, "choose a directory outside of /tmp and /var/tmp")
    if not mount.read_only:
        return None
    message = f"{at.path} cannot be written: {mount.path} ({mount.kind}) is mounted read-only."
    return refused(f"{at.name}: mount", message, f"sudo mount -o remount,rw {mount.path}")


def _access(at: Directory, who: Identity) -> Finding:
    name, path = f"{at.name}: access", at.path
    if (found := obstacle(path, who)) is not None:
        return unusable(name, found, who)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IWOTH:
        closed = mode & ~stat.S_IRWXO
        mend = Mend(MendKind.MODE, str(path), mode=closed)
        message = f"{path} can be written by everybody ({describe(path)})."
        return warning(name, message, f"sudo chmod {closed:04o} {path}", mend)
    return fine(name, f"{path} is {describe(path)}, on {mount_of(path).kind}")


def unusable(name: str, found: Obstacle, who: Identity) -> Finding:
    """Return the failure for a file or directory that `who` cannot use, with the command for its owner or its mode."""
    if not exists(found.path):
        return permission(name, f"{found.message}.", f"ls -ld {found.path}")
    status = found.path.lstat()
    is_directory = stat.S_ISDIR(status.st_mode)
    if status.st_uid == who.uid:
        mode = 0o700 if is_directory else 0o600
        mend = Mend(MendKind.MODE, str(found.path), mode=mode)
        return permission(name, f"{found.message}.", f"sudo chmod {mode:04o} {found.path}", mend)
    mend = Mend(MendKind.OWN, str(found.path), who.uid, who.gid)
    return permission(name, f"{found.message}.", chown(found.path, who, whole=is_directory), mend)


def _links(at: Directory, found: Survey) -> list[Finding]:
    if not found.links:
        return []
    links = "a symbolic link that leads" if found.links_count == 1 else f"{found.links_count} symbolic links that lead"
    message = f"{at.path} holds {links} out of it: {', '.join(found.links)}."
    remedy = f"nothing follows them; put the files themselves there: sudo rm {found.links[0]}"
    return [warning(f"{at.name}: links", message, remedy)]


def _strangers(at: Directory, who: Identity, found: Survey) -> list[Finding]:
    if not found.foreign:
        return []
    message = f"{at.path} holds {found.foreign_count} entries that {who.name} cannot use: {', '.join(found.foreign)}."
    mend = Mend(MendKind.OWN, str(at.path), who.uid, who.gid)
    return [warning(f"{at.name}: contents", message, chown(at.path, who, whole=True), mend)]
