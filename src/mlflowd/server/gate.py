"""The gate: a server that is new, or has new data, has to read, to write and to keep an artifact.

Effects: HTTP requests to the address given. A tag of the oldest active experiment is set and deleted again (it stays
where MLflow is too old to delete one), and what probe.artifacts does. Nothing raises.

Where there is no experiment, nothing is written. The probes' own user may change no experiment that there is; but its
one right, to the experiment "00" (probe.GUARDED_EXPERIMENT), lets it write to 0, MLflow's first one, because the store
reads both as one number. Where that is gone or refused, its gate has read the database and no more.
"""

from __future__ import annotations

import http.client
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from mlflowd.server import login as logins
from mlflowd.server import probe
from mlflowd.server.call import fields
from mlflowd.server.probe import GUARDED_EXPERIMENT, NO_EXPERIMENT, Answer, Kind, Probe, message

if TYPE_CHECKING:
    from mlflowd.model import Address
    from mlflowd.server.call import Login

TAG: Final = "mlflowd.gate"
_API: Final = "/api/2.0/mlflow"
_OLDEST: Final = {"max_results": 1, "order_by": ["creation_time ASC"]}
_LARGE: Final = 16 << 20
"""Bytes of an answer: experiments and runs come with all their tags."""
_GONE: Final = (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED)


def try_out(
    address: Address, timeout: float, prefix: str = "", login: Login | None = None, *, proxied: bool = True
) -> Answer:
    """Return OK where the server reads, writes and, with `proxied`, keeps an artifact, else what was not well.

    `timeout` is for all of it; `login` is an admin's, the probes' own user's, or none. DENIED, which counts as well,
    where a server without a login of ours lets nobody see its database.
    """
    call = Probe(address, timeout, prefix, login)
    try:
        answer = _database(call)
    except TimeoutError:
        return call.answer(Kind.TIMEOUT, f"the database is busy: no answer within {timeout:g} s")
    except (OSError, http.client.HTTPException) as error:
        return call.lost(error)
    if answer.kind is not Kind.OK or not proxied:
        return answer
    kept = probe.artifacts(address, max(timeout - call.seconds, 1), prefix, login)
    return call.answer(kept.kind, f"{answer.sentence}; {kept.sentence}" if kept.kind is Kind.OK else kept.sentence)


def _database(call: Probe) -> Answer:
    """Read experiments and runs, and write. Raises OSError and HTTPException."""
    probing = call.login is not None and call.login.user != logins.ADMIN
    status, body = _post(call, "experiments/search", NO_EXPERIMENT if probing else _OLDEST)
    if status != http.HTTPStatus.OK or (told := fields(body)) is None:
        return _unwell(call, "experiments cannot be searched", status, body)
    experiment = GUARDED_EXPERIMENT if probing else _oldest(told)
    status, body = _post(call, "runs/search", {"experiment_ids": [experiment] if experiment else [], "max_results": 1})
    if status != http.HTTPStatus.OK or fields(body) is None:
        return _unwell(call, "runs cannot be searched", status, body)
    if not experiment:
        return call.answer(Kind.OK, "the database is read; there is no experiment to write to")
    return _write(call, experiment, probing=probing)


def _write(call: Probe, experiment: str, *, probing: bool) -> Answer:
    tag = {"experiment_id": experiment, "key": TAG, "value": secrets.token_hex(8)}
    status, body = _post(call, "experiments/set-experiment-tag", tag)
    if probing and http.HTTPStatus.BAD_REQUEST <= status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return call.answer(Kind.OK, "the database is read; the probes' user may not write")
    if status != http.HTTPStatus.OK:
        return _unwell(call, "the tag of an experiment cannot be set", status, body)
    status, body = call.send("GET", f"{_API}/experiments/get?experiment_id={experiment}", limit=_LARGE)
    if status != http.HTTPStatus.OK or tag["value"].encode() not in body:
        return _unwell(call, "what was written to the database is not read back", status, body)
    status, body = _post(call, "experiments/delete-experiment-tag", {"experiment_id": experiment, "key": TAG})
    if status not in {http.HTTPStatus.OK, *_GONE}:
        return _unwell(call, "the tag of an experiment cannot be deleted", status, body)
    return call.answer(Kind.OK, "the database is read and written")


def _post(call: Probe, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    return call.send("POST", f"{_API}/{path}", json.dumps(body).encode(), limit=_LARGE)


def _oldest(told: dict[str, object]) -> str:
    found = told.get("experiments")
    first = found[0] if isinstance(found, list) and found else None
    return str(first.get("experiment_id", "")) if isinstance(first, dict) else ""


def _unwell(call: Probe, what: str, status: int, body: bytes) -> Answer:
    if call.is_refused(status, body):
        return call.refused("its database", status, body)
    if b"database is locked" in body:
        return call.answer(Kind.LOCKED, "the database is locked by another process")
    return call.answer(Kind.ERROR, f"{what}: {message(status, body)}")
