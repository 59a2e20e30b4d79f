"""Where the supervisor works, as one value: the engine, the directories, the service user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.engine.api import Engine
    from mlflowd.host.paths import Identity


@dataclass(frozen=True, slots=True)
class Place:
    """The machine as one daemon sees it; tests put a fake engine and temporary directories here."""

    engine: Engine
    state: Path
    runtime: Path
    who: Identity
