"""The configuration of an adopted deployment: judged as mlflowd will judge it, and written as a file. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mlflowd.config.agreement import ContradictionsError
from mlflowd.config.catalogue import kind_of
from mlflowd.config.notation import toml
from mlflowd.config.settings import Settings
from mlflowd.config.values import Wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def validated(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield what mlflowd would refuse of this configuration, and the remedy; secrets are not repeated."""
    try:
        Settings.layered(settings)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            cause = detail.get("ctx", {}).get("error")
            if isinstance(cause, ContradictionsError):
                yield from ((f"{each.keys[0]}: {each.reason}.", each.hint) for each in cause.found)
                continue
            section, key = str(detail["loc"][0]), str(detail["loc"][1])
            phrase = f"expected {kind_of(section, key).phrase}"
            for fault in cause.faults if isinstance(cause, Wrong) else ():
                yield f"{section}.{key}: {fault.reason or phrase}.", fault.hint


def toml_of(settings: Mapping[str, Mapping[str, Any]], whence: str) -> str:
    """Return the file; keys that are not in it have their defaults."""
    lines = [
        f"# /etc/mlflowd.toml: taken over from {whence} by `mlflowd adopt`.",
        "# Every key, its default and what it is for: mlflowd config, docs/configuration.md",
    ]
    for section, keys in sorted(settings.items()):
        lines += ["", f"[{section}]", *(f"{key} = {toml(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"
