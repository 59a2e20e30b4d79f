"""Guests with mlflowd: what `./install.sh` does to a fresh Debian, kept as a snapshot that boots in seconds.

By hand, as root, with the repository's `tests` directory on PYTHONPATH and MLFLOWD_TEST_REUSE=1:

    >>> from e2e.installation import installed
    >>> guest = installed("bookworm").boot()       # a running guest that serves
    >>> print(guest.run("mlflowd status").stdout)
    >>> guest.remove()
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from e2e import disks
from e2e.guest import Guest
from e2e.places import CACHE, checkout_key

if TYPE_CHECKING:
    from pathlib import Path

CHECKOUT = "/root/mlflowd"
INSTALL_LIMIT = 1200.0
SERVE_LIMIT = 120.0
KEEP = 3
"""Snapshots of a suite that stay in the cache."""
IN_USE = 3600.0
"""Seconds for which a snapshot may be in use by another run of the tests."""


@dataclass(frozen=True)
class Installation:
    """One run of ./install.sh on a fresh machine, and the snapshot of that machine."""

    suite: str
    snapshot: str
    output: str
    """What install.sh printed."""
    seconds: float
    health: str
    """The body of the first GET /health after it."""

    def guest(self) -> Guest:
        """Return a guest made from the snapshot, not booted yet."""
        return Guest.make(self.suite, snapshot=self.snapshot)

    def boot(self) -> Guest:
        """Return such a guest, booted, with MLflow serving."""
        guest = self.guest()
        try:
            guest.boot()
            guest.wait_serving(SERVE_LIMIT)
        except BaseException:
            guest.remove()
            raise
        return guest


def installed(suite: str, images_of: str | None = None) -> Installation:
    """Install on a fresh machine.

    With `images_of` (a snapshot) the machine's engine has that one's images already, and install.sh builds none.
    With MLFLOWD_TEST_REUSE=1 an earlier run of the same checkout will do, or the images of any earlier run.
    """
    key = f"{suite}-{checkout_key()}"
    if os.environ.get("MLFLOWD_TEST_REUSE") == "1":
        if same := records_of(key):
            return Installation(**json.loads(same[-1].read_text()))
        images_of = images_of or next((found.parent.name for found in reversed(records_of("*"))), None)
    drop_old(suite)
    return install(suite, f"{key}-{int(time.time())}", images_of)


def install(suite: str, snapshot: str, images_of: str | None) -> Installation:
    """Run ./install.sh on a fresh machine and freeze it."""
    guest = Guest.make(suite, images_of=images_of)
    try:
        guest.boot()
        guest.copy_checkout(CHECKOUT)
        started = time.monotonic()
        output = guest.run(f"cd {CHECKOUT} && ./install.sh", timeout=INSTALL_LIMIT).stdout
        seconds = time.monotonic() - started
        result = Installation(suite, snapshot, output, seconds, guest.http("GET", "/health")[1].decode())
        guest.freeze(snapshot)
    except BaseException:
        guest.remove()
        raise
    record(snapshot).write_text(json.dumps(asdict(result)))
    return result


def record(snapshot: str) -> Path:
    return disks.snapshot_path(snapshot) / "installation.json"


def records_of(key: str) -> list[Path]:
    """Return the records of finished installations, the newest last."""
    return sorted((CACHE / "snapshots").glob(f"{key}-*/installation.json"), key=lambda path: path.stat().st_mtime)


def drop_old(suite: str) -> None:
    """Throw away all but the newest snapshots that `install` made."""
    for old in records_of(suite)[:-KEEP]:
        if time.time() - old.stat().st_mtime > IN_USE:
            disks.drop_snapshot(old.parent.name)
