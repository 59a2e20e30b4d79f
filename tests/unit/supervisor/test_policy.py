"""The table of docs/design.md, row by row, and what holds over the whole product of states."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.worlds import OTHER_SPEC, SPEC, TIMING, container, desired, observed
from mlflowd.model import (
    Action,
    ContainerStatus,
    Create,
    Done,
    History,
    KnownCause,
    Layer,
    Phase,
    Pull,
    Refusal,
    Replace,
    Restart,
    Start,
    Stop,
    Trouble,
    Unpause,
    Wait,
)
from mlflowd.supervisor.history import failed, learn, stopped
from mlflowd.supervisor.policy import backoff, decide

RUN = container().run
SERVED = History(run=RUN, serving_since=0.0)
STARTING = History(run=RUN, starting_since=100.0)
REFUSAL = Refusal(SPEC.digest, "the database is missing", "restore it", until=None)
LOCKED = Trouble(Layer.DATABASE, "the database is locked")


def test_a_serving_server_is_left_alone() -> None:
    assert decide(observed(), desired(), SERVED, 10) == Wait(Phase.SERVING, "the server answers", 6)


def test_an_unreachable_engine_changes_nothing_while_the_server_answers() -> None:
    action = decide(observed(engine_trouble="no engine", container=None), desired(), SERVED, 10)
    assert isinstance(action, Wait)
    assert action.phase is Phase.DEGRADED
    silent = decide(observed(engine_trouble="no engine", container=None, serving=False), desired(), SERVED, 10)
    assert isinstance(silent, Wait)
    assert silent.phase is Phase.UNKNOWN


def test_a_foreign_container_is_never_touched() -> None:
    for status in ContainerStatus:
        foreign = container(status, labels={})
        action = decide(observed(container=foreign, serving=False), desired(), History(failures=5), 10)
        assert isinstance(action, Wait)
        assert action.phase is Phase.BLOCKED
        assert "mlflowd" in action.reason


def test_a_stop_stops_a_running_server_and_then_is_done() -> None:
    assert isinstance(decide(observed(), desired(stop_by=1e9), SERVED, 10), Stop)
    for gone in (None, container(ContainerStatus.EXITED), container(ContainerStatus.CREATED), container(labels={})):
        assert isinstance(decide(observed(container=gone), desired(stop_by=1e9), SERVED, 10), Done)


def test_a_stop_that_the_engine_does_not_carry_out_ends_in_time() -> None:
    assert isinstance(decide(observed(), desired(stop_by=10), SERVED, 9), Stop)
    assert isinstance(decide(observed(), desired(stop_by=10), SERVED, 10), Done)


def test_a_stop_is_reached_without_an_engine() -> None:
    assert isinstance(decide(observed(engine_trouble="no engine"), desired(stop_by=1e9), SERVED, 10), Done)


def test_database_trouble_degrades_without_a_restart() -> None:
    action = decide(observed(troubles=(LOCKED,)), desired(), SERVED, 10)
    assert isinstance(action, Wait)
    assert (action.phase, action.reason) == (Phase.DEGRADED, "the database is locked")


def test_a_warning_does_not_degrade() -> None:
    low = Trouble(Layer.DISK, "8 % free", critical=False)
    assert decide(observed(troubles=(low,)), desired(), SERVED, 10).phase is Phase.SERVING


def test_a_swapped_database_restarts_the_server() -> None:
    swapped = Trouble(Layer.STORE, "the database was exchanged", restart_cures=True)
    assert isinstance(decide(observed(troubles=(swapped,)), desired(), SERVED, 10), Restart)


def test_a_starting_server_has_until_the_deadline() -> None:
    seen = observed(serving=False)
    assert isinstance(decide(seen, desired(), STARTING, 279.9), Wait)
    late = decide(seen, desired(), STARTING, 280)
    assert isinstance(late, Restart)
    assert "180 s" in late.reason


def test_missed_probes_make_a_hung_server_and_a_short_grace() -> None:
    seen = observed(serving=False)
    missed = replace(SERVED, misses=2)
    assert decide(seen, desired(), missed, 10) == Wait(Phase.SERVING, "the server missed 2 of 3 probes", 1)
    hung = decide(seen, desired(), replace(SERVED, misses=3), 10)
    assert isinstance(hung, Restart)
    assert (hung.phase, hung.grace) == (Phase.HUNG, TIMING.kill_grace)


def test_a_paused_server_is_unpaused() -> None:
    assert isinstance(
        decide(observed(container=container(ContainerStatus.PAUSED), serving=False), desired(), SERVED, 10), Unpause
    )


@pytest.mark.parametrize("exit_code", [0, 1, 137])
def test_any_end_is_a_failure_and_the_first_one_is_cured_at_once(exit_code: int) -> None:
    ended = observed(container=container(ContainerStatus.EXITED, exit_code=exit_code), serving=False)
    history = learn(SERVED, ended, TIMING, 50)
    assert (history.failures, history.failed_at) == (1, 50)
    assert isinstance(decide(ended, desired(), history, 50), Start)


def test_an_end_is_counted_once() -> None:
    ended = observed(container=container(ContainerStatus.EXITED), serving=False)
    once = learn(SERVED, ended, TIMING, 50)
    assert learn(once, ended, TIMING, 51) == once


def test_an_end_before_the_first_look_is_nobodys_failure() -> None:
    ended = observed(container=container(ContainerStatus.EXITED), serving=False)
    assert learn(History(), ended, TIMING, 50).failures == 0


def test_the_second_failure_waits() -> None:
    ended = observed(container=container(ContainerStatus.EXITED), serving=False)
    history = History(failures=3, failed_at=50)
    waiting = decide(ended, desired(), history, 50.5)
    assert isinstance(waiting, Wait)
    assert waiting.seconds == pytest.approx(1.5)
    assert isinstance(decide(ended, desired(), history, 52), Start)


def test_a_wait_for_the_backoff_says_what_failed() -> None:
    history = failed(failed(History(), 10), 20, "nothing is mounted on /mnt/x")
    action = decide(observed(container=None, serving=False), desired(), history, 20)
    assert isinstance(action, Wait)
    assert action.reason == ("nothing is mounted on /mnt/x (2 failures in a row; the next try waits for the backoff)")
    assert failed(history, 30).why == ""


def test_a_stable_server_clears_the_backoff() -> None:
    history = replace(SERVED, failures=4, serving_since=100)
    assert learn(history, observed(), TIMING, 219).failures == 4
    assert learn(history, observed(), TIMING, 220).failures == 0


def test_a_cause_that_no_retry_cures_stops_the_retries() -> None:
    cause = KnownCause("schema", "the schema is of another version", "upgrade", curable=False)
    ended = observed(container=container(ContainerStatus.EXITED), serving=False, cause=cause)
    history = learn(SERVED, ended, TIMING, 50)
    for now in (50, 500, 50_000):
        action = decide(ended, desired(), history, now)
        assert isinstance(action, Wait)
        assert action.phase is Phase.BLOCKED
    other = desired(spec=OTHER_SPEC)
    assert isinstance(decide(ended, other, history, 500), Replace), "another wish is tried anew"


def test_a_missing_image_is_fetched_while_the_old_server_serves() -> None:
    action = decide(observed(), desired(spec=None), SERVED, 10)
    assert isinstance(action, Pull)
    assert action.phase is Phase.SERVING


def test_a_start_that_no_retry_cures_is_stopped_and_stays_so() -> None:
    cause = KnownCause("driver-missing", "the driver is missing", "build an image", curable=False)
    trying = observed(serving=False, cause=cause)
    history = learn(STARTING, trying, TIMING, 110)
    stop = decide(trying, desired(), history, 110)
    assert isinstance(stop, Stop)
    assert "the driver is missing" in stop.reason
    ended = observed(container=container(ContainerStatus.EXITED), serving=False)
    after = learn(stopped(history), ended, TIMING, 115)
    assert after.failures == 0
    assert decide(ended, desired(), after, 1000).phase is Phase.BLOCKED


def test_drift_replaces_and_absence_creates() -> None:
    assert isinstance(decide(observed(), desired(spec=OTHER_SPEC), SERVED, 10), Replace)
    assert isinstance(decide(observed(container=None, serving=False), desired(), History(), 10), Create)


def test_a_refused_wish_leaves_the_former_server_serving() -> None:
    history = replace(SERVED, refusal=Refusal(OTHER_SPEC.digest, "port taken", "", until=60))
    kept = decide(observed(), desired(spec=OTHER_SPEC), history, 10)
    assert isinstance(kept, Wait)
    assert kept.phase is Phase.DEGRADED
    assert isinstance(decide(observed(), desired(spec=OTHER_SPEC), history, 60), Replace), "and is tried again"


def test_a_container_in_passing_is_waited_for() -> None:
    for status in (ContainerStatus.RESTARTING, ContainerStatus.REMOVING):
        assert isinstance(decide(observed(container=container(status), serving=False), desired(), History(), 1), Wait)


@given(st.integers(0, 10_000))
def test_backoff_is_monotone_and_bounded(failures: int) -> None:
    here, after = (backoff(History(failures=n), TIMING) for n in (failures, failures + 1))
    assert 0 <= here <= after <= TIMING.backoff_max


def test_a_crash_loop_makes_at_most_twelve_starts_in_five_minutes() -> None:
    now, starts, history = 0.0, 0, SERVED
    run = 0
    while now < 300:
        run += 1
        running = container(started_at=f"run {run}")
        history = learn(history, observed(container=running, serving=False), TIMING, now)
        ended = observed(container=replace(running, status=ContainerStatus.EXITED, exit_code=2), serving=False)
        history = learn(history, ended, TIMING, now)
        action = decide(ended, desired(), history, now)
        while isinstance(action, Wait):
            now += action.seconds
            action = decide(ended, desired(), history, now)
        assert isinstance(action, Start)
        starts += now < 300
    assert starts <= 12


CONTAINERS = [None, container(labels={}), *(container(status) for status in ContainerStatus)]
HISTORIES = [
    History(),
    SERVED,
    STARTING,
    replace(SERVED, misses=3),
    History(failures=4, failed_at=99.0),
    replace(SERVED, refusal=REFUSAL),
]


@pytest.mark.parametrize("stop", [False, True])
def test_every_state_has_an_action_and_a_healthy_match_is_never_touched(stop: bool) -> None:
    product = itertools.product(
        CONTAINERS, HISTORIES, ["", "no engine"], [False, True], [SPEC, OTHER_SPEC, None], [100.0, 1e6]
    )
    for one, history, trouble, serving, spec, now in product:
        seen = observed(container=one, engine_trouble=trouble, serving=serving)
        action = decide(seen, desired(spec=spec, stop_by=1e9 if stop else None), history, now)
        assert isinstance(action, Action)
        assert action.reason
        if isinstance(action, Wait):
            assert 0 < action.seconds <= TIMING.backoff_max
        if trouble:
            assert isinstance(action, Wait | Done), "nothing is done blindly"
        if one is not None and not one.ours:
            assert isinstance(action, Wait | Done)
        if serving and not stop and one is not None and one.running and one.ours and spec is SPEC:
            assert isinstance(action, Wait)


def test_a_failure_of_an_effect_counts() -> None:
    assert failed(History(), 7) == History(failures=1, failed_at=7)
