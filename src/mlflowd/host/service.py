"""mlflowd's own unit, for the commands that start and stop it.

Effects: runs systemctl(1) and journalctl(1), reads the daemon's status.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from mlflowd.errors import MlflowdError
from mlflowd.host.paths import status_file

UNIT = "mlflowd.service"
LIMIT = 240.0
"""Seconds for a stop: the unit's own limits end it before."""


class Service:
    """The unit, where systemd runs; without systemd nothing here does anything but say so."""

    @property
    def there(self) -> bool:
        """Whether systemd is PID 1 (sd_booted(3)) and knows the unit."""
        return Path("/run/systemd/system").is_dir() and self._show("LoadState") == "loaded"

    @property
    def active(self) -> bool:
        """Whether the daemon runs, or is on its way up or down."""
        return self._show("ActiveState") in {"active", "activating", "reloading", "deactivating"}

    @property
    def failed(self) -> bool:
        """Whether it has ended by itself and is not started again."""
        return self._show("ActiveState") == "failed"

    @property
    def enabled(self) -> bool:
        """Whether it comes up with the machine."""
        return self._show("UnitFileState") == "enabled"

    def served(self, container_id: str) -> bool:
        """Whether the daemon has seen this container's server answer; as far as its last word tells."""
        try:
            told = json.loads(status_file().read_text(encoding="utf-8"))
            return bool(told["ready"]) and (told["container"] or {}).get("id") == container_id
        except (OSError, ValueError, KeyError, AttributeError):
            return False

    def start(self) -> None:
        """Start it, and at each boot from now on; does not wait until it serves. Raises MlflowdError."""
        self._run("enable", "--quiet", UNIT)
        self._run("reset-failed", UNIT, check=False)
        self._run("start", "--no-block", UNIT)

    def restart(self) -> None:
        """Start it again, as it was enabled before. Raises MlflowdError."""
        self._run("reset-failed", UNIT, check=False)
        self._run("start", "--no-block", UNIT)

    def stop(self) -> None:
        """Stop it, and the server with it. Raises MlflowdError."""
        self._run("stop", UNIT)

    def disable(self) -> None:
        """Let it not come up with the machine. Raises MlflowdError."""
        self._run("disable", "--quiet", UNIT)

    def said(self) -> str:
        """Return the last lines of its journal, "" where they cannot be read."""
        try:
            done = _run("journalctl", "--unit", UNIT, "--no-pager", "--output=cat", "--lines=15")
        except OSError:
            return ""
        return done.stdout.strip()

    def _show(self, name: str) -> str:
        try:
            return _run("systemctl", "show", "--property", name, "--value", UNIT).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return ""

    def _run(self, *words: str, check: bool = True) -> None:
        try:
            done = _run("systemctl", *words)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MlflowdError(f"systemctl {words[0]} {UNIT} did not end: {error}.", "journalctl -u mlflowd") from error
        if check and done.returncode != 0:
            said = " ".join(done.stderr.split())
            raise MlflowdError(f"systemctl {words[0]} {UNIT} failed: {said}.", "journalctl -u mlflowd")


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - programs of systemd, by words that stand here
        argv, check=False, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL
    )
