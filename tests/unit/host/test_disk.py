from __future__ import annotations

from typing import TYPE_CHECKING

from mlflowd.config import Size
from mlflowd.host import disk
from mlflowd.host.disk import Space

if TYPE_CHECKING:
    from pathlib import Path

FULL = Space(device=1, free=50 << 20, total=1 << 30, inodes_free=500, inodes=1000, read_only=False)


def test_room_is_that_of_the_nearest_directory_that_exists(tmp_path: Path) -> None:
    found = disk.space(tmp_path / "not" / "there")
    assert found.device == tmp_path.stat().st_dev
    assert 0 < found.free <= found.total
    assert not found.read_only


def test_bytes_and_percent_are_limits() -> None:
    assert FULL.below(Size.parse("100M"))
    assert not FULL.below(Size.parse("50M"))
    assert FULL.below(Size.parse("5%"))
    assert not FULL.below(Size.parse("4%"))
    assert FULL.percent == 4


def test_a_percentage_goes_for_inodes_and_bytes_do_not() -> None:
    few = Space(device=1, free=1 << 30, total=1 << 30, inodes_free=20, inodes=1000, read_only=False)
    assert few.below(Size.parse("3%"))
    assert few.inodes_below(Size.parse("3%"))
    assert not few.below(Size.parse("500M"))
    assert few.inodes_percent == 2


def test_a_file_system_that_counts_no_inodes_has_enough() -> None:
    assert not Space(device=1, free=9, total=10, inodes_free=0, inodes=0, read_only=False).below(Size.parse("50%"))
