"""Containers as people make them, for the tests of understanding them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflowd.model import Address, ContainerStatus
from mlflowd.model.deployed import Attachment, Deployed, Membership, MountKind, Publication
from mlflowd.operations.adoption.facts import Facts
from mlflowd.operations.adoption.understand import understand
from mlflowd.server.abilities import Abilities

if TYPE_CHECKING:
    from mlflowd.operations.adoption.deployment import Deployment

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what containers are told, nothing is bound
SERVER = ("mlflow", "server", "--host", EVERYWHERE)
ABLE = Abilities("3.17.2", "3.11.2", uvloop=False, httptools=False, packages=frozenset({"mlflow", "boto3"}))


def bind(source: str, target: str, **changes: Any) -> Attachment:
    return replace(Attachment(MountKind.BIND, source, target), **changes)


PLAIN = Deployed(
    id="a" * 64,
    name="tracking",
    image="registry/mlflow:v3.17.2",
    image_id="sha256:1",
    command=(*SERVER, "--backend-store-uri", "sqlite:////data/mlflow.db", "--artifacts-destination", "/data/artifacts"),
    working_dir="/",
    mounts=(bind("/srv/mlflow", "/data"),),
    published=(Publication(5000, Address(EVERYWHERE, 5000)),),
    networks=(Membership("bridge"),),
    restart_policy="always",
    status=ContainerStatus.RUNNING,
)
FACTS = Facts(able=ABLE, reference="registry/mlflow:v3.17.2")


def told(*options: str, **environment: str) -> Deployed:
    """A server in a container with /srv/mlflow at /data, with these options and variables."""
    return replace(PLAIN, command=(*SERVER, *options), environment=environment)


def understood(deployed: Deployed, facts: Facts = FACTS) -> Deployment:
    return understand(deployed, facts)
