"""Keeps known secrets out of whatever this process writes: the journal, status.json, STATUS=, what commands print.

No effects but on its own memory. It is the last net, not the first: nothing should hand a secret to those doors. But
a server may print its database's URI in a traceback, and its lines are forwarded.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

from mlflowd.config.masking import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SHORTEST: Final = 4
_ALONE: Final = 8
"""Characters; a shorter secret is only masked where no letter or digit is beside it: "abcd" is not "abcdef"."""
_SHORTEST_PIECE: Final = 8
"""Characters of a line of a longer secret (a key's base64 has 64), which a log prints line by line."""
_MOST: Final = 1000
"""Texts that are kept; each costs some 50 ns a line."""
_SAID: Final = frozenset(
    {
        *("admin", "azure", "credential", "database", "false", "localhost", "mariadb", "minio", "mlflow", "mlflowd"),
        *("mysql", "none", "password", "postgres", "postgresql", "root", "secret", "server", "test", "true", "user"),
    }
)
"""Words that mlflowd itself says: masking them would make its sentences unreadable and give the secret away."""
_LOGIN: Final = re.compile(r"(://[^\s/:@'\"]{0,256}:)[^\s@'\"]{1,256}@")
"""The password of a URI, whether it is known here or not."""


class _Net:
    """What is known; each attribute is replaced whole, so that threads that write see one state or the next."""

    def __init__(self) -> None:
        self.whole: tuple[str, ...] = ()
        """The longer first: one may be a part of another."""
        self.alone: tuple[re.Pattern[str], ...] = ()


_net = _Net()


def hide(secrets: Iterable[str]) -> None:
    """Remember these as secrets for as long as the process lives: a server that runs may say those of yesterday."""
    found = {form for secret in secrets for piece in _pieces(secret) for form in _forms(piece)}
    longer = {text for text in found if len(text) >= _ALONE} | {*_net.whole}
    shorter = {re.compile(rf"(?<![A-Za-z0-9]){re.escape(text)}(?![A-Za-z0-9])") for text in found if len(text) < _ALONE}
    _net.whole = tuple(sorted(longer, key=len, reverse=True)[:_MOST])
    _net.alone = tuple({*_net.alone, *shorter})[:_MOST]


def forget() -> None:
    """Forget them all; for tests."""
    _net.whole, _net.alone = (), ()


def redact(text: str) -> str:
    """Return the text with each known secret, and the password of any URI, replaced by the mask."""
    for secret in _net.whole:
        if secret in text:
            text = text.replace(secret, MASK)
    for pattern in _net.alone:
        text = pattern.sub(MASK, text)
    return _LOGIN.sub(rf"\g<1>{MASK}@", text) if "://" in text and "@" in text else text


def redacted(value: Any) -> Any:  # noqa: ANN401 - what JSON can say
    """Return a document of JSON with the texts in it redacted; its keys are ours."""
    if isinstance(value, dict):
        return {key: redacted(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(each) for each in value]
    return redact(value) if isinstance(value, str) else value


def _pieces(secret: str) -> Iterator[str]:
    """Yield the secret, and of one of several lines (also as JSON has them) each line that is long enough."""
    if len(secret) >= _SHORTEST and secret.lower() not in _SAID:
        yield secret
    lines = re.split(r"\n|\\n", secret)
    if len(lines) > 1:
        yield from (line.strip() for line in lines if len(line.strip()) >= _SHORTEST_PIECE and "-----" not in line)


def _forms(text: str) -> Iterator[str]:
    """Yield the ways in which a secret is printed: as it is, in a URI, in JSON, in Python."""
    yield text
    yield quote(text, safe="")
    yield quote(text, safe=" +")  # SQLAlchemy's own way
    yield quote_plus(text)
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
