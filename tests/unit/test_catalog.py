"""Holds events.py, systemd/mlflowd.catalog and docs/journal.md together.

`python tests/unit/test_catalog.py` writes the reference in docs/journal.md anew, from the other two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflowd.events import Event

ROOT = Path(__file__).parents[2]
CATALOG = ROOT / "systemd/mlflowd.catalog"
REFERENCE = ROOT / "docs/journal.md"
MARK = "<!-- Below this line: written by tests/unit/test_catalog.py from events.py and mlflowd.catalog. -->\n"


@dataclass(frozen=True)
class Explanation:
    """One entry of the catalog, in the format of systemd's catalog page."""

    message_id: str
    subject: str
    headers: dict[str, str]
    why: str
    remedy: str

    @property
    def fields(self) -> set[str]:
        return set(re.findall(r"@([A-Z_]+)@", f"{self.subject} {self.why} {self.remedy}"))


def catalog() -> list[Explanation]:
    text = "".join(line for line in CATALOG.read_text().splitlines(keepends=True) if not line.startswith("#"))
    return [explanation(entry) for entry in re.split(r"^-- ", text, flags=re.MULTILINE)[1:]]


def explanation(entry: str) -> Explanation:
    head, _, body = entry.partition("\n\n")
    message_id, *lines = head.splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    why, _, remedy = body.partition("\n\nRemedy:\n")
    return Explanation(message_id, headers.pop("Subject"), headers, why.strip(), remedy.rstrip())


def reference() -> str:
    """The reference part of docs/journal.md."""
    explained = {entry.message_id: entry for entry in catalog()}
    return "".join(section(event, explained[event.message_id]) for event in Event)


def section(event: Event, entry: Explanation) -> str:
    fields = ", ".join(f"`{name.upper()}`" for name in event.fields) or "none of its own"
    return (
        f"\n### {event.name}\n\n"
        f"{entry.subject}.\n\n"
        f"- priority: {event.priority.name.lower()}\n- fields: {fields}\n- `MESSAGE_ID={event.message_id}`\n\n"
        f"{entry.why}\n\n"
        f"```text\n{entry.remedy}\n```\n"
    )


def described(event: Event) -> Explanation:
    return next(entry for entry in catalog() if entry.message_id == event.message_id)


def test_every_event_is_explained_once_in_its_order() -> None:
    assert [entry.message_id for entry in catalog()] == [event.message_id for event in Event]


def test_message_ids_are_128_bits_and_differ() -> None:
    ids = [event.message_id for event in Event]

    assert all(re.fullmatch("[0-9a-f]{32}", message_id) for message_id in ids)
    assert len(set(ids)) == len(list(Event)) == len(Event.__members__)


@pytest.mark.parametrize("event", Event, ids=lambda event: event.name)
def test_an_explanation_has_a_subject_a_reason_and_a_remedy(event: Event) -> None:
    entry = described(event)

    assert entry.subject
    assert not entry.subject.endswith(".")
    assert entry.why.endswith(".")
    assert entry.remedy.startswith("Nothing to do") or re.search(r"^    \S", entry.remedy, re.MULTILINE)
    assert entry.headers == {"Defined-By": "mlflowd"}


@pytest.mark.parametrize("event", Event, ids=lambda event: event.name)
def test_an_explanation_shows_the_fields_of_its_event_and_no_others(event: Event) -> None:
    assert described(event).fields <= {name.upper() for name in event.fields}


def test_lines_fit_a_terminal_behind_journalctl_s_margin() -> None:
    assert max(map(len, CATALOG.read_text().splitlines())) <= 105


def test_the_reference_is_the_catalog() -> None:
    _, mark, below = REFERENCE.read_text().partition(MARK)

    assert mark
    assert below == reference(), "run `python tests/unit/test_catalog.py`"


if __name__ == "__main__":
    above = REFERENCE.read_text().partition(MARK)[0]
    REFERENCE.write_text(above + MARK + reference())
