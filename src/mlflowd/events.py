"""The kinds of events in the journal: a MESSAGE_ID, a priority and its usual fields each.

systemd/mlflowd.catalog (`journalctl -x`) and docs/journal.md have an entry for every one; a test holds the
three together. A MESSAGE_ID never changes and is never used again: people filter by it.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class Priority(IntEnum):
    """syslog(3) priorities."""

    CRIT = 2
    ERR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


class Event(Enum):
    """One kind of event: its 128-bit MESSAGE_ID (32 hex digits), its usual priority, its fields.

    `fields` are the keyword arguments that `journal.report` is given with it. The catalog's text shows them;
    one that a call leaves out reads "unknown" there.
    """

    message_id: str
    priority: Priority
    fields: tuple[str, ...]

    def __init__(self, message_id: str, priority: Priority, *fields: str) -> None:
        self.message_id = message_id
        self.priority = priority
        self.fields = fields

    DAEMON_STARTED = ("fb24915a4ea04c8facbcdeab3de6a09a", Priority.NOTICE, "version")
    """mlflowd started."""
    DAEMON_STOPPED = ("6a7d82ebdf2f4d8588076e89db530d27", Priority.NOTICE)
    """mlflowd ended on request, the server with it."""
    CONFIGURATION_INVALID = ("e1ae0d2620564a15a214d14b82f2c1f8", Priority.ERR, "remedy")
    """The configuration cannot be used; nothing was started."""
    LOCKED = ("f61228197f0b4696a63745db8b266eda", Priority.ERR, "remedy")
    """Another mlflowd holds the lock."""
    PREFLIGHT_FAILED = ("f66af1a3252a486b8bfd0a000f23b9a2", Priority.ERR, "check", "remedy")
    """A check before the start failed."""
    PREFLIGHT_WARNING = ("98e9ac9710794a5caf9fc1686991990b", Priority.WARNING, "check", "remedy")
    """A check before the start has a warning."""
    IMAGE_PULLING = ("13f9876c7b554db4a8ac298eb913473e", Priority.NOTICE, "image")
    """The wanted image is being fetched."""
    IMAGE_READY = ("e8eba375f22e46be9749e8f37a29653e", Priority.NOTICE, "image")
    """The wanted image is there."""
    IMAGE_FAILED = ("6859619bbda4416bafd043335b5f2df4", Priority.ERR, "image")
    """The wanted image could not be fetched."""
    SERVER_ADOPTED = ("64c900aea67540a185ca4a167a19775c", Priority.NOTICE, "container_id")
    """A running server was taken over untouched."""
    SERVER_STARTING = ("a4b659f891c84ff4b43e4768d37883cd", Priority.NOTICE, "container_id")
    """The server's container was created or started."""
    SERVER_SERVING = ("85f610f9c417492b98526fa1f8fd240c", Priority.NOTICE, "container_id")
    """The server answers."""
    SERVER_EXITED = ("2b1064972c0946cea12f6ec2b57f5547", Priority.ERR, "container_id", "exit_code")
    """The server ended without being asked to."""
    SERVER_STOPPED_BY_HAND = ("39f5000dbd48454c99dee081d1b2e068", Priority.WARNING, "container_id")
    """Somebody stopped the server past mlflowd."""
    SERVER_REMOVED = ("5e448da881e74fe0b46cf8cc1895dfe6", Priority.WARNING, "container_id")
    """Somebody removed the server's container."""
    SERVER_PAUSED = ("4b84c44417034d489ee9d737d557c3dc", Priority.WARNING, "container_id")
    """Somebody paused the server."""
    SERVER_HUNG = ("a882f98e8dc043a4b55c7e31af9f9d7e", Priority.ERR, "container_id")
    """The server runs but does not answer."""
    SERVER_OUT_OF_MEMORY = ("bd676646cdb44a02bc942ad947662930", Priority.ERR, "container_id")
    """The server was ended for using too much memory."""
    SERVER_REPLACING = ("1dfc40a228814ead9429e0bb7f5cccd6", Priority.NOTICE, "container_id")
    """The server is replaced, because what is wanted changed."""
    SERVER_STOPPING = ("267bd7b93fe7403bb379de827eef61ef", Priority.NOTICE, "container_id")
    """The server is being stopped."""
    SERVER_STOPPED = ("8ef528d32d8f4ee99003d73a55f1d5dc", Priority.NOTICE, "container_id")
    """The server stopped."""
    RETRY_LATER = ("339b2a134ce642b49be779dc275f1ff3", Priority.WARNING, "attempt", "wait")
    """A start failed; the next one waits."""
    KNOWN_CAUSE = ("4dfdc64b33704d3da8aeed5d634a4d7a", Priority.ERR, "cause", "remedy")
    """Why the server ended was recognised in its own words."""
    BLOCKED = ("5b0b6c187c8f4dc5b76ffe38cfefaca2", Priority.ERR, "remedy")
    """What is wanted cannot be reached without a person."""
    FOREIGN_CONTAINER = ("87595bd6274f4068bc328c12e6a1a3b8", Priority.ERR, "container_name")
    """A container that is not ours has our name."""
    ENGINE_UNREACHABLE = ("a4b86a9a8c5c4cd4bd08f525b1681037", Priority.WARNING, "remedy")
    """The container engine does not answer."""
    ENGINE_BACK = ("047f97aa6fb342f2a756c26bf830ba2c", Priority.NOTICE)
    """The container engine answers again."""
    DEGRADED = ("b7aea8e830b84bd4b416b64c0adae43f", Priority.WARNING, "layer", "remedy")
    """The server runs, but something it needs is not well."""
    RECOVERED = ("359d5d6e44ed441cbcfbfda535920d7c", Priority.NOTICE, "container_id")
    """All layers are well again."""
    DISK_WARNING = ("fa29e7e2b70a4ff8a0e331b596ea57f3", Priority.WARNING, "remedy")
    """A file system is getting full."""
    DISK_CRITICAL = ("1539ce3a3a844f1883cff5f714dcdb44", Priority.CRIT, "remedy")
    """A file system is nearly full."""
    STORE_MISSING = ("c07fa6f7e07e437a9f1d9efe39855b7e", Priority.CRIT, "remedy")
    """The database file was removed or exchanged under the server."""
    ACTIVE_RUNS = ("fc41dead76314c5985df83c9f15de7f7", Priority.WARNING, "runs", "remedy")
    """An upgrade interrupts runs that are being written."""
    UPGRADE_REHEARSING = ("e79dfd766cac4cffbe5900ad527d3879", Priority.NOTICE, "image")
    """The migration of the database is tried on a copy."""
    UPGRADE_REHEARSED = ("e9e0b08920ef4ce6ad3baea337bc4919", Priority.NOTICE, "image", "seconds")
    """The migration of the database was tried on a copy."""
    UPGRADE_STARTED = ("a114d76e1aed41e6bb59eed8d16eb999", Priority.NOTICE, "image")
    """The server is stopped for an upgrade."""
    UPGRADE_DONE = ("d3782724decb4586907f048e3fb11d98", Priority.NOTICE, "image", "downtime")
    """The new image serves, reads and writes."""
    UPGRADE_UNDONE = ("61bd7837f2484c139c18a83a20af7503", Priority.ERR, "image", "remedy")
    """An upgrade failed; image and database are those of before."""
    RESTORE_STARTED = ("a2cc35624fcd42f39289319b3a5961fb", Priority.NOTICE, "snapshot")
    """The server is stopped, and a backup takes the place of today's data."""
    RESTORE_DONE = ("75972895ef194ebd90f3341ef4b843f9", Priority.NOTICE, "snapshot", "downtime")
    """The server serves the restored data."""
    RESTORE_UNDONE = ("ef6e338917e643c29900ba66badea99e", Priority.ERR, "snapshot", "remedy")
    """A restore failed; the data are those of before."""
    BACKUP_DONE = ("b57e719741cc48898a12afb7d0a2beae", Priority.NOTICE, "snapshot", "seconds")
    """A backup is complete."""
    BACKUP_FAILED = ("d1f5fc9b640046738687638dfafc7994", Priority.ERR, "remedy")
    """A backup, or the check of the repository, failed."""
    BACKUP_DAMAGED = ("08fcbee8076847769d7fa11214a9ec65", Priority.CRIT, "remedy")
    """The database that was to be saved, or what was saved, is damaged."""
    BACKUP_STALE = ("fc9e996578f443e8984b062cec5b1b62", Priority.WARNING, "remedy")
    """The newest good backup is too old."""
    BACKUP_VERIFIED = ("011310e320924ccdac722d55a162194e", Priority.NOTICE, "snapshot", "seconds")
    """A backup was restored into a scratch directory and read through MLflow."""
    DEPLOYMENT_ADOPTED = ("d2fb50028ca3408caffcc1a0cbe7bfdb", Priority.NOTICE, "container_name")
    """An MLflow that ran without mlflowd is mlflowd's now."""
    RELOADED = ("84589c06dd334fc2a4f93da3260a081a", Priority.NOTICE)
    """A new configuration is in effect."""
    RELOAD_REFUSED = ("09ab7b9627d940e28ac3dcadc0f91f63", Priority.ERR, "remedy")
    """A new configuration was refused; the old one stays."""
    INTERNAL_ERROR = ("f0b87ba14da24afeb602f602e9b4a950", Priority.ERR)
    """A defect of mlflowd itself."""
    JOURNAL_LOST = ("38a30acbf95246c290c639095e4fbeb2", Priority.WARNING, "lost")
    """Entries were lost, because journald did not take them."""
