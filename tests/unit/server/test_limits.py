"""The limits of the container, held against what the real server was measured to take."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mlflowd.config import Settings
from mlflowd.server import limits

MIB, GIB = 2**20, 2**30
LARGE = 256 * GIB
IN_KERNEL = 85
"""MiB that the kernel held for the server's sockets, at most."""
MEASURED = [
    tuple(int(cell) for cell in (cells[0], cells[1] == "on", cells[4], cells[6]))
    for cells in (re.findall(r"[a-z\d]+", line) for line in (limits.__doc__ or "").splitlines())
    if len(cells) == 7 and cells[0].isdigit()
]
"""Workers, jobs, MiB and pids at the worst moment, of the table in the module's docstring."""


def settings(**container: Any) -> Settings:
    jobs = container.pop("jobs", False)
    return Settings(container=container, server={"jobs": jobs})


def test_the_table_is_read() -> None:
    assert [(workers, jobs) for workers, jobs, _, _ in MEASURED] == [(1, 0), (2, 0), (4, 0), (1, 1), (2, 1), (4, 1)]


@pytest.mark.parametrize(("workers", "jobs", "mib", "pids"), MEASURED)
def test_automatic_limits_are_twice_what_was_measured_and_both_tmpfs(
    workers: int, jobs: int, mib: int, pids: int
) -> None:
    asked = settings(jobs=bool(jobs), tmp_size="3G", shm_size="1G")
    assert (limits.memory(asked, workers, LARGE) or 0) >= 2 * (mib + IN_KERNEL) * MIB + 4 * GIB
    assert limits.pids(asked, workers) >= 2 * pids


def test_automatic_memory_is_never_more_than_three_quarters_of_the_machine() -> None:
    assert limits.memory(settings(), 2, 4 * GIB) == 3 * GIB
    assert limits.memory(settings(jobs=True), 8, 8 * GIB) == 6 * GIB
    assert limits.memory(settings(tmp_size="10G"), 1, 8 * GIB) == 6 * GIB


def test_automatic_memory_goes_by_workers_jobs_and_both_tmpfs() -> None:
    base = limits.memory(settings(), 1, LARGE) or 0
    assert base == 2 * GIB + 2 * GIB + GIB // 4
    assert limits.memory(settings(), 4, LARGE) == base + 3 * GIB
    assert limits.memory(settings(jobs=True), 1, LARGE) == base + 3 * GIB
    assert limits.memory(settings(tmp_size="5G"), 1, LARGE) == base + 3 * GIB
    assert limits.memory(settings(shm_size="1G"), 1, LARGE) == base + 3 * GIB // 4


def test_a_few_pages_more_or_less_of_the_machine_are_no_drift() -> None:
    for total in (4 * GIB, LARGE):
        assert limits.memory(settings(tmp_size="10%"), 2, total - 40960) == limits.memory(
            settings(tmp_size="10%"), 2, total - 81920
        )


def test_a_machine_of_unknown_size_gives_no_automatic_limit() -> None:
    assert limits.memory(settings(), 2, 0) is None


def test_what_a_person_wrote_holds_whatever_the_server_may_need() -> None:
    assert limits.memory(settings(memory="300M"), 4, LARGE) == 300 * MIB
    assert limits.memory(settings(memory="90%"), 4, 8 * GIB) == 8 * GIB * 9 // 10 // (16 * MIB) * 16 * MIB
    assert limits.memory(settings(memory="none"), 4, 8 * GIB) is None
    assert limits.pids(settings(pids=64), 4) == 64


def test_every_processor_may_have_its_thread_in_every_process_of_the_jobs() -> None:
    threads, processes = 64, 16
    assert limits.pids(settings(jobs=True), 4) >= threads * processes
