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
    """Below the container's wiring.PRIVATE; it may have directories of its own ("ssh/config")."""
    content: str = field(repr=False)
    counted: str | None = field(default=None, repr=False)
    """What the spec hash has in place of the content, None for the content itself: a change of what only the first
    start reads (the admin's first password) is no reason to replace a container."""

    @property
    def identity(self) -> tuple[str, str]:
        """Return what tells this file from another one in the spec hash."""
        return self.name, self.content if self.counted is None else self.counted
