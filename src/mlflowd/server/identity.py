"""Which database the server has, asked of the server itself.

Effects: one HTTP request to the address given.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING

from mlflowd.server.call import Call, fields

if TYPE_CHECKING:
    from mlflowd.model import Address
    from mlflowd.server.call import Login

_OLDEST = {"max_results": 1, "view_type": "ALL", "order_by": ["creation_time ASC", "experiment_id ASC"]}
"""As the fingerprint of a SQLite file has it, deleted experiments included."""


def oldest(address: Address, timeout: float, prefix: str = "", login: Login | None = None) -> str:
    """Return the oldest experiment as "id@milliseconds", "" where the server shows none or does not answer."""
    try:
        call = Call(address, timeout, prefix, login)
        status, body = call.send("POST", "/api/2.0/mlflow/experiments/search", json.dumps(_OLDEST).encode())
    except (OSError, http.client.HTTPException):
        return ""
    return _identity(fields(body)) if status == http.HTTPStatus.OK else ""


def _identity(told: dict[str, object] | None) -> str:
    found = (told or {}).get("experiments")
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, dict) or not first.get("experiment_id") or not first.get("creation_time"):
        return ""
    return f"{first['experiment_id']}@{first['creation_time']}"
