"""How MLflow's database is brought to another schema: what its image is told to run, and what its words mean.

No effects. Facts are of MLflow 3.17.2 and 3.10.1 (mlflow/db.py, mlflow/store/db/utils.py).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mlflowd.server import patience
from mlflowd.server.wiring import BACKEND

if TYPE_CHECKING:
    from mlflowd.model import ContainerSpec

URI: Final = "MLFLOW_BACKEND_STORE_URI"
"""The variable that tells MLflow where its database is."""

_SCRIPT: Final = """
import os
os.dup2(1, 2)
import mlflow, sqlalchemy
from alembic.script import ScriptDirectory
from mlflow.cli import cli
uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
cli(["db", "upgrade", uri], standalone_mode=False)
with sqlalchemy.create_engine(uri).connect() as connection:
    reached = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
heads = ScriptDirectory(os.path.join(os.path.dirname(mlflow.__file__), "store", "db_migrations")).get_heads()
if sorted(reached) != sorted(heads):
    raise SystemExit(f"The schema is revision {', '.join(reached)} after the migration, not {', '.join(heads)}.")
print("The schema is revision", reached[0], flush=True)
"""
ARGV: Final = ("python", "-c", _SCRIPT)
"""`mlflow db upgrade URI` in a process of its own: the URI may hold a password, which no command line should.

It ends well only where the database has the image's own schema afterwards; all that it says goes to stdout."""

_REACHED: Final = re.compile(r"^The schema is revision (\w+)$", re.MULTILINE)
_UNKNOWN: Final = re.compile(r"Can't locate revision identified by '?(\w+)'?")
_FULL: Final = re.compile(
    r"database or disk is full|No space left on device|could not extend file|The table '.*' is full"
)
_RAISED: Final = re.compile(r"(?:\w+\.)*\w+(?:Error|Exception)(?:: |$)|The schema is revision ")
_LONGEST: Final = 300
"""Characters of a line that stand in a sentence."""


def with_uri(spec: ContainerSpec, uri: str) -> ContainerSpec:
    """Return the container with another database."""
    return _with(spec, **{URI: uri})


def prepared(spec: ContainerSpec) -> ContainerSpec:
    """Return the container without what is meant for a server: turns of its writers, limits on its statements."""
    uri = dict(spec.environment).get(URI, "")
    if not uri.startswith("sqlite:"):
        return with_uri(spec, patience.unhurried(uri))
    # What SQLite sorts for an index may be as large as the table: not into /tmp, which is memory, but beside the file.
    return _with(spec, **{URI: uri.partition("?")[0], "SQLITE_TMPDIR": BACKEND})


def revision(said: str) -> str:
    """Return the revision that a migration which ended well has reached."""
    found = _REACHED.findall(said)
    return str(found[-1]) if found else ""


def explain(said: str) -> tuple[str, str]:
    """Return why a migration failed, by its words: a sentence, and the remedy, "" where none is known."""
    if found := _UNKNOWN.search(said):
        sentence = f"The image does not know the database's revision {found[1]}: a newer release of MLflow wrote it."
        return sentence, "set image.reference to that release, or a newer one"
    remedy = "make room where the database is: df -h" if _FULL.search(said) else ""
    return f"The migration of the database failed: {_telling(said)}.", remedy


def _telling(said: str) -> str:
    """Return the line that says most of why: the last one that names an exception, else the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    line = next((line for line in reversed(lines) if _RAISED.match(line)), lines[-1] if lines else "it said nothing")
    line = line.rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _with(spec: ContainerSpec, **variables: str) -> ContainerSpec:
    return replace(spec, environment=tuple(sorted((dict(spec.environment) | variables).items())))
