"""Frozen values that every layer shares: what is wanted, what is seen, what is done about it.

No effects and no imports but the standard library's. Spans are seconds (float), instants are seconds of
`time.monotonic()` unless a name ends in `_at` and says otherwise, sizes are bytes.
"""

from __future__ import annotations

from mlflowd.model.action import (
    Action,
    Create,
    Done,
    Pull,
    Rehearse,
    Replace,
    Restart,
    Settle,
    Start,
    Stop,
    Unpause,
    Upgrade,
    Wait,
)
from mlflowd.model.finding import Finding, Level, Mend, MendKind
from mlflowd.model.secrets import PrivateFile, Secrets
from mlflowd.model.seen import (
    Container,
    ContainerStatus,
    EngineEvent,
    EngineInfo,
    History,
    Image,
    KnownCause,
    Layer,
    Observed,
    Phase,
    Refusal,
    Trouble,
)
from mlflowd.model.wanted import (
    LABEL_ADDED,
    LABEL_DERIVED,
    LABEL_NAME,
    LABEL_SLOT,
    LABEL_SPEC,
    LABEL_STANDS_FOR,
    Address,
    ContainerSpec,
    Desired,
    Mount,
    Timing,
)

__all__ = [
    "LABEL_ADDED",
    "LABEL_DERIVED",
    "LABEL_NAME",
    "LABEL_SLOT",
    "LABEL_SPEC",
    "LABEL_STANDS_FOR",
    "Action",
    "Address",
    "Container",
    "ContainerSpec",
    "ContainerStatus",
    "Create",
    "Desired",
    "Done",
    "EngineEvent",
    "EngineInfo",
    "Finding",
    "History",
    "Image",
    "KnownCause",
    "Layer",
    "Level",
    "Mend",
    "MendKind",
    "Mount",
    "Observed",
    "Phase",
    "PrivateFile",
    "Pull",
    "Refusal",
    "Rehearse",
    "Replace",
    "Restart",
    "Secrets",
    "Settle",
    "Start",
    "Stop",
    "Timing",
    "Trouble",
    "Unpause",
    "Upgrade",
    "Wait",
]
