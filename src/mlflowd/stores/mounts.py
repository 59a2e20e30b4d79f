"""The file systems that the stores' directories lie on: mounted, answering, the same as when they were served last.

Effects: those of host.mounts; `remember` writes <state>/state/mounts.json.
"""

from __future__ import annotations

import json
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflowd.errors import MlflowdError
from mlflowd.host import mounts
from mlflowd.host.files import exists, inside, mount_of, write_atomically
from mlflowd.host.files import mounts as mounted
from mlflowd.host.paths import run_as
from mlflowd.model import Layer, Trouble
from mlflowd.stores.findings import refused, warning
from mlflowd.stores.places import directories

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflowd.config import Settings
    from mlflowd.host.files import MountPoint
    from mlflowd.host.mounts import Missing
    from mlflowd.host.paths import Identity
    from mlflowd.model import Finding
    from mlflowd.stores.places import Directory


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why nothing may be written to a directory for now, and what helps."""

    message: str
    remedy: str
    away: bool = False
    """Not mounted, in place of not answering."""


def hindrance(at: Directory) -> Hindrance | None:
    """Return why this directory must not be touched: its file system is not mounted or does not answer.

    Takes no longer than host.mounts.PATIENCE.
    """
    # A path on a dead mount cannot even be resolved, so what answers comes before what is mounted.
    if ailment := mounts.ailment(at.path):
        return _ailing(at, ailment)
    lacking = mounts.missing(at.path, required=at.mounted)
    return _unmounted(at, lacking) if lacking else None


def standing(at: Directory, state: Path) -> Finding | None:
    """Return that a directory is not to be touched now; it may pass, so a daemon waits for the mount to come."""
    found = hindrance(at)
    if found is not None:
        return replace(refused(f"{at.name}: mount", found.message, found.remedy), transient=True)
    return _moved(at, state)


def trouble(at: Directory) -> Trouble | None:
    """Return the same while the server serves."""
    found = hindrance(at)
    if found is None:
        return None
    message = f"{found.message} The running server keeps the one that it began with; a new start waits for it."
    return Trouble(Layer.STORE, message if found.away else found.message, found.remedy)


def remember(settings: Settings, state: Path, who: Identity) -> None:
    """Keep which mounts the stores lie on, for the next start. What cannot be kept is not worth an error."""
    seen = mounted()
    known = {str(at.path): [mount.path, mount.kind, mount.source] for at in directories(settings)
             if mounts.separate(mount := mount_of(at.path), seen)}  # fmt: skip
    file = _file(state)
    if known == _load(file):
        return
    with suppress(OSError, MlflowdError):
        run_as(who, lambda: write_atomically(file, json.dumps(known, indent=2) + "\n"))


def _ailing(at: Directory, ailment: str) -> Hindrance:
    mount = _by_name(str(at.path), mounted())
    message = f"The file system of {at.path} {ailment}: {mount.source} ({mount.kind}), mounted on {mount.path}."
    point = shlex.quote(mount.path)
    again = f"sudo umount -f {point}; sudo mount {point}"
    return Hindrance(message, f"see to the server that holds it; where that is up: {again}")


def _by_name(path: str, seen: Sequence[MountPoint]) -> MountPoint:
    """Return the mount of a path without a look at the path."""
    return max((mount for mount in seen if inside(path, mount.path)), key=lambda mount: len(mount.path))


def _unmounted(at: Directory, lacking: Missing) -> Hindrance:
    if lacking.point:
        what = f"{lacking.source} is not" if lacking.source else "Nothing is"
        message = f"{what} mounted on {lacking.point}, where {at.path} lies."
        return Hindrance(message, lacking.command, away=True)
    message = f"No file system is mounted for {at.path}, and {at.section}.mounted is true."
    remedy = f"mount it (best by a line in /etc/fstab), or set {at.section}.mounted = false"
    return Hindrance(message, remedy, away=True)


def _moved(at: Directory, state: Path) -> Finding | None:
    """Return that a store was on a mount when it was served last, and is not now."""
    point, kind, source = _load(_file(state)).get(str(at.path), ("", "", ""))
    if not point or any(mount.path == point for mount in mounted()):
        return None
    name = f"{at.name}: mount"
    message = f"{at.path} lay on {point} ({source}, {kind}) when it was served last, and {point} is not mounted now"
    accept = f"where it is meant to lie here: sudo rm {_file(state)}"
    if _holds_something(at.path):
        return warning(name, f"{message}.", f"{accept}; else: sudo mount {shlex.quote(point)}")
    message = f"{message}: an empty directory would hide what it held."
    return replace(refused(name, message, f"sudo mount {shlex.quote(point)}; {accept}"), transient=True)


def _holds_something(path: Path) -> bool:
    if not exists(path):
        return False
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except OSError:
        return True  # told by the check of its rights


def _file(state: Path) -> Path:
    return state / "state" / "mounts.json"


def _load(file: Path) -> dict[str, list[str]]:
    try:
        kept = json.loads(file.read_text())
        return {str(path): [str(word) for word in words] for path, words in kept.items() if len(words) == 3}  # noqa: PLR2004 - point, kind, source
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
