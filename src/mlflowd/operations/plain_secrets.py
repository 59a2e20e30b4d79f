"""Secrets that stand in the configuration file itself: warned of, never refused. Effects: looks at the file's mode."""

from __future__ import annotations

import shlex
import stat
from typing import TYPE_CHECKING

from mlflowd.stores.findings import warning

if TYPE_CHECKING:
    from mlflowd.config import Loaded
    from mlflowd.model import Finding

CHECK = "secrets"
_SOURCES = '"credential:NAME", "file:/PATH" or "env:NAME" (docs/secrets.md)'
_URIS = {"backend_store.uri": "backend_store.password", "artifact_store.uri": "artifact_store.password"}


def check(loaded: Loaded) -> list[Finding]:
    """Return a warning for each secret in the file, and one where others can read that file."""
    found = loaded.plain_secrets
    findings = [
        warning(CHECK, f"{key}: the secret stands in the configuration itself ({at}).", _way_out(key))
        for key, at in found
    ]
    return findings + (_readable(loaded) if found else [])


def _way_out(key: str) -> str:
    if key in _URIS:
        return f"take it out of the URI, and name its place by {_URIS[key]} = {_SOURCES}"
    if key.startswith("server.environment."):
        return f"move it to server.secrets, as {key.rpartition('.')[2]} = {_SOURCES}"
    return f"name its place instead: {_SOURCES}"


def _readable(loaded: Loaded) -> list[Finding]:
    try:
        mode = stat.S_IMODE(loaded.path.stat().st_mode)
    except OSError:
        return []  # it was there when it was loaded
    if not mode & stat.S_IROTH:
        return []
    message = f"{loaded.path} holds secrets and has the mode {mode:04o}: every user of this machine can read it."
    return [warning(CHECK, message, f"sudo chmod o= {shlex.quote(str(loaded.path))}")]
