"""What to do next, as a pure function: no clock, no I/O, no logging.

`decide` chooses one action: the first row that matches wins (the table of docs/design.md). It receives everything,
`now` (monotonic seconds) included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflowd.model import (
    Action,
    Container,
    ContainerStatus,
    Create,
    Desired,
    Done,
    History,
    Observed,
    Phase,
    Pull,
    Refusal,
    Rehearse,
    Replace,
    Restart,
    Settle,
    Start,
    Stop,
    Timing,
    Unpause,
    Upgrade,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflowd.model import ContainerSpec


_ENDED = frozenset({ContainerStatus.EXITED, ContainerStatus.DEAD})
_AT_REST = _ENDED | {ContainerStatus.CREATED}
_PASSING = frozenset({ContainerStatus.RESTARTING, ContainerStatus.REMOVING})


@dataclass(frozen=True, slots=True)
class _Look:
    """Everything a row may go by."""

    observed: Observed
    desired: Desired
    history: History
    now: float

    @property
    def container(self) -> Container | None:
        return self.observed.container

    @property
    def timing(self) -> Timing:
        return self.desired.timing

    @property
    def wanted(self) -> bool:
        """Whether the container is the one that the configuration asks for."""
        spec = self.desired.spec
        return spec is not None and self.container is not None and self.container.spec_hash == spec.digest

    @property
    def moved(self) -> bool:
        """Whether the wanted image is another one than that which served last."""
        spec, served = self.desired.spec, self.desired.served
        return spec is not None and bool(served) and spec.image_id != served

    @property
    def refusal(self) -> Refusal | None:
        """The refusal that stands: not passed, and about what is wanted now."""
        refusal, spec = self.history.refusal, self.desired.spec
        if refusal is None or (refusal.until is not None and self.now >= refusal.until):
            return None
        return refusal if spec is None or refusal.digest in {None, spec.digest} else None

    @property
    def phase(self) -> Phase:
        """The phase of a container that nothing is known against."""
        if self.container is None:
            return Phase.ABSENT
        if self.container.running:
            return Phase.SERVING if self.observed.serving else Phase.STARTING
        return Phase.CREATED if self.container.status is ContainerStatus.CREATED else Phase.EXITED


def decide(observed: Observed, desired: Desired, history: History, now: float) -> Action:
    """Return the one action that this look calls for: that of the first row that has one."""
    look = _Look(observed, desired, history, now)
    for row in _ROWS:
        action = row(look)
        if action is not None:
            return action
    raise AssertionError("the last row always has an action")


def backoff(history: History, timing: Timing) -> float:
    """Seconds between the last failure and the next try: none after the first, then doubling."""
    if history.failures <= 1:
        return 0.0
    # The exponent is bounded so that a long outage cannot overflow a float.
    return float(min(timing.backoff_first * 2 ** min(history.failures - 2, 32), timing.backoff_max))


def _stop_wanted(look: _Look) -> Action | None:
    if look.desired.stop_by is None:
        return None
    container, grace = look.container, look.desired.stop_grace
    if look.observed.engine_trouble:
        return Done(Phase.UNKNOWN, f"ending without stopping the server: {look.observed.engine_trouble}")
    if container is None or not container.ours or container.status in _AT_REST:
        return Done(Phase.STOPPED, "the server is stopped")
    if look.now >= look.desired.stop_by:
        return Done(Phase.UNKNOWN, "ending without stopping the server: the engine did not stop it in time")
    return Stop(Phase.STOPPED, f"stopping the server; it has {grace:g} s to finish its requests", container.id, grace)


def _engine_unreachable(look: _Look) -> Action | None:
    trouble = look.observed.engine_trouble
    if not trouble:
        return None
    if look.observed.serving:
        return Wait(Phase.DEGRADED, f"{trouble}; the server goes on answering", look.timing.retry_interval)
    return Wait(Phase.UNKNOWN, trouble, look.timing.retry_interval)


def _foreign(look: _Look) -> Action | None:
    container = look.container
    if container is None or container.ours:
        return None
    reason = f"a container named {container.name} ({container.id[:12]}) that mlflowd did not make is not touched"
    return Wait(Phase.BLOCKED, reason, look.timing.interval)


def _unfinished(look: _Look) -> Action | None:
    """Finish or revert what is half done before anything else is touched."""
    if not look.observed.unfinished:
        return None
    if look.desired.spec is None:
        return _refused(look) or _backing_off(look) or _pull(look)
    return _refused(look) or _backing_off(look) or Settle(look.phase, look.observed.unfinished)


def _running(look: _Look) -> Action | None:
    """Watch what runs, as long as it is wanted or nothing better can be had."""
    container = look.container
    if container is None or not container.running or not (look.wanted or look.refusal):
        return None
    if look.observed.serving:
        return _serving(look, container)
    return _starting(look, container) if look.history.serving_since is None else _missing(look, container)


def _serving(look: _Look, container: Container) -> Action:
    interval, troubles = look.timing.interval, look.observed.troubles
    if look.refusal is not None:
        reason = f"the former configuration goes on serving: {look.refusal.message}"
        return Wait(Phase.DEGRADED, reason, interval)
    if not troubles:
        return Wait(Phase.SERVING, "the server answers", interval)
    reason = "; ".join(dict.fromkeys(trouble.message for trouble in troubles))
    if any(trouble.restart_cures for trouble in troubles):
        return Restart(Phase.DEGRADED, f"{reason}; it is restarted", container.id, look.desired.stop_grace)
    return Wait(Phase.DEGRADED if any(trouble.critical for trouble in troubles) else Phase.SERVING, reason, interval)


def _starting(look: _Look, container: Container) -> Action:
    since, refusal = look.history.starting_since, look.refusal
    if look.wanted and refusal is not None and refusal.until is None:
        return Stop(
            Phase.BLOCKED,
            f"{refusal.message} No retry cures that; it is stopped.",
            container.id,
            look.timing.kill_grace,
        )
    deadline = look.timing.start_deadline
    if since is None or look.now - since < deadline:
        return Wait(Phase.STARTING, "the server is starting", look.timing.starting_interval)
    reason = f"the server did not answer within {deadline:g} s of its start; it is restarted"
    return Restart(Phase.STARTING, reason, container.id, look.timing.kill_grace)


def _missing(look: _Look, container: Container) -> Action:
    misses, limit = look.history.misses, look.timing.misses
    if misses < limit:
        return Wait(Phase.SERVING, f"the server missed {misses} of {limit} probes", look.timing.retry_interval)
    reason = f"the server is hung: it runs but missed {misses} probes in a row; it is restarted"
    return Restart(Phase.HUNG, reason, container.id, look.timing.kill_grace)


def _paused(look: _Look) -> Action | None:
    container = look.container
    if container is None or container.status is not ContainerStatus.PAUSED or not look.wanted:
        return None
    return Unpause(Phase.PAUSED, "somebody paused the server; it is let run again", container.id)


def _refused(look: _Look) -> Action | None:
    refusal, interval = look.refusal, look.timing.interval
    if refusal is None:
        return None
    seconds = interval if refusal.until is None else min(interval, refusal.until - look.now)
    return Wait(Phase.BLOCKED, refusal.message, seconds)


def _backing_off(look: _Look) -> Action | None:
    history = look.history
    remaining = backoff(history, look.timing) - (look.now - history.failed_at)
    if not history.failures or remaining <= 0:
        return None
    reason = f"{history.failures} failures in a row; the next try waits for the backoff"
    return Wait(look.phase, f"{history.why} ({reason})" if history.why else reason, remaining)


def _engine_busy(look: _Look) -> Action | None:
    container = look.container
    if container is None or container.status not in _PASSING:
        return None
    return Wait(look.phase, f"the engine says that the container is {container.status}", look.timing.retry_interval)


def _advance(look: _Look) -> Action:
    container, spec = look.container, look.desired.spec
    if spec is None:
        return _pull(look)
    if look.moved:
        return _upgrade(look, spec)
    if container is None:
        return Create(look.phase, "there is no container; one is made", spec)
    if not look.wanted:
        reason = "what is wanted differs from what is there; the server is replaced"
        return Replace(look.phase, reason, container.id, spec, look.desired.stop_grace)
    return Start(look.phase, _start_reason(container, look.history), container.id)


def _pull(look: _Look) -> Action:
    return Pull(look.phase, f"getting the image {look.desired.image}", look.desired.image)


def _upgrade(look: _Look, spec: ContainerSpec) -> Action:
    if not look.desired.rehearsed:
        return Rehearse(look.phase, f"rehearsing the upgrade to {spec.image}", spec)
    if look.desired.held:
        return Wait(look.phase, look.desired.held, look.timing.interval)
    return Upgrade(look.phase, f"upgrading to {spec.image}", spec)


def _start_reason(container: Container, history: History) -> str:
    if container.status is ContainerStatus.CREATED or not history.failures:
        return "the server is started"
    killed = ", out of memory" if container.oom_killed else ""
    return f"the server ended by itself (exit status {container.exit_code}{killed}); it is started again"


_ROWS: tuple[Callable[[_Look], Action | None], ...] = (
    _stop_wanted,
    _engine_unreachable,
    _foreign,
    _unfinished,
    _running,
    _paused,
    _refused,
    _backing_off,
    _engine_busy,
    _advance,
)
