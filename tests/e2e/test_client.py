"""A real MLflow client on an installed Debian 12: what it wrote is there, at once, after a kill and after a reboot.

Each test about stored things runs on three occasions. An occasion is one run of the client, in a new process, which
reads everything back; the tests compare that with what was written, once, before the first occasion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from e2e.client_environment import Client, client_python
from e2e.installation import SERVE_LIMIT
from e2e.trial import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from e2e.guest import Guest

pytestmark = pytest.mark.timeout(1500)  # the first test may have to install, and to make the environment
ARTIFACTS = "/var/lib/mlflowd/artifacts"
MEGABYTES_50 = 50_000_000


def kill_the_main_process(host: Guest) -> None:
    """kill -9 of the container's first process; return when mlflowd has said that the server serves again."""
    before = host.journal_end()
    host.run(f"kill -9 $(docker inspect -f '{{{{.State.Pid}}}}' {NAME})")
    host.wait_journal(lambda entry: entry.get("MLFLOWD_EVENT") == "SERVER_SERVING", cursor=before, timeout=SERVE_LIMIT)
    host.wait_serving()


def reboot(host: Guest) -> None:
    host.reboot()
    host.wait_serving(SERVE_LIMIT)


OCCASIONS: dict[str, Callable[[Guest], None]] = {
    "at once": lambda _host: None,
    "after kill -9": kill_the_main_process,
    "after a reboot": reboot,
}


@pytest.fixture(scope="module")
def client(host: Guest, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(host, client_python(), tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def written(client: Client) -> dict[str, Any]:
    return client.run("write")


@pytest.fixture(scope="module", params=OCCASIONS)
def found(request: pytest.FixtureRequest, client: Client, written: dict[str, Any]) -> dict[str, Any]:
    """What a new client process finds on this occasion."""
    OCCASIONS[request.param](client.host)
    return client.run("read", written)


def test_the_experiment_is_found_by_its_name(written: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["experiment"] == written["experiment"]


def test_the_run_is_found_finished_with_its_tag(written: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["run"] == written["run"]


def test_the_params_are_read_back(written: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["params"] == written["params"]


def test_the_metrics_are_read_back_with_their_history(written: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["metrics"] == written["metrics"]


def test_a_50_mb_artifact_comes_back_bit_for_bit(written: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["artifact"] == written["artifact"]
    assert found["artifact"]["bytes"] == MEGABYTES_50


def test_the_registered_model_is_found_by_its_alias(written: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["model"] == written["model"]


def test_the_registered_model_predicts_as_before(written: dict[str, Any], found: dict[str, Any]) -> None:
    assert len(found["predictions"]) == 100
    assert found["predictions"] == written["predictions"]


def test_run_and_model_lie_behind_the_servers_proxy(written: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["locations"] == written["locations"]
    assert all(place.startswith("mlflow-artifacts:/") for place in found["locations"].values())


@pytest.mark.parametrize("of", ["run", "model"])
def test_the_artifacts_lie_on_the_host_as_the_service_users(host: Guest, found: dict[str, Any], of: str) -> None:
    directory = ARTIFACTS + found["locations"][of].removeprefix("mlflow-artifacts:")
    listed = host.run(f"find {directory} -type f -printf '%u\\n'").stdout.split()
    assert listed
    assert set(listed) == {"mlflowd"}


def test_the_artifacts_bytes_on_the_host_are_the_clients(host: Guest, found: dict[str, Any]) -> None:
    directory = ARTIFACTS + found["locations"]["run"].removeprefix("mlflow-artifacts:")
    told = host.run(f"sha256sum {directory}/*/*").stdout.split()
    assert told[0] == found["artifact"]["sha256"]


def test_nothing_stays_on_the_clients_own_disk(client: Client, found: dict[str, Any]) -> None:
    assert found
    assert sum(file.stat().st_size for file in files_below(client.directory)) < MEGABYTES_50 / 100


def files_below(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())


def test_a_client_that_writes_meanwhile_is_not_told_of_a_kill(client: Client) -> None:
    with client.stream() as stream:
        before = stream.acknowledged(20)
        kill_the_main_process(client.host)
        # It writes without a pause until it is ended, now: a write of its was under way in the outage.
        later, kept = stream.end()
    assert later
    assert kept == before + later
