"""Another image is an upgrade: rehearsed, held where runs are active, and nothing half done is passed over."""

from __future__ import annotations

from dataclasses import replace

from fakes.worlds import OTHER_SPEC, SPEC, container, desired, observed
from mlflowd.model import (
    ContainerStatus,
    Create,
    History,
    Phase,
    Pull,
    Refusal,
    Rehearse,
    Replace,
    Settle,
    Stop,
    Upgrade,
    Wait,
)
from mlflowd.supervisor.policy import decide

RUN = container().run
SERVED = History(run=RUN, serving_since=0.0)
HALF_DONE = "the upgrade to another image is finished or reverted"
NEW = replace(OTHER_SPEC, image_id="sha256:new")
OLD_IMAGE = SPEC.image_id


def test_another_image_is_rehearsed_while_the_old_server_goes_on() -> None:
    action = decide(observed(), desired(spec=NEW, served=OLD_IMAGE), SERVED, 10)
    assert isinstance(action, Rehearse)
    assert action.spec == NEW
    assert action.phase is Phase.SERVING


def test_a_rehearsed_image_is_upgraded_to() -> None:
    for there in (container(), container(ContainerStatus.EXITED), None):
        action = decide(observed(container=there), desired(spec=NEW, served=OLD_IMAGE, rehearsed=True), SERVED, 10)
        assert isinstance(action, Upgrade)


def test_active_runs_hold_an_upgrade_that_has_passed() -> None:
    held = desired(spec=NEW, served=OLD_IMAGE, rehearsed=True, held="the upgrade waits for 1 active run")
    action = decide(observed(), held, SERVED, 10)
    assert action == Wait(Phase.SERVING, "the upgrade waits for 1 active run", 6)


def test_the_same_image_is_replaced_or_made_without_an_upgrade() -> None:
    same = replace(OTHER_SPEC, image_id=OLD_IMAGE)
    assert isinstance(decide(observed(), desired(spec=same, served=OLD_IMAGE), SERVED, 10), Replace)
    assert isinstance(decide(observed(container=None), desired(spec=same, served=OLD_IMAGE), SERVED, 10), Create)


def test_where_nothing_has_served_yet_nothing_is_an_upgrade() -> None:
    assert isinstance(decide(observed(container=None), desired(spec=NEW), SERVED, 10), Create)


def test_what_is_half_done_comes_before_everything_but_a_stop_and_the_engine() -> None:
    half = observed(unfinished=HALF_DONE)
    assert decide(half, desired(), SERVED, 10) == Settle(Phase.SERVING, HALF_DONE)
    assert isinstance(decide(half, desired(stop_by=1e9), SERVED, 10), Stop)
    away = decide(replace(half, engine_trouble="no engine"), desired(), SERVED, 10)
    assert isinstance(away, Wait)


def test_settling_waits_for_the_image_a_backoff_and_a_refusal() -> None:
    half = observed(unfinished=HALF_DONE)
    assert isinstance(decide(half, desired(spec=None), SERVED, 10), Pull)
    failed = replace(SERVED, failures=3, failed_at=10.0)
    assert isinstance(decide(half, desired(), failed, 10), Wait)
    assert isinstance(decide(half, desired(), failed, 13), Settle)
    refused = replace(SERVED, refusal=Refusal(None, "it cannot be read", "look at it", until=None))
    assert isinstance(decide(half, desired(), refused, 10), Wait)
