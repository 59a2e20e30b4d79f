"""`mlflowd adopt` on deployments as guides show them: refused, undone, or taken over with nothing lost.

One guest; the deployments follow on each other in the order of this file. The client that reads everything back is on
another host.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from e2e import deployments
from e2e.client_environment import client_python
from e2e.deployments import COMPOSE_CONTAINER, IMAGE, OTHER, PARTICULAR, PLAIN, QUICK, SERVE, FarClient

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from e2e.guest import Guest
    from e2e.installation import Installation

pytestmark = pytest.mark.timeout(1500)  # the first test may have to install
REFUSED = 69
SEED = "/root/seed"
"""The standing deployment's data, for another one."""
BOOK = "/var/lib/mlflowd/state/adoption.json"
PROXY = "mlflow-artifacts:/"
SERVER = "mlflow server --backend-store-uri sqlite:////d/mlflow.db --artifacts-destination /d/a --host 0.0.0.0"
KILLED = 128 + 9
LIMIT = 400.0


@pytest.fixture(scope="module")
def host(installation: Callable[[str], Installation]) -> Iterator[Guest]:
    """A machine on which mlflowd is installed and does not run, with room for a team's own deployment."""
    with installation("bookworm").boot() as guest:
        deployments.make_room(guest)
        yield guest


@pytest.fixture(scope="module")
def far(host: Guest, tmp_path_factory: pytest.TempPathFactory) -> FarClient:
    return FarClient(host, client_python(), tmp_path_factory.mktemp("far"))


@pytest.fixture(scope="module")
def standing(host: Guest) -> dict[str, Any]:
    """A plain deployment with data, which serves; its image is one that mlflowd will not be able to serve with."""
    deployments.clear(host)
    deployments.plain(host, PARTICULAR, QUICK)
    host.wait_serving(SERVE)
    deployments.inside(host, "mlflow", "fill", "/mlflow/mlruns")
    held = deployments.inside(host, "mlflow", "tell")
    host.run(f"rm -rf {SEED} && cp -a {PLAIN} {SEED}")
    return held


def adopt(host: Guest, *words: str, status: int = 0) -> str:
    """Run it and return what it said."""
    done: subprocess.CompletedProcess[str] = host.run(["mlflowd", "adopt", *words], check=False, timeout=LIMIT)
    assert done.returncode == status, done.stdout
    return done.stdout


# --- what leaves everything as it is -------------------------------------------------------------

HALF = "/srv/d/artifacts"
REFUSALS = {
    "no such container": ("true", ["nobody"], "nobody"),
    "no MLflow": (f"docker run -d --name web {OTHER} sleep 600", ["web"], "runs no MLflow server"),
    "an unknown option": (
        f"mkdir -p /srv/d && docker create --name odd -v /srv/d:/d -p 5001:5000 {IMAGE} {SERVER} --frobnicate=1",
        ["odd"],
        "--frobnicate",
    ),
    "half of the mounts": (
        f"mkdir -p {HALF}; docker create --name half -p 5001:5000 -v {HALF}:/d/a {IMAGE} {SERVER}; rmdir {HALF}",
        ["half"],
        HALF,
    ),
    "two and none is named": (
        f"docker run -d --name second -p 5001:5000 {IMAGE} sh -c 'sleep 600; {SERVER}'",
        [],
        "second",
    ),
    "a compose file that nobody brought up": (
        "mkdir -p /srv/d && printf 'services:\\n  mlflow:\\n    image: mlflow\\n' >/srv/d/compose.yaml",
        ["/srv/d/compose.yaml"],
        "/srv/d/compose.yaml",
    ),
}
"""What is on the machine beside the standing deployment, how adopt is called, and what it names."""


@pytest.mark.usefixtures("standing")
class TestNothingChanges:
    @pytest.mark.parametrize(("prepare", "words", "named"), REFUSALS.values(), ids=REFUSALS)
    def test_what_is_not_understood_is_refused_by_name(
        self, host: Guest, prepare: str, words: list[str], named: str
    ) -> None:
        host.run(prepare)
        try:
            before = deployments.witness(host)
            said = adopt(host, "--yes", *words, status=REFUSED)
            assert named in said
            assert deployments.witness(host) == before
            assert host.serving()
        finally:
            host.run("docker rm -f web odd half second; rm -rf /srv/d", check=False)

    def test_a_dry_run_counts_and_changes_nothing(self, host: Guest, standing: dict[str, Any]) -> None:
        before = deployments.witness(host)
        said = adopt(host, "--dry-run")
        assert deployments.witness(host) == before
        assert f"{len(standing['experiments'])} experiments" in said
        assert f"{len(standing['runs'])} runs" in said
        assert f"{PLAIN}/mlflow.db" in said


# --- what is undone ------------------------------------------------------------------------------


class TestUndone:
    @pytest.fixture
    @staticmethod
    def before(host: Guest, standing: dict[str, Any]) -> dict[str, str]:
        assert standing
        return deployments.witness(host)

    def as_before(self, host: Guest, before: dict[str, str], standing: dict[str, Any]) -> None:
        """The same container serves at the same port, its files are what they were, mlflowd is out of the way."""
        host.wait_serving(SERVE)
        after = deployments.witness(host)
        assert without_times(after["engine"]) == without_times(before["engine"])
        assert after["files"] == before["files"]
        assert host.run("systemctl is-enabled mlflowd; systemctl is-active mlflowd", check=False).stdout.split() == [
            "disabled",
            "inactive",
        ]
        assert deployments.inside(host, "mlflow", "tell") == standing

    def test_a_new_server_that_does_not_serve(
        self, host: Guest, before: dict[str, str], standing: dict[str, Any]
    ) -> None:
        said = adopt(host, "--yes", "mlflow", status=1)
        assert "no licence" in said + host.run("journalctl -u mlflowd --no-pager").stdout
        self.as_before(host, before, standing)

    @pytest.mark.parametrize(("step", "words", "status"), [("moved", ["--undo"], 0), ("daemon", ["nobody"], REFUSED)])
    def test_a_killed_adopt_is_undone_by_the_next(  # noqa: PLR0913, PLR0917 - fixtures and parameters
        self, host: Guest, before: dict[str, str], standing: dict[str, Any], step: str, words: list[str], status: int
    ) -> None:
        killed = (
            "mlflowd adopt --yes --rewrite-artifacts mlflow >/root/adopt.log 2>&1 & "
            f"until grep -q '\"{step}\"' {BOOK} 2>/dev/null || ! kill -0 $!; do sleep 0.01; done; kill -9 $!; wait $!"
        )
        assert host.run(killed, check=False, timeout=LIMIT).returncode == KILLED
        assert f'"{step}"' in host.read(BOOK)
        adopt(host, *words, status=status)
        self.as_before(host, before, standing)


def without_times(engine: str) -> list[list[str]]:
    """Return the containers without the times since when they run."""
    return [[word for word in line.split(" ") if not word.startswith("20")] for line in engine.splitlines()]


# --- what is taken over --------------------------------------------------------------------------


class Adopted:
    """What holds of every deployment that was taken over; `before`: all that it held."""

    def test_nothing_is_lost(self, far: FarClient, before: dict[str, Any]) -> None:
        after = far.run("tell")
        locations = after.pop("locations")
        assert after == {key: held for key, held in before.items() if key != "locations"}
        assert [one for kind in locations.values() for one in kind if not one.startswith(PROXY)] == []
        assert {kind: len(held) for kind, held in locations.items()} == {
            kind: len(held) for kind, held in before["locations"].items()
        }

    def test_a_far_client_writes_into_old_and_new_experiments(self, far: FarClient, before: dict[str, Any]) -> None:
        old = [name for name, stage in before["experiments"].values() if stage == "active"]
        written = far.run("more", *old, "brand new")
        assert set(written) == {*old, "brand new"}
        for name, found in written.items():
            assert (found["artifact"], found["model"]) == (True, True), name
            assert found["location"].startswith(PROXY)

    def test_mlflowd_serves_at_the_same_port_and_comes_with_the_machine(self, host: Guest) -> None:
        assert host.run("mlflowd status", check=False).returncode == 0
        assert host.run("systemctl is-enabled mlflowd; systemctl is-active mlflowd").stdout.split() == [
            "enabled",
            "active",
        ]
        status = json.loads(host.run("mlflowd status --json").stdout)
        assert status
        assert host.run("docker port mlflowd 5000").stdout.split()[0] == "0.0.0.0:5000"

    def test_the_old_container_is_kept_and_will_not_come_back(self, host: Guest, old: str) -> None:
        shown = "docker inspect -f '{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}' "
        assert host.run(f"{shown} {old}-before-mlflowd").stdout.split() == ["exited", "no"]

    def test_only_the_service_user_gets_at_the_data(self, host: Guest, stores: list[str]) -> None:
        closed = host.run(f"stat -c '%U %a' {' '.join(stores)}").stdout.splitlines()
        assert set(closed) == {"mlflowd 700"}
        # What the server writes by itself may be read by others, if they got there.
        assert host.run(f"find {' '.join(stores)} ! -type l \\( ! -user mlflowd -o -perm /022 \\)").stdout == ""
        assert host.run("stat -c '%U:%G %a' /etc/mlflowd.toml").stdout.split() == ["root:mlflowd", "640"]


class TestPlain(Adopted):
    """A `docker run`, killed in mid-transaction: its journal lies in the container that is to be left behind."""

    @pytest.fixture(scope="class")
    @classmethod
    def before(cls, host: Guest, standing: dict[str, Any]) -> dict[str, Any]:
        host.run("docker rm -f mlflow")
        deployments.plain(host)
        host.wait_serving(SERVE)
        assert deployments.inside(host, "mlflow", "tell") == standing
        deployments.kill_in_mid_transaction(host, "mlflow", "/mlflow/mlflow.db")
        host.run(f"cp {PLAIN}/mlflow.db /root/malformed.db")
        adopt(host, "--yes", "--rewrite-artifacts", "mlflow")
        return standing

    @pytest.fixture
    def old(self) -> str:
        return "mlflow"

    @pytest.fixture
    def stores(self) -> list[str]:
        return ["/var/lib/mlflowd/backend", "/var/lib/mlflowd/artifacts"]

    @pytest.mark.usefixtures("before")
    def test_without_its_journal_the_database_would_have_been_lost(self, host: Guest) -> None:
        look = (
            "import sqlite3; print(sqlite3.connect('/root/malformed.db').execute('PRAGMA integrity_check').fetchone())"
        )
        assert "malformed" in host.run(["python3", "-c", look], check=False).stdout


class TestComposed(Adopted):
    """A compose file whose database is in a named volume, and one experiment that was given a server path."""

    @pytest.fixture(scope="class")
    @classmethod
    def before(cls, host: Guest) -> dict[str, Any]:
        deployments.clear(host)
        path = deployments.composed(host)
        host.wait_serving(SERVE)
        deployments.inside(host, COMPOSE_CONTAINER, "fill", "/mlartifacts")
        before = deployments.inside(host, COMPOSE_CONTAINER, "tell")
        adopt(host, "--yes", "--rewrite-artifacts", path)
        return before

    @pytest.fixture
    def old(self) -> str:
        return COMPOSE_CONTAINER

    @pytest.fixture
    def stores(self) -> list[str]:
        return ["/var/lib/mlflowd/backend", "/var/lib/mlflowd/artifacts"]


class TestReferenced(Adopted):
    """A command for a shell, with relative paths in one mounted directory; the data stay where they are."""

    @pytest.fixture(scope="class")
    @classmethod
    def before(cls, host: Guest, standing: dict[str, Any]) -> dict[str, Any]:
        deployments.clear(host)
        host.run(f"cp -a {SEED} {PLAIN}")
        deployments.by_shell(host)
        host.wait_serving(SERVE)
        adopt(host, "--yes", "--rewrite-artifacts", "--data", "reference")
        return standing

    @pytest.fixture
    def old(self) -> str:
        return "tracking"

    @pytest.fixture
    def stores(self) -> list[str]:
        return [PLAIN]

    @pytest.mark.usefixtures("before")
    def test_the_data_are_where_they_were(self, host: Guest) -> None:
        told = host.read("/etc/mlflowd.toml")
        assert f"sqlite:///{PLAIN}/mlflow.db" in told
        assert f"{PLAIN}/mlruns" in told
        assert host.run("find /var/lib/mlflowd -type f -not -path '*/state/*'").stdout == ""
