"""Reads the settings' environment variables, MLFLOWD_<SECTION>__<KEY>. No effects: the caller hands them in.

The rule: a variable with two underscores after a first word is ours, and must name a section and a key. One
without is not (MLFLOWD_TEST_SEED), unless a second underscore would make it the name of a key: then it is refused
as a slip, since what it sets would otherwise silently not be set.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlflowd.config.catalogue import KEYS, SECTIONS, kind_of, nearest_key
from mlflowd.config.values import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX: Final = "MLFLOWD_"

VARIABLES: Final = {f"{PREFIX}{section}__{key}".upper(): (section, key) for section, key in KEYS}


class Variable(NamedTuple):
    """One variable that sets a key."""

    name: str
    section: str
    key: str
    value: Any


class Stray(NamedTuple):
    """One variable that seems to be ours and is not."""

    name: str
    reason: str
    hint: str


def read(environ: Mapping[str, str]) -> Iterator[Variable | Stray]:
    """Yield every variable that is ours or seems to be, by name."""
    for name in sorted(environ):
        if name in VARIABLES:
            section, key = VARIABLES[name]
            yield Variable(name, section, key, value_of(environ[name], textual=kind_of(section, key).textual))
        elif name.startswith(PREFIX) and (stray := _stray(name)):
            yield stray


def value_of(text: str, *, textual: bool) -> Any:  # noqa: ANN401 - whatever TOML has
    """Return a variable's value: the text itself, or what it says in TOML notation where that is not text."""
    if textual:
        return text
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text


def _stray(name: str) -> Stray | None:
    section, two_underscores, key = name.removeprefix(PREFIX).lower().partition("__")
    if two_underscores:
        return Stray(name, *_unknown(section, key))
    slips = [variable for variable in VARIABLES if variable.replace("__", "_") == name]
    if slips:
        return Stray(name, "one underscore between section and key", f"did you mean {slips[0]}?")
    return None


def _unknown(section: str, key: str) -> tuple[str, str]:
    if (section, key) in KEYS:
        return "not in capitals", f"did you mean {variable_of(section, key)}?"
    if section in SECTIONS:
        close = nearest_key(section, key)
        return f"[{section}] has no key {key!r}", f"did you mean {variable_of(*close)}?" if close else ""
    close_section = nearest(section, SECTIONS)
    hint = f"did you mean {variable_of(close_section, key)}?" if close_section else f"sections: {', '.join(SECTIONS)}"
    return f"unknown section {section!r}", hint


def variable_of(section: str, key: str) -> str:
    """Return the name of the variable that sets a key."""
    return f"{PREFIX}{section}__{key}".upper()
