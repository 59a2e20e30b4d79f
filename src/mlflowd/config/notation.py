"""Values in TOML notation, as the configuration file would have them. No effects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from mlflowd.config.masking import mask
from mlflowd.config.units import format_span

_SHOWN = 60
"""Characters of a wrong value that an error repeats."""


def quoted(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's, DEL and lone surrogates aside."""
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")


def dotted(*parts: str) -> str:
    """Return a key's path as TOML writes it: a part that is not bare stands in quotes."""
    return ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else quoted(part) for part in parts)


def toml(value: object) -> str:
    """Return a setting in TOML notation; every float is a time span, None is "none"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return quoted(format_span(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {toml(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(entry) for entry in value) + "]"
    return quoted("none" if value is None else str(value))


def shown(value: object) -> str:
    """Return what an error may repeat of a wrong value: short, on one line, no secret."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and value.bit_length() > 64:  # noqa: PLR2004 - what TOML guarantees
        return "a very large number"
    if isinstance(value, str):
        text = mask(value)
        return quoted(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
    return toml(value) if isinstance(value, int) else str(value)
