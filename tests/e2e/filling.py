"""A program inside a guest: fills MLflow's stopped database and its artifact directory with as much as is asked for.

    python3 filling.py DATABASE ARTIFACTS RUN BYTES FILES FILE_BYTES

Needs Python's own library alone. The rows are metrics of the run, as MLflow writes them; the artifacts
are random bytes.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

ROWS = 200_000
FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)
INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)
SELECT 'filling-' || ?, i * 0.37, 1700000000000 + i, ?, i, 0 FROM n
"""


def main() -> None:
    database, artifacts, run = sys.argv[1:4]
    size, files, file_size = map(int, sys.argv[4:7])
    connection = sqlite3.connect(database)
    part = 0
    while Path(database).stat().st_size < size:
        with connection:
            connection.execute(FILL, [ROWS, f"{part:04}", run])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        part += 1
    connection.close()
    directory = Path(artifacts, "0", run, "artifacts", "data")
    directory.mkdir(parents=True)
    for number in range(files):
        (directory / f"{number:05}.bin").write_bytes(os.urandom(file_size))


if __name__ == "__main__":
    main()
