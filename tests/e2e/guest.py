"""A real host to prove mlflowd on: systemd as PID 1, a journal, a container engine, in a systemd-nspawn guest.

By hand, as root, with the repository's `tests` directory on PYTHONPATH:

    >>> from e2e.guest import Guest
    >>> guest = Guest.make("trixie")                 # a fresh Debian; snapshot="…" for a frozen one
    >>> guest.boot()
    >>> guest.copy_checkout("/root/mlflowd")
    >>> print(guest.run("cd /root/mlflowd && ./install.sh", timeout=900).stdout)
    >>> guest.http("GET", "/health")
    (200, b'OK')
    >>> guest.journal(unit="mlflowd")[-1]["MESSAGE"]
    >>> guest.reboot(); guest.kill(); guest.boot()   # kill() is a power cut
    >>> guest.remove()                               # or `with Guest.make(…) as guest:`

Effects: see outside.py and disks.py; all of it is gone after `remove`, and after a crash with the next `make`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shlex
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.machine import GuestError, Machine
from e2e.places import export_checkout
from e2e.sockets import in_network

if TYPE_CHECKING:
    from collections.abc import Callable


class Guest(Machine):
    """A guest with what a test does to it and sees of it."""

    # --- files ---------------------------------------------------------------------------------

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file, or what a directory holds, to `target` in the running guest."""
        if source.is_dir():
            archive = subprocess.run(["tar", "-C", str(source), "-c", "."], check=True, capture_output=True).stdout
            self.run(
                f"mkdir -p {shlex.quote(target)} && tar -x --no-same-owner -C {shlex.quote(target)}", stdin=archive
            )
        else:
            self.write(target, source.read_bytes())

    def copy_checkout(self, target: str) -> None:
        """Put the checkout under test into the guest, as `git clone` would."""
        with tempfile.TemporaryDirectory() as copy:
            export_checkout(Path(copy))
            self.copy_in(Path(copy), target)

    def write(self, path: str, data: bytes | str) -> None:
        data = data.encode() if isinstance(data, str) else data
        self.run(f'mkdir -p "$(dirname {shlex.quote(path)})" && cat >{shlex.quote(path)}', stdin=data)

    def read(self, path: str) -> str:
        return self.run(["cat", path]).stdout

    # --- looking -------------------------------------------------------------------------------

    def journal(self, *, unit: str = "", since: str = "", cursor: str = "") -> list[dict[str, str]]:
        """Return the journal's entries, every field; `cursor` (of an entry: __CURSOR) asks for later ones."""
        return [
            json.loads(line)
            for line in self.run(journalctl(unit, since, cursor)).stdout.splitlines()
            if line[:1] == "{"
        ]

    def wait_journal(
        self, found: Callable[[dict[str, str]], bool], *, unit: str = "", cursor: str = "", timeout: float = 60
    ) -> dict[str, str]:
        """Follow the journal until an entry fits (earlier entries count, without `cursor`) and return it."""
        follow = self.popen(["timeout", str(timeout), *journalctl(unit, "", cursor), "--follow", "--lines=all"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # fmt: skip
        with follow:
            try:
                for line in follow.stdout or ():
                    entry = json.loads(line)
                    if found(entry):
                        return dict(entry)
            finally:
                follow.terminate()
        raise GuestError(f"nothing fitting in the journal of {self.slot.machine} within {timeout} s")

    def journal_end(self) -> str:
        """Return the cursor of the newest entry: what comes after it is what a test caused."""
        return json.loads(self.run("journalctl --output=json --lines=1 --no-pager").stdout)["__CURSOR"]  # type: ignore[no-any-return]  # a field of text

    def socket(self, host: str = "127.0.0.1", port: int = 5000, timeout: float = 3) -> socket.socket:
        """Return a connection that starts inside the guest's network."""
        return in_network(self.leader, lambda: socket.create_connection((host, port), timeout))

    def http(
        self, method: str, path: str, body: bytes | None = None, *, port: int = 5000, timeout: float = 5
    ) -> tuple[int, bytes]:
        """Make one request to the guest's 127.0.0.1 and return status and body; raises OSError, HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        connection.sock = self.socket(port=port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def serving(self) -> bool:
        """Return whether MLflow answers."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.http("GET", "/health") == (200, b"OK")
        return False

    def wait_serving(self, timeout: float = 60) -> None:
        """Wait until MLflow answers, asking 20 times a second: nothing tells of a first answer but the answer."""
        deadline = time.monotonic() + timeout
        while not self.serving():
            if time.monotonic() > deadline:
                tail = self.run("journalctl --no-pager -n 40 -o short-precise", check=False).stdout
                raise GuestError(f"{self.slot.machine} does not serve after {timeout} s; its journal:\n{tail}")
            time.sleep(0.05)


def journalctl(unit: str, since: str, cursor: str) -> list[str]:
    options = {"--unit": unit, "--since": since, "--after-cursor": cursor}
    return ["journalctl", "--output=json", "--no-pager", *(f"{key}={text}" for key, text in options.items() if text)]
