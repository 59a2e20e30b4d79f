"""The YAML that is written without a library, read by a reader of that subset; tests/contract has a real one."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlflowd.operations.yaml_text import Comment, lines

TEXTS = st.text(max_size=30)
SCALARS = TEXTS | st.integers() | st.booleans()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(SCALARS, max_size=3) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


def read(text: str) -> Any:
    """Read mappings, lists and JSON scalars, by their indents."""
    rows = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    found, rest = _mapping([(len(row) - len(row.lstrip()), row.lstrip()) for row in rows], 0)
    assert rest == []
    return found


def _mapping(rows: list[tuple[int, str]], indent: int) -> tuple[Any, list[tuple[int, str]]]:
    found: dict[str, Any] = {}
    while rows and rows[0][0] == indent and not rows[0][1].startswith("- "):
        key, value = _pair(rows[0][1])
        rows = rows[1:]
        if value:
            found[key] = json.loads(value)
        elif rows[0][1].startswith("- "):
            found[key], rows = _items(rows, indent + 2)
        else:
            found[key], rows = _mapping(rows, indent + 2)
    return found, rows


def _items(rows: list[tuple[int, str]], indent: int) -> tuple[Any, list[tuple[int, str]]]:
    found = []
    while rows and rows[0][0] == indent and rows[0][1].startswith("- "):
        rest = rows[0][1][2:]
        if re.match(r'[\w."-]+:( |$)', rest) and not rest.startswith('"'):
            one, rows = _mapping([(indent + 2, rest), *rows[1:]], indent + 2)
        else:
            one, rows = json.loads(rest), rows[1:]
        found.append(one)
    return found, rows


def _pair(row: str) -> tuple[str, str]:
    if row.startswith('"'):
        key, end = json.JSONDecoder().raw_decode(row)
        return str(key), row[end + 1 :].strip()
    name, _, value = row.partition(":")
    return name, value.strip()


def written(value: dict[str, Any]) -> str:
    return "\n".join(lines(value)) + "\n"


@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_what_is_written_is_read_again(value: dict[str, Any]) -> None:
    assert read(written(value)) == value


@given(TEXTS)
def test_a_text_never_leaves_its_line(text: str) -> None:
    assert len(written({"key": text}).split("\n")) == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", written({"key": text}))


def test_words_that_yaml_takes_for_something_else_stay_texts() -> None:
    for word in ("no", "on", "null", "1e3", "0777", "2026-11-20", "~", "12:30", ""):
        assert written({"key": word}) == f'key: "{word}"\n'
    assert written({"no": 1}) == '"no": 1\n'


def test_a_comment_stands_on_lines_of_its_own() -> None:
    assert written({Comment("one\ntwo"): None, "key": True}) == "# one\n# two\nkey: true\n"
