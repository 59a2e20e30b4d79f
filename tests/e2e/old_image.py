"""MLflow 3.10.1, and images to which no upgrade succeeds, for the engine of a guest.

The old image comes from the engine of the contract tests (MLFLOWD_TEST_ENGINE), which keeps it; where that has none,
it is built there, in about a minute. The others are made in the guest from its own image of MLflow 3.17.2, without
network, in a second. Effects: an image on that engine, images in the guest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.places import CHECKOUT

if TYPE_CHECKING:
    from e2e.guest import Guest

VERSION = "3.10.1"
OLD = f"ghcr.io/mlflow/mlflow:v{VERSION}"
NEW = "ghcr.io/mlflow/mlflow:v3.17.2"
_LOCAL, _BASE = f"mlflowd/mlflow:v{VERSION}", "mlflowd/mlflow:v3.17.2"
_CONTEXT = "/root/images"

# Each variant is an image of the registry's kind: one that its maker did not mean to stand in for another.
_DOCKERFILE = """\
FROM {base}
LABEL io.mlflowd.stands-for=
COPY mlflow /opt/mlflow/bin/mlflow
COPY migration.py {versions}/{revision}_test.py
"""
_WRAPPER = """\
#!/bin/sh
[ "$1" != server ] || {{ {server}; }}
exec python -m mlflow "$@"
"""
_MIGRATION = """\
import os
import time

import sqlalchemy
from alembic import op

revision = "{revision}"
down_revision = "{below}"
branch_labels = None
depends_on = None


def half_done():
    op.execute("DELETE FROM params")
    op.get_bind().connection.commit()
    open(op.get_bind().engine.url.database + ".half-done", "w").close()
    print("one half is done", flush=True)


def upgrade():
    op.create_table("test_{revision}", sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True))
{body}

def downgrade():
    pass
"""
_SERVES = ":"
_ANSWERS_500 = """exec python -c '
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(500)
http.server.HTTPServer(("", 5000), Handler).serve_forever()'"""
_REFUSES_WRITES = (
    "    for table in ('experiments', 'experiment_tags', 'runs', 'tags', 'metrics', 'params'):\n"
    "        op.execute(f'CREATE TRIGGER no_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, \"no\"); END')\n"
)


@dataclass(frozen=True)
class Variant:
    """An image made from that of MLflow 3.17.2, with one migration more."""

    name: str
    server: str = _SERVES
    """What `mlflow server` does before anything else, in the words of a shell."""
    body: str = ""
    """What the migration does beside making a table."""
    on: str = ""
    """The variant that it is made from."""

    @property
    def reference(self) -> str:
        return f"test/mlflow:{self.name}"


EXITS = Variant("exits", "echo 'this server ends at once' >&2; exit 1")
SICK = Variant("sick", _ANSWERS_500)
READ_ONLY = Variant("read-only", body=_REFUSES_WRITES)
DIES = Variant("dies", body="    half_done()\n    os._exit(137)\n")
"""Its migration commits one half, a loss of rows, and is gone."""
HANGS = Variant("hangs", body="    half_done()\n    time.sleep(600)\n")
"""Its migration commits that half and is at it for ten minutes more."""
NEXT = (Variant("next-1"), Variant("next-2", on="next-1"), Variant("next-3", on="next-2"))
"""Good ones, each with one schema revision more than the one before."""
MOVES = Variant("moves")
"""A good one as well, whose name comes to mean another."""
VARIANTS = (EXITS, SICK, READ_ONLY, DIES, HANGS, *NEXT, MOVES)
REVISIONS = {variant.name: f"ffffffff{number:04d}" for number, variant in enumerate(VARIANTS)}
"""The schema revision of each."""
HALF_DONE = "/var/lib/mlflowd/backend/mlflow.db.half-done"
"""The file that `half_done` makes when rows are gone from the database."""


def bring_old(host: Guest) -> None:
    """Put MLflow 3.10.1 into the guest's engine, under the name that `mlflowd image build` gives it."""
    socket = os.environ.get("MLFLOWD_TEST_ENGINE", "/run/docker.sock").removeprefix("unix://")
    mlflowd = [str(Path(sys.executable).with_name("mlflowd")), "--config", "etc/mlflowd.toml"]
    build = [*mlflowd, "image", "build", "--version", VERSION]
    subprocess.run(build, check=True, cwd=CHECKOUT, env={**os.environ, "MLFLOWD_ENGINE__SOCKET": socket})
    save = subprocess.Popen(["docker", "-H", f"unix://{socket}", "save", _LOCAL], stdout=subprocess.PIPE)
    with save, host.popen(["docker", "load"], stdin=save.stdout, stdout=subprocess.DEVNULL) as load:
        assert load.wait(600) == 0
        assert save.wait(10) == 0


def make_variants(host: Guest) -> None:
    """Make every variant in the guest, whose mlflowd must know its image of MLflow 3.17.2."""
    able = abilities(host, _BASE)
    versions = f"{able['purelib']}/mlflow/store/db_migrations/versions"
    for variant in VARIANTS:
        below = REVISIONS.get(variant.on, able["head"])
        base = f"test/mlflow:{variant.on}" if variant.on else _BASE
        context = f"{_CONTEXT}/{variant.name}"
        told = {"base": base, "versions": versions, "revision": REVISIONS[variant.name], "below": below}
        host.write(f"{context}/Dockerfile", _DOCKERFILE.format(**told))
        host.write(f"{context}/mlflow", _WRAPPER.format(server=variant.server))
        host.write(f"{context}/migration.py", _MIGRATION.format(**told, body=variant.body))
        host.run(f"chmod 755 {context}/mlflow && docker build --quiet --tag {variant.reference} {context}")


def abilities(host: Guest, name: str) -> dict[str, object]:
    """Return what mlflowd in the guest knows of an image."""
    known = json.loads(host.read("/var/lib/mlflowd/state/images.json"))["abilities"]
    return dict(known[image_id(host, name)])


def image_id(host: Guest, name: str) -> str:
    return host.run(["docker", "image", "inspect", "--format", "{{.Id}}", name]).stdout.strip()
