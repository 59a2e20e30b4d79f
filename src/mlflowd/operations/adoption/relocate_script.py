"""Rewrites what artifact locations begin with, in every column of MLflow's database that holds one.

It runs in two places: here, on a copy of a SQLite database (relocate.py), and inside the image, where it is given as
`python -c SOURCE JSON` in a container like the server's own, with the database server's driver. It is given prefixes,
each with what takes its place; "file:" forms of a prefix count as the prefix. Standard library, and of the image
SQLAlchemy; Python 3.9 and newer.

Effects: one transaction on the database; inside the image also the file BEFORE, which gets the former value of each
row, and is on the disk before the transaction ends, or is read for the way back. One line of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence  # noqa: UP035 - the image's Python
from urllib.parse import unquote

if TYPE_CHECKING:
    Run = Callable[[str, "Mapping[str, object]"], "Sequence[Sequence[Any]]"]

BEFORE = "/mlflow/adoption/before.jsonl"
"""Inside the image: where the former values go, in a mount of the adoption's directory."""
_TAGS = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation")
COLUMNS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("experiments", "artifact_location", ("experiment_id",), ""),
    ("runs", "artifact_uri", ("run_uuid",), ""),
    ("logged_models", "artifact_location", ("model_id",), ""),
    ("model_versions", "source", ("workspace", "name", "version"), ""),
    ("model_versions", "storage_location", ("workspace", "name", "version"), ""),
    ("trace_tags", "value", ("request_id", "key"), "key"),
    ("workspaces", "default_artifact_root", ("name",), ""),
    ("workspaces", "trace_archival_location", ("name",), ""),
)
"""Table, column, what identifies a row (as far as this schema has it), and the column that must hold one of _TAGS."""


def moved(value: str, prefixes: Sequence[Sequence[str]]) -> str | None:
    """Return what a location becomes, None where no prefix is its own; the first prefix that fits counts."""
    path = plain(value)
    for old, new in prefixes:
        start = plain(old).rstrip("/")
        if path == start or path.startswith(start + "/"):
            rest = path[len(start) :]
            return new.rstrip("/") + rest if rest else (new if "/" in new else f"{new}/")
    return None


def plain(location: str) -> str:
    """Return the path of a "file:" location, anything else as it is."""
    if not location.startswith("file:"):
        return location
    rest = location[len("file:") :]
    if rest.startswith("//"):
        rest = rest[2:]
        rest = rest[len("localhost") :] if rest.startswith("localhost/") else rest
    return unquote(rest)


def find(run: Run, schema: Mapping[str, Sequence[str]], prefixes: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
    """Yield each row that is to change: table, column, key, old, new. `schema`: the columns of each table."""
    for table, column, keys, tagged in COLUMNS:
        there = schema.get(table, ())
        if column not in there:
            continue
        key = [name for name in keys if name in there]
        quoted = ", ".join(_name(name) for name in key)
        where = f" WHERE {_name(tagged)} IN ('{_TAGS[0]}', '{_TAGS[1]}')" if tagged else ""
        # no value of anybody's stands in these statements, only names that stand above
        for row in run(f"SELECT {_name(column)}, {quoted} FROM {table}{where}", {}):  # noqa: S608
            new = moved(str(row[0]), prefixes) if row[0] else None
            if new is not None:
                told = dict(zip(key, row[1:]))  # noqa: B905 - Python 3.9
                yield {"table": table, "column": column, "key": told, "old": row[0], "new": new}


def change(run: Run, rows: Sequence[Mapping[str, Any]], value: str = "new") -> dict[str, int]:
    """Write `value` ("new", or "old" for the way back) into each row; return the number of rows by table.column."""
    counts: dict[str, int] = {}
    for row in rows:
        key = row["key"]
        where = " AND ".join(f"{_name(name)} = :key_{name}" for name in key)
        statement = f"UPDATE {row['table']} SET {_name(row['column'])} = :value WHERE {where}"  # noqa: S608 - as above
        run(statement, {"value": row[value], **{f"key_{name}": each for name, each in key.items()}})
        told = f"{row['table']}.{row['column']}"
        counts[told] = counts.get(told, 0) + 1
    return counts


def _name(column: str) -> str:
    """Return a column's name as all dialects take it; "key" and "value" are words of MySQL's."""
    return _QUOTE.format(column)


_QUOTE = "{}"


def main(told: Mapping[str, Any]) -> dict[str, Any]:
    """Do it inside the image, on the database of MLFLOW_BACKEND_STORE_URI, and return what is printed."""
    alchemy: Any = import_module("sqlalchemy")
    engine = alchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"], poolclass=alchemy.pool.NullPool)
    quote = engine.dialect.identifier_preparer.quote_identifier
    globals()["_QUOTE"] = quote("x").replace("x", "{}")
    with engine.begin() as connection:

        def run(statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
            result = connection.execute(alchemy.text(statement), dict(values))
            return list(result) if result.returns_rows else []

        if told.get("back"):
            return {"counts": change(run, _read(Path(BEFORE)), "old")}
        look = alchemy.inspect(connection)
        schema = {name: [column["name"] for column in look.get_columns(name)] for name in look.get_table_names()}
        rows = list(find(run, schema, told["prefixes"]))
        if told.get("only_count"):
            return {"rows": len(rows)}
        _write(Path(BEFORE), rows)
        return {"counts": change(run, rows)}


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
        stream.write("end\n")
        stream.flush()
        os.fsync(stream.fileno())


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; none where it was cut short, because the transaction had not ended then."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines[:-1]] if lines and lines[-1] == "end" else []


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))  # noqa: T201 - its answer
