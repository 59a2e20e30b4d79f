"""Backups in a guest: where they go, and what `mlflowd backup` and its units are asked and say."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from e2e.trial import ask

if TYPE_CHECKING:
    from e2e.guest import Guest

CONFIGURATION = "/etc/mlflowd.toml"
SECRET = "/etc/mlflowd-backup-password"  # noqa: S105 - a file's name
PASSWORD = "kept-elsewhere-51d0c2"  # noqa: S105 - of a guest that lives for minutes
UNIT = "mlflowd-backup"
STAGING = "/var/lib/mlflowd/backup/staging"
RESTARTED = "systemctl reset-failed mlflowd-backup mlflowd-backup-check"


def configure(host: Guest, repository: str, more: str = "") -> None:
    """Have backups go to this repository; the rest of the configuration is as shipped."""
    host.write(SECRET, PASSWORD)
    host.run(f"chown mlflowd:mlflowd {SECRET} && chmod 400 {SECRET}")
    shipped = host.read("/opt/mlflowd-test.toml") if shipped_is_kept(host) else keep_shipped(host)
    section = f'\n[backup]\nrepository = "{repository}"\npassword = "file:{SECRET}"\n{more}\n'
    host.write(CONFIGURATION, without_section(shipped) + section)
    host.run(f"chown root:mlflowd {CONFIGURATION} && chmod 640 {CONFIGURATION} && systemctl reload mlflowd")


def shipped_is_kept(host: Guest) -> bool:
    return host.run("test -e /opt/mlflowd-test.toml", check=False).returncode == 0


def keep_shipped(host: Guest) -> str:
    host.run(f"cp {CONFIGURATION} /opt/mlflowd-test.toml")
    return host.read(CONFIGURATION)


def without_section(toml: str) -> str:
    """Return the configuration without its section [backup], which may stand but once."""
    before, _, rest = toml.partition("\n[backup]\n")
    _, bracket, after = rest.partition("\n[")
    return before + bracket + after


def backup(host: Guest, timeout: float = 120) -> str:
    """Make one by hand and return its id."""
    host.run("mlflowd backup", timeout=timeout)
    return str(record(host)["last_success"]["snapshot"])


def by_unit(host: Guest, unit: str = UNIT, timeout: float = 120) -> int:
    """Make one as the timer does; return the exit status of mlflowd."""
    host.run(f"systemctl start {unit}.service", check=False, timeout=timeout)
    return int(host.run(f"systemctl show -p ExecMainStatus --value {unit}").stdout)


def listed(host: Guest) -> list[dict[str, Any]]:
    """The backups that are listed, damaged ones too."""
    return list(json.loads(host.run("mlflowd backup list --json", timeout=120).stdout)["backups"])


def good(host: Guest) -> list[str]:
    """The ids of those that are said to be restorable."""
    return [each["id"] for each in listed(host) if each["restorable"]]


def record(host: Guest) -> dict[str, Any]:
    return dict(json.loads(host.read("/var/lib/mlflowd/state/backups.json")))


def upload(host: Guest, path: str, data: bytes) -> None:
    """Put an artifact through the server's proxy."""
    status, answer = host.http("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", data, timeout=60)
    assert status == 200, (path, status, answer[:300])


def new_run(host: Guest) -> str:
    created = ask(host, "POST", "runs/create", {"experiment_id": "0", "start_time": int(time.time() * 1000)})
    return str(created["run"]["info"]["run_id"])
