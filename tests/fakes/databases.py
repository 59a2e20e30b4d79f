"""Small SQLite databases with the tables of MLflow's schema that mlflowd looks at."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

REVISION = "dc11669786a5"
"""Of MLflow 3.17.2."""
SCHEMA = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
CREATE TABLE experiments (
    experiment_id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(256) NOT NULL UNIQUE, artifact_location VARCHAR(256),
    lifecycle_stage VARCHAR(32), creation_time BIGINT, last_update_time BIGINT
);
CREATE TABLE runs (run_uuid VARCHAR(32) NOT NULL PRIMARY KEY, experiment_id INTEGER);
CREATE TABLE metrics (key VARCHAR(250), value FLOAT, run_uuid VARCHAR(32), step BIGINT);
"""


def make(path: Path, created: int = 1_700_000_000_000, rows: int = 100) -> Path:
    """Make a database whose oldest experiment is of this time, with a run and its metrics (`rows`); return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO alembic_version VALUES (?)", [REVISION])
        connection.execute(
            "INSERT INTO experiments VALUES (0, 'Default', 'mlflow-artifacts:/0', 'active', ?, ?)", [created] * 2
        )
        if rows:
            connection.execute("INSERT INTO runs VALUES (?, 0)", ["a" * 32])
        connection.executemany(
            "INSERT INTO metrics VALUES (?, ?, ?, ?)", [("loss", 0.1, "a" * 32, n) for n in range(rows)]
        )
    return path


KILLED_IN_TRANSACTION = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE metrics SET value = 0.2, key = 'changed' || step")
os.kill(os.getpid(), signal.SIGKILL)
"""
"""A program that dies in mid-transaction with its pages partly written: run it with the database's path."""
