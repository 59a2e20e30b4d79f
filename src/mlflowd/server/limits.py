"""How much the container may take: memory, processes, by what runs in it. No effects.

What the real server took (MLflow 3.17.2 with uvloop on SQLite, in the described container, Docker 20.10, 2 processors):
resident memory of all processes in MiB and the number of processes and threads; idle, while two artifacts of 1 GiB
came in at once, and at the worst moment under 64 clients that each created runs, logged 1000 metrics and searched
(which took 71 to 85 MiB in the kernel besides).

| workers | jobs | idle | upload | 64 clients | idle pids | 64 clients |
|---|---|---|---|---|---|---|
| 1 | off | 347 | 350 | 596 | 10 | 51 |
| 2 | off | 541 | 544 | 869 | 14 | 79 |
| 4 | off | 885 | 888 | 1214 | 21 | 88 |
| 1 | on | 1527 | 1610 | 1812 | 44 | 146 |
| 2 | on | 1797 | 1800 | 2039 | 110 | 175 |
| 4 | on | 2132 | 2135 | 2478 | 120 | 185 |

The limits are two and a half times that or more, since a limit that is met kills the server: searches and traces of
real projects are larger than those of a measurement. With jobs on, each process of the server has a thread of
OpenBLAS for each processor, 64 at most (jobs off: one).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflowd.config import Settings, Size

_STEP = 16 * 2**20
"""A percentage is rounded down to these bytes: a kernel update moves the total by a few pages, which is no drift."""
_GIB = 2**30
_MOST = 0.75
"""Of the machine's memory: what is left is for the system and the engine, which must not be the ones to be killed."""
_BASE, _WORKER, _JOBS = 1 * _GIB, 1 * _GIB, 3 * _GIB
_BASE_PIDS, _WORKER_PIDS, _JOBS_PIDS = 512, 256, 4096


def memory(settings: Settings, workers: int, total: int) -> int | None:
    """Return the most memory in bytes, None for no limit; `total` is the machine's, 0 when unknown.

    "auto" is what the server may need, and _MOST of the machine where that is less: on a small machine the server
    may then be killed before it has had what it was measured to take.
    """
    wanted = settings.container.memory
    if wanted is None:
        return None
    if wanted == "auto":
        most = int(total * _MOST) // _STEP * _STEP
        return min(most, need(settings, workers, total)) if most else None
    return size(wanted, total) or None


def need(settings: Settings, workers: int, total: int) -> int:
    """Return the bytes that the server may come to need, with /tmp and /dev/shm full: both lie in its memory."""
    container = settings.container
    processes = _BASE + _WORKER * workers + _JOBS * settings.server.jobs
    return processes + size(container.tmp_size, total) + size(container.shm_size, total)


def pids(settings: Settings, workers: int) -> int:
    """Return the most processes and threads."""
    if settings.container.pids != "auto":
        return settings.container.pids
    return _BASE_PIDS + _WORKER_PIDS * workers + _JOBS_PIDS * settings.server.jobs


def size(wanted: Size, total: int) -> int:
    """Return the bytes of a size, a percentage of `total` in whole steps."""
    exact = wanted.of(total)
    return exact if wanted.percent is None else exact // _STEP * _STEP
