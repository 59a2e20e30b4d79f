"""Keeps secrets out of what is shown: passwords in URIs, environment entries that hold one. No effects."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"

_LONGEST: Final = 4096
"""Characters; a longer text is masked whole, which also bounds the time that the expressions take."""
_WORDS: Final = "pass|pwd|secret|token|key|credential|auth|dsn|cookie|private|signature"
_NAME: Final = re.compile(_WORDS, re.IGNORECASE)
_PAIR: Final = re.compile(rf"((?:{_WORDS})[^\s=:?&;]*+[=:]\s?)(?:(?:bearer|basic)\s+)?[^\s&;]+", re.IGNORECASE)
"""password=x, x-token: y, Authorization: Bearer z."""
_OPTION: Final = re.compile(rf"(?<!\S)(-[^\s=]*?(?:{_WORDS})[^\s=]*+\s+)\S+", re.IGNORECASE)
"""--token x"""


def mask(text: str) -> str:
    """Return the text without the passwords that its URIs and options hold."""
    if len(text) > _LONGEST:
        return MASK
    start, end = text.find("://"), text.rfind("@")
    if 0 <= start < end:  # a password may hold any character, so everything before the last @ goes
        text = f"{text[:start]}://{MASK}{text[end:]}"
    return _OPTION.sub(rf"\g<1>{MASK}", _PAIR.sub(rf"\g<1>{MASK}", text))


def mask_uri(uri: str) -> str:
    """Return the URI of a store, as config/stores.py writes it, without its password; the user stays."""
    base, mark, options = uri.partition("?")
    options = re.sub(r"(odbc_connect=)[^&]+", rf"\g<1>{MASK}", options, flags=re.IGNORECASE)  # a text with PWD= in it
    return re.sub(r"(://[^:/@]*:)[^@/]*@", rf"\g<1>{MASK}@", base) + mark + mask(options)


def mask_entry(name: str, value: str) -> str:
    """Return the value of an environment entry, or the mask where its name sounds like a secret."""
    return MASK if _NAME.search(name) and value else mask(value)
