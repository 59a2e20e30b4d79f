"""Where a secret is to be read from: a systemd credential, a private file, an environment variable. No effects.

The file says where, host/secrets.py reads it. A secret that stands in the file itself is taken too, with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final

from mlflowd.config.masking import MASK
from mlflowd.config.notation import quoted
from mlflowd.config.values import Fault, Kind, Wrong, nearest, text_of, wrong


class Origin(StrEnum):
    """The kinds of places that a secret comes from; the values are the words of the configuration."""

    CREDENTIAL = "credential"
    """A systemd credential: LoadCredential= or LoadCredentialEncrypted= in the unit (systemd.exec(5))."""
    FILE = "file"
    ENVIRONMENT = "env"
    TEXT = "text"
    """The secret itself stands in the configuration."""


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where one secret is to be read."""

    origin: Origin
    place: str = field(repr=False)
    """The credential's name, the absolute path, the variable's name, or the secret itself (Origin.TEXT)."""

    def __str__(self) -> str:
        """Return it as the configuration has it, a secret that stands there masked."""
        return MASK if self.origin is Origin.TEXT else f"{self.origin}:{self.place}"

    @property
    def revealed(self) -> str:
        """Return it as the configuration has it, a secret that stands there included."""
        return self.place if self.origin is Origin.TEXT else f"{self.origin}:{self.place}"


_NAMES: Final = {
    Origin.CREDENTIAL: (re.compile(r"[A-Za-z0-9][\w.-]{0,254}", re.ASCII), 'a name such as "credential:database"'),
    Origin.FILE: (re.compile(r"/.+"), 'an absolute path such as "file:/etc/mlflowd/database"'),
    Origin.ENVIRONMENT: (re.compile(r"[A-Za-z_]\w*", re.ASCII), 'a variable such as "env:DATABASE_PASSWORD"'),
}
_FORMS: Final = {
    Origin.CREDENTIAL: "credential:NAME",
    Origin.FILE: "file:/PATH",
    Origin.ENVIRONMENT: "env:NAME",
}
_OTHER_WORDS: Final = {
    **dict.fromkeys(("cred", "creds", "systemd", "loadcredential"), Origin.CREDENTIAL),
    **dict.fromkeys(("path",), Origin.FILE),
    **dict.fromkeys(("environ", "environment", "variable", "var"), Origin.ENVIRONMENT),
}
_PATH: Final = re.compile(r"/(?:etc|home|opt|root|run|srv|tmp|var)/")
_VARIABLE: Final = re.compile(r"\$(?:[A-Z_][A-Z0-9_]*|\{[A-Za-z_]\w*\})", re.ASCII)
PHRASE: Final = 'where the secret is: "credential:NAME", "file:/PATH" or "env:NAME"; or "none"'


def secret_source(value: object) -> SecretSource | None:
    """Read one source; "none" is None. Raises Wrong, which never repeats the value."""
    if value is None or isinstance(value, SecretSource):
        return value
    text = text_of(value)
    if text == "none":
        return None
    if not text:
        raise wrong("an empty secret", 'write "none" for none')
    if text == MASK:
        raise wrong("the mask of a secret, not a secret", "mlflowd config --toml --show-secrets prints secrets")
    word, colon, place = text.partition(":")
    for origin, (pattern, hint) in _NAMES.items():
        if colon and word == origin:
            if not pattern.fullmatch(place):
                raise wrong(f"what stands behind {origin}: names nothing", hint)
            return SecretSource(origin, place)
    if meant := _meant(word if colon else "", text):
        raise wrong("neither a secret nor where it is", f"did you mean {quoted(meant)}?")
    return SecretSource(Origin.TEXT, text)


def _meant(word: str, text: str) -> str:
    """Return the form that a text probably should have had, "" for a secret; what stands in it is not repeated."""
    if _VARIABLE.fullmatch(text):
        return f"{Origin.ENVIRONMENT}:NAME"
    if _PATH.match(text):
        return f"{Origin.FILE}:/PATH"
    if not re.fullmatch(r"[A-Za-z_ -]{2,20}", word):
        return ""
    close = _OTHER_WORDS.get(word.strip().lower()) or nearest(word.strip(), _FORMS, cutoff=0.75)
    return _FORMS[Origin(close)] if close else ""


def secret_table(variable_fault: Callable[[str, object], Fault | None]) -> Kind:
    """Make the kind of a table of secrets by the name of the environment variable they go to."""

    def one(name: str, value: object) -> tuple[SecretSource | None, Fault | None]:
        if fault := variable_fault(name, value):
            return None, fault
        try:
            return secret_source(value), None
        except Wrong as error:
            return None, error.faults[0]

    def parse(value: object) -> Mapping[str, SecretSource]:
        if not isinstance(value, Mapping):
            raise wrong()
        read = {name: one(name, entry) for name, entry in value.items()}
        if faults := [fault._replace(at=f".{name}") for name, (_, fault) in read.items() if fault]:
            raise Wrong(*faults)
        return MappingProxyType({name: source for name, (source, _) in read.items() if source})

    return Kind(
        'a table of secrets such as {AWS_SESSION_TOKEN = "credential:session-token"}', parse, textual=False, secret=True
    )


Secret = Annotated[SecretSource | None, Kind(PHRASE, secret_source, secret=True)]
