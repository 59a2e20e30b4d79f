"""What a look and its action mean to a person: the events to tell, as values. Pure.

Transitions are told, states are not: the same sentence twice in a row is told once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflowd.events import Event
from mlflowd.model import (
    Action,
    Create,
    Done,
    History,
    Layer,
    Observed,
    Phase,
    Pull,
    Rehearse,
    Replace,
    Restart,
    Start,
    Stop,
    Unpause,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflowd.model import Container, Trouble

_EFFECTS: dict[type[Action], Event] = {
    Pull: Event.IMAGE_PULLING,
    Rehearse: Event.UPGRADE_REHEARSING,
    Create: Event.SERVER_STARTING,
    Start: Event.SERVER_STARTING,
    Unpause: Event.SERVER_PAUSED,
    Restart: Event.SERVER_HUNG,
    Replace: Event.SERVER_REPLACING,
    Stop: Event.SERVER_STOPPING,
    Done: Event.SERVER_STOPPED,
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One cycle: what was seen, what it made of the history, what was decided."""

    observed: Observed
    history: History
    action: Action


@dataclass(frozen=True, slots=True)
class Told:
    """One event for the journal, with the fields that its catalog entry names."""

    event: Event
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def narrate(before: Scene | None, after: Scene) -> Iterator[Told]:
    """Yield what the step from one cycle to the next has to say, oldest first."""
    yield from _engine(before, after)
    yield from _ending(before, after)
    yield from _cause(before, after)
    yield from _troubles(before, after)
    yield from _decision(before, after)


def _engine(before: Scene | None, after: Scene) -> Iterator[Told]:
    was = before.observed.engine_trouble if before else ""
    now = after.observed.engine_trouble
    if now and not was:
        yield Told(Event.ENGINE_UNREACHABLE, now, {"remedy": after.observed.engine_remedy})
    if was and not now:
        yield Told(Event.ENGINE_BACK, "the container engine answers again")


def _ending(before: Scene | None, after: Scene) -> Iterator[Told]:
    """Tell of a run that ended, and of a container that vanished."""
    if before is None or after.observed.engine_trouble:
        return
    then, now = before.observed.container, after.observed.container
    if now is None and then is not None and then.ours and before.history.run is not None:
        yield Told(Event.SERVER_REMOVED, "somebody removed the server's container", {"container_id": then.id})
    counted = after.history.failures > before.history.failures  # an end that was asked for is none
    if now is not None and after.history.ended_run != before.history.ended_run and counted:
        yield from _ended(now, after.observed)


def _ended(container: Container, observed: Observed) -> Iterator[Told]:
    fields = {"container_id": container.id, "exit_code": str(container.exit_code)}
    if observed.signal:
        message = f"somebody ended the server with signal {observed.signal}, sent through the engine"
        yield Told(Event.SERVER_STOPPED_BY_HAND, message, fields)
    elif container.oom_killed:
        yield Told(Event.SERVER_OUT_OF_MEMORY, "the server was ended: out of memory", fields)
    else:
        yield Told(Event.SERVER_EXITED, f"the server ended by itself (exit status {container.exit_code})", fields)


def _cause(before: Scene | None, after: Scene) -> Iterator[Told]:
    """Tell once why a run ended, or does not come to serve."""
    cause = after.observed.cause
    if cause is not None and (before is None or before.observed.cause != cause):
        yield Told(Event.KNOWN_CAUSE, cause.message, {"cause": cause.key, "remedy": cause.remedy})


def _troubles(before: Scene | None, after: Scene) -> Iterator[Told]:
    """Tell of each trouble that is new."""
    known = before.observed.troubles if before else ()
    for trouble in after.observed.troubles:
        if trouble not in known:
            yield Told(_trouble(trouble), trouble.message, {"layer": trouble.layer, "remedy": trouble.remedy})


def _trouble(trouble: Trouble) -> Event:
    if trouble.layer is Layer.DISK:
        return Event.DISK_CRITICAL if trouble.critical else Event.DISK_WARNING
    if trouble.layer is Layer.BACKUP:
        return _backup(trouble)
    return Event.STORE_MISSING if trouble.lost else Event.DEGRADED


def _backup(trouble: Trouble) -> Event:
    if trouble.lost:
        return Event.BACKUP_DAMAGED
    return Event.BACKUP_FAILED if "failed" in trouble.message else Event.BACKUP_STALE


def _decision(before: Scene | None, after: Scene) -> Iterator[Told]:
    action, last = after.action, before.action if before else None
    if last is not None and (type(last), last.phase, last.reason) == (type(action), action.phase, action.reason):
        return
    event = _EFFECTS.get(type(action)) or _waiting(before, after)
    if event is not None:
        yield Told(event, action.reason, _fields(after))


def _fields(scene: Scene) -> dict[str, Any]:
    """Return the fields of whatever a decision is about."""
    container, refusal, action = scene.observed.container, scene.history.refusal, scene.action
    fields: dict[str, Any] = {"attempt": str(scene.history.failures + 1)}
    if container is not None:
        fields |= {"container_id": container.id, "container_name": container.name}
    if isinstance(action, Pull):
        fields["image"] = action.image
    if isinstance(action, Rehearse):
        fields["image"] = action.spec.image
    if isinstance(action, Wait):
        fields["wait"] = f"{action.seconds:.1f} s"
    return fields | ({"remedy": refusal.remedy} if refusal else {})


def _waiting(before: Scene | None, after: Scene) -> Event | None:
    """Return the event of a Wait, None where its sentence is told already or is not worth one."""
    phase, container = after.action.phase, after.observed.container
    if not isinstance(after.action, Wait) or after.observed.engine_trouble:
        return None
    if phase is Phase.BLOCKED:
        return Event.FOREIGN_CONTAINER if container and not container.ours else Event.BLOCKED
    if after.observed.serving:
        return _answering(before, after)
    if phase is Phase.SERVING:
        return Event.DEGRADED  # it missed a probe
    told = after.history.why  # by the daemon, when the effect failed
    return Event.RETRY_LATER if after.history.failures > 1 and phase is not Phase.STARTING and not told else None


def _answering(before: Scene | None, after: Scene) -> Event | None:
    if after.action.phase is Phase.DEGRADED:
        return Event.DEGRADED if after.history.refusal else None
    if before is None:
        return Event.SERVER_ADOPTED
    if not before.observed.serving:
        return Event.SERVER_SERVING
    return Event.RECOVERED if before.action.phase is Phase.DEGRADED and not after.observed.troubles else None
