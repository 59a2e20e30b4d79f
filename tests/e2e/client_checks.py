"""What a real MLflow client must find on a server, whichever its stores: the checks, and the occasions for them.

A subclass gives the fixture `host`: a guest that serves with the stores in question. Each check runs on each
occasion. An occasion is one run of the client, in a new process, which reads everything back; the checks compare
that with what was written, once, before the first occasion.
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


class ClientChecks:
    """The checks."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls) -> Guest:
        """A guest that serves; the subclass says with which stores."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, host: Guest, tmp_path_factory: pytest.TempPathFactory) -> Client:
        return Client(host, client_python(), tmp_path_factory.mktemp("client"))

    @pytest.fixture(scope="class")
    @classmethod
    def written(cls, client: Client) -> dict[str, Any]:
        return client.run("write")

    @pytest.fixture(scope="class", params=OCCASIONS)
    @classmethod
    def found(cls, request: pytest.FixtureRequest, client: Client, written: dict[str, Any]) -> dict[str, Any]:
        """What a new client process finds on this occasion."""
        OCCASIONS[request.param](client.host)
        return client.run("read", written)

    def test_the_experiment_is_found_by_its_name(self, written: dict[str, Any], found: dict[str, Any]) -> None:
        assert found["experiment"] == written["experiment"]

    def test_the_run_is_found_finished_with_its_tag(self, written: dict[str, Any], found: dict[str, Any]) -> None:
        assert found["run"] == written["run"]

    def test_the_params_are_read_back(self, written: dict[str, Any], found: dict[str, Any]) -> None:
        assert found["params"] == written["params"]

    def test_the_metrics_are_read_back_with_their_history(self, written: dict[str, Any], found: dict[str, Any]) -> None:
        assert found["metrics"] == written["metrics"]

    def test_a_50_mb_artifact_is_listed_and_comes_back_bit_for_bit(
        self, written: dict[str, Any], found: dict[str, Any]
    ) -> None:
        assert found["artifact"] == written["artifact"]
        assert found["artifact"]["bytes"] == MEGABYTES_50

    def test_the_registered_model_is_found_by_its_alias(self, written: dict[str, Any], found: dict[str, Any]) -> None:
        assert found["model"] == written["model"]

    def test_the_registered_model_predicts_as_before(self, written: dict[str, Any], found: dict[str, Any]) -> None:
        assert len(found["predictions"]) == 100
        assert found["predictions"] == written["predictions"]

    def test_run_and_model_lie_behind_the_servers_proxy(self, written: dict[str, Any], found: dict[str, Any]) -> None:
        assert found["locations"] == written["locations"]
        assert all(place.startswith("mlflow-artifacts:/") for place in found["locations"].values())

    def test_nothing_stays_on_the_clients_own_disk(self, client: Client, found: dict[str, Any]) -> None:
        assert found
        assert sum(file.stat().st_size for file in files_below(client.directory)) < MEGABYTES_50 / 100


def files_below(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())
