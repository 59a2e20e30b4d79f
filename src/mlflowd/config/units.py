"""Time spans and sizes in the notation of systemd: "1min 30s", "4G", "10%". No effects.

The notation is that of systemd.time(7), "Parsing time spans", and of MemoryMax= in systemd.resource-control(5)
(K, M, G, T to the base 1024). No maintained Python library reads it, hence these lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 366 * 86400.0
"""Seconds; a longer span is taken for a slip of the pen."""

_SPAN_UNITS: Final = {
    name: seconds
    for names, seconds in (
        ("us usec µs μs", 1e-6),
        ("ms msec", 1e-3),
        ("s sec second seconds", 1.0),
        ("min m minute minutes", 60.0),
        ("h hr hour hours", 3600.0),
        ("d day days", 86400.0),
        ("w week weeks", 604800.0),
        ("M month months", 30.44 * 86400),
        ("y year years", 365.25 * 86400),
    )
    for name in names.split()
}
_TERM: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Zµμ]*)\s*", re.ASCII)
_SHOWN: Final = (("d", 86400 * 10**6), ("h", 3600 * 10**6), ("min", 60 * 10**6), ("s", 10**6), ("ms", 1000), ("us", 1))

_SIZE_UNITS: Final = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([BKMGT%]?)", re.ASCII)
_LARGEST: Final = 2**53
"""Bytes up to which a fraction such as 1.5T is exact."""


def parse_span(text: str) -> float:
    """Return the seconds of a time span; a plain number is seconds. Raises ValueError with a sentence."""
    seconds, rest = 0.0, text.strip()
    while term := _TERM.match(rest):
        number, unit = term[1], term[2] or "s"
        if unit not in _SPAN_UNITS:
            raise ValueError(f"{unit!r} is not a unit of time (us, ms, s, min, h, d, w)")
        seconds, rest = seconds + float(number) * _SPAN_UNITS[unit], rest[term.end() :]
        if not rest:
            return _bounded(seconds)
    raise ValueError(f"{text!r} is not a time span")


def _bounded(seconds: float) -> float:
    if seconds > LONGEST:
        raise ValueError("longer than a year")
    return round(seconds, 6)


def format_span(seconds: float) -> str:
    """Return a time span as systemd displays it, to the microsecond: 90.0 is "1min 30s"."""
    rest, terms = round(seconds * 1e6), []
    for unit, size in _SHOWN:
        count, rest = divmod(rest, size)
        if count:
            terms.append(f"{count}{unit}")
    return " ".join(terms) or "0s"


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes, or a share of a total that is known later."""

    bytes: int = 0
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read "4G", "512M", "1048576" or "10%". Raises ValueError with a sentence."""
        match = _SIZE.fullmatch(text.strip())
        if not match:
            raise ValueError(f"{text!r} is not a size")
        number, unit = float(match[1]), match[2]
        if unit == "%":
            if number > 100:  # noqa: PLR2004 - the whole of it
                raise ValueError("more than 100%")
            return cls(percent=number)
        if number * _SIZE_UNITS[unit] > _LARGEST:
            raise ValueError("larger than 8192T")
        return cls(bytes=int(number * _SIZE_UNITS[unit]))

    def of(self, total: int) -> int:
        """Return the bytes (or whatever `total` counts) that this size means."""
        return self.bytes if self.percent is None else int(total * self.percent / 100)

    def __str__(self) -> str:
        """Return the notation that `parse` reads, in the largest unit without a fraction."""
        if self.percent is not None:
            return f"{self.percent!r}%".replace(".0%", "%")
        unit = next(unit for unit in "TGMKB" if self.bytes % _SIZE_UNITS[unit] == 0) if self.bytes else "B"
        return f"{self.bytes // _SIZE_UNITS[unit]}{unit}".removesuffix("B")
