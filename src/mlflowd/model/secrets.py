"""Secrets that were read, kept out of every repr. No effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the configuration's sources gave, by the key that names them ("backend_store.password").

    Entries of server.secrets are "server.secrets.NAME". Public files that the server needs beside them (a CA
    bundle, host keys) are here too: they reach it the same way.
    """

    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def get(self, key: str) -> str:
        """Return the secret, "" where there is none."""
        return self.values.get(key, "")


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """A small file that the server reads and no other user does: a key, or a configuration with a password."""

    name: str
    """Without a directory: it lies in the container's command.PRIVATE."""
    content: str = field(repr=False)
