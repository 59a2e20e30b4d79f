"""What the remote stores say to the image that is to serve them: the question, and the reading of the answer.

`QUESTION` is given to the engine's `ask` with the server's own container as the likeness; inquiry_script.py is what
runs there. Errors of drivers and libraries become a `Kind` here, by their texts: libpq, PyMySQL and FreeTDS have no
other way to tell why a login failed. No effects.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Any

from mlflowd.config.masking import mask
from mlflowd.errors import MlflowdError

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT = 120.0
"""Seconds for the container as a whole; the script ends after 22 s of trying, its libraries take 3 s or, cold, 30."""
PATIENCE = 10
"""Seconds that the script waits for a connection or for an answer."""


class Kind(StrEnum):
    """How a try of a store ended."""

    OK = "ok"
    UNASKED = "unasked"
    """The image's libraries took too long to load."""
    DRIVER = "driver"
    """The image lacks a Python package."""
    # nobody there: it may pass by itself
    NO_HOST = "no-host"
    NO_NAMES = "no-names"
    """No name server answers."""
    REFUSED = "refused"
    NO_ROUTE = "no-route"
    SILENT = "silent"
    CLOSED = "closed"
    BUSY = "busy"
    # somebody there who says no
    TLS = "tls"
    LOGIN = "login"
    NO_LOGIN = "no-login"
    """Credentials are wanted, and there are none."""
    NOT_ADMITTED = "not-admitted"
    """The database's server lets nobody in from here under this name."""
    ABSENT = "absent"
    """No such database, bucket or container."""
    DENIED = "denied"
    READ_ONLY = "read-only"
    HOST_KEY = "host-key"
    HOST_KEY_OTHER = "host-key-other"
    KEY = "key"
    """SFTP's private key cannot be read."""
    REGION = "region"
    CLOCK = "clock"
    OTHER = "other"

    @property
    def away(self) -> bool:
        """Whether nobody was there to say no."""
        return self in _AWAY


_AWAY = frozenset(
    {Kind.NO_HOST, Kind.NO_NAMES, Kind.REFUSED, Kind.NO_ROUTE, Kind.SILENT, Kind.CLOSED, Kind.BUSY, Kind.READ_ONLY}
)
_NETWORK = (
    (Kind.NO_NAMES, r"Temporary failure in name resolution|Try again\b"),
    (Kind.NO_HOST, r"could not translate host name|Name or service not known|[Ff]ailed to resolve|UnicodeError"),
    (Kind.NO_HOST, r"No address associated with|Unknown (?:MySQL |MariaDB )?server host|NameResolutionError|gaierror"),
    (Kind.REFUSED, r"[Cc]onnection refused|ConnectionRefusedError|No such file or directory Is the server running"),
    (Kind.REFUSED, r"Can't connect to (?:local )?\w+ server .*No such file or directory"),
    (Kind.NO_ROUTE, r"No route to host|[Nn]etwork is unreachable"),
    (Kind.SILENT, r"timeout expired|[Tt]imed out|TimeoutError|ConnectTimeout|ReadTimeout"),
    (Kind.CLOSED, r"closed the connection|Lost connection|[Rr]eset by peer|ConnectionClosed|EOFError|Broken pipe"),
    (Kind.CLOSED, r"Error reading SSH protocol banner|Server connection dropped|RemoteDisconnected"),
)
_DATABASE = (
    (Kind.DRIVER, r"ModuleNotFoundError|ImportError|NoSuchModule|Can't open lib|libodbc|'cryptography' package"),
    (Kind.NOT_ADMITTED, r"no pg_hba\.conf entry|is not allowed to connect to this|is blocked because of many"),
    (Kind.NO_LOGIN, r"no password supplied|using password: NO"),
    (Kind.DENIED, r"permission denied|Access denied for user .* to database|command denied|InsufficientPrivilege"),
    (Kind.LOGIN, r"password authentication failed|Access denied for user|Login failed for user"),
    (Kind.LOGIN, r"role \"[^\"]*\" (?:does not exist|is not permitted)|account is locked"),
    (Kind.ABSENT, r"database \"[^\"]*\" does not exist|Unknown database|Cannot open database"),
    (Kind.TLS, r"\bSSL\b|\bTLS\b|[Cc]ertificate|insecure transport"),
    (Kind.READ_ONLY, r"read-only transaction|is read only|--read-only option"),
    (Kind.BUSY, r"[Tt]oo many (?:clients|connections)|remaining connection slots"),
    (Kind.BUSY, r"system is (?:starting up|shutting down|in recovery)"),
    *_NETWORK,
)
_ARTIFACTS = (
    (Kind.DRIVER, r"ModuleNotFoundError|ImportError"),
    (Kind.HOST_KEY, r"No hostkey for host|No Host Keys Found"),
    (Kind.HOST_KEY_OTHER, r"BadHostKey|Bad host key from server"),
    (Kind.KEY, r"not a valid \w+ private key|encountered \w+ key, expected|PasswordRequired|unpack requires a buffer"),
    (Kind.NO_LOGIN, r"NoCredentials|PartialCredentials|CredentialException|CredentialUnavailable|Anonymous caller"),
    (Kind.NO_LOGIN, r"DefaultCredentialsError|DefaultAzureCredential|Connection string (?:is either|missing)"),
    (Kind.LOGIN, r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|InvalidClientTokenId"),
    (Kind.LOGIN, r"Authentication ?[Ff]ailed|AuthenticationException|BadAuthenticationType|error_perm: 530|RefreshErr"),
    (Kind.LOGIN, r"Server failed to authenticate the request|InvalidAuthenticationInfo|AccountIsDisabled"),
    (Kind.LOGIN, r"AzureSigningError|Incorrect padding|Unauthorized"),
    (Kind.CLOCK, r"RequestTimeTooSkewed"),
    (Kind.REGION, r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint"),
    (Kind.ABSENT, r"NoSuchBucket|ContainerNotFound|bucket does not exist|NotFound: 404|FileNotFoundError"),
    (Kind.DENIED, r"AccessDenied|Authorization(?:Failure|PermissionMismatch)|Forbidden|PermissionError"),
    (Kind.DENIED, r"[Pp]ermission denied|error_perm: 55\d|\(403\)"),
    (Kind.TLS, r"SSLError|SSLCertVerification|certificate verify|WRONG_VERSION_NUMBER|\[SSL"),
    (Kind.BUSY, r"SlowDown|ServiceUnavailable|error_temp: 4|\((?:500|502|503|504)\)"),
    *_NETWORK,
)
"""Searched in "TypeName: text" of the error and of what caused it, a line each; the first that is found decides."""
_SAID = 240
"""Characters of an error that a person is shown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of trying one store."""

    kind: Kind
    step: str = ""
    """How far it came: name, connect, login, look, create; of artifacts name, connect, login, list, write, …"""
    said: str = ""
    """The error's own words, without secrets; "" where there was none."""
    module: str = ""
    """Of DRIVER: the Python module that is missing."""
    version: str = ""
    """Of a database: its server's product and version."""
    revision: str = ""
    """The schema's alembic revision, "" where there is none."""
    identity: str = ""
    """The oldest experiment as "id@milliseconds", "" where there is none."""
    tables: int = 0
    """Of all in the database's default schema."""
    ours: int = 0
    """How many of the two tables are there by which MLflow's databases are known; 0 is an empty one."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """Of both stores; None for one that is on this machine."""

    backend: Answer | None = None
    artifacts: Answer | None = None


def question() -> tuple[str, ...]:
    """Return the argv that makes an image try the stores of its environment and print one line of JSON."""
    source = resources.files("mlflowd.server").joinpath("inquiry_script.py").read_text(encoding="utf-8")
    return ("python", "-c", source)


def parse(text: str) -> Answers:
    """Read what the script printed. Raises MlflowdError for what is no answer; its message repeats none of it."""
    try:
        told = json.loads(text.strip().rpartition("\n")[2])
        backend, artifacts = told.get("backend"), told.get("artifacts")
        return Answers(
            _answer(backend, _DATABASE) if backend else None, _answer(artifacts, _ARTIFACTS) if artifacts else None
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MlflowdError("The image did not say whether it reaches the stores: its answer is no JSON.") from error


def _answer(told: Mapping[str, Any], rules: tuple[tuple[Kind, str], ...]) -> Answer:
    said = str(told["said"])
    kind = _kind(said, rules) if told["kind"] == "error" else Kind(told["kind"])
    missing = re.search(r"No module named '([\w.]+)'", said)
    return Answer(
        kind,
        str(told["step"]),
        _words(said),
        missing[1] if missing else "",
        str(told.get("version", "")),
        str(told.get("revision", "")),
        str(told.get("identity", "")),
        int(told.get("tables", 0)),
        int(told.get("ours", 0)),
        float(told["seconds"]),
    )


def of_database(said: str) -> Kind:
    """Return what a database driver's words, as a running server repeats them, mean."""
    return _kind(said, _DATABASE)


def of_artifacts(said: str) -> Kind:
    """Return what the words of an artifact store's library, as a running server logs them, mean."""
    return _kind(said, _ARTIFACTS)


def _kind(said: str, rules: tuple[tuple[Kind, str], ...]) -> Kind:
    return next((kind for kind, pattern in rules if re.search(pattern, said)), Kind.OTHER)


def _words(said: str) -> str:
    """Return the error's own text; SQLAlchemy puts the driver's type before it and the statement behind."""
    lines = [line.partition(": ")[2] for line in said.splitlines()]
    told = next((line for line in lines if line), said.strip())
    told = re.split(r" \[SQL:| \(Background on this error| RequestId:", re.sub(r"^\((?:\w+\.)+\w+\) ", "", told))[0]
    told = mask(told) if "://" in told else told
    return told if len(told) <= _SAID else told[:_SAID] + " …"
