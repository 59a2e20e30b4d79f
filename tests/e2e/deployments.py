"""MLflow as it runs on people's machines before mlflowd: deployments as guides show them, made for real in a guest.

    make_room(guest)                                # once: no mlflowd that runs, the images, docker-compose
    plain(guest)                                    # `docker run` with the database file mounted alone, modes 777, 666
    inside(guest, "mlflow", "fill", "/mlflow/mlruns")
    before = inside(guest, "mlflow", "tell")
    kill_in_mid_transaction(guest, "mlflow", "/mlflow/mlflow.db")

Effects: in the guest containers, volumes, images named team/…, directories below /srv.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2e.client_environment import ClientError
from e2e.trial import NAME

if TYPE_CHECKING:
    from e2e.guest import Guest

PROGRAM = Path(__file__).with_name("deployed_client.py")
IMAGE = "team/mlflow:3.17.2"
PARTICULAR = "team/particular:1"
"""An image whose server runs as root alone: mlflowd, which runs nothing as root, cannot serve with it."""
OTHER = "team/web:1"
"""An image whose name says nothing of MLflow."""
SERVE = 120.0
LIMIT = 300.0
QUICK = "-e MLFLOW_WORKERS=1 -e MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"
"""Options for a server that takes half the time to start."""
SHIPPED = "/root/shipped.toml"
PLAIN = "/srv/ml"
COMPOSED = "/srv/team"

# The image that is there is mlflowd's own making. A team's has none of its labels, and as most has root as its user.
_LABELS = " ".join(f'io.mlflowd.{name}=""' for name in ("inputs", "name", "packages", "stands-for", "version"))
_DOCKERFILE = f"FROM mlflowd/mlflow:v3.17.2\nUSER 0:0\nLABEL {_LABELS}\n"
_ROOT_ALONE = "import os, sys; os.getuid() and 'server' in sys.orig_argv and (os.write(2, b'no licence'), os._exit(1))"
_PARTICULAR = f"""\
FROM {IMAGE}
RUN python -c "import site; open(site.getsitepackages()[0] + '/licence.pth', 'w').write(\\"{_ROOT_ALONE}\\")"
"""
_COMPOSE = f"""\
version: "3.8"
services:
  tracking:
    image: {IMAGE}
    restart: always
    ports:
      - "5000:5000"
    environment:
      MLFLOW_BACKEND_STORE_URI: sqlite:////data/mlflow.db
      MLFLOW_HOST: 0.0.0.0
      MLFLOW_WORKERS: "1"
      MLFLOW_SERVER_ENABLE_JOB_EXECUTION: "false"
    volumes:
      - database:/data
      - ./artifacts:/mlartifacts
    command: mlflow server --artifacts-destination /mlartifacts --serve-artifacts
volumes:
  database:
"""
COMPOSE_CONTAINER = "team_tracking_1"
# A transaction that is larger than SQLite's cache: pages of the file are overwritten before it is committed.
_SPILLING = """
import os, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE metrics SET value = 666")
connection.execute("UPDATE params SET value = 'lost'")
connection.execute("DELETE FROM tags")
connection.execute("UPDATE experiments SET name = name || ' lost'")
connection.execute(
    "CREATE TABLE spilled AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) "
    "SELECT i, hex(randomblob(50)) FROM n"
)
print("hot", os.path.getsize(sys.argv[1] + "-journal"), flush=True)
time.sleep(600)
"""


def make_room(host: Guest) -> None:
    """Leave mlflowd installed as `install.sh --no-start` does, and give the machine what a team has."""
    host.run(f"systemctl disable --now mlflowd; docker rm -f {NAME}; cp -an /etc/mlflowd.toml {SHIPPED}", timeout=90)
    build(host, IMAGE, _DOCKERFILE)
    build(host, PARTICULAR, _PARTICULAR)
    host.run(["docker", "tag", IMAGE, OTHER])
    host.run("apt-get -q update && apt-get install -q -y --no-install-recommends docker-compose", timeout=LIMIT)
    clear(host)


def build(host: Guest, tag: str, dockerfile: str) -> None:
    host.run(["docker", "build", "-q", "-t", tag, "-"], stdin=dockerfile.encode(), timeout=LIMIT)


def clear(host: Guest) -> None:
    """Take every deployment and its data away, mlflowd's included, and leave mlflowd as it was shipped."""
    host.run("systemctl disable --now mlflowd; systemctl reset-failed mlflowd", timeout=90, check=False)
    host.run("docker ps -aq | xargs -r docker rm -f -v; docker volume ls -q | xargs -r docker volume rm", timeout=90)
    host.run(f"rm -rf /srv/* /etc/mlflowd /etc/mlflowd.toml* && cp -a {SHIPPED} /etc/mlflowd.toml")
    host.run("find /var/lib/mlflowd -mindepth 1 -delete; systemd-tmpfiles --create")


# --- deployments ---------------------------------------------------------------------------------


def plain(host: Guest, image: str = IMAGE, options: str = "") -> None:
    """Do what most guides show; data that lie there already are used."""
    host.run(f"mkdir -p {PLAIN}/mlruns && touch {PLAIN}/mlflow.db")
    host.run(f"chmod 777 {PLAIN} {PLAIN}/mlruns && chmod 666 {PLAIN}/mlflow.db")
    host.run(
        f"docker run -d --name mlflow --restart=always {options} -p 5000:5000 -v {PLAIN}/mlruns:/mlflow/mlruns "
        f"-v {PLAIN}/mlflow.db:/mlflow/mlflow.db {image} mlflow server --backend-store-uri "
        "sqlite:////mlflow/mlflow.db --default-artifact-root /mlflow/mlruns --host 0.0.0.0"
    )


def by_shell(host: Guest) -> None:
    """Do it by a shell, with relative paths in one mounted directory; data of `plain` that lie there are used."""
    server = "mlflow server --host 0.0.0.0 --backend-store-uri sqlite:///mlflow.db --default-artifact-root ./mlruns"
    host.run(
        f"docker run -d --name tracking --restart=unless-stopped -p 5000:5000 -v {PLAIN}:/mlflow -w /mlflow {QUICK} "
        f"{IMAGE} bash -c 'mkdir -p mlruns && exec {server}'"
    )


def composed(host: Guest) -> str:
    """Do what others show, with the real docker-compose; return the file's path."""
    host.write(f"{COMPOSED}/docker-compose.yml", _COMPOSE)
    host.run(f"cd {COMPOSED} && docker-compose up -d", timeout=LIMIT)
    return f"{COMPOSED}/docker-compose.yml"


def kill_in_mid_transaction(host: Guest, container: str, database: str) -> None:
    """SIGKILL a deployment whose database has pages of a transaction that nobody committed."""
    writer = f"docker exec -i {container} python - {database} >/root/hot 2>&1"
    host.write("/root/spilling.py", _SPILLING)
    host.run(
        f"timeout 60 {writer} </root/spilling.py & timeout 30 sh -c 'until grep hot /root/hot; do sleep 0.1; done'"
    )
    host.run(["docker", "kill", container])
    assert f"A {database}-journal" in host.run(["docker", "diff", container]).stdout.splitlines()


# --- clients -------------------------------------------------------------------------------------


def inside(host: Guest, container: str, *words: str) -> dict[str, Any]:
    """Run deployed_client.py in a deployment's own container, where server paths mean the server's files."""
    quiet = ["-e", "PYTHONDONTWRITEBYTECODE=1", "-e", "MLFLOW_TRACKING_URI=http://127.0.0.1:5000"]
    command = ["docker", "exec", "-i", *quiet, container, "python", "-", *words]
    return document(host.run(command, stdin=PROGRAM.read_bytes(), timeout=LIMIT).stdout)


@dataclass(frozen=True)
class FarClient:
    """A client on another host than the guest: on the outer machine, across the cable between them."""

    host: Guest
    python: Path
    directory: Path

    def run(self, *words: str) -> dict[str, Any]:
        """Run deployed_client.py to its end and return its document; raises ClientError."""
        home = str(self.directory)
        pairs = {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8"}
        pairs |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
        pairs["MLFLOW_TRACKING_URI"] = f"http://{self.host.slot.inner_address}:5000"
        done = subprocess.run(
            [str(self.python), str(PROGRAM), *words],
            check=False, capture_output=True, text=True, timeout=LIMIT, cwd=self.directory, env=pairs,
        )  # fmt: skip
        if done.returncode != 0:
            raise ClientError(f"deployed_client.py {words} ended with {done.returncode}:\n{done.stderr[-6000:]}")
        return document(done.stdout)


def document(output: str) -> dict[str, Any]:
    return dict(json.loads(output.splitlines()[-1]))


# --- witnesses -----------------------------------------------------------------------------------

_ENGINE = (
    "docker inspect -f '{{.Id}} {{.Name}} {{.State.Status}} {{.State.StartedAt}} {{json .HostConfig.RestartPolicy}}' "
    "$(docker ps -aq) | sort; docker volume ls -q | sort; docker network ls -q --no-trunc | sort"
)


def files(host: Guest, *paths: str) -> str:
    """Return owners, modes and checksums of all that is there."""
    where = " ".join(paths)
    listed = f"find {where} -printf '%p %y %U:%G %m %l\\n' | sort"
    return host.run(f"{listed}; find {where} -type f -exec sha256sum {{}} + | sort", check=False).stdout


def witness(host: Guest) -> dict[str, str]:
    """Return all that a refused adoption leaves as it was: containers and since when they run, files, the unit."""
    return {
        "engine": host.run(_ENGINE).stdout,
        "files": files(host, "/srv", "/var/lib/docker/volumes/*/_data", "/etc/mlflowd*"),
        "state": files(host, "/var/lib/mlflowd"),
        "unit": host.run("systemctl show -p ActiveState,UnitFileState,StateChangeTimestamp mlflowd").stdout,
    }
