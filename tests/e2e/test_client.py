"""A real MLflow client on an installed Debian 12: what it wrote is there, at once, after a kill and after a reboot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from e2e.client_checks import ClientChecks, kill_the_main_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.client_environment import Client
    from e2e.guest import Guest
    from e2e.installation import Installation

pytestmark = pytest.mark.timeout(1500)  # the first test may have to install, and to make the environment
ARTIFACTS = "/var/lib/mlflowd/artifacts"


class TestSqliteAndADirectory(ClientChecks):
    """As ./install.sh leaves it."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, installation: Callable[[str], Installation]) -> Iterator[Guest]:
        with installation("bookworm").boot() as guest:
            yield guest

    @pytest.mark.parametrize("of", ["run", "model"])
    def test_the_artifacts_lie_on_the_host_as_the_service_users(
        self, host: Guest, found: dict[str, Any], of: str
    ) -> None:
        directory = ARTIFACTS + found["locations"][of].removeprefix("mlflow-artifacts:")
        listed = host.run(f"find {directory} -type f -printf '%u\\n'").stdout.split()
        assert listed
        assert set(listed) == {"mlflowd"}

    def test_the_artifacts_bytes_on_the_host_are_the_clients(self, host: Guest, found: dict[str, Any]) -> None:
        directory = ARTIFACTS + found["locations"]["run"].removeprefix("mlflow-artifacts:")
        told = host.run(f"sha256sum {directory}/*/*").stdout.split()
        assert told[0] == found["artifact"]["sha256"]

    def test_a_client_that_writes_meanwhile_is_not_told_of_a_kill(self, client: Client) -> None:
        with client.stream() as stream:
            before = stream.acknowledged(20)
            kill_the_main_process(client.host)
            # It writes without a pause until it is ended, now: a write of its was under way in the outage.
            later, kept = stream.end()
        assert later
        assert kept == before + later
