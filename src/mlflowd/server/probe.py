"""HTTP probes of the server: whether it serves, its database answers, its artifact store keeps what it gets.

Effects: HTTP requests to the address given, and in `artifacts` one small object that is deleted again. Nothing
raises: a server that is down, hung or somebody else's is an Answer.

Where the server asks for a login, the probes have one of their own (accounts.py). It can do two things: search for an
experiment that nobody has, and keep objects under the experiment GUARDED_EXPERIMENT.
"""

from __future__ import annotations

import http.client
import json
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mlflowd.server.call import Call, Login, fields

if TYPE_CHECKING:
    from mlflowd.model import Address

MAX_QUOTE = 300
"""Characters of an answer that stand in a sentence."""
PROBE_DIRECTORY = ".mlflowd-probe"
"""Where in the artifact store the probe's object lies for a moment."""
GUARDED_EXPERIMENT = "00"
"""With a login, artifacts are guarded by the experiment that their path begins with: digits, compared as a text
(_EXPERIMENT_ID_PATTERN of mlflow/server/auth). No experiment gets this text as its id, so that nothing of it is seen in
MLflow's pages; a path without an experiment would ask for login.default_permission = "MANAGE" for everybody. In the
database it is a number, 0: the probe's user may also write to the Default experiment, as the gate does (gate.py)."""

_PATH = "/api/2.0/mlflow-artifacts/artifacts"
_ANY_EXPERIMENT = {"max_results": 1}
NO_EXPERIMENT = {"max_results": 1, "filter": "name = 'mlflowd-probe'"}
"""For a user who is no admin MLflow reads page after page until it finds one that the user may see."""
_TO_THE_REQUEST = 0.75
"""Share of the artifact probe's time for PUT and GET; the rest is kept for the DELETE."""
_REFUSALS = {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}
_NO_SUCH_USER = b"User with username"
"""What MLflow answers, with 404, for a user who was deleted while a worker still believes the password."""


class Kind(StrEnum):
    """What became of a probe."""

    OK = "ok"
    REFUSED = "refused"
    """No connection, or one that was closed without an answer: nothing serves."""
    TIMEOUT = "timeout"
    """No whole answer within the limit: hung, or busy."""
    FOREIGN = "foreign"
    """Something answers, but not as MLflow does."""
    LOCKED = "locked"
    """The database is locked by another process."""
    DENIED = "denied"
    """The server answers but wants credentials or another Host header, so that the layer cannot be seen."""
    REJECTED = "rejected"
    """The server does not take the login that the probe has, or does not let it do what it is there for."""
    ERROR = "error"
    """The server answered with an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one probe: what, a sentence for people, and the seconds it took."""

    kind: Kind
    sentence: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the layer is well, as far as it can be seen.

        A probe without a login that is DENIED sees nothing, which says nothing against the layer; one with a login
        that is REJECTED is blind against what was agreed, which is a finding.
        """
        return self.kind in {Kind.OK, Kind.DENIED}


def health(address: Address, timeout: float, prefix: str = "") -> Answer:
    """GET /health: OK only with status 200 and the body "OK", which is MLflow's constant answer.

    `prefix` is the server's static prefix. It says nothing of the stores: MLflow answers it natively, and without a
    login.
    """
    call = Probe(address, timeout, prefix)
    try:
        status, body = call.send("GET", "/health")
    except (OSError, http.client.HTTPException) as error:
        return call.lost(error)
    if status == http.HTTPStatus.OK and body.strip() == b"OK":
        return call.answer(Kind.OK, f"{address} answers")
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return call.answer(Kind.ERROR, f"{address} answers GET /health with status {status}: {_quote(body)}")
    return call.answer(
        Kind.FOREIGN, f"{address} answers, but not as MLflow does: GET /health gives {status}: {_quote(body)}"
    )


def database(address: Address, timeout: float, prefix: str = "", login: Login | None = None) -> Answer:
    """Search one experiment: the cheapest request that MLflow answers from its database.

    SQLite waits up to 20 s for a lock before MLflow answers 503, so a smaller `timeout` makes a locked database
    a TIMEOUT, which is to be read as "busy".
    """
    call = Probe(address, timeout, prefix, login)
    search = json.dumps(NO_EXPERIMENT if login else _ANY_EXPERIMENT).encode()
    try:
        status, body = call.send("POST", "/api/2.0/mlflow/experiments/search", search)
    except TimeoutError:
        return call.answer(Kind.TIMEOUT, f"the database is busy: no answer within {timeout:g} s")
    except (OSError, http.client.HTTPException) as error:
        return call.lost(error)
    if status == http.HTTPStatus.OK and fields(body) is not None:
        return call.answer(Kind.OK, "the database answers")
    if call.is_refused(status, body):
        return call.refused("its database", status, body)
    if b"database is locked" in body:
        return call.answer(Kind.LOCKED, "the database is locked by another process")
    return call.answer(Kind.ERROR, f"the database request failed: {message(status, body)}")


def artifacts(address: Address, timeout: float, prefix: str = "", login: Login | None = None) -> Answer:
    """Put a small object through the server's artifact proxy, read it back, compare, and delete it in any case.

    It leaves the empty directory PROBE_DIRECTORY in a local store, with a login under GUARDED_EXPERIMENT.
    """
    directory = f"{GUARDED_EXPERIMENT}/{PROBE_DIRECTORY}" if login else PROBE_DIRECTORY
    path = f"{_PATH}/{directory}/{secrets.token_hex(8)}"
    content = secrets.token_hex(32).encode()
    call = Probe(address, timeout * _TO_THE_REQUEST, prefix, login)
    try:
        answer = _store(call, path, content)
    except (OSError, http.client.HTTPException) as error:
        answer = call.lost(error)
    call.extend(timeout)
    deleted = _delete(call, path)
    return answer if answer.kind is not Kind.OK else deleted


def listing(address: Address, timeout: float, prefix: str = "", login: Login | None = None) -> Answer:
    """List the directory of the probe's objects, which is empty: the cheapest request that needs the artifact store."""
    directory = f"{GUARDED_EXPERIMENT}/{PROBE_DIRECTORY}" if login else PROBE_DIRECTORY
    call = Probe(address, timeout, prefix, login)
    try:
        status, body = call.send("GET", f"{_PATH}?path={directory}")
    except (OSError, http.client.HTTPException) as error:
        return call.lost(error)
    if status == http.HTTPStatus.OK:
        return call.answer(Kind.OK, "the artifact store answers")
    if call.is_refused(status, body):
        return call.refused("its artifacts", status, body)
    return call.answer(Kind.ERROR, f"the artifact store does not list: {message(status, body)}")


def _store(call: Probe, path: str, content: bytes) -> Answer:
    status, body = call.send("PUT", path, content, "application/octet-stream")
    if call.is_refused(status, body):
        return call.refused("its artifacts", status, body)
    if status != http.HTTPStatus.OK:
        return call.answer(Kind.ERROR, f"the artifact store takes nothing: {message(status, body)}")
    status, body = call.send("GET", path)
    if status != http.HTTPStatus.OK:
        return call.answer(Kind.ERROR, f"the artifact store does not give back: {message(status, body)}")
    if body != content:
        return call.answer(Kind.ERROR, "the artifact store gave back something else than it was given")
    return call.answer(Kind.OK, "the artifact store keeps what it is given")


def _delete(call: Probe, path: str) -> Answer:
    try:
        status, body = call.send("DELETE", path)
    except (OSError, http.client.HTTPException) as error:
        return call.lost(error)
    if status != http.HTTPStatus.OK:
        return call.answer(Kind.ERROR, f"the artifact store does not delete: {message(status, body)}")
    return call.answer(Kind.OK, "the artifact store keeps what it is given")


class Probe(Call):
    """A Call and the Answers that speak of it."""

    def answer(self, kind: Kind, sentence: str) -> Answer:
        """Return an Answer with the time since the call began."""
        return Answer(kind, sentence, self.seconds)

    def is_refused(self, status: int, body: bytes) -> bool:
        """Return whether the answer is about who asks, and not about what was asked for."""
        gone = status == http.HTTPStatus.NOT_FOUND and self.login is not None and _NO_SUCH_USER in body
        return status in _REFUSALS or gone

    def refused(self, what: str, status: int, body: bytes) -> Answer:
        """Return the Answer for a request that was not allowed."""
        if self.login is None:
            return self.answer(Kind.DENIED, f"the server hides {what} from the probe: {message(status, body)}")
        if status != http.HTTPStatus.FORBIDDEN:
            return self.answer(Kind.REJECTED, f"the probe's user {self.login.user} cannot log in")
        sentence = f"the server hides {what} from the probe's user {self.login.user}: {message(status, body)}"
        return self.answer(Kind.REJECTED, sentence)

    def lost(self, error: Exception) -> Answer:
        """Return the Answer for a request that got none."""
        if isinstance(error, TimeoutError):
            return self.answer(Kind.TIMEOUT, f"{self.address} does not answer within {self.timeout:g} s")
        if isinstance(error, ConnectionRefusedError):
            return self.answer(Kind.REFUSED, f"nothing listens on {self.address}")
        if isinstance(error, ConnectionError):
            return self.answer(Kind.REFUSED, f"{self.address} closes the connection without an answer")
        if isinstance(error, http.client.HTTPException):
            return self.answer(Kind.FOREIGN, f"{self.address} does not speak HTTP ({type(error).__name__})")
        return self.answer(Kind.REFUSED, f"{self.address} cannot be reached: {error.strerror or error}")  # type: ignore[attr-defined]


def message(status: int, body: bytes) -> str:
    """Return the status and MLflow's own message, or what else came."""
    told = (fields(body) or {}).get("message")
    return f"status {status}: {_quote(str(told).encode() if told else body)}"


def _quote(body: bytes) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in body.decode(errors="replace")).split())
    return f"{text[:MAX_QUOTE]}…" if len(text) > MAX_QUOTE else text or "(empty)"
