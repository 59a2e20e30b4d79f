"""The stores while the server serves: is the database file in place, may we write, is there room.

Effects: stat(2), access(2), statvfs(3), reads of /proc/self/mountinfo and /etc/fstab, some 2 ms together; the database
is not opened. A message holds no figure that changes at each look, so that only a change of state is news.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.host import disk
from mlflowd.host.files import mount_of, obstacle
from mlflowd.host.mounts import ailment
from mlflowd.model import Layer, Trouble
from mlflowd.stores import mounts
from mlflowd.stores.fingerprint import Place, place
from mlflowd.stores.places import database_path, directories
from mlflowd.stores.sqlite import header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflowd.config import Settings
    from mlflowd.host.disk import Space
    from mlflowd.host.paths import Identity

_LOST = "stop with `sudo systemctl stop mlflowd`, put it back (or restore a backup) at {path}, start again"


def stores(settings: Settings, served: Place | None, who: Identity) -> tuple[Trouble, ...]:
    """Return what is wrong with the stores of a running server.

    `served` is the database file when serving began (fingerprint.place); None leaves that comparison out.
    """
    database = database_path(settings)
    away = {at.path: mounts.trouble(at) for at in directories(settings)}
    in_place = _in_place(database, served) if database and not away[database.parent] else None
    usable = [trouble or _usable(path, who) for path, trouble in away.items()]
    return tuple(trouble for trouble in (in_place, *usable) if trouble is not None)


def room(settings: Settings, state: Path, engine_root: str = "") -> tuple[Trouble, ...]:
    """Return the file systems of state, stores and engine that have less room than disk.warn or disk.critical.

    `engine_root` is EngineInfo.root, "" where it is unknown or not on this machine.
    """
    troubles = (tight(settings, name, space) for name, space in spaces(settings, state, engine_root).items())
    return tuple(trouble for trouble in troubles if trouble is not None)


def spaces(settings: Settings, state: Path, engine_root: str = "") -> Mapping[str, Space]:
    """Return the room of each file system in use, by the paths that lie on it."""
    paths = [state, *(at.path for at in directories(settings)), *([Path(engine_root)] if engine_root else [])]
    found: dict[int, tuple[list[str], Space]] = {}
    for path in dict.fromkeys(paths):
        if ailment(path):
            continue  # told by `stores`; a look at its room would hang as well
        try:
            space = disk.space(path)
        except OSError:
            continue  # not to be seen from here: a sandbox, an engine on another machine
        found.setdefault(space.device, ([], space))[0].append(str(path))
    return {", ".join(_topmost(names)): space for names, space in found.values()}


def _topmost(names: list[str]) -> list[str]:
    return [name for name in names if not any(name.startswith(other.rstrip("/") + "/") for other in names)]


def _in_place(database: Path, served: Place | None) -> Trouble | None:
    now = place(database)
    remedy = _LOST.format(path=database)
    if now is None:
        return Trouble(
            Layer.STORE, f"The database {database} is gone from under the running server.", remedy, lost=True
        )
    if database.stat().st_size == 0:
        return Trouble(
            Layer.STORE, f"The database {database} is empty: the server's own was moved or removed.", remedy, lost=True
        )
    if served is None or (now.device, now.inode) == (served.device, served.inode) or served.path != now.path:
        return None
    if _header(database) != "database":
        return Trouble(Layer.STORE, f"The database {database} was replaced by something else.", remedy, lost=True)
    return Trouble(
        Layer.STORE,
        f"The database file {database} was exchanged under the running server, which still uses the old one.",
        "sudo systemctl restart mlflowd",
        restart_cures=True,
        lost=True,
    )


def _header(database: Path) -> str:
    try:
        return header(database)
    except OSError:
        return "unreadable"


def _usable(directory: Path, who: Identity) -> Trouble | None:
    if not directory.is_dir():
        return Trouble(Layer.STORE, f"The directory {directory} is gone.", f"put it back at {directory}", lost=True)
    mount = mount_of(directory)
    if mount.read_only or os.statvfs(directory).f_flag & os.ST_RDONLY:
        remedy = f"see `sudo dmesg | tail` for the reason, then: sudo mount -o remount,rw {mount.path}"
        return Trouble(Layer.STORE, f"{directory} cannot be written: {mount.path} is mounted read-only.", remedy)
    if found := obstacle(directory, who):
        return Trouble(Layer.STORE, f"{found.message}.", "sudo mlflowd check --fix")
    return None


def tight(settings: Settings, names: str, space: Space) -> Trouble | None:
    """Return that a file system has less room than the settings ask for; `names` are the paths on it."""
    for key, critical in (("critical", True), ("warn", False)):
        limit = getattr(settings.disk, key)
        if space.below(limit):
            what = _shortage(space, inodes=space.inodes_below(limit))
            message = f"The file system of {names} has {what} free, less than disk.{key} = {limit}."
            return Trouble(Layer.DISK, message, f"sudo du -xh -d2 {names.partition(', ')[0]} | sort -h", critical)
    return None


def _shortage(space: Space, *, inodes: bool) -> str:
    percent = space.inodes_percent if inodes else space.percent
    return f"{percent or 'less than 1'}% of its {'inodes' if inodes else 'bytes'}"
