"""What a file store (mlruns) holds: read from its files, and counted as a database is. Effects: none but reading.

The layout is that of mlflow/store/tracking/file_store.py and mlflow/store/model_registry/file_store.py of 3.3 to 3.17.
MLflow's own tool copies these locations into the database as they are.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from mlflowd.operations.adoption import count_script, relocate_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_META = "meta.yaml"
_SCHEMA = """
CREATE TABLE experiments (experiment_id TEXT, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT);
CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT);
CREATE TABLE registered_models (name TEXT);
CREATE TABLE model_versions (name TEXT, version TEXT, source TEXT, storage_location TEXT);
"""
_LARGEST = 1 << 20


def look(top: Path) -> dict[str, Any]:
    """Return what count_script.look returns."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        for home in (*_directories(top), *_directories(top / ".trash")):
            if home.name.isdigit() and (home / _META).is_file():
                _experiment(connection, home)
        _registry(connection, top / "models")
        names = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        schema = {name: [str(row[1]) for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}
        return count_script.look(
            lambda statement: connection.execute(statement).fetchall(), schema, relocate_script.COLUMNS
        )


def _experiment(connection: sqlite3.Connection, home: Path) -> None:
    connection.execute("INSERT INTO experiments VALUES (?, ?)", (home.name, _value(home / _META, "artifact_location")))
    for each in _directories(home):
        if (each / _META).is_file():
            connection.execute("INSERT INTO runs VALUES (?, ?)", (each.name, _value(each / _META, "artifact_uri")))
    for each in _directories(home / "models"):
        location = _value(each / _META, "artifact_location")
        connection.execute("INSERT INTO logged_models VALUES (?, ?)", (each.name, location))


def _registry(connection: sqlite3.Connection, top: Path) -> None:
    for model in _directories(top):
        connection.execute("INSERT INTO registered_models VALUES (?)", (model.name,))
        for each in _directories(model):
            if each.name.startswith("version-"):
                values = (_value(each / _META, "source"), _value(each / _META, "storage_location"))
                connection.execute("INSERT INTO model_versions VALUES (?, ?, ?, ?)", (model.name, each.name, *values))


def _directories(top: Path) -> Iterator[Path]:
    if top.is_dir():
        yield from (each for each in sorted(top.iterdir()) if each.is_dir() and not each.is_symlink())


def _value(path: Path, key: str) -> str:
    """Return a plain text of a file of YAML, "" where there is none: MLflow writes a line for each key."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            text = stream.read(_LARGEST)
    except OSError:
        return ""
    found = re.search(rf"^{key}:[ \t]*(.*(?:\n[ \t]+\S.*)*)$", text, re.MULTILINE)
    words = " ".join(found[1].split()) if found else ""
    return "" if words in {"null", "~", "''", '""'} else words.strip("'\"")
