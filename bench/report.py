"""Medians over the rounds, ratios to MLflow's own defaults, and the tables of docs/performance.md.

No effects.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Sample = dict[str, float]
"""Figures of one configuration in one round, by the keys of COLUMNS."""


@dataclass(frozen=True, slots=True)
class Column:
    """One measured quantity: its key, its heading, how it is written."""

    key: str
    heading: str
    form: str


COLUMNS = (
    Column("first_answer", "first answer, fresh database, s", ".1f"),
    Column("start_again", "first answer, started again, s", ".1f"),
    Column("sequential", "log_metric, 1 client, /s", ".0f"),
    Column("sequential_p50", "p50, ms", ".1f"),
    Column("sequential_p99", "p99, ms", ".0f"),
    Column("concurrent", "log_metric, 8 clients, /s", ".0f"),
    Column("concurrent_p50", "p50, ms", ".0f"),
    Column("concurrent_p99", "p99, ms", ".0f"),
    Column("batch", "log_batch(1000), metrics/s", ".0f"),
    Column("up", "artifact up, MiB/s", ".0f"),
    Column("down", "artifact down, MiB/s", ".0f"),
    Column("memory", "memory, MiB", ".0f"),
    Column("processes", "processes", ".0f"),
    Column("errors", "failed requests", ".0f"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """What the shipped defaults have to reach beside MLflow's own, as a ratio."""

    key: str
    limit: float
    at_least: bool

    def met(self, ratio: float) -> bool:
        """Whether this ratio reaches it."""
        return ratio >= self.limit if self.at_least else ratio <= self.limit


TARGETS = (
    Target("sequential", 5.0, at_least=True),
    Target("concurrent", 1.4, at_least=True),
    Target("concurrent_p99", 1.25, at_least=False),
    Target("memory", 0.30, at_least=False),
    Target("first_answer", 0.60, at_least=False),
    Target("start_again", 0.60, at_least=False),
)


def median(samples: Iterable[Sample], key: str) -> float:
    """Return the median of one quantity over the rounds that have it; NaN where none has."""
    found = [sample[key] for sample in samples if key in sample]
    return statistics.median(found) if found else float("nan")


def ratio(samples: Sequence[Sample], base: Sequence[Sample], key: str) -> float:
    """Return the median over the rounds of the ratio within each round; NaN where no round has both."""
    pairs = [
        (mine[key], theirs[key])
        for mine, theirs in zip(samples, base, strict=False)
        if mine.get(key) and theirs.get(key)
    ]
    return statistics.median(mine / theirs for mine, theirs in pairs) if pairs else float("nan")


def spread(samples: Sequence[Sample], base: Sequence[Sample], key: str) -> tuple[float, float]:
    """Return the least and the greatest ratio of a round; NaN where no round has both."""
    found = [
        mine[key] / theirs[key]
        for mine, theirs in zip(samples, base, strict=False)
        if mine.get(key) and theirs.get(key)
    ]
    return (min(found), max(found)) if found else (float("nan"), float("nan"))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns; the first row is the heading."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def medians(samples: Mapping[str, Sequence[Sample]]) -> str:
    """Return the table of medians: a row for each quantity, a column for each configuration."""
    rows = [["median", *samples]]
    for column in COLUMNS:
        values = [median(found, column.key) for found in samples.values()]
        rows.append([column.heading, *(format(value, column.form) for value in values)])
    return table(rows)


def ratios(samples: Mapping[str, Sequence[Sample]], base: str) -> str:
    """Return the table of ratios to the configuration `base`, with the targets."""
    others = [name for name in samples if name != base]
    rows = [[f"ratio to {base} (least to greatest)", "target", *others]]
    headings = {column.key: column.heading for column in COLUMNS}
    for target in TARGETS:
        sign = ">=" if target.at_least else "<="
        cells = [_verdict(samples[name], samples[base], target) for name in others]
        rows.append([headings[target.key].removesuffix(", s"), f"{sign} {target.limit:g}", *cells])
    return table(rows)


def _verdict(samples: Sequence[Sample], base: Sequence[Sample], target: Target) -> str:
    value, (least, greatest) = ratio(samples, base, target.key), spread(samples, base, target.key)
    return f"{value:.2f} ({least:.2f} to {greatest:.2f}) {'met' if target.met(value) else 'MISSED'}"
