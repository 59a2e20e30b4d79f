"""Counts what an MLflow database holds, and which artifact locations in it are paths of the server.

It runs in two places: here, on a SQLite file (counts.py), and inside the image, given as `python -c SOURCE COLUMNS`,
with the database server's driver. Standard library, and of the image SQLAlchemy; Python 3.9 and newer. Effects: none
but reading; one line of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence  # noqa: UP035 - the image's Python
from urllib.parse import unquote

if TYPE_CHECKING:
    Run = Callable[[str], "Sequence[Sequence[Any]]"]

_TAGS = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation")
_KNOWN = re.compile(r"(?P<root>.*)/(?P<experiment>[0-9]+)/(?:[0-9a-f]{32}/artifacts|models/m-[0-9a-f]+|traces/)")
"""The layout that MLflow makes below an artifact root."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def look(run: Run, schema: Mapping[str, Sequence[str]], columns: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return counts. `schema`: the columns of each table; `columns`: those of relocate_script.COLUMNS."""
    told: dict[str, Any] = {
        name: int(run(f"SELECT COUNT(*) FROM {table}")[0][0]) if table in schema else 0  # noqa: S608 - names of ours
        for name, table in (("experiments", "experiments"), ("runs", "runs"), ("models", "registered_models"))
    }
    prefixes = roots(run, schema)
    told["columns"], told["others"] = {}, 0
    for table, column, _, tagged in columns:
        if column not in schema.get(table, ()):
            continue
        where = f" WHERE {_quote(tagged)} IN ('{_TAGS[0]}', '{_TAGS[1]}')" if tagged else ""
        rows = run(f"SELECT {_quote(column)} FROM {table}{where}")  # noqa: S608 - as above
        found = Counter(_prefix(str(row[0]), prefixes) for row in rows if row[0] and is_path(str(row[0])))
        told["others"] += found.pop("", 0)
        if found:
            told["columns"][f"{table}.{column}"] = dict(found)
    told["prefixes"] = prefixes
    return told


def is_path(location: str) -> bool:
    """Whether a location is a path of the server's own."""
    return location.startswith("file:") or not _SCHEME.match(location)


def plain(location: str) -> str:
    """Return the path of a "file:" location, anything else as it is."""
    if not location.startswith("file:"):
        return location
    rest = location[len("file:") :]
    if rest.startswith("//"):
        rest = rest[2:]
        rest = rest[len("localhost") :] if rest.startswith("localhost/") else rest
    return unquote(rest)


def roots(run: Run, schema: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Return what locations of experiments begin with: a root, or a place of the experiment's own (with its id)."""
    found: dict[str, dict[str, Any]] = {}
    if "artifact_location" not in schema.get("experiments", ()):
        return found
    for number, location in run("SELECT experiment_id, artifact_location FROM experiments ORDER BY experiment_id"):
        if not location or not is_path(str(location)):
            continue
        path = plain(str(location)).rstrip("/")
        above, _, last = path.rpartition("/")
        root, own = (above, "") if last == str(number) and above else (path, str(number))
        found.setdefault(root, {"experiment": own, "experiments": 0})["experiments"] += 1
    return found


def _prefix(location: str, prefixes: dict[str, dict[str, Any]]) -> str:
    """Return the prefix that a location begins with, and take note of a root that no experiment has; "" for none."""
    path = plain(location)
    fitting = [one for one in prefixes if path == one or path.startswith(one + "/")]
    if fitting:
        return max(fitting, key=len)
    known = _KNOWN.match(path)
    if known is None or not known["root"]:
        return ""
    prefixes[known["root"]] = {"experiment": "", "experiments": 0}
    return known["root"]


def _quote(column: str) -> str:
    """Return a column's name as all dialects take it; "key" and "value" are words of MySQL's."""
    return _QUOTE.format(column)


_QUOTE = "{}"


def main(columns: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Do it inside the image, on the database of MLFLOW_BACKEND_STORE_URI, and return what is printed."""
    alchemy: Any = import_module("sqlalchemy")
    engine = alchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"], poolclass=alchemy.pool.NullPool)
    quote = engine.dialect.identifier_preparer.quote_identifier
    globals()["_QUOTE"] = quote("x").replace("x", "{}")
    with engine.connect() as connection:
        inspector = alchemy.inspect(connection)
        schema = {name: [one["name"] for one in inspector.get_columns(name)] for name in inspector.get_table_names()}
        return look(lambda statement: list(connection.execute(alchemy.text(statement))), schema, columns)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))  # noqa: T201 - its answer
