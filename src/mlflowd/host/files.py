"""Files, owners, modes, links and mounts: looking at them, and the safe repairs.

Effects: `mend` makes directories and changes owners and modes, `write_atomically` writes; all else only looks.
Links are never followed.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mlflowd.errors import MlflowdError
from mlflowd.host.paths import Identity, group_name, run_as, user_name
from mlflowd.model import Mend, MendKind

USE = os.R_OK | os.W_OK | os.X_OK
MOUNTINFO = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    {
        *("9p", "afs", "afp", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs"),
    }
)
EXAMPLES = 3
"""Paths that a survey names of each kind."""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Where a path is mounted, after proc_pid_mountinfo(5)."""

    path: str
    kind: str
    """The type of file system, such as ext4 or fuse.sshfs."""
    read_only: bool
    root: str = "/"
    """The directory of the file system that is mounted there."""
    device: str = ""
    """major:minor of the file system."""
    source: str = ""
    """What is mounted, such as /dev/sda1 or nas:/export."""

    @property
    def private(self) -> bool:
        """Whether it is a /tmp that systemd made for this service alone (PrivateTmp= of systemd.exec(5))."""
        return "/systemd-private-" in self.root

    @property
    def network(self) -> bool:
        """Whether other machines may share it, so that locks and shared memory cannot be trusted."""
        return self.kind in NETWORK or self.kind.startswith("fuse.")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a user from a path: the path itself or a directory above it."""

    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What is odd in a tree; the first few paths of each kind and how many there are."""

    links: tuple[str, ...] = ()
    """Symbolic links that lead out of the tree."""
    links_count: int = 0
    foreign: tuple[str, ...] = ()
    """Directories that the user may not write, files that it may not read."""
    foreign_count: int = 0
    complete: bool = True
    """False where the tree was larger than the limit."""


def mount_of(path: Path, mountinfo: Path = MOUNTINFO) -> MountPoint:
    """Return the mount that `path` lies on, whether `path` exists or not."""
    real = os.path.realpath(path)
    found = MountPoint("/", "unknown", read_only=False)
    for mount in mounts(mountinfo):
        if len(mount.path) >= len(found.path) and inside(real, mount.path):
            found = mount  # of two on the same place, the later one covers the earlier
    return found


def mounts(mountinfo: Path = MOUNTINFO) -> list[MountPoint]:
    """Return every mount that this process sees, in the order in which they cover each other."""
    return [_parse_mount(line) for line in mountinfo.read_text().splitlines()]


def inside(path: str, top: str) -> bool:
    """Whether `path` is `top` or lies below it, going by their names alone."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def unescape(text: str) -> str:
    r"""Return a field of mountinfo or fstab with its octal escapes (\040 for a space) read; see getmntent(3)."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def nearest(path: Path) -> Path:
    """Return `path`, or the nearest directory above it that exists."""
    while path != path.parent and not exists(path):
        path = path.parent
    return path


def exists(path: Path) -> bool:
    """Whether `path` is there, links not followed; what cannot be looked at counts as not there."""
    try:
        path.lstat()
    except OSError:
        return False
    return True


def obstacle(path: Path, who: Identity, need: int = USE) -> Obstacle | None:
    """Return what keeps `who` from using `path` (os.R_OK | os.W_OK | os.X_OK), None where nothing does.

    The kernel judges where this process is `who` or root (access lists included), else owner and mode do.
    """
    try:
        expected = _expected_obstacle(path, who, need)
    except PermissionError as error:
        return Obstacle(path, f"{path} cannot be looked at: {error.strerror}")
    if os.geteuid() not in (0, who.uid):
        return expected
    if run_as(who, lambda: os.access(path, need)):
        return None
    return expected or Obstacle(path, f"{path} is refused by an access list or a read-only mount")


def describe(path: Path) -> str:
    """Return owner and mode for people: "root:root, mode 0755"."""
    status = path.lstat()
    return f"{user_name(status.st_uid)}:{group_name(status.st_gid)}, mode {stat.S_IMODE(status.st_mode):04o}"


def home_of_another(path: Path, who: Identity) -> bool:
    """Whether `path` is somebody else's home directory: nothing to give away whole."""
    return any(user.pw_dir == str(path) and user.pw_uid != who.uid for user in pwd.getpwall())


def survey(top: Path, who: Identity, limit: int) -> Survey:
    """Look through at most `limit` entries below `top` for links that lead out and for what `who` cannot use."""
    links: list[str] = []
    foreign: list[str] = []
    root, left, pending = os.path.realpath(top), limit, [str(top)]
    while pending and left > 0:
        entries = _entries(pending.pop(), left)
        left -= len(entries)
        for entry in entries:
            if entry.is_symlink():
                links += [entry.path] * (not inside(os.path.realpath(entry.path), root))
                continue
            foreign += [entry.path] * (not _usable(entry, who))
            pending += [entry.path] * entry.is_dir(follow_symlinks=False)
    examples = tuple(links[:EXAMPLES]), len(links), tuple(foreign[:EXAMPLES]), len(foreign)
    return Survey(*examples, complete=left > 0 and not pending)


def mend(what: Mend) -> str:
    """Carry out a repair and return what was done as a sentence. Raises OSError and MlflowdError."""
    path = Path(what.path)
    if what.kind is MendKind.MAKE_DIRECTORY:
        make_directory(path, Identity(what.uid, what.gid, user_name(what.uid)), what.mode)
        return f"made {path} ({describe(path)})"
    if what.kind is MendKind.MODE:
        _change_mode(path, what.mode)
        return f"changed the mode of {path} to {what.mode:04o}"
    changed, left = _own(path, what.uid, what.gid)
    kept = f"; left alone: {left} with several hard links" if left else ""
    return f"gave {path} to {user_name(what.uid)}:{group_name(what.gid)} ({changed} changed{kept})"


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Put `text` at `path`, whole or not at all, also across a power cut; makes its directory. Raises OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def sync_directory(path: Path) -> None:
    """Make the names in a directory last across a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, who: Identity, mode: int = 0o700) -> None:
    """Make `path` for `who`, and the missing directories above it. Raises OSError and MlflowdError.

    Done as `who` where that is possible, so that root does not work in directories that others may exchange under
    it; otherwise by root, who keeps the directories above.
    """
    try:
        run_as(who, lambda: _make(path, mode))
    except MlflowdError:
        _make(path, mode)
        os.chown(path, who.uid, who.gid, follow_symlinks=False)


def _make(path: Path, mode: int) -> None:
    for parent in reversed(path.parents):
        if not exists(parent):
            parent.mkdir()
            parent.chmod(0o755)  # whatever the umask: a directory that nobody can pass would hide the store
    path.mkdir(mode=0o700)
    path.chmod(mode)


def _change_mode(path: Path, mode: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        if stat.S_ISLNK(os.fstat(handle).st_mode):
            raise MlflowdError(f"{path} is a symbolic link; nothing was changed.")
        Path(f"/proc/self/fd/{handle}").chmod(mode)
    finally:
        os.close(handle)


def _own(top: Path, uid: int, gid: int) -> tuple[int, int]:
    # a second name of /etc/shadow could lie in a tree that others write: files with several names stay
    changed, left = 1, 0
    device = top.lstat().st_dev
    os.chown(top, uid, gid, follow_symlinks=False)
    for _, directories, files, handle in os.fwalk(top, follow_symlinks=False):
        for name in [*directories, *files]:
            try:
                status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if status.st_dev != device:
                directories[:] = [other for other in directories if other != name]
            elif stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and status.st_uid != uid:
                left += 1
            elif (status.st_uid, status.st_gid) != (uid, gid):
                os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)
                changed += 1
    return changed, left


def _expected_obstacle(path: Path, who: Identity, need: int) -> Obstacle | None:
    for above in reversed(path.parents):
        if not _granted(above.stat(), who, os.X_OK):
            return Obstacle(above, f"{above} may not be entered by {who.name} (it is {describe(above)})")
    if not _granted(path.stat(), who, need):
        return Obstacle(path, f"{path} may not be used by {who.name} (it is {describe(path)})")
    return None


def _granted(status: os.stat_result, who: Identity, need: int) -> bool:
    # inside the container the server has no supplementary groups, so none count here
    if who.uid == 0:
        return True
    shift = 6 if status.st_uid == who.uid else 3 if status.st_gid == who.gid else 0
    return (status.st_mode >> shift) & need == need


def _usable(entry: os.DirEntry[str], who: Identity) -> bool:
    try:
        return _granted(entry.stat(follow_symlinks=False), who, USE if entry.is_dir(follow_symlinks=False) else os.R_OK)
    except FileNotFoundError:
        return True  # removed meanwhile


def _entries(directory: str, limit: int) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(islice(entries, limit))
    except OSError:  # removed by a running server, or unreadable, which its own mode has told already
        return []


def _parse_mount(line: str) -> MountPoint:
    before, _, after = line.partition(" - ")
    fields, (kind, source, *options) = before.split(), after.split(" ")
    # ext4 with errors=remount-ro tells it, on newer kernels, by emergency_ro among the superblock's options alone
    read_only = {"ro", "emergency_ro"} & {*fields[5].split(","), *",".join(options).split(",")}
    return MountPoint(unescape(fields[4]), kind, bool(read_only), unescape(fields[3]), fields[2], unescape(source))
