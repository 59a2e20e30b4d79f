"""What earlier cycles left behind, as pure functions: no clock, no I/O, no logging.

`learn` folds a look into the history; the others fold in what the worker brought. All receive `now` (monotonic
seconds) where time matters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflowd.model import Container, ContainerStatus, History, Observed, Refusal, Timing

if TYPE_CHECKING:
    from mlflowd.model import KnownCause

_ENDED = frozenset({ContainerStatus.EXITED, ContainerStatus.DEAD})


def learn(history: History, observed: Observed, timing: Timing, now: float) -> History:
    """Return the history with this look folded in."""
    container = observed.container
    if observed.engine_trouble:
        return _served(history, timing, now) if observed.serving else history
    if container is None or not container.ours:
        return replace(history, run=None, begun=False, misses=0, starting_since=None, serving_since=None)
    if container.status in _ENDED:
        return _ended(history, container, observed.cause, now)
    if not container.running:
        return replace(history, misses=0)
    if container.run != history.run:
        history = replace(history, run=container.run, begun=False, misses=0, starting_since=now, serving_since=None)
    if observed.serving:
        return _served(history, timing, now)
    return _hindered(replace(history, misses=history.misses + 1), container, observed.cause)


def failed(history: History, now: float, why: str = "") -> History:
    """Return the history with one more failure (of an effect, or of a server)."""
    return replace(history, failures=history.failures + 1, failed_at=now, serving_since=None, why=why)


def begun(history: History) -> History:
    """Return the history with a run that we have just started."""
    return replace(history, begun=True)


def stopped(history: History) -> History:
    """Return the history after a stop of our own: the end of that run is nobody's failure."""
    return replace(history, run=None, begun=False, starting_since=None, serving_since=None)


def refused(history: History, refusal: Refusal) -> History:
    """Return the history with a refusal that holds until it passes or the wish changes."""
    return replace(history, refusal=refusal)


def wished(history: History) -> History:
    """Return the history for a new wish: it is tried at once, whatever became of the old one."""
    return replace(history, failures=0, refusal=None)


def _served(history: History, timing: Timing, now: float) -> History:
    since = now if history.serving_since is None else history.serving_since
    stable = now - since >= timing.stable_after
    failures = 0 if stable else history.failures
    return replace(history, misses=0, starting_since=None, serving_since=since, failures=failures)


def _ended(history: History, container: Container, cause: KnownCause | None, now: float) -> History:
    if container.run == history.ended_run:
        return history
    witnessed = history.begun or container.run == history.run
    history = replace(history, ended_run=container.run, run=None, begun=False, misses=0, serving_since=None)
    if not witnessed:
        return history  # it ended before we looked for the first time: nobody's failure
    return _hindered(failed(history, now), container, cause)


def _hindered(history: History, container: Container, cause: KnownCause | None) -> History:
    """Refuse what no retry cures."""
    if cause is None or cause.curable:
        return history
    return refused(history, Refusal(container.spec_hash, cause.message, cause.remedy, until=None))
