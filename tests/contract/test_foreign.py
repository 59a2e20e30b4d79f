"""Containers that somebody else made, on the fake and on real engines: read, copied from, put aside and back."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mlflowd.errors import EngineError
from mlflowd.model import ContainerStatus
from mlflowd.model.deployed import Deployed, MountKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from contract.worlds import RealWorld, World


@pytest.fixture
def theirs(world: World, tmp_path: Path) -> Deployed:
    (tmp_path / "mounted").mkdir()
    return world.deploy(tmp_path / "mounted")


def seen(world: World, name: str) -> Deployed:
    found = world.engine.deployed(name)
    assert found is not None
    return found


def files(pieces: Iterator[bytes] | None) -> dict[str, bytes]:
    assert pieces is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        return {each.name: stream.read() for each in tar if (stream := tar.extractfile(each))}


def ordered(told: Deployed) -> Deployed:
    return replace(told, mounts=tuple(sorted(told.mounts, key=lambda each: each.target)))


def test_an_absent_one_is_none(world: World) -> None:
    assert world.engine.deployed("0" * 64) is None
    assert world.spec.name not in world.engine.deployments()


def test_all_that_was_asked_of_it_is_told(world: World, theirs: Deployed) -> None:
    found = seen(world, theirs.name)
    own = {name: found.environment[name] for name in theirs.environment}
    told = replace(found, environment=own, image_environment={}, networks=(), network_mode="default")
    assert ordered(told) == ordered(theirs)


def test_it_is_found_by_its_id_but_not_by_the_ids_beginning(world: World, theirs: Deployed) -> None:
    assert seen(world, theirs.id).name == theirs.name
    assert world.engine.deployed(theirs.id[:12]) is None


def test_its_name_is_among_all_names(world: World, theirs: Deployed) -> None:
    assert theirs.name in world.engine.deployments()


def test_it_never_shows_its_environment_by_chance(world: World, theirs: Deployed) -> None:
    assert "mlflow.db" not in repr(seen(world, theirs.name))


def test_a_file_inside_is_copied_out(world: World, theirs: Deployed) -> None:
    world.put_inside(theirs.id, "/mlflow/mlflow.db-journal", b"hot" * 1000)
    assert files(world.engine.copy_out(theirs.id, "/mlflow/mlflow.db-journal")) == {"mlflow.db-journal": b"hot" * 1000}


def test_a_directory_inside_is_copied_out_under_its_last_name(world: World, theirs: Deployed) -> None:
    world.put_inside(theirs.id, "/mlflow/mlflow.db", b"database")
    found = files(world.engine.copy_out(theirs.id, "/mlflow"))
    assert found["mlflow/mlflow.db"] == b"database"


def test_what_is_not_inside_is_none(world: World, theirs: Deployed) -> None:
    assert world.engine.copy_out(theirs.id, "/mlflow/mlflow.db-wal") is None


def test_copying_out_of_a_missing_container_is_an_error(world: World) -> None:
    with pytest.raises(EngineError):
        world.engine.copy_out("0" * 64, "/mlflow")


def test_a_retired_one_has_another_name_and_is_never_restarted(world: World, theirs: Deployed) -> None:
    for _ in range(2):
        world.engine.retire(theirs.id, f"{theirs.name}-before")
    found = seen(world, theirs.id)
    assert (found.name, found.restart_policy) == (f"{theirs.name}-before", "no")
    assert world.engine.deployed(theirs.name) is None


@pytest.mark.parametrize("policy", ["no", "always", "unless-stopped", "on-failure", "on-failure:3"])
def test_a_reinstated_one_is_what_it_was(world: World, theirs: Deployed, policy: str) -> None:
    world.engine.reinstate(theirs.id, theirs.name, policy)
    before = seen(world, theirs.id)
    assert before.restart_policy == policy
    world.engine.retire(theirs.id, f"{theirs.name}-before")
    for _ in range(2):
        world.engine.reinstate(theirs.id, theirs.name, policy)
    assert seen(world, theirs.id) == before


def test_a_name_that_is_taken_is_not_given_again(world: World, theirs: Deployed) -> None:
    other = f"{theirs.name}-2"
    world.foreign(other)
    with pytest.raises(EngineError):
        world.engine.retire(theirs.id, other)
    assert seen(world, theirs.id).name == theirs.name


def test_a_running_one_is_retired_and_goes_on(world: World, theirs: Deployed) -> None:
    world.engine.start(theirs.id)
    world.engine.retire(theirs.id, f"{theirs.name}-before")
    assert seen(world, theirs.id).status is ContainerStatus.RUNNING


# --- what only a real engine can show -----------------------------------------------------------


@pytest.fixture
def volume(real: RealWorld) -> Iterator[str]:
    name = f"{real.spec.name}-volume"
    real.api.create_volume(name)
    yield name
    real.clean()
    real.api.remove_volume(name, force=True)


@pytest.mark.engine
def test_a_volume_is_told_with_its_place_on_this_machine(real: RealWorld, volume: str) -> None:
    host = real.api.create_host_config(binds=[f"{volume}:/data"])
    made = real.api.create_container(real.spec.image_id, ["x"], name=f"{real.spec.name}-v", host_config=host)
    (mount,) = _deployed(real, made["Id"]).mounts
    assert (mount.kind, mount.target, mount.volume) == (MountKind.VOLUME, "/data", volume)
    assert mount.source.endswith(f"/{volume}/_data")


@pytest.mark.engine
def test_a_network_is_told_with_the_names_in_it(real: RealWorld) -> None:
    network = real.spec.network
    real.api.create_network(network, driver="bridge")
    endpoint: Any = {network: real.api.create_endpoint_config(aliases=["tracking"])}
    config = real.api.create_networking_config(endpoint)
    host = real.api.create_host_config(network_mode=network)
    made = real.api.create_container(
        real.spec.image_id, ["x"], name=f"{real.spec.name}-n", host_config=host, networking_config=config
    )
    (member,) = _deployed(real, made["Id"]).networks
    assert member.network == network
    assert "tracking" in member.names


@pytest.mark.engine
def test_what_a_stopped_one_wrote_beside_a_mounted_file_is_copied_out(real: RealWorld, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"database")
    host = real.api.create_host_config(binds=[f"{database}:/mlflow/mlflow.db"])
    script = "echo journal >/mlflow/mlflow.db-journal"
    made = real.api.create_container(
        real.spec.image_id, ["/bin/busybox", "sh", "-c", script], name=f"{real.spec.name}-j", host_config=host
    )
    real.api.start(made["Id"])
    real.api.wait(made["Id"])
    assert files(real.engine.copy_out(made["Id"], "/mlflow/mlflow.db-journal")) == {"mlflow.db-journal": b"journal\n"}
    assert not database.with_name("mlflow.db-journal").exists()


def _deployed(real: RealWorld, container_id: str) -> Deployed:
    found = real.engine.deployed(container_id)
    assert found is not None
    return found
