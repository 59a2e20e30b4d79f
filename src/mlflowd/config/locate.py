"""Reads a TOML file and tells on which line each key stands. Effects: reads the file.

tomllib tells no lines. It does tell whether a piece of text is whole, so the lines of a file are handed to it
until they make a statement; what that statement says is then known to stand on its first line.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_BYTES: Final = 256 * 1024
_MOST_TRIES: Final = 500
"""Lines of one statement that are tried; the keys behind a longer one are reported without a line."""

Keys = tuple[str, ...]


class NotTomlError(ValueError):
    """The file cannot be read as TOML; `line` is 0 where no line is to blame."""

    def __init__(self, reason: str, line: int = 0, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.line, self.hint = reason, line, hint


@dataclass(frozen=True, slots=True)
class Document:
    """What a TOML file says, and the line (from 1) of each key and table."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Keys, int] = field(default_factory=dict)


def read(path: Path) -> Document:
    """Return what the file says. Raises OSError as open() does, NotTomlError for its contents."""
    text = _text(_contents(path))
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise NotTomlError("nested too deeply") from None
    except ValueError as error:
        raise _syntax_error(str(error), text) from None
    return Document(values, dict(_lines(text)))


def _contents(path: Path) -> bytes:
    """Read a regular file; a pipe or a device would never end, or block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            reason = "a directory, not a file" if stat.S_ISDIR(mode) else "not a regular file"
            raise NotTomlError(reason, hint="name a TOML file with --config")
        with open(descriptor, "rb", closefd=False) as file:
            contents = file.read(MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(contents) > MOST_BYTES:
        raise NotTomlError(
            f"larger than {MOST_BYTES // 1024} KiB, which no configuration is", hint="is it the right file?"
        )
    return contents


def _text(contents: bytes) -> str:
    try:
        return contents.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise NotTomlError("not UTF-8 text", line, "save the file in the encoding UTF-8") from None


def _syntax_error(message: str, text: str) -> NotTomlError:
    """Make tomllib's message a sentence with the line in front."""
    if "integer string conversion" in message:
        return NotTomlError("a number has too many digits")
    at = re.search(r"at line (\d+)", message)
    reason = re.sub(r" \(at [^()]*\)$", "", message)
    line = int(at[1]) if at else text.count("\n", 0, len(text.rstrip())) + 1
    hint = 'text stands in quotes, such as "20s"' if reason == "Invalid value" else ""
    return NotTomlError(f"not valid TOML: {reason}", line, hint)


def _lines(text: str) -> Iterator[tuple[Keys, int]]:
    """Yield every key and table with the line of its first mention."""
    seen: set[Keys] = set()
    table: Keys = ()
    for number, statement, header in _statements(text):
        table = () if header else table
        for keys in _paths(statement, table):
            if keys not in seen:
                seen.add(keys)
                yield keys, number
        if header:
            table = max(_paths(statement, ()), key=len, default=())


def _statements(text: str) -> Iterator[tuple[int, dict[str, Any], bool]]:
    """Yield (line, what it says, whether it is a table's header) of each statement."""
    pending, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        first = first if pending else number
        if number - first > _MOST_TRIES:
            return
        pending += line + "\n"
        try:
            statement = tomllib.loads(pending)
        except ValueError:
            continue
        yield first, statement, pending.lstrip().startswith("[")
        pending = ""


def _paths(values: dict[str, Any], prefix: Keys) -> Iterator[Keys]:
    """Yield the path of every key in nested tables, and that of each table around it."""
    for name, value in values.items():
        yield (*prefix, name)
        entry = value[-1] if isinstance(value, list) and value and isinstance(value[-1], dict) else value
        if isinstance(entry, dict):
            yield from _paths(entry, (*prefix, name))
