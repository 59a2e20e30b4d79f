"""How much the container may take: memory, processes, by what runs in it. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflowd.config import Settings, Size

_STEP = 16 * 2**20
"""A percentage is rounded down to these bytes: a kernel update moves the total by a few pages, which is no drift."""


def memory(settings: Settings, workers: int, total: int) -> int | None:
    """Return the most memory in bytes, None for no limit; `total` is the machine's, 0 when unknown."""
    del workers
    wanted = settings.container.memory
    if wanted is None:
        return None
    if wanted == "auto":
        return int(total * 0.75) // _STEP * _STEP or None
    return size(wanted, total) or None


def pids(settings: Settings, workers: int) -> int:
    """Return the most processes and threads."""
    del workers
    return 1024 if settings.container.pids == "auto" else settings.container.pids


def size(wanted: Size, total: int) -> int:
    """Return the bytes of a size, a percentage of `total` in whole steps."""
    exact = wanted.of(total)
    return exact if wanted.percent is None else exact // _STEP * _STEP
