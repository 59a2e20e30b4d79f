"""A machine that is a systemd-nspawn guest: power, and commands in it. guest.py adds what tests look at.

Effects: see outside.py and disks.py; all of it is gone after `remove`, and after a crash with the next `make`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

from e2e import disks, outside
from e2e.places import CACHE
from e2e.sockets import notify_socket

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BOOT_LIMIT = 90.0
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt",
}
NETWORK = "[Match]\nName=host0\n[Network]\nAddress={address}/30\nGateway={gateway}\n"
# The guest of a cgroup v1 machine gets its controllers read-only; Docker needs to write to them.
REMOUNT = (
    "mount -o remount,rw /sys/fs/cgroup",
    (
        f"for c in {' '.join(outside.V1_CONTROLLERS)}; do umount /sys/fs/cgroup/$c; "
        "mkdir -p /sys/fs/cgroup/$c; mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c; done"
    ),
)
REMOUNT_UNIT = f"""\
[Unit]
DefaultDependencies=no
After=local-fs.target
Before=docker.service containerd.service mlflowd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c '{REMOUNT[0]}; {REMOUNT[1]}'
[Install]
WantedBy=multi-user.target
"""


class GuestError(Exception):
    """A guest did not do what the harness needs; a failed test's own commands raise CalledProcessError."""


class GuestCommandError(subprocess.CalledProcessError):
    """A command failed in the guest; its text holds what the command printed."""

    def __init__(self, message: str, result: subprocess.CompletedProcess[str]) -> None:
        super().__init__(result.returncode, result.args, result.stdout)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Machine:
    """One guest: made, booted any number of times, removed."""

    def __init__(self, slot: outside.Slot, disk: disks.Disk) -> None:
        self.slot = slot
        self.disk = disk
        self.nspawn: subprocess.Popen[bytes] | None = None
        self.leader = 0
        """The guest's PID 1, as the outer machine numbers it."""
        self.boot_seconds = 0.0

    @classmethod
    def make(cls, suite: str = "bookworm", *, snapshot: str | None = None, images_of: str | None = None) -> Self:
        """Return a guest that is not booted yet: over a fresh Debian, or over a snapshot (which knows its suite).

        A fresh one may be given the engine's images of a snapshot, as a carried-over /var/lib/docker would.
        """
        slot = outside.take_slot()
        directory = CACHE / "guests" / slot.machine
        disk = disks.snapshot_disk(directory, snapshot) if snapshot else disks.fresh_disk(directory, suite)
        if images_of:
            disks.copy_images(disks.snapshot_path(images_of) / "docker", disk.docker)
        guest = cls(slot, disk)
        guest._configure()
        return guest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.remove()

    def _configure(self) -> None:
        """Write the guest's own network (as networkd wants it) and, on a cgroup v1 machine, the remount."""
        units = self.disk.root / "etc/systemd"
        wants = units / "system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        network = NETWORK.format(address=self.slot.inner_address, gateway=self.slot.outer_address)
        (units / "network").mkdir(parents=True, exist_ok=True)
        (units / "network/10-host0.network").write_text(network)
        # The kernel is the outer machine's, and its modules are out of reach.
        link(units / "system/systemd-modules-load.service", "/dev/null")
        link(wants / "systemd-networkd.service", "/lib/systemd/system/systemd-networkd.service")
        if not outside.unified():
            (units / "system/test-cgroups.service").write_text(REMOUNT_UNIT)
            link(wants / "test-cgroups.service", "/etc/systemd/system/test-cgroups.service")

    # --- power ---------------------------------------------------------------------------------

    def boot(self, *, whole: bool = True) -> None:
        """Power on and return when the guest's systemd says that it is ready (multi-user.target is reached).

        `whole=False`: when D-Bus answers; for a boot in which a service is still to wait for something.
        """
        self._start("--boot", f"--notify-ready={'yes' if whole else 'no'}")
        if not whole:
            self.run("until systemctl is-active --quiet dbus.socket; do sleep 0.1; done", timeout=BOOT_LIMIT)

    def boot_without_systemd(self) -> None:
        """Start the guest as a container has it: PID 1 is no init system, nothing is configured or running."""
        self._start("--as-pid2", "--notify-ready=no", "sleep", "infinity")
        self.run(f"ip address add {self.slot.inner_address}/30 dev host0 && ip link set lo up && ip link set host0 up")
        self.run(f"ip route add default via {self.slot.outer_address}")
        if not outside.unified():
            self.run("\n".join(REMOUNT))

    def _start(self, *how: str) -> None:
        started = time.monotonic()
        with notify_socket() as (path, messages):
            self.nspawn = self._spawn(path, how)
            try:
                self._follow_boot(messages, started + BOOT_LIMIT)
            except BaseException:
                self.kill()
                raise
        self.boot_seconds = time.monotonic() - started

    def _spawn(self, notify: str, how: Sequence[str]) -> subprocess.Popen[bytes]:
        (CACHE / "pip").mkdir(exist_ok=True)
        nspawn = [
            *("systemd-nspawn", f"--machine={self.slot.machine}", "-D", str(self.disk.root)),
            *("--register=no", "--keep-unit", "--capability=all", "--network-veth"),
            *("--system-call-filter=add_key keyctl bpf", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            *(f"--bind={self.disk.docker}:/var/lib/docker", f"--bind={CACHE / 'pip'}:/root/.cache/pip"),
        ]
        enter_groups = 'for procs in $1; do echo 0 >"$procs"; done; shift; exec "$@"'
        groups = " ".join(str(procs) for procs in outside.make_cgroups(self.slot.machine))
        with self.console.open("ab") as console:
            return subprocess.Popen(
                ["sh", "-ec", enter_groups, "sh", groups, *nspawn, *how],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                env={**os.environ, "NOTIFY_SOCKET": notify, "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE": "1"},
            )  # fmt: skip

    def _follow_boot(self, messages: socket.socket, deadline: float) -> None:
        messages.settimeout(1)
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                fields = dict(line.split("=", 1) for line in messages.recv(65536).decode().splitlines() if "=" in line)
                if "X_NSPAWN_LEADER_PID" in fields:
                    self.leader = int(fields["X_NSPAWN_LEADER_PID"])
                    outside.connect(self.slot)
                if fields.get("READY") == "1":
                    return
            if self.nspawn is None or self.nspawn.poll() is not None:
                break
        raise GuestError(f"{self.slot.machine} did not boot; its console:\n{self.console_tail()}")

    @property
    def console(self) -> Path:
        return self.disk.directory / "console.log"

    def console_tail(self) -> str:
        return self.console.read_text(errors="replace")[-3000:]

    @property
    def running(self) -> bool:
        return self.nspawn is not None and self.nspawn.poll() is None

    def power_off(self, timeout: float = 90) -> None:
        """Shut down in order, services and all."""
        if self.running:
            self.run("systemctl poweroff", check=False)
            self._ended(timeout)

    def reboot(self, timeout: float = 90, *, whole: bool = True) -> None:
        """Shut down in order and boot again; `whole` as for `boot`."""
        self.run("systemctl reboot", check=False)
        self._ended(timeout)
        self.boot(whole=whole)

    def kill(self) -> None:
        """Cut the power: every process of the guest is gone at once, nothing is told or flushed."""
        if self.nspawn is not None and self.running:
            outside.cut_power(self.nspawn.pid)
            self._ended(30)

    def _ended(self, timeout: float) -> None:
        if self.nspawn is not None:
            self.nspawn.wait(timeout)
        outside.disconnect(self.slot)
        outside.remove_cgroups(self.slot.machine)
        self.nspawn, self.leader = None, 0

    def remove(self) -> None:
        """End the guest and take away all that was made for it."""
        self.kill()
        self.disk.remove()
        outside.clear(self.slot)
        self.slot.release()

    def freeze(self, name: str) -> None:
        """Power off and keep the disk as the snapshot `name` for `make`; this guest is gone then."""
        self.power_off()
        self.disk.freeze(name)
        outside.clear(self.slot)
        self.slot.release()

    # --- commands ------------------------------------------------------------------------------

    def run(
        self,
        command: str | Sequence[str],
        *,
        check: bool = True,
        timeout: float = 60,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command (a string: by bash) as the guest's root and return its output, stderr in stdout.

        Raises CalledProcessError (its `output` holds what was printed) and TimeoutExpired.
        """
        bounded = ["timeout", "--kill-after=5", str(timeout), *self.words(command)]
        done = subprocess.run(
            self.inside(bounded, env),
            check=False,
            timeout=timeout + 15,
            input=stdin or b"",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        result = subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(errors="replace"), None)
        if check and result.returncode != 0:
            message = f"exit status {result.returncode} of {command!r} in {self.slot.machine}:\n{result.stdout[-6000:]}"
            raise GuestCommandError(message, result)
        return result

    def popen(self, command: str | Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in the guest and leave it running."""
        return subprocess.Popen(self.inside(self.words(command), None), **options)

    @staticmethod
    def words(command: str | Sequence[str]) -> list[str]:
        return ["bash", "-c", command] if isinstance(command, str) else list(command)

    def inside(self, words: Sequence[str], env: Mapping[str, str] | None) -> list[str]:
        """Return the outer machine's command line that runs `words` in the guest."""
        if not self.running:
            raise GuestError(f"{self.slot.machine} is not running")
        pairs = [f"{name}={value}" for name, value in {**ENVIRONMENT, **(env or {})}.items()]
        enter = ["nsenter", "-t", str(self.leader), *("-m", "-u", "-i", "-n", "-p", "-C"), "--"]
        return [*enter, "env", "-i", *pairs, *words]


def link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
