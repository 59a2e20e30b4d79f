"""One suite for every engine: what mlflowd.engine.api promises holds for the fake and for the real one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from contract.steps import killed, look, made, started
from mlflowd.errors import EngineError, ImageMissingError, PortTakenError
from mlflowd.model import ContainerStatus

if TYPE_CHECKING:
    from contract.worlds import World

# --- containers ---------------------------------------------------------------------------------


def test_an_absent_container_is_none(world: World) -> None:
    assert world.engine.inspect(world.spec.name) is None
    assert world.engine.inspect("0" * 64) is None


def test_create_does_not_start(world: World) -> None:
    container_id = made(world)
    found = look(world)
    assert found.id == container_id
    assert found.name == world.spec.name
    assert found.status is ContainerStatus.CREATED
    assert found.started_at == ""


def test_a_created_container_carries_the_spec_hash(world: World) -> None:
    made(world)
    found = look(world)
    assert found.ours
    assert found.spec_hash == world.spec.digest
    assert found.image_id == world.spec.image_id
    assert found.published == world.spec.publish


def test_create_makes_the_network(world: World) -> None:
    assert world.spec.network not in world.networks()
    made(world)
    assert world.spec.network in world.networks()


def test_a_second_container_shares_the_network(world: World) -> None:
    made(world)
    made(world, replace(world.spec, name=f"{world.spec.name}-2"))


def test_inspect_takes_the_id_but_not_its_beginning(world: World) -> None:
    container_id = made(world)
    assert look(world, container_id).name == world.spec.name
    assert world.engine.inspect(container_id[:12]) is None


def test_start_runs_it(world: World) -> None:
    started(world)
    found = look(world)
    assert found.status is ContainerStatus.RUNNING
    assert found.started_at.startswith("20")


def test_start_of_a_running_container_leaves_it_alone(world: World) -> None:
    container_id = started(world)
    before = look(world)
    world.engine.start(container_id)
    assert look(world) == before


def test_start_of_a_missing_container_is_an_error(world: World) -> None:
    with pytest.raises(EngineError):
        world.engine.start("0" * 64)


def test_stop_ends_it(world: World) -> None:
    container_id = started(world)
    world.engine.stop(container_id, 10)
    found = look(world)
    assert found.status is ContainerStatus.EXITED
    assert found.exit_code == 143


def test_stop_is_idempotent(world: World) -> None:
    container_id = started(world)
    world.engine.stop(container_id, 10)
    world.engine.stop(container_id, 10)
    world.engine.stop("0" * 64, 10)


def test_stop_of_a_created_container_leaves_it_alone(world: World) -> None:
    container_id = made(world)
    world.engine.stop(container_id, 10)
    assert look(world).status is ContainerStatus.CREATED


def test_stop_ends_a_paused_container(world: World) -> None:
    container_id = started(world)
    world.pause(container_id)
    world.engine.stop(container_id, 1)
    assert look(world).status is ContainerStatus.EXITED


def test_a_stopped_container_starts_again(world: World) -> None:
    container_id = started(world)
    killed(world, container_id)
    before = look(world)
    world.engine.start(container_id)
    after = look(world)
    assert (after.id, after.status) == (before.id, ContainerStatus.RUNNING)
    assert after.started_at > before.started_at


def test_a_killed_container_has_exited_with_137(world: World) -> None:
    container_id = started(world)
    killed(world, container_id)
    found = look(world)
    assert (found.exit_code, found.oom_killed) == (137, False)


def test_a_paused_container_is_seen_and_unpaused(world: World) -> None:
    container_id = started(world)
    world.pause(container_id)
    assert look(world).status is ContainerStatus.PAUSED
    world.engine.unpause(container_id)
    assert look(world).status is ContainerStatus.RUNNING


def test_start_of_a_paused_container_is_an_error(world: World) -> None:
    container_id = started(world)
    world.pause(container_id)
    with pytest.raises(EngineError):
        world.engine.start(container_id)


def test_unpause_of_a_running_container_leaves_it_alone(world: World) -> None:
    container_id = started(world)
    world.engine.unpause(container_id)
    assert look(world).status is ContainerStatus.RUNNING


def test_remove_removes_a_stopped_container(world: World) -> None:
    container_id = started(world)
    world.engine.stop(container_id, 5)
    world.engine.remove(container_id)
    assert world.engine.inspect(container_id) is None


def test_remove_of_a_missing_container_is_fine(world: World) -> None:
    world.engine.remove("0" * 64)


def test_remove_of_a_running_container_is_an_error(world: World) -> None:
    container_id = started(world)
    with pytest.raises(EngineError):
        world.engine.remove(container_id)
    assert look(world).status is ContainerStatus.RUNNING


# --- refusals -----------------------------------------------------------------------------------


def test_a_port_held_by_a_process_is_named(world: World) -> None:
    container_id = made(world)
    with world.occupied(world.spec.publish), pytest.raises(PortTakenError, match=str(world.spec.publish)):
        world.engine.start(container_id)
    assert look(world).status is ContainerStatus.CREATED
    world.engine.start(container_id)


def test_a_start_that_failed_leaves_its_reason(world: World) -> None:
    container_id = made(world)
    with world.occupied(world.spec.publish), pytest.raises(PortTakenError):
        world.engine.start(container_id)
    assert look(world).error
    world.engine.start(container_id)
    assert look(world).error == ""


def test_a_port_held_by_a_container_is_named(world: World) -> None:
    started(world)
    other = made(world, replace(world.spec, name=f"{world.spec.name}-2"))
    with pytest.raises(PortTakenError, match=str(world.spec.publish)):
        world.engine.start(other)


def test_publishers_names_who_holds_a_port(world: World) -> None:
    assert world.engine.publishers(world.spec.publish.port) == ()
    container_id = started(world)
    assert world.engine.publishers(world.spec.publish.port) == (world.spec.name,)
    world.engine.stop(container_id, 5)
    world.engine.remove(container_id)  # Docker 26 lists a stopped container as running for a moment.
    assert world.engine.publishers(world.spec.publish.port) == ()


def test_a_foreign_container_with_our_name_is_untouched(world: World) -> None:
    foreign = world.foreign(world.spec.name)
    before = look(world)
    networks = set(world.networks())
    with pytest.raises(EngineError, match=world.spec.name):
        made(world)
    assert look(world) == before
    assert before.id == foreign
    assert not before.ours
    assert world.spec.network not in set(world.networks()) - networks


def test_a_missing_image_is_said(world: World) -> None:
    missing = "sha256:" + "1" * 64
    with pytest.raises(ImageMissingError):
        made(world, replace(world.spec, image_id=missing))
    assert world.engine.inspect(world.spec.name) is None
    assert world.spec.network not in world.networks()


def test_info_tells_engine_and_version(world: World) -> None:
    info = world.engine.info()
    assert info.name in {"docker", "podman"}
    assert info.version[:1].isdigit()
    assert info.api_version.startswith("1.")
    assert info.memory > 0
