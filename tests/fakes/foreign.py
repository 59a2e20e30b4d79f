"""Containers that somebody else made, in the fake engine's memory: a part of FakeEngine."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mlflowd.errors import EngineError
from mlflowd.model.deployed import Deployed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflowd.model import Address, Container


class ForeignContainers:
    """What FakeEngine knows of them beside its containers; `inside` is what lies in them, by container and path."""

    def __init__(self) -> None:
        self.inside: dict[tuple[str, str], bytes] = {}
        self._made: dict[str, Deployed] = {}

    # --- the protocol ---------------------------------------------------------------------------

    def deployments(self) -> tuple[str, ...]:
        self._asked("deployments")
        return tuple(sorted(each.name for each in self._all()))

    def deployed(self, name: str) -> Deployed | None:
        self._asked("deployed")
        container = self._find(name)
        if container is None:
            return None
        made = self._made.get(container.id) or Deployed("", "", container.image_id, container.image_id)
        return replace(
            made,
            id=container.id,
            name=container.name,
            image_id=container.image_id,
            labels=container.labels,
            status=container.status,
            exit_code=container.exit_code,
        )

    def copy_out(self, container_id: str, path: str) -> Iterator[bytes] | None:
        self._asked("copy_out")
        container = self._get(container_id)
        files = {at: data for (of, at), data in self.inside.items() if of == container.id and _below(at, path)}
        return iter([_tar(files, PurePosixPath(path).parent)]) if files else None

    def retire(self, container_id: str, name: str) -> None:
        self._asked("retire")
        self._rename(container_id, name, "no")

    def reinstate(self, container_id: str, name: str, policy: str) -> None:
        self._asked("reinstate")
        self._rename(container_id, name, policy)

    # --- what somebody else does ----------------------------------------------------------------

    def deploy(self, made: Deployed) -> str:
        """Make this container, not started, and return its id."""
        address = next((each.address for each in made.published), None)
        container = self._add(made.name, made.image_id, made.labels, address)
        self._made[container.id] = made
        return container.id

    # --- within ---------------------------------------------------------------------------------

    def _rename(self, container_id: str, name: str, policy: str) -> None:
        container = self._get(container_id)
        other = self._find(name)
        if other and other.id != container.id:
            raise EngineError(f"The container name {name} is already in use.")
        made = self._made.get(container.id) or Deployed("", "", container.image_id, container.image_id)
        self._made[container.id] = replace(made, restart_policy=policy)
        self._put(replace(container, name=name), "rename")

    def _all(self) -> list[Container]:
        raise NotImplementedError

    def _find(self, name: str) -> Container | None:
        raise NotImplementedError

    def _get(self, name: str) -> Container:
        raise NotImplementedError

    def _asked(self, method: str) -> None:
        raise NotImplementedError

    def _put(self, container: Container, action: str = "", **attributes: str) -> None:
        raise NotImplementedError

    def _add(self, name: str, image_id: str, labels: Mapping[str, str], published: Address | None) -> Container:
        raise NotImplementedError


def _below(path: str, top: str) -> bool:
    return PurePosixPath(path).is_relative_to(top)


def _tar(files: dict[str, bytes], top: PurePosixPath) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(str(PurePosixPath(path).relative_to(top)))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()
