"""The kinds of values that a key takes: how each is read, and how it is said to a person. No effects.

A kind is an annotation that pydantic calls; what it raises is a Wrong, whose reasons are sentences for the
person who wrote the file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

from pydantic_core import core_schema

from mlflowd.config.notation import quoted, shown
from mlflowd.config.units import Size, format_span, parse_span
from mlflowd.model import Address

if TYPE_CHECKING:
    from collections.abc import Iterable

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SHORTEST: Final = 0.01
"""Seconds; a loop that turns faster only burns the processor."""


class Fault(NamedTuple):
    """One thing wrong with a value."""

    reason: str = ""
    """A sentence without its full stop; "" when the kind's phrase says it all."""
    hint: str = ""
    at: str = ""
    """Which part of the value: "", ".NAME" or "[1]"."""


class Wrong(ValueError):  # noqa: N818 - it reads as what it says: raise wrong(…)
    """A value that a key does not take."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(fault.reason for fault in faults))
        self.faults = faults


def wrong(reason: str = "", hint: str = "", at: str = "") -> Wrong:
    """Return a Wrong with one fault."""
    return Wrong(Fault(reason, hint, at))


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key takes: a phrase ("a time span such as …") and a function that reads it or raises ValueError."""

    phrase: str
    parse: Callable[[Any], object]
    textual: bool = True
    """In the environment the variable's text is the value; otherwise it is read as TOML."""
    secret: bool = False
    """A wrong value is never repeated."""

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> core_schema.CoreSchema:
        """Let pydantic call `parse` and nothing else: no second schema is built of the annotated type."""
        return core_schema.no_info_plain_validator_function(self.parse)


def nearest(word: str, words: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the word that was probably meant; `cutoff` as of difflib, 1 for the same word."""
    import difflib  # noqa: PLC0415 - only a mistake needs it

    matches = difflib.get_close_matches(word.lower(), list(words), n=1, cutoff=cutoff)
    return matches[0] if matches else None


# --- numbers, flags, spans, sizes ---------------------------------------------------------------


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong(hint="write true or false, without quotes")
    return value


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def whole(least: int, most: int) -> Kind:
    """Make the kind of a whole number within bounds."""

    def parse(value: object) -> object:
        if not _is_whole(value, least, most):
            raise wrong()
        return value

    return Kind(f"a whole number from {least} to {most}", parse, textual=False)


def _notation(value: object) -> str:
    """Return the text of a span or a size; TOML may also have it as a plain number."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise wrong()
    if isinstance(value, int) and not 0 <= value < 2**63:
        raise wrong()
    return value if isinstance(value, str) else f"{value:f}" if isinstance(value, float) else str(value)


def _reading(parse: Callable[[str], Any], value: object, hint: str = "") -> Any:  # noqa: ANN401 - as `parse` returns
    """Read a span or a size; the generic sentence repeats the value, so that a secret in it is masked."""
    text = _notation(value)
    try:
        return parse(text)
    except ValueError as error:
        reason = str(error)
        raise wrong("" if reason.startswith(repr(text)) else reason, hint) from error


def span(least: float) -> Kind:
    """Make the kind of a time span of at least `least` seconds."""

    def parse(value: object) -> float:
        seconds: float = _reading(parse_span, value)
        if seconds < least:
            raise wrong(f"{shown(value)} is too short, the least is {quoted(format_span(least))}")
        return seconds

    return Kind('a time span such as "20s" or "5min"', parse)


def _whole_seconds(value: object) -> float:
    seconds: float = _reading(parse_span, value)
    if seconds < 1 or seconds % 1:
        raise wrong(
            f"{shown(value)} is no whole number of seconds, which is all that the server takes", 'such as "10s"'
        )
    return seconds


def _size(value: object) -> Size:
    text = value.strip() if isinstance(value, str) else ""
    shorter = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt])(?:i?b)?", text, re.IGNORECASE)
    size: Size = _reading(Size.parse, value, f'write "{shorter[1]}{shorter[2].upper()}"' if shorter else "")
    if not size.bytes and not size.percent:
        raise wrong("a size of nothing")
    return size


def _free(value: object) -> Size:
    return Size() if value in ("0", "0%", 0) and not isinstance(value, bool) else _size(value)


def _size_or_auto(value: object) -> Size | str | None:
    return value if value == "auto" else _size_or_none(value)


def whole_or_auto(least: int, most: int) -> Kind:
    """Make the kind of a whole number within bounds, or "auto"."""
    number = whole(least, most)
    return Kind(
        f'"auto" or {number.phrase}', lambda value: value if value == "auto" else number.parse(value), textual=False
    )


def _size_or_none(value: object) -> Size | None:
    return None if value == "none" else _size(value)


# --- texts --------------------------------------------------------------------------------------


def text_of(value: object) -> str:
    """Return a text without control characters, or raise Wrong."""
    if not isinstance(value, str):
        raise wrong(hint="put it into quotes")
    if _CONTROL.search(value):
        raise wrong("holds a control character or a byte that is not UTF-8")
    return value


def choice(*words: str) -> Kind:
    """Make the kind of a word from a list."""

    def parse(value: object) -> object:
        if not isinstance(value, str) or value not in words:
            close = nearest(value, words) if isinstance(value, str) else None
            raise wrong(hint=f"did you mean {quoted(close)}?" if close else "")
        return value

    return Kind("one of " + ", ".join(quoted(word) for word in words), parse)


def matching(phrase: str, pattern: str) -> Kind:
    """Make the kind of a text that a regular expression matches."""
    compiled = re.compile(pattern, re.ASCII)

    def parse(value: object) -> object:
        if not compiled.fullmatch(text_of(value)):
            raise wrong()
        return value

    return Kind(phrase, parse)


def texts(phrase: str, check: Callable[[str], Fault | None]) -> Kind:
    """Make the kind of a list of texts that each pass a check."""

    def fault(entry: object) -> Fault | None:
        try:
            return check(text_of(entry))
        except Wrong as error:
            first = error.faults[0]
            return first._replace(reason=first.reason or f"expected text in quotes, got {shown(entry)}", hint="")

    def parse(value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise wrong()
        faults = [found._replace(at=f"[{index}]") for index, entry in enumerate(value) if (found := fault(entry))]
        if faults:
            raise Wrong(*faults)
        return tuple(value)

    return Kind(phrase, parse, textual=False)


def entries(phrase: str, check: Callable[[str, object], Fault | None]) -> Kind:
    """Make the kind of a table of texts whose entries each pass a check; it is read-only afterwards."""

    def parse(value: object) -> object:
        if not isinstance(value, Mapping):
            raise wrong()
        faults = [found._replace(at=f".{name}") for name, entry in value.items() if (found := check(name, entry))]
        if faults:
            raise Wrong(*faults)
        return MappingProxyType(dict(value))

    return Kind(phrase, parse, textual=False, secret=True)


def _workers(value: object) -> object:
    if value != "auto" and not _is_whole(value, 1, 64):
        raise wrong()
    return value


def _absolute(value: object) -> str:
    path = text_of(value)
    if not path.startswith("/"):
        raise wrong(hint="the path must be absolute")
    return path


def _path_or_none(value: object) -> str | None:
    return None if value in ("none", None) else _absolute(value)


def selinux_label(text: str) -> Fault | None:
    """Return what is wrong with one label; Docker's words for them are those of --security-opt label=."""
    if re.fullmatch(r"disable|(?:user|role|type|level|filetype):[\w:.,-]+", text, re.ASCII):
        return None
    return Fault(f"{shown(text)} is no SELinux label", 'such as "type:container_t", "level:s0:c100,c200" or "disable"')


def _address(value: object) -> Address:
    """Read IP:port; an engine publishes on addresses, so a name is refused."""
    if isinstance(value, Address):
        return value
    host, _, port = text_of(value).rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
        raise wrong("the port, a number from 1 to 65535, is missing or wrong", 'such as "127.0.0.1:5000"')
    try:
        ip = ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        local = "127.0.0.1" if host == "localhost" else "0.0.0.0"  # noqa: S104 - a hint, nothing is bound
        hint = f'write "{local}:{port}"' if host in {"", "*", "localhost"} else "name an IP address of this machine"
        raise wrong(hint=hint) from None
    if ip.version == 6 and (not host.startswith("[") or "%" in host):  # noqa: PLR2004 - IPv6
        raise wrong(hint='an IPv6 address stands in brackets, without a zone, such as "[::1]:5000"')
    return Address(str(ip), int(port))


FLAG: Final = Kind("true or false", _flag, textual=False)
WORKERS: Final = Kind('"auto" or a whole number from 1 to 64', _workers, textual=False)

Flag = Annotated[bool, FLAG]
Span = Annotated[float, span(_SHORTEST)]
Grace = Annotated[float, span(0)]
WholeSeconds = Annotated[float, Kind('a time span in whole seconds such as "10s"', _whole_seconds)]
Share = Annotated[Size, Kind('a size such as "4G" or "10%"', _size)]
Free = Annotated[Size, Kind('a size such as "4G" or "10%", or "0"', _free)]
Limit = Annotated[Size | None, Kind('a size such as "4G" or "75%", or "none"', _size_or_none)]
Automatic = Annotated[
    Size | Literal["auto"] | None, Kind('"auto", a size such as "4G" or "75%", or "none"', _size_or_auto)
]
MaybePath = Annotated[str | None, Kind('an absolute path such as "/etc/mlflowd/ca.pem", or "none"', _path_or_none)]
AbsolutePath = Annotated[str, Kind('an absolute path such as "/run/docker.sock"', _absolute)]
Endpoint = Annotated[Address, Kind('an IP address and a port such as "127.0.0.1:5000"', _address)]
