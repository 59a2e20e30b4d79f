"""How much room a file system has. Effect: statvfs(3)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.host.files import nearest

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.config.units import Size


@dataclass(frozen=True, slots=True)
class Space:
    """Room of one file system, as an unprivileged user has it; bytes and inodes."""

    device: int
    free: int
    total: int
    inodes_free: int
    inodes: int
    """0 where the file system does not count them (btrfs)."""
    read_only: bool

    def below(self, limit: Size) -> bool:
        """Whether fewer bytes are free than `limit`, or, where it is a percentage, fewer inodes."""
        return self.free < limit.of(self.total) or self.inodes_below(limit)

    def inodes_below(self, limit: Size) -> bool:
        """Whether fewer inodes are free than `limit`; a limit in bytes says nothing of inodes."""
        return self.inodes > 0 and limit.percent is not None and self.inodes_free < limit.of(self.inodes)

    @property
    def percent(self) -> int:
        """Free bytes, in whole per cent."""
        return 100 * self.free // max(self.total, 1)

    @property
    def inodes_percent(self) -> int:
        """Free inodes, in whole per cent."""
        return 100 * self.inodes_free // max(self.inodes, 1)


def space(path: Path) -> Space:
    """Return the room where `path` is, or would be made. Raises OSError.

    As df(1) counts: `total` leaves out the blocks that are kept for root.
    """
    at = nearest(path)
    told = os.statvfs(at)
    used = told.f_blocks - told.f_bfree
    return Space(
        device=at.stat().st_dev,
        free=told.f_bavail * told.f_frsize,
        total=(used + told.f_bavail) * told.f_frsize,
        inodes_free=told.f_favail,
        inodes=told.f_files,
        read_only=bool(told.f_flag & os.ST_RDONLY),
    )
