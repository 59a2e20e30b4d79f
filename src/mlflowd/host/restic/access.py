"""How restic gets at one repository: its environment, its options, its private files.

Effects: a directory with the SSH key and what else is to be a file, for this user alone and below the runtime
directory, which lies in memory; it goes with the block. A secret is in the environment or in such a file, never in an
argument.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflowd.errors import ConfigurationError, ExitStatus, MlflowdError
from mlflowd.host import files
from mlflowd.host.paths import runtime_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflowd.config.upkeep import BackupSettings
    from mlflowd.model import Secrets

_INHERITED: Final = ("PATH", "HOME", "LANG", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_SFTP_URL: Final = re.compile(r"sftp://(?P<login>[^/:\s]+)(?::(?P<port>\d+))?/")
_SFTP: Final = re.compile(r"sftp:(?P<login>[^/:\s]+)(?::(?P<port>\d+)/)?")
_SSH: Final = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)


@dataclass(frozen=True, slots=True)
class Access:
    """One repository, and what a call of restic has to be given."""

    where: str
    """The repository, for people."""
    options: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    ssh: tuple[str, ...] = ()
    """The command that speaks SFTP, () where none does."""


def local(repository: str) -> Path | None:
    """Return the repository's directory, None where it is on another machine."""
    return Path(repository) if repository.startswith("/") else None


@contextmanager
def granted(settings: BackupSettings, secrets: Secrets, workplace: Path) -> Iterator[Access]:
    """Yield the access to the repository of these settings; `workplace`: for the cache and temporary files.

    Raises ConfigurationError where the settings name none, MlflowdError where the private files cannot be written.
    """
    _require(settings, secrets)
    try:
        private = Path(tempfile.mkdtemp(prefix="restic-", dir=_memory()))
    except OSError as error:
        message = f"{_memory()} cannot be written: {error.strerror}."
        raise MlflowdError(message, "sudo mlflowd check --fix", ExitStatus.PERMISSION) from error
    try:
        environment = _environment(settings, secrets, workplace)
        if settings.repository.startswith("sftp:"):
            ssh = _ssh(settings.repository, secrets, private)
            # restic splits it as a shell would
            yield Access(settings.repository, ("-o", f"sftp.command={shlex.join(ssh)}"), environment, ssh)
        else:
            yield Access(settings.repository, _options(secrets, private), environment)
    finally:
        shutil.rmtree(private, ignore_errors=True)
        shutil.rmtree(workplace / "tmp", ignore_errors=True)


def _require(settings: BackupSettings, secrets: Secrets) -> None:
    if not settings.repository:
        hint = 'set it in /etc/mlflowd.toml, such as repository = "/mnt/backup/mlflow", and backup.password'
        raise ConfigurationError("backup.repository is not set, so there are no backups.", hint)
    if not secrets.get("backup.password"):
        hint = 'head -c 24 /dev/urandom | base64, keep that elsewhere too, and set password = "file:…" (docs/backup.md)'
        raise ConfigurationError("backup.password is not set; every repository is encrypted.", hint)


def _memory() -> Path:
    """Return the directory for private files: the unit's own below /run, else whatever is temporary."""
    runtime = runtime_directory()
    return runtime if os.access(runtime, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _environment(settings: BackupSettings, secrets: Secrets, workplace: Path) -> dict[str, str]:
    for name in ("cache", "tmp"):
        (workplace / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    named = {
        "RESTIC_REPOSITORY": settings.repository,
        "RESTIC_PASSWORD": secrets.get("backup.password"),
        "RESTIC_CACHE_DIR": str(workplace / "cache"),
        "RESTIC_PROGRESS_FPS": "2",
        "TMPDIR": str(workplace / "tmp"),
        "GOMAXPROCS": str(max(1, (os.cpu_count() or 1) // 2)),
        "AWS_ACCESS_KEY_ID": secrets.get("backup.access_key"),
        "AWS_SECRET_ACCESS_KEY": secrets.get("backup.secret_key"),
        "AWS_DEFAULT_REGION": settings.region,
    }
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {name: value for name, value in named.items() if value}


def _options(secrets: Secrets, private: Path) -> tuple[str, ...]:
    if authority := secrets.get("backup.ca_file"):
        return ("--cacert", str(_private(private / "authority.pem", authority)))
    return ()


def _ssh(repository: str, secrets: Secrets, private: Path) -> tuple[str, ...]:
    found = _SFTP_URL.match(repository) or _SFTP.match(repository)
    if found is None:
        raise ConfigurationError(f"backup.repository {repository} names no host.", "sftp:user@host:/path")
    command = ["ssh", *(word for option in _SSH for word in ("-o", option))]
    if known := secrets.get("backup.known_hosts"):
        command += ["-o", f"UserKnownHostsFile={_private(private / 'known_hosts', known)}"]
        command += ["-o", "GlobalKnownHostsFile=/dev/null"]
    if key := secrets.get("backup.key_file"):
        command += ["-o", "IdentitiesOnly=yes", "-i", str(_private(private / "key", key))]
    command += ["-p", found["port"]] if found["port"] else []
    return (*command, "-s", "--", found["login"], "sftp")


def _private(path: Path, content: str) -> Path:
    files.write_atomically(path, content, mode=0o400)
    return path
