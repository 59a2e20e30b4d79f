"""What is given to the engine for a build: recipes of this package, packed into a tar archive. Reads files only."""

from __future__ import annotations

import io
import tarfile
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def text(name: str) -> str:
    """Return the file of this name beside this module."""
    return resources.files("mlflowd.operations").joinpath(name).read_text(encoding="utf-8")


def context(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of these files, by their paths in it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()
