"""Which file systems ought to be mounted for a path, and whether the one that it lies on answers.

Effects: reads /proc/self/mountinfo, /etc/fstab and the names of systemd's mount units; `ailment` touches a path in a
thread of its own, because a look at a dead NFS server can last for ever, and may set off an automount.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.host.files import MOUNTINFO, inside, mounts, unescape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflowd.host.files import MountPoint

FSTAB = Path("/etc/fstab")
UNITS = (Path("/etc/systemd/system"), Path("/run/systemd/system"), Path("/run/systemd/generator"))
"""Where a person's and the generators' mount units lie (systemd.unit(5)); the distribution's own are nobody's wish."""
PATIENCE = 5.0
"""Seconds that a file system gets to answer."""

_ORDINARY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG})
"""What a path may answer on a file system that is well."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A mount point that the machine is configured to have."""

    point: str
    source: str
    """What is mounted there, "" where only a unit's name is known."""
    command: str
    """What mounts it."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A file system that a path needs and that is not mounted."""

    point: str = ""
    """Its mount point, "" where nothing says which it is."""
    source: str = ""
    command: str = ""


def missing(path: Path, *, required: bool) -> Missing | None:
    """Return the file system that is not mounted for `path`, None where nothing is missing.

    One that /etc/fstab or a mount unit names must be mounted in any case; with `required`, the path must also lie on
    some other mount than the root's.
    """
    return lacking(os.path.realpath(path), mounts(MOUNTINFO), [*_fstab(FSTAB), *_units(UNITS)], required=required)


def lacking(real: str, mounted: Sequence[MountPoint], planned: Iterable[Planned], *, required: bool) -> Missing | None:
    """Return what `missing` does; `real` is a path without links. Pure but for the links in planned mount points."""
    # An automount that has not come to anything: what it stands for is not mounted.
    there = {mount.path for mount in mounted if mount.kind != "autofs"}
    for each in sorted(planned, key=lambda plan: plan.point.count("/")):
        point = os.path.realpath(each.point)
        if point != "/" and inside(real, point) and point not in there:
            return Missing(point, each.source, each.command)
    own = any(mount.path in there and separate(mount, mounted) for mount in mounted if inside(real, mount.path))
    return None if own or not required else Missing()


def separate(mount: MountPoint, mounted: Sequence[MountPoint]) -> bool:
    """Whether something else than the root file system's own directory of this name is mounted there.

    systemd's sandbox mounts directories onto themselves; a bind mount of another directory is a mount like any other.
    """
    if mount.path == "/" or mount.kind == "autofs":
        return False
    root = next((each for each in mounted if each.path == "/"), None)
    itself = root is not None and mount.device == root.device and mount.root == root.root.rstrip("/") + mount.path
    return not itself


def parse_fstab(text: str) -> list[Planned]:
    """Return the mount points of an fstab(5), `noauto` ones included; swap and what has no mount point left out."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#") or fields[2] == "swap":  # noqa: PLR2004 - source, point, kind
            continue
        source, point = unescape(fields[0]), unescape(fields[1])
        if point.startswith("/"):
            found.append(Planned(point.rstrip("/") or "/", source, f"sudo mount {shlex.quote(point)}"))
    return found


def parse_unit(name: str) -> Planned | None:
    r"""Return the mount point that a unit's name says ("srv-ml\x2ddata.mount": /srv/ml-data), None for another unit.

    systemd refuses a mount unit whose Where= differs from its name (systemd.mount(5)).
    """
    stem = name.removesuffix(".mount")
    if stem in {name, "-"}:
        return None
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda octet: bytes([int(octet[1], 16)]), stem.replace("-", "/").encode())
    return Planned(f"/{os.fsdecode(raw)}", "", f"sudo systemctl start {shlex.quote(name)}")


def ailment(path: Path, limit: float = PATIENCE) -> str:
    """Return why the file system of `path` cannot be used ("does not answer within 5 s"), "" where it answers.

    A path that is missing or forbidden is no ailment. The thread of a look that hangs is left behind, and the next
    look at the same path waits for that one.
    """
    look = _hanging.get(path) or _Look(path)
    _hanging[path] = look
    look.join(limit)
    if look.is_alive():
        return f"does not answer within {limit:g} s"
    _hanging.pop(path, None)
    return look.trouble


class _Look(threading.Thread):
    """One touch of a path, however long it takes."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="touch", daemon=True)
        self._path = path
        self.trouble = ""
        self.start()

    def run(self) -> None:
        """Ask for the entry itself, which sets off an automount, and for the room, which no cache answers."""
        try:
            os.stat(f"{self._path}/.")  # noqa: PTH116 - a Path drops the dot
            os.statvfs(self._path)
        except OSError as error:
            self.trouble = "" if error.errno in _ORDINARY else f"answers: {error.strerror}"


_hanging: dict[Path, _Look] = {}


def _fstab(file: Path) -> list[Planned]:
    try:
        return parse_fstab(file.read_text(errors="surrogateescape"))
    except OSError:
        return []


def _units(directories: Iterable[Path]) -> list[Planned]:
    names: dict[str, None] = {}
    for directory in directories:
        with suppress(OSError):
            names |= dict.fromkeys(sorted(os.listdir(directory)))  # noqa: PTH208 - names alone are wanted
    return [planned for name in names if (planned := parse_unit(name)) is not None]
