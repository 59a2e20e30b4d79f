"""Writes mappings, lists and scalars as YAML: a subset that needs no library. No effects.

Texts are JSON strings, which YAML 1.2 takes as they are (its section 1.3): so no word is read as a number, a date or a
boolean, and no character of a value has a meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


class Comment(str):
    """A key of a mapping that stands for a comment line; its value is not written."""

    __slots__ = ()


def lines(value: Mapping[str, object], indent: int = 0) -> Iterator[str]:
    """Yield the lines of a mapping; one with nothing in it has none."""
    margin = " " * indent
    for key, entry in value.items():
        if isinstance(key, Comment):
            yield from (f"{margin}# {line}" for line in key.splitlines())
        elif isinstance(entry, Mapping) and entry:
            yield f"{margin}{_key(key)}:"
            yield from lines(entry, indent + 2)
        elif isinstance(entry, Sequence) and not isinstance(entry, str) and entry:
            yield f"{margin}{_key(key)}:"
            yield from _items(entry, indent + 2)
        else:
            yield f"{margin}{_key(key)}: {_scalar(entry)}"


def _items(entries: Sequence[object], indent: int) -> Iterator[str]:
    margin = " " * indent
    for entry in entries:
        if isinstance(entry, Mapping) and entry:
            first, *rest = lines(entry, indent + 2)
            yield f"{margin}- {first.lstrip()}"
            yield from rest
        else:
            yield f"{margin}- {_scalar(entry)}"


def _key(key: str) -> str:
    return key if _PLAIN.fullmatch(key) and key.lower() not in _WORDS else _scalar(key)


def _scalar(value: object) -> str:
    """Return a scalar, an empty mapping or an empty list. JSON leaves DEL and a few line separators to YAML."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]", lambda odd: f"\\u{ord(odd[0]):04x}", text)
