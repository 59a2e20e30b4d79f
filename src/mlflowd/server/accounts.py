"""The probes' user on a server with a login, made and mended through MLflow's own API.

Effects: HTTP requests to the address given, with the admin's password. It travels in the clear, so the address must be
one at which our own container is known to listen, on this machine.

Sentences quote no answer of the server: MLflow's error for a user who exists holds the hash of the password.
Seen with 3.17.2 and 3.10.1.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote

from mlflowd.server.call import Call, fields
from mlflowd.server.probe import GUARDED_EXPERIMENT

if TYPE_CHECKING:
    from mlflowd.model import Address
    from mlflowd.server.call import Login

_USERS = "/api/2.0/mlflow/users"
_GRANT = "/api/3.0/mlflow/users/permissions/grant"
_GRANT_BEFORE = "/api/2.0/mlflow/experiments/permissions/create"
"""Of MLflow before 3.13 or so, which knows _GRANT not."""
_RIGHT = "MANAGE"
"""What deleting an artifact asks for."""


class Verdict(StrEnum):
    """What became of a request with the admin's password."""

    DONE = "done"
    WRONG_PASSWORD = "wrong password"  # noqa: S105 - no password
    FAILED = "failed"
    """No answer, or one that says nothing of the password."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict and a sentence for people."""

    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True)
class Counter:
    """Where accounts are changed, and by whom."""

    address: Address
    admin: Login
    timeout: float
    """Seconds for each of the functions below."""
    prefix: str = ""

    def call(self) -> Call:
        """Return the requests of one function."""
        return Call(self.address, self.timeout, self.prefix, self.admin)


def recognised(counter: Counter) -> Outcome:
    """Return whether the server takes the admin's password."""
    return _outcome(_ask(counter.call(), "GET", f"{_USERS}/get?username={quote(counter.admin.user)}"), "asking")


def settle(counter: Counter, probe: Login) -> Outcome:
    """Make the probes' user where it is missing, and give it its password and its one right."""
    call = counter.call()
    who = {"username": probe.user, "password": probe.password}
    # The password first: creating a user who is there makes MLflow log the statement with the hash.
    answer = _ask(call, "PATCH", f"{_USERS}/update-password", who)
    if answer.missing:
        answer = _ask(call, "POST", f"{_USERS}/create", who)
    if answer.ok:
        return _grant(call, probe.user)
    return _outcome(answer, f"making the user {probe.user}")


def _grant(call: Call, user: str) -> Outcome:
    right = {"username": user, "resource_type": "experiment", "resource_id": GUARDED_EXPERIMENT, "permission": _RIGHT}
    answer = _ask(call, "POST", _GRANT, right)
    if answer.missing:
        before = {"username": user, "experiment_id": GUARDED_EXPERIMENT, "permission": _RIGHT}
        answer = _ask(call, "POST", _GRANT_BEFORE, before)
    if answer.code == "RESOURCE_ALREADY_EXISTS":
        return Outcome(Verdict.DONE, f"the user {user} has its right")
    return _outcome(answer, f"giving the user {user} its right")


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    """0 where there was no answer."""
    code: str
    """MLflow's error code, "" where there is none; of a lost request what was lost."""

    @property
    def ok(self) -> bool:
        return self.status == http.HTTPStatus.OK

    @property
    def missing(self) -> bool:
        """Whether there is no such user, or no such function of the server."""
        return self.status == http.HTTPStatus.NOT_FOUND


def _ask(call: Call, method: str, path: str, message: dict[str, str] | None = None) -> _Reply:
    try:
        status, body = call.send(method, path, json.dumps(message).encode() if message else b"")
    except (OSError, http.client.HTTPException) as error:
        return _Reply(0, type(error).__name__)
    return _Reply(status, str((fields(body) or {}).get("error_code", "")))


def _outcome(reply: _Reply, doing: str) -> Outcome:
    if reply.ok:
        return Outcome(Verdict.DONE, f"{doing} succeeded")
    if reply.status == http.HTTPStatus.UNAUTHORIZED:
        return Outcome(Verdict.WRONG_PASSWORD, "login.admin_password is not the admin's password on the server")
    told = f"status {reply.status} {reply.code}".strip() if reply.status else f"no answer ({reply.code})"
    return Outcome(Verdict.FAILED, f"{doing} failed: {told}")
