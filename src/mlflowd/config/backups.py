"""Where backups go and which of them stay: what `[backup]` takes beyond the usual kinds. No effects.

The forms of a repository are restic's (its manual, "Preparing a new repository"), those that are tested.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final

from mlflowd.config.notation import quoted
from mlflowd.config.values import Fault, Kind, entries, text_of, wrong

KEPT: Final = ("last", "hourly", "daily", "weekly", "monthly", "yearly", "within")
"""restic's --keep-… that the configuration takes (its manual, "Removing snapshots according to a policy")."""
_WITHIN: Final = re.compile(r"(\d+[ymdh])+")
_SFTP: Final = re.compile(r"sftp:(?://)?[^/:\s]+(?::\d+/)?:?/?\S+")
_S3: Final = re.compile(r"s3:(?:https?://)?[^/\s]+/[^/\s]+(?:/\S*)?")
_MOST: Final = 1_000_000


def _repository(value: object) -> str:
    text = text_of(value).strip()
    if not text or _S3.fullmatch(text) or _SFTP.fullmatch(text):
        if re.search(r"//[^/@\s]*:[^/@\s]*@", text):
            raise wrong("holds a password", "name it by backup.secret_key, or use an SSH key (backup.key_file)")
        return text
    if text.startswith("/"):
        if ".." in text.split("/") or text.rstrip("/") == "":
            raise wrong("is not a directory of the repository's own", 'such as "/mnt/backup/mlflow"')
        return text.rstrip("/")
    raise wrong(
        hint='such as "/mnt/backup/mlflow", "sftp:backup@nas.example:/mlflow" or "s3:https://s3.example/bucket"'
    )


def _kept(name: str, entry: object) -> Fault | None:
    if name not in KEPT:
        return Fault(f"restic has no --keep-{name}", f"one of {', '.join(map(quoted, KEPT))}")
    if name == "within":
        fits = isinstance(entry, str) and _WITHIN.fullmatch(entry)
        return None if fits else Fault("expected a span of restic's", 'such as "1y6m14d"')
    whole = isinstance(entry, int) and not isinstance(entry, bool) and 1 <= entry <= _MOST
    return None if whole else Fault(f"expected a whole number from 1 to {_MOST}")


_ENTRIES: Final = entries("a table", _kept)


def _retention(value: object) -> object:
    if isinstance(value, Mapping) and not value:
        raise wrong("keeps no snapshot", "such as {daily = 7, weekly = 5}")
    return _ENTRIES.parse(value)


Repository = Annotated[
    str, Kind('a directory, "sftp:user@host:/path", "s3:https://host/bucket/path", or ""', _repository)
]
Retention = Annotated[
    Mapping[str, int | str],
    Kind("a table of restic's policy such as {daily = 7, weekly = 5}", _retention, textual=False),
]
