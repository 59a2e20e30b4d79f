"""Database files exchanged: set aside as they are, so that others can take their places, and brought back.

Effects: renames (or, to another file system, copies and removes) a database and what SQLite keeps beside it. Each step
may be done again after it was cut short: <directory>/aside/files.json is written before the first file is touched, and
removed after the last one is back. No process may have the databases open.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlflowd.errors import RefusedError
from mlflowd.host import files
from mlflowd.stores.places import SIDE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLACE: Final = "aside"
_LIST: Final = "files.json"
_SCHEMA: Final = 1
_EVERY: Final = ("", *SIDE_FILES)
"""A database and its side files: the database goes first and comes back last, so that where it is they are."""


def begun(directory: Path) -> bool:
    """Whether something was set aside in this directory, or begun to be."""
    return files.exists(directory / _PLACE / _LIST)


def move(databases: Mapping[str, Path], directory: Path) -> None:
    """Move the databases, by their names in the directory, out of their places. Raises OSError."""
    place = directory / _PLACE
    if not begun(directory):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(place, databases)
    for store, database, there in _read(place):
        for suffix in there:
            kept = place / f"{store}.db{suffix}"
            # One that is aside already has perhaps a successor in its place, which stays.
            if not files.exists(kept) and files.exists(source := _beside(database, suffix)):
                _rename(source, kept)
        _sync(database.parent)
    _sync(place)


def back(directory: Path) -> None:
    """Move them back, over whatever has taken their places; nothing happens where none were set aside."""
    place = directory / _PLACE
    if not begun(directory):
        return
    for store, database, there in _read(place):
        database.parent.mkdir(mode=0o700, exist_ok=True)
        for suffix in reversed(_EVERY):
            kept, target = place / f"{store}.db{suffix}", _beside(database, suffix)
            if files.exists(kept):
                _rename(kept, target)
            elif suffix not in there:
                target.unlink(missing_ok=True)
        _sync(database.parent)
    (place / _LIST).unlink()
    _sync(place)


def measure(path: Path) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file. Raises OSError."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return path.stat().st_size, digest


def put(source: Path, target: Path, sha256: str) -> None:
    """Exchange a database file: what SQLite keeps beside the old one goes first, the new one comes whole.

    Raises OSError, and RefusedError where the source is not what was written.
    """
    target.parent.mkdir(mode=0o700, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    try:
        with source.open("rb") as old, new.open("wb") as stream:
            shutil.copyfileobj(old, stream, 1 << 20)
            os.fchmod(stream.fileno(), 0o600)
            stream.flush()
            os.fsync(stream.fileno())
        if measure(new)[1] != sha256:
            raise RefusedError(f"{source} is not what was written, so it is not put back.", "sudo dmesg")
        for side in SIDE_FILES:
            target.with_name(target.name + side).unlink(missing_ok=True)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
    files.sync_directory(target.parent)


def _write(place: Path, databases: Mapping[str, Path]) -> None:
    there = {
        store: {"path": str(path), "there": [suffix for suffix in _EVERY if files.exists(_beside(path, suffix))]}
        for store, path in databases.items()
    }
    files.write_atomically(place / _LIST, json.dumps({"schema": _SCHEMA, "files": there}) + "\n")
    _sync(place)
    _sync(place.parent)


def _read(place: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Yield each database's name, its place, and which of its files were there."""
    told: dict[str, Any] = json.loads((place / _LIST).read_text(encoding="utf-8"))
    for store, each in told["files"].items():
        yield store, Path(each["path"]), each["there"]


def _beside(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        new = target.with_name(f".{target.name}.new")
        shutil.copyfile(source, new)
        new.chmod(0o600)
        with new.open("rb") as stream:
            os.fsync(stream.fileno())
        new.rename(target)
        source.unlink()


def _sync(directory: Path) -> None:
    if directory.is_dir():
        files.sync_directory(directory)
