"""Reads a container as a deployment of MLflow: the configuration that does the same, its secrets, its data's places.

No effects. What cannot be taken over is refused with every reason at once (NotUnderstoodError).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflowd.config.masking import mask_entry
from mlflowd.config.server_rules import RESERVED_ENVIRONMENT
from mlflowd.model import LABEL_SPEC
from mlflowd.operations.adoption import artifact_uris, commandline, databases, options, reached
from mlflowd.operations.adoption.commandline import UnreadableError
from mlflowd.operations.adoption.deployment import Deployment, NotUnderstoodError, refuse
from mlflowd.operations.adoption.draft import Draft
from mlflowd.server import drivers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflowd.model.deployed import Deployed
    from mlflowd.operations.adoption.facts import Facts

OLDEST = (3, 3)
"""MLflow before 3.3 has no uvicorn, and its `mlflow server` does not know --uvicorn-opts (seen in 3.2.0 and 3.3.0)."""
_OTHERS = ("io.kubernetes.pod.name", "com.docker.swarm.service.name", "com.hashicorp.nomad.alloc_id")
"""Labels of containers that a supervisor of their own would make again."""
_MLFLOW = re.compile(r"mlflow(?:\[[\w,-]*\])?\s*(?:[=~<>!]=?.*)?", re.IGNORECASE)
_IN_IMAGE = frozenset(
    {"MLFLOW_DEFAULT_ARTIFACT_ROOT", "MLFLOW_REGISTRY_STORE_URI", "MLFLOW_READ_REPLICA_BACKEND_STORE_URI"}
    | {"MLFLOW_GUNICORN_OPTS", "MLFLOW_ARTIFACTS_ONLY", "MLFLOW_WORKSPACE_STORE_URI", "MLFLOW_STATIC_PREFIX"}
)
"""Variables that mlflowd cannot take away where the image itself sets them."""
_IDLE = re.compile(
    r"MLFLOW_TRACKING_|GIT_PYTHON_REFRESH|MLFLOW_ALLOW_FILE_STORE|DO_NOT_TRACK|MLFLOW_DISABLE_TELEMETRY|PYTHONUNBUFFERED|HOME$"
)
"""Variables that mean nothing to a server, or that mlflowd sets."""
_FILES = re.compile(r"/etc/(?:localtime|timezone|hosts|resolv\.conf)")


def understand(deployed: Deployed, facts: Facts) -> Deployment:
    """Return what was understood. Raises NotUnderstoodError with every reason why it cannot be taken over."""
    refuse(list(_at_once(deployed)))
    try:
        told = commandline.read(deployed.argv, deployed.environment, deployed.working_dir)
    except UnreadableError as error:
        raise NotUnderstoodError(_unreadable(deployed, error)) from error
    draft = Draft(deployed, facts, told)
    version = _image(draft)
    databases.read(draft, version)
    artifact_uris.read(draft)
    options.read(draft, version)
    reached.read(draft)
    _variables(draft)
    _mounts(draft)
    draft.reasons += _shared(draft)
    if facts.fixed_policy and deployed.restart_policy != "no":
        sentence = f"Podman cannot take the restart policy ({deployed.restart_policy}) away from a container."
        draft.reason(sentence, "make the container anew with --restart=no, and adopt then")
    _project(draft)
    refuse(draft.reasons)
    if facts.able is None:  # _image has a reason for that
        raise NotUnderstoodError
    return Deployment(
        container=deployed,
        able=facts.able,
        settings=draft.settings,
        secrets=tuple(draft.secrets),
        working_dir=told.working_dir,
        root_uri=told.get("--default-artifact-root") if "root" in draft.places else "",
        notes=(*told.notes, *draft.notes),
        database=draft.places.get("database"),
        file_store=draft.places.get("file_store"),
        artifacts=draft.places.get("artifacts"),
        root=draft.places.get("root"),
        login=draft.places.get("login"),
    )


def _at_once(deployed: Deployed) -> Iterator[tuple[str, str]]:
    """Yield what makes a closer look pointless."""
    name = deployed.name
    if LABEL_SPEC in deployed.labels:
        yield f"The container {name} is mlflowd's own.", "mlflowd status"
    elif not commandline.is_server(deployed.argv) and not _hidden(deployed):
        words = " ".join(deployed.argv)[:60]
        yield f"The container {name} runs no MLflow server, as far as its command tells ({words!r}).", "docker ps"
    for label in _OTHERS:
        if label in deployed.labels:
            yield (f"The container {name} belongs to another supervisor ({label}), which would make it again.",
                   "take it out of there first")  # fmt: skip
    if deployed.auto_remove:
        sentence = f"The container {name} was made with --rm: its end would remove it, and there would be no way back."
        yield sentence, "make it again without --rm"


def _hidden(deployed: Deployed) -> bool:
    """Whether it may well be an MLflow, but for a script that cannot be seen into."""
    return "mlflow" in f"{deployed.image} {deployed.name} {' '.join(deployed.argv)}".lower()


def _unreadable(deployed: Deployed, error: UnreadableError) -> tuple[str, str]:
    remedy = "make the container with the command `mlflow server …` itself, or write /etc/mlflowd.toml by hand"
    return f"The command of the container {deployed.name} is not understood: {error}.", remedy


def _image(draft: Draft) -> tuple[int, ...]:
    """Judge the image and take it over; return MLflow's version."""
    able, image = draft.facts.able, draft.container.image
    installed = [each for each in draft.told.packages if _MLFLOW.fullmatch(each)]
    if able is None or installed:
        what = f"installs MLflow itself at each start ({installed[0]})" if installed else "has no MLflow"
        draft.reason(f"The image {image} {what}; mlflowd runs an image that has it.",
                     "make the container from one, such as ghcr.io/mlflow/mlflow:v3.17.2, and adopt then")  # fmt: skip
        return ()
    version = tuple(int(part) for part in re.findall(r"\d+", able.mlflow)[:2])
    if version < OLDEST:
        draft.reason(f"The image {image} has MLflow {able.mlflow}, and mlflowd's command line needs 3.3 or newer.",
                     "upgrade to MLflow 3.3 or newer first (a copy of the database, `mlflow db upgrade`, the newer "
                     "image), and adopt then")  # fmt: skip
    draft.set("image", "reference", draft.facts.reference or image)
    have = {drivers.normal(name) for name in able.packages}
    if missing := [each for each in draft.told.packages if drivers.normal(each) not in have]:
        draft.extend("image", "packages", *missing)
        draft.note(f"What pip installed at each start ({', '.join(missing)}) goes into an image, once: docs/images.md.")
    return version


def _variables(draft: Draft) -> None:
    """Carry over what MLflow is told by variables that have no place of their own."""
    own = draft.container.image_environment
    for name in sorted(_IN_IMAGE & own.keys()):
        draft.reason(f"The image itself sets {name}, which mlflowd cannot take away.", "use an image without it")
    for name, value in commandline.leftover(draft.told):
        if own.get(name) == value or name in draft.taken or _IDLE.match(name) or _spent(draft, name):
            continue
        if name in RESERVED_ENVIRONMENT:
            draft.reason(f"The variable {name} has no place in mlflowd's configuration.", "take it away")
        elif mask_entry(name, value) != value:
            draft.secret_variable(name, value)
        elif value:
            draft.variable(name, value)


def _spent(draft: Draft, name: str) -> bool:
    """Whether a variable was for the shell alone, or for the database's image: MLflow reads none of that name."""
    return (name in draft.told.used and not name.startswith(("MLFLOW", "AWS", "PG"))) or name.startswith(
        ("POSTGRES_", "MYSQL_", "MARIADB_", "MINIO_", "PGADMIN_")
    )


def _mounts(draft: Draft) -> None:
    """Say which mounts are not carried over, and refuse where one has lost its source.

    Without it the container could not be started again, so there would be no way back.
    """
    for mount in draft.container.mounts:
        if mount.source in draft.facts.gone:
            sentence = f"{mount.source}, which is mounted at {mount.target}, is not there any more."
            draft.reason(sentence, "bring it back, or mount what takes its place, and make the container anew")
        elif mount.target not in draft.needed and mount.source and not _FILES.fullmatch(mount.target):
            draft.note(f"{mount.source} is mounted at {mount.target} for nothing that mlflowd found: the new container "
                       "does not have it.")  # fmt: skip


def _project(draft: Draft) -> None:
    """Say what becomes of the compose file."""
    if service := draft.container.labels.get("com.docker.compose.service", ""):
        file = draft.container.labels.get("com.docker.compose.project.config_files", "its compose file")
        draft.note(f"Take the service {service} out of {file}: `docker compose up` would start it again, on data that "
                   "are mlflowd's by then.")  # fmt: skip


def _shared(draft: Draft) -> Iterator[tuple[str, str]]:
    """Yield other MLflow servers that use the same files."""
    mine = {str(place.host) for place in draft.places.values() if place.host}
    for other in draft.facts.others:
        if not other.up or not commandline.is_server(other.argv):
            continue
        theirs = {mount.source for mount in other.mounts if mount.source}
        if any(path == source or path.startswith(f"{source}/") for path in mine for source in theirs):
            yield (f"The container {other.name} is another MLflow that runs on the same data.",
                   f"one server at a time: docker stop {other.name}, and see that nothing starts it")  # fmt: skip
