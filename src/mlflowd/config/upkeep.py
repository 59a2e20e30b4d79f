"""The sections about keeping the server up and its data safe; the others are in settings.py. No effects."""

from typing import Annotated, Literal

from mlflowd.config.backups import Repository, Retention
from mlflowd.config.secret_sources import Secret
from mlflowd.config.section import Section, key
from mlflowd.config.stores import Region
from mlflowd.config.values import Flag, Free, Grace, MaybePath, Span, choice, whole


class HealthSettings(Section):
    """How the server is watched."""

    interval: Span = key("6s", "between two looks while all is well")
    retry_interval: Span = key("1s", "between two looks after a missed probe")
    starting_interval: Span = key("100ms", "between two looks while the server starts")
    timeout: Span = key("3s", "how long the server may take to answer a probe")
    misses: Annotated[int, whole(1, 100)] = key(3, "missed probes in a row that make the server hung, and restarted")
    start_deadline: Span = key(
        "3min", "from the start to the first answer; MLflow waits 105s for a database that is down"
    )
    database_interval: Span = key("10s", "between two looks at the database through the server")
    database_timeout: Span = key("25s", "how long that may take; MLflow itself waits 20s for a locked database")
    store_interval: Span = key("10s", "between two looks at the stores' files")
    artifact_interval: Span = key("15min", "between two artifacts written, read and deleted as a probe")


class RestartSettings(Section):
    """How the server is brought back."""

    backoff_first: Span = key("1s", "the wait after the first failure; it doubles with each further one")
    backoff_max: Span = key("60s", "the longest wait; MLflow's clients give up after about 4 minutes")
    stable_after: Span = key("2min", "how long the server must serve until its failures are forgotten")
    kill_grace: Grace = key("5s", "what a hung server gets before it is killed")


class DiskSettings(Section):
    """How full the file systems of the stores and of the engine may get; percentages go for inodes too."""

    interval: Span = key("30s", "between two looks at the file systems")
    warn: Free = key("10%", "free space below which the journal has a warning")
    critical: Free = key("3%", "free space below which the state is degraded")
    require_free: Free = key("100M", "free space below which a start is refused")


_LEVELS = Literal["debug", "info", "warning", "error"]


class BackupSettings(Section):
    """Backups of the database and of artifacts on this machine, kept by restic."""

    repository: Repository = key(
        "", 'where they go: a directory, "sftp:user@host:/path" or "s3:https://host/bucket/path"; "" for no backups'
    )
    password: Secret = key(
        "none", "encrypts the repository; without it no backup can be read, so keep a copy elsewhere"
    )
    access_key: Secret = key("none", "of S3: the id of the access key")
    secret_key: Secret = key("none", "of S3: the secret access key")
    region: Region = key("", "of S3: the region")
    ca_file: MaybePath = key("none", "of S3: the certificate authority of the endpoint, a PEM file")
    key_file: Secret = key("none", "of SFTP: the private key")
    known_hosts: MaybePath = key("none", "of SFTP: a file with the server's host key, as ssh-keyscan prints it")
    keep: Retention = key(
        {"daily": 7, "weekly": 5, "monthly": 12},
        "which snapshots stay, as restic's --keep-…: last, hourly, daily, weekly, monthly, yearly, within",
    )
    stale_after: Span = key("36h", "the age of the newest good backup from which on status and journal complain")
    time_limit: Span = key("6h", "how long one backup, check or restore may take")


class UpgradeSettings(Section):
    """What happens when the image changes: an upgrade, which is undone where it fails."""

    rehearse: Flag = key(
        True, "whether the migration is tried on a copy of the database first, while the old server serves"
    )
    active_within: Span = key("5min", "how recent a metric makes a run active, one that an upgrade would interrupt")
    wait_for_runs: Grace = key("0", "how long an upgrade waits for active runs to end; 0: they are only told")
    migration_timeout: Span = key("30min", "how long the migration of the database may take")
    gate_timeout: Span = key("5min", "how long the new server may take until it serves, reads and writes")


class LogSettings(Section):
    """What the journal gets."""

    level: Annotated[_LEVELS, choice("debug", "info", "warning", "error")] = key(
        "info", "mlflowd's own events, from this level on"
    )
    forward: Flag = key(True, "whether the server's own lines go to the journal, under the identifier mlflow")
    access: Flag = key(False, "whether the server logs every request; it costs throughput")
