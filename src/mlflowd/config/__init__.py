"""The settings: what /etc/mlflowd.toml may say, and how it is read."""

from __future__ import annotations

from mlflowd.config.load import DEFAULT_PATH, Loaded, load
from mlflowd.config.settings import Settings
from mlflowd.config.units import Size

__all__ = ["DEFAULT_PATH", "Loaded", "Settings", "Size", "load"]
