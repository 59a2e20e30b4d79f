"""The causes of failure that are known, as a table: MLflow's words, what they mean, what helps. No effects.

Each pattern stands on a text that MLflow 3.17.2 really wrote; tests/unit/server/logs keeps those logs. The first
rule that matches wins, so the special ones stand before the general. A cause is curable where trying again may
help; one that is not stops the retries. docs/known-causes.md lists them for people.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """A text of the server and what it means; {names} in sentence and remedy are filled in."""

    key: str
    pattern: str
    """A regular expression, searched in the log's text without timestamps."""
    sentence: str
    remedy: str
    curable: bool = False
    late: bool = False
    """Whether the text may also come after the server said that it had started."""


_AUTH = "set it in [server.environment]"
_RELOAD = " in /etc/mlflowd.toml, then 'systemctl reload mlflowd'."

RULES = (
    Rule(
        "schema-out-of-date",
        r"Detected out-of-date database schema \(found version (?P<found>\w+), but expected (?P<expected>\w+)\)",
        "the database's schema is revision {found}, and this MLflow works with {expected} only.",
        "{back_up}, migrate it ('{upgrade}'), then 'systemctl reload mlflowd'; if that cannot locate the revision, a"
        " newer MLflow wrote the database: set image.reference to that release.",
    ),
    Rule(
        "revision-unknown",
        r"Can't locate revision identified by '(?P<found>\w+)'",
        "the database was written by another MLflow, which knows the schema revision {found}; this one does not.",
        "set image.reference in /etc/mlflowd.toml to the release that wrote the database (or a newer one), or restore"
        " a copy from before that.",
    ),
    Rule(
        "flask-wtf-missing",
        r"basic auth app requires the Flask-WTF package|No module named 'flask_wtf'",
        "the basic-auth app needs the Python package Flask-WTF, which the image lacks.",
        'add "Flask-WTF" to image.packages in /etc/mlflowd.toml, then: sudo mlflowd image build && '
        "sudo systemctl restart mlflowd.",
    ),
    Rule(
        "secret-key-missing",
        r"A static secret key needs to be set for CSRF protection",
        "the basic-auth app needs a secret key, and there is none.",
        "make one with 'openssl rand -hex 32' as MLFLOW_FLASK_SERVER_SECRET_KEY: " + _AUTH + _RELOAD,
    ),
    Rule(
        "admin-password-missing",
        r"needs a password to create the admin user",
        "the basic-auth app has no password for its first admin user.",
        "choose one of at least 12 characters as MLFLOW_AUTH_ADMIN_PASSWORD: " + _AUTH + _RELOAD,
    ),
    Rule(
        "admin-password-refused",
        r"configured password for the admin user '[^']*' is invalid: (?P<why>[^.]*)"
        r"|(?P<legacy>Refusing to use the insecure default password)",
        "MLflow refuses the admin password of the basic-auth app.",
        "choose another one, of at least 12 characters, as MLFLOW_AUTH_ADMIN_PASSWORD: " + _AUTH + _RELOAD,
    ),
    Rule(
        "driver-missing",
        r"ModuleNotFoundError: No module named '(?P<module>[\w.]+)'",
        "the server needs the Python package {package}, which the image lacks.",
        'add "{package}" to image.packages in /etc/mlflowd.toml, then: sudo mlflowd image build && '
        "sudo systemctl restart mlflowd.",
        late=True,
    ),
    Rule(
        "driver-unknown",
        r"Can't load plugin: sqlalchemy\.dialects:(?P<name>[\w.]+)|got unsupported URI",
        "the backend store's URI names a database that MLflow does not know.",
        "correct backend_store.uri in /etc/mlflowd.toml; 'mlflowd config' shows the value in effect.",
    ),
    Rule(
        "file-store",
        r"filesystem tracking backend .{1,40} is in maintenance mode",
        "the backend store is a directory of files, which MLflow serves no longer.",
        "bring it into a database with 'mlflow migrate-filestore', then name that in backend_store.uri.",
    ),
    Rule(
        "temporary-directory-missing",
        r"No usable temporary directory found",
        "the server finds no temporary directory that it can write to.",
        "leave TMPDIR in [server.environment] of /etc/mlflowd.toml unset: the container's only one is /tmp.",
    ),
    Rule(
        "database-not-admitted",
        r"no pg_hba\.conf entry for host|is not allowed to connect to this (?:MySQL|MariaDB) server",
        "the database server does not let the user of backend_store.uri in from this machine.",
        "admit it there (PostgreSQL: pg_hba.conf), or correct the user in backend_store.uri" + _RELOAD,
    ),
    Rule(
        "database-denied",
        r"permission denied for (?:schema|table|database|sequence)|Access denied for user '[^']*'@'[^']*' to database",
        "the database's user lacks rights that MLflow needs, or the database is not there.",
        "give it the database, or the right to make tables ('mlflowd check' prints the statement), then 'systemctl"
        " reload mlflowd'.",
    ),
    Rule(
        "database-tls",
        r"server does not support SSL, but SSL was required|SSL is required but the server doesn't support it"
        r"|OperationalError.*(?:SSL error|certificate verify failed|insecure transport)",
        "the server and its database do not agree on an encrypted connection.",
        "correct the options behind backend_store.uri (sslmode and sslrootcert, or ssl_ca)" + _RELOAD,
    ),
    Rule(
        "password-refused",
        r"password authentication failed for user|Access denied for user|no password supplied"
        r"|FATAL:  role \"[^\"]*\" does not exist",
        "the database server refuses the user name or the password of the backend store's URI.",
        "correct the name in backend_store.uri, or the secret where backend_store.password says, then 'systemctl reload"
        " mlflowd'.",
    ),
    Rule(
        "database-absent",
        r"FATAL:  database \"(?P<name>[^\"]*)\" does not exist|Unknown database '(?P<name2>[^']*)'",
        "the database server has no database of the name in the backend store's URI.",
        "create the database on its server, or correct backend_store.uri" + _RELOAD,
    ),
    Rule(
        "database-unreachable",
        r"(?:psycopg2?|pymysql\.err|MySQLdb)\S*OperationalError\)?:? .*(?:onnection refused|[Cc]an't connect|timed out"
        r"|timeout expired|could not translate host name|failed to resolve host|No route to host"
        r"|server closed the connection|[Cc]onnection (?:timeout|failed|to server))",
        "the database server of the backend store cannot be reached.",
        "see whether it runs and listens at the address in backend_store.uri; mlflowd goes on trying.",
        curable=True,
    ),
    Rule(
        "disk-full",
        r"database or disk is full|\[Errno 28\] No space left on device",
        "the file system of a store is full.",
        "make room: 'df -h {backend} {artifacts}' shows which one; mlflowd goes on trying.",
        curable=True,
    ),
    Rule(
        "store-read-only",
        r"attempt to write a readonly database|\[Errno 30\] Read-only file system: '?(?P<path>[^'\n]*)",
        "the database, or the file system it lies on, is read-only for the server.",
        "'findmnt -T {backend}' shows the mount and 'ls -la {backend}' the owner; 'mlflowd check --fix' mends owner"
        " and mode; then 'systemctl reload mlflowd'.",
    ),
    Rule(
        "database-malformed",
        r"database disk image is malformed|file is not a database|malformed database schema",
        "the database file is damaged, or no SQLite database.",
        "restore its newest good copy, or save what is left: 'sqlite3 {database} .recover | sqlite3 {database}.new'.",
    ),
    Rule(
        "database-locked",
        r"database is locked",
        "another process holds the database locked.",
        "'fuser -v {backend}/*' names it; mlflowd goes on trying.",
        curable=True,
    ),
    Rule(
        "database-unopenable",
        r"unable to open database file",
        "the server may not open or create the database file.",
        "'ls -la {backend}' shows owner and mode, 'mlflowd check --fix' mends them; then 'systemctl reload mlflowd'.",
    ),
    Rule(
        "permission-denied",
        r"PermissionError: \[Errno 13\] Permission denied: '(?P<path>[^']*)'",
        "the server may not use {path}.",
        "give it to the service user ('mlflowd check --fix' does so in the stores), then 'systemctl reload mlflowd'.",
    ),
    Rule(
        "sqlite-too-old",
        r"requires SQLite >= (?P<needed>[\d.]+).*but found (?P<found>[\d.]+\d)",
        "this MLflow needs SQLite {needed}, and the image has {found}.",
        "set image.reference to an image on a newer distribution" + _RELOAD,
    ),
    Rule(
        "port-in-use",
        r"\[Errno 98\]",
        "inside the container, port {port} is already in use.",
        "name a network of the server's own in container.network, and no --port in server.extra_arguments.",
        curable=True,
        late=True,
    ),
    Rule(
        "process-limit",
        r"can't start new thread|\[Errno 11\] Resource temporarily unavailable|pthread_create failed",
        "the server may start no further process or thread.",
        "raise container.pids" + _RELOAD,
        curable=True,
        late=True,
    ),
    # Curable, so that a slip of the pen ends in a slow retry and not in a halt: it may be MLflow's own refusal of
    # something that passes, and the sentence is said at each try.
    Rule(
        "bad-argument",
        r"(?ms)^Usage: .*?^Error: (?P<why>[^\n]*)",
        "MLflow refuses its command line: {why}",
        "correct server.extra_arguments or server.uvicorn_options" + _RELOAD,
        curable=True,
    ),
)
