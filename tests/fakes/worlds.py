"""Values for the supervisor's tests: what is wanted and what is seen, with one thing changed at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlflowd.model import (
    LABEL_SPEC,
    Address,
    Container,
    ContainerSpec,
    ContainerStatus,
    Desired,
    Observed,
    Timing,
)

TIMING = Timing(
    interval=6,
    retry_interval=1,
    starting_interval=0.1,
    misses=3,
    start_deadline=180,
    kill_grace=5,
    backoff_first=1,
    backoff_max=60,
    stable_after=120,
)

SPEC = ContainerSpec(
    slot=0,
    name="mlflowd",
    image="registry/mlflow:v1",
    image_id="sha256:1",
    argv=("mlflow", "server"),
    environment=(),
    user="1:1",
    mounts=(),
    publish=Address("127.0.0.1", 5000),
    port=5000,
    network="mlflowd",
    memory=None,
    pids=100,
    tmpfs_size=1,
    shm_size=1,
    stop_grace=30,
)
OTHER_SPEC = replace(SPEC, argv=("mlflow", "server", "--workers", "9"))


def desired(**changes: Any) -> Desired:
    base = Desired(name="mlflowd", image="registry/mlflow:v1", spec=SPEC, timing=TIMING, stop_grace=30)
    return replace(base, **changes)


def container(status: ContainerStatus = ContainerStatus.RUNNING, **changes: Any) -> Container:
    base = Container(
        id="c" * 64,
        name="mlflowd",
        status=status,
        image_id="sha256:1",
        labels={LABEL_SPEC: SPEC.digest},
        started_at="2026-11-20T12:00:00Z",
        exit_code=0,
        oom_killed=False,
    )
    return replace(base, **changes)


def observed(**changes: Any) -> Observed:
    base = Observed(engine_trouble="", container=container(), serving=True)
    return replace(base, **changes)
