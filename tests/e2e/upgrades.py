"""Machines that serve MLflow 3.10.1 with data of a real client, and what the tests of upgrades do to them and see.

`prepared` makes such a machine once a session and freezes it; `reset` makes a guest of it again what it was then.
Effects: those on guests.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2e import disks
from e2e.client_environment import Client, client_python
from e2e.installation import IN_USE, SERVE_LIMIT, Installation
from e2e.machine import GuestError
from e2e.old_image import OLD, bring_old, make_variants
from e2e.trial import DATABASE, NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.guest import Guest
    from e2e.trial import Trial

SLACK = 15.0
"""Seconds that a loaded machine may add to any bound."""
CONFIGURATION = "/etc/mlflowd.toml"
TRANSACTION = "/var/lib/mlflowd/state/transaction.json"
REHEARSAL = "/var/lib/mlflowd/rehearsal"
REHEARSED = f"{REHEARSAL}/scratch/backend"
"""There while the copy is migrated."""
_STATE, _KEPT = "/var/lib/mlflowd", "/root/prepared"
_EMPTY = f"systemctl stop mlflowd && docker rm -f {NAME} && rm -rf {_STATE}/*/* {_STATE}/artifacts/.[!.]*"
_RESET = (
    f"systemctl stop mlflowd; systemctl reset-failed mlflowd; docker ps -aq | xargs -r docker rm -f; "
    f"rm -rf {_STATE}/{{backend,state,transactions,rehearsal}} && "
    f"cp -a {_KEPT}/{{backend,state}} {_STATE} && cp -a {_KEPT}/mlflowd.toml {CONFIGURATION} && systemctl start mlflowd"
)
_KEEP = (
    f"systemctl stop mlflowd && mkdir -p {_KEPT} && cp -a {_STATE}/{{backend,state}} {CONFIGURATION} {_KEPT} && "
    "systemctl start mlflowd"
)
_READ_DATABASE = """python3 - <<'END'
import hashlib, json, sqlite3
connection = sqlite3.connect("file:{path}?mode=ro", uri=True)
digest = hashlib.sha256()
for line in connection.iterdump():
    digest.update(line.encode())
(revision,), = connection.execute("SELECT version_num FROM alembic_version")
print(json.dumps({{"revision": revision, "dump": digest.hexdigest()}}))
END"""


@dataclass(frozen=True)
class Prepared:
    """A frozen machine that serves MLflow 3.10.1."""

    snapshot: str
    written: dict[str, Any]
    """What the client wrote, as client.py tells it."""

    def boot(self) -> Guest:
        """Return a guest of it that serves."""
        return Installation("bookworm", self.snapshot, "", 0.0, "").boot()


@functools.cache
def prepared(installation: Installation) -> Prepared:
    """Make the machine from an installed one, or find the one that an earlier run made from it."""
    name = f"upgrade-{_key()}-{installation.snapshot}"
    record = disks.snapshot_path(name) / "written.json"
    if record.exists():
        return Prepared(name, json.loads(record.read_text()))
    drop_old()
    guest = installation.boot()
    try:
        written = _prepare(guest)
        guest.freeze(name)
    except BaseException:
        guest.remove()
        raise
    record.write_text(json.dumps(written))
    return Prepared(name, written)


def drop_old() -> None:
    """Throw away such machines of which the installed one is gone, or that were made in another way."""
    for old in disks.snapshot_path("").glob("upgrade-*"):
        key, installed = old.name.removeprefix("upgrade-").split("-", 1)
        current = key == _key() and disks.snapshot_path(installed).exists()
        if not current and time.time() - old.stat().st_mtime > IN_USE:
            disks.drop_snapshot(old.name)


def _key() -> str:
    """Return what a machine is made by, beside mlflowd itself."""
    made_by = (Path(__file__).with_name(name).read_bytes() for name in ("upgrades.py", "old_image.py", "client.py"))
    return hashlib.sha256(b"".join(made_by)).hexdigest()[:8]


def _prepare(guest: Guest) -> dict[str, Any]:
    bring_old(guest)
    make_variants(guest)
    guest.copy_in(Path(__file__).with_name("step_killer.py"), "/root/step_killer.py")
    guest.run(_EMPTY, timeout=90)
    configure(guest, OLD)
    guest.run("systemctl start mlflowd", timeout=180)
    with client_of(guest) as client:
        written = client.run("write")
    guest.run(_KEEP, timeout=180)
    return written


def reset(host: Guest) -> None:
    """Make database, configuration and state what they were when the machine was frozen."""
    host.run(_RESET, timeout=180)
    host.wait_serving(SERVE_LIMIT)


@contextlib.contextmanager
def client_of(host: Guest) -> Iterator[Client]:
    """A client in the guest's network, with a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        yield Client(host, client_python(), Path(home))


def configure(host: Guest, reference: str, upgrade: str = "") -> None:
    """Write a configuration with this image and these lines of [upgrade]."""
    section = f"[upgrade]\n{upgrade}\n" if upgrade else ""
    host.write(CONFIGURATION, f'[image]\nreference = "{reference}"\n{section}')
    host.run(f"chown root:mlflowd {CONFIGURATION} && chmod 640 {CONFIGURATION}")


def change(host: Guest, reference: str, upgrade: str = "") -> None:
    """Do what the owner does: edit the configuration, reload."""
    configure(host, reference, upgrade)
    host.run("systemctl reload mlflowd")


# --- what is seen ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """What the database holds."""

    revision: str
    dump: str
    """A checksum over schema and rows."""


def data(host: Guest, path: str = DATABASE) -> Data:
    return Data(**json.loads(host.run(_READ_DATABASE.format(path=path)).stdout))


def sha256(host: Guest, path: str) -> str:
    return host.run(["sha256sum", path]).stdout.split()[0]


def copied_sha256(host: Guest) -> str:
    """Return the checksum of the copy that the last upgrade took before it changed anything."""
    (copy,) = host.run(f"ls {_STATE}/transactions/*/before/backend.db").stdout.split()
    return sha256(host, copy)


def status(host: Guest) -> dict[str, Any]:
    return dict(json.loads(host.run("mlflowd status --json", check=False).stdout))


def serving_image(host: Guest) -> str:
    return host.run(f"docker inspect --format '{{{{.Image}}}}' {NAME}").stdout.strip()


def containers(host: Guest) -> list[str]:
    """Return the names of all containers, stopped ones too."""
    return host.run("docker ps --all --format '{{.Names}}'").stdout.split()


def start_seconds(host: Guest) -> float:
    """Return S, the time that MLflow took from its start to its first answer, as the journal tells of this boot."""
    at = {entry.get("MLFLOWD_EVENT"): int(entry["__REALTIME_TIMESTAMP"]) for entry in host.journal(unit="mlflowd")}
    return (at["SERVER_SERVING"] - at["SERVER_STARTING"]) / 1e6


def migration_seconds(host: Guest) -> float:
    """Return how long the container of the last migration ran, as the engine tells."""
    asked = ["--since", "10m", "--until", "0s", "--filter", f"label=io.mlflowd.asked=migration-{NAME}"]
    lines = host.run(["docker", "events", *asked, "--format", "{{.Status}} {{.TimeNano}}"]).stdout.splitlines()
    at = {action: int(time_) / 1e9 for action, time_ in (line.split() for line in lines)}
    return at["die"] - at["start"]


def outcome(trial: Trial, timeout: float) -> dict[str, str]:
    """Wait for the end of the upgrade and return the journal's entry of it."""
    ends = {"UPGRADE_DONE", "UPGRADE_UNDONE"}
    try:
        return trial.host.wait_journal(
            lambda entry: entry.get("MLFLOWD_EVENT") in ends, unit="mlflowd", cursor=trial.cursor, timeout=timeout
        )
    except GuestError as error:
        said = [entry["MESSAGE"] for entry in trial.host.journal(unit="mlflowd", cursor=trial.cursor)]
        raise GuestError(f"{error}; what it has:\n" + "\n".join(said)) from error


# --- killing ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Killer:
    """A running step_killer.py."""

    process: subprocess.Popen[bytes]

    def step(self, timeout: float = 60) -> str:
        """Wait until the daemon is dead; return the step that is written down then."""
        told, _ = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, told
        return told.decode().strip()


@contextlib.contextmanager
def killer(host: Guest, step: str, file: str = "/") -> Iterator[Killer]:
    """Have the daemon killed as soon as the transaction is at this step and the file is there."""
    pid = host.run("systemctl show -p MainPID --value mlflowd").stdout.strip()
    command = ["python3", "/root/step_killer.py", pid, TRANSACTION, step, file]
    with host.popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield Killer(process)
        finally:
            process.kill()
