"""What a guest needs of the outer machine: control groups, a network, a name that nobody else has.

Effects: control groups, iptables rules and addresses named after the guest's machine name; each function
that makes something has a twin that takes it away and does not mind when it is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUPS = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("pids", "memory", "devices", "cpu", "freezer", "blkio", "cpuacct", "cpuset")
SLOTS = 60


def unified() -> bool:
    """Return whether the outer machine has cgroup v2 alone."""
    return (CGROUPS / "cgroup.controllers").exists()


def quietly(*command: str) -> bool:
    """Run a command that may fail; return whether it did not."""
    return subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


# --- a name --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slot:
    """A number that one running guest has for itself on this machine, with all that is named after it."""

    number: int
    lock: TextIO

    @property
    def machine(self) -> str:
        return f"mlflowd-t{self.number}"

    @property
    def veth(self) -> str:
        return f"ve-{self.machine}"

    @property
    def outer_address(self) -> str:
        return f"10.213.77.{4 * self.number + 1}"

    @property
    def inner_address(self) -> str:
        return f"10.213.77.{4 * self.number + 2}"

    def release(self) -> None:
        self.lock.close()


def take_slot() -> Slot:
    """Return the first free slot, cleared of what a crashed run left; the lock ends with this process."""
    for slot in free_slots():
        clear(slot)
        return slot
    message = f"all {SLOTS} guests of this machine are in use"
    raise RuntimeError(message)


def free_slots() -> Iterator[Slot]:
    """Yield the slots that no living process holds, locked; the taker of one releases it."""
    for number in range(SLOTS):
        lock = Path(f"/run/lock/mlflowd-test-guest-{number}").open("a")  # noqa: SIM115 - held as long as the guest
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        yield Slot(number, lock)


def sweep() -> None:
    """Clear every slot that no living process holds: the leftovers of earlier, crashed runs."""
    for slot in free_slots():
        clear(slot)
        slot.release()


def clear(slot: Slot) -> None:
    """End the slot's guest, if one still runs without an owner, and take away what was made for it."""
    for pid in nspawn_pids(slot.machine):
        cut_power(pid)
    disconnect(slot)
    remove_cgroups(slot.machine)


def nspawn_pids(machine: str) -> list[int]:
    """Return the systemd-nspawn processes of exactly this machine."""
    return [int(file.parent.name) for file in Path("/proc").glob("[0-9]*/cmdline") if is_nspawn(file, machine)]


def is_nspawn(cmdline: Path, machine: str) -> bool:
    try:
        words = cmdline.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return words[0].endswith("systemd-nspawn") and f"--machine={machine}" in words


def cut_power(nspawn: int) -> None:
    """SIGKILL the guest's PID 1, and with it everything in the guest, then wait for systemd-nspawn to end."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        ended = os.pidfd_open(nspawn)
        children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
        for pid in [int(child) for child in children] or [nspawn]:
            os.kill(pid, signal.SIGKILL)
        select.select([ended], [], [], 20)
        os.close(ended)


# --- network -------------------------------------------------------------------------------------


def rules(slot: Slot) -> list[list[str]]:
    """Return what lets the guest out, as iptables arguments without the verb; Docker forwards nothing by itself."""
    mark = ["-m", "comment", "--comment", slot.machine]
    network = f"{slot.inner_address}/32"
    return [
        ["nat", "POSTROUTING", "-s", network, "!", "-o", slot.veth, *mark, "-j", "MASQUERADE"],
        ["filter", "FORWARD", "-i", slot.veth, *mark, "-j", "ACCEPT"],
        ["filter", "FORWARD", "-o", slot.veth, *mark, "-j", "ACCEPT"],
    ]


def connect(slot: Slot) -> None:
    """Give our end of the guest's cable its address, and the guest the way out."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    subprocess.run(["ip", "address", "replace", f"{slot.outer_address}/30", "dev", slot.veth], check=True)
    subprocess.run(["ip", "link", "set", slot.veth, "up"], check=True)
    for table, chain, *rule in rules(slot):
        if not quietly("iptables", "-w", "-t", table, "-C", chain, *rule):
            subprocess.run(["iptables", "-w", "-t", table, "-I", chain, "1", *rule], check=True)


def disconnect(slot: Slot) -> None:
    for table, chain, *rule in rules(slot):
        while quietly("iptables", "-w", "-t", table, "-D", chain, *rule):
            pass
    quietly("ip", "link", "delete", slot.veth)


# --- control groups ------------------------------------------------------------------------------


def make_cgroups(machine: str) -> list[Path]:
    """Make a control group for the guest in each hierarchy and return their cgroup.procs files.

    Without them two guests would share the names of the root group, and one's services the other's.
    """
    return [make_cgroup(directory) / "cgroup.procs" for directory in cgroup_directories(machine)]


def cgroup_directories(machine: str) -> list[Path]:
    """Return the guest's directory in each hierarchy: below our own group on v1, below the root on v2.

    On v2 a group with processes of its own cannot hand controllers down; the root is the exception.
    """
    if unified():
        return [CGROUPS / machine]
    own = re.findall(r"^\d+:(?:name=)?([^:,]+)[^:]*:(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    found = [CGROUPS / controller / path.lstrip("/") / machine for controller, path in own]
    return [directory for directory in found if directory.parent.is_dir()]


def make_cgroup(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    if unified():
        available = (CGROUPS / "cgroup.controllers").read_text().split()
        (CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in available))
    for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new v1 group, which then takes no process
        if not unified() and (directory.parent / name).exists():
            (directory / name).write_text((directory.parent / name).read_text())
    return directory


def remove_cgroups(machine: str) -> None:
    """Remove the guest's groups; the kernel refuses while a process is still in one."""
    for top in cgroup_directories(machine):
        below = [Path(path) for path, _directories, _files in os.walk(top, topdown=False)]
        for directory in below:
            with contextlib.suppress(OSError):
                directory.rmdir()


def mounts_below(directory: Path) -> list[str]:
    """Return the mount points at or below a directory, the deepest first."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(directory)), reverse=True)
