"""The schema's revision: whether an image's MLflow works with the database that is there. No effects.

MLflow refuses a database of another revision at its start, or, where a table is missing, migrates it one way without
a word (mlflow/store/db/utils.py, _verify_schema and _all_tables_exist). Here it is known before, by the revisions that
the image has (Abilities), and mlflowd migrates it itself, after a copy that it can go back to; a person does where
mlflowd has no tool for a copy (SQL Server). Of basic-auth's database nothing is judged: it migrates itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mlflowd.server.wiring import BACKEND

if TYPE_CHECKING:
    from mlflowd.model import ContainerSpec
    from mlflowd.server.abilities import Abilities

_VARIABLE = "MLFLOW_BACKEND_STORE_URI"
_LOGIN = re.compile(r"(://[^:/?#@]*):[^@/?#]*@")
"""The password of a URI as config.uris writes it."""
RESTART = "sudo systemctl restart mlflowd"
REHEARSE = "nothing to do; to try the migration on a copy first: sudo mlflowd upgrade --rehearse"


class State(StrEnum):
    """How the database's revision stands to the image."""

    FINE = "fine"
    EMPTY = "empty"
    """No revision: MLflow makes the tables."""
    UNJUDGED = "unjudged"
    """The image does not say which revisions it knows."""
    OLDER = "older"
    UNKNOWN = "unknown"
    """A newer release wrote it, or something that is not MLflow."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a revision, and what helps; both "" where nothing is wrong."""

    state: State
    sentence: str = ""
    remedy: str = ""
    migrates: bool = False
    """mlflowd migrates it, as a transaction."""

    @property
    def fits(self) -> bool:
        """Whether the server may be started with it as it is."""
        return self.state not in {State.OLDER, State.UNKNOWN}


def judge(revision: str, able: Abilities, spec: ContainerSpec) -> Verdict:
    """Return whether a database of this revision ("" for none) may be served by this image."""
    if not revision:
        return Verdict(State.EMPTY)
    if not able.head or revision == able.head:
        return Verdict(State.FINE if able.head else State.UNJUDGED)
    if revision in able.revisions:
        return _older(revision, able, spec)
    return Verdict(
        State.UNKNOWN,
        f"The database's schema is revision {revision}, which MLflow {able.mlflow} does not know: a newer release "
        "wrote it.",
        "set image.reference in /etc/mlflowd.toml to the release that wrote the database (or a newer one), or restore "
        f"a copy from before that; then: {RESTART}",
    )


def _older(revision: str, able: Abilities, spec: ContainerSpec) -> Verdict:
    said = f"The database's schema is revision {revision}, and MLflow {able.mlflow} works with {able.head} alone"
    if not _uri(spec).startswith("mssql"):
        return Verdict(State.OLDER, f"{said}: the next start migrates it, after a copy.", REHEARSE, migrates=True)
    return Verdict(
        State.OLDER,
        f"{said}, to which there is a way but none back.",
        f"{back_up(spec)}, migrate it ('{upgrade(spec)}'), then: {RESTART}; or set image.reference to the release "
        "that wrote it",
    )


def back_up(spec: ContainerSpec | None) -> str:
    """Return how the database is copied first."""
    uri = _uri(spec)
    if uri.startswith("sqlite"):
        place = _source(spec, BACKEND)
        return f"copy the database ('cp -a {place} {place}.before-upgrade')"
    tool = {"postgresql": "pg_dump", "mysql": "mysqldump --single-transaction"}.get(re.split(r"\W", uri)[0], "")
    return f"back the database up{f' ({tool})' if tool else ''}"


def upgrade(spec: ContainerSpec | None) -> str:
    """Return the command that migrates the database; PASSWORD stands where a database server's password does."""
    uri = _uri(spec)
    # The very image: the reference may be that of one which has a stand-in, or which lacks the driver.
    user, image = (spec.user, spec.image_id.removeprefix("sha256:")[:12]) if spec else ("UID:GID", "IMAGE")
    if uri.startswith("sqlite"):
        how, uri = f"-v {_source(spec, BACKEND)}:{BACKEND}", uri.partition("?")[0]
    else:
        names = [f" --add-host {name}:host-gateway" for name in spec.host_names] if spec else []
        mounts = [f" -v {mount.source}:{mount.target}:ro" for mount in spec.mounts if mount.read_only] if spec else []
        how = f"--network {spec.network if spec else 'NETWORK'}{''.join((*names, *mounts))}"
    return f"docker run --rm --user {user} -e HOME=/tmp {how} {image} mlflow db upgrade {_quoted(uri)}"


def _uri(spec: ContainerSpec | None) -> str:
    """Return the database's URI as the server has it, without its password."""
    uri = dict(spec.environment).get(_VARIABLE, "") if spec else ""
    return _LOGIN.sub(r"\1:PASSWORD@", uri) or "DATABASE_URI"


def _quoted(uri: str) -> str:
    return f'"{uri}"' if "&" in uri else uri


def _source(spec: ContainerSpec | None, target: str) -> str:
    """Return the directory of this machine that is mounted there."""
    mounted = {mount.target: mount.source for mount in spec.mounts} if spec else {}
    return mounted.get(target, "/var/lib/mlflowd/backend")
