"""Loads the image from a file of `docker save` where no registry is to be reached: image.archive.

Effects: reads the file (twice, never whole into memory), runs zstd for a .zst, loads images into the engine once the
file is known to be sound and to hold the wanted one.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from mlflowd.engine.registry import Paced
from mlflowd.errors import MlflowdError, RefusedError
from mlflowd.model import LABEL_NAME, LABEL_STANDS_FOR
from mlflowd.operations import references, room
from mlflowd.operations.archive_file import DamagedError, opened, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlflowd.engine.api import Engine, Progress
    from mlflowd.host.paths import Identity
    from mlflowd.model import Image
    from mlflowd.operations.archive_file import Source
    from mlflowd.server.abilities import Abilities

_PIECE = 1 << 20
_LARGEST = 1 << 20
"""Bytes of the largest description of an image; all else in an archive is layers."""
_PAUSE = 1.0
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Packed:
    """One image of an archive."""

    id: str
    """The digest of its configuration: its id in the engine (but for Docker's containerd store)."""
    names: tuple[str, ...]
    stands_for: str
    """The reference that it was built in place of, or ""."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds."""

    images: tuple[Packed, ...]
    digests: frozenset[str]
    """Digests of manifests as a registry has them, where the archive has the manifests themselves."""
    size: int
    """Bytes, unpacked."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an archive brought."""

    image: Image
    fresh: bool
    """Whether the engine did not have it before."""


def load(engine: Engine, path: Path, reference: str, who: Identity, progress: Progress) -> Loaded:
    """Return the image of `reference` (or its stand-in), loaded from the archive at `path`.

    Raises RefusedError, or MlflowdError (77) where `who` may not read the file, before the engine is touched.
    """
    sworn = _check_sum(path, who, progress)
    contents = _contents(path, who, progress)
    packed = _chosen(contents, path, reference)
    _check_digest(contents, packed, path, reference, sworn=sworn)
    room.require(engine, f"Loading {path}", 2 * contents.size)
    fresh = engine.image(packed.id) is None
    with opened(path, who) as source:
        engine.load(_pieces(source, f"loading {path}", progress), progress)
    image = engine.image(packed.id) or next((found for name in packed.names if (found := engine.image(name))), None)
    if image is None:
        raise MlflowdError(f"The engine has loaded {path}, but has no image {packed.id[:19]}.", "docker images")
    return Loaded(image, fresh)


def check_version(engine: Engine, loaded: Loaded, path: Path, reference: str, able: Abilities) -> None:
    """Raise RefusedError where the loaded image has another MLflow than the reference's tag says, and remove it."""
    version = references.version_of(reference)
    if version and able.mlflow != version:
        if loaded.fresh:
            with suppress(MlflowdError):
                engine.remove_image(loaded.image.id)
        raise RefusedError(f"{path} holds MLflow {able.mlflow}, but {reference} is wanted.", _anew(reference))


def _check_sum(path: Path, who: Identity, progress: Progress) -> bool:
    """Compare with FILE.sha256 (as sha256sum writes it) where that is there; whether it was."""
    beside = path.with_name(f"{path.name}.sha256")
    try:
        words = beside.read_text(encoding="utf-8", errors="replace").split()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refused(beside, who, error) from error
    if not words or not re.fullmatch(r"[0-9a-fA-F]{64}", words[0]):
        raise RefusedError(f"{beside} holds no SHA-256.", f"sha256sum {path.name} > {beside.name}, where it was made")
    progress(f"checking {path} against {beside.name}")
    with opened(path, who, raw=True) as source:
        found = hashlib.file_digest(source.stream, "sha256").hexdigest()  # type: ignore[arg-type]
    if found != words[0].lower():
        raise RefusedError(
            f"{path} is not the file that {beside.name} is of: its SHA-256 begins with {found[:12]}, not "
            f"{words[0][:12].lower()}.",
            "copy both again from where they were made",
        )
    return True


def _contents(path: Path, who: Identity, progress: Progress) -> Contents:
    """Read the archive once, to its end: what it holds, and that it is whole."""
    small: dict[str, bytes] = {}
    names: set[str] = set()
    size = 0
    say = Paced(progress, _PAUSE)
    try:
        with opened(path, who) as source, _tar(source) as tar:
            for member in tar:
                names.add(member.name)
                size += member.size
                say(f"reading {path}: {source.share}")
                if member.isfile() and member.size <= _LARGEST and (file := tar.extractfile(member)):
                    content = file.read()
                    small |= {member.name: content} if content[:1] in (b"{", b"[") else {}
            while source.stream.read(_PIECE):
                pass  # beyond the tar's end lies the check sum of what packed it
        return _understood(small, names, size)
    except (tarfile.TarError, DamagedError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RefusedError(
            f"{path} is no whole archive of `docker save`: {str(error) or type(error).__name__}.", _anew()
        ) from error


def _tar(source: Source) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast("IO[bytes]", source.stream), mode="r|")


def _understood(small: Mapping[str, bytes], names: set[str], size: int) -> Contents:
    if _MANIFEST not in small:
        raise DamagedError(f"it has no {_MANIFEST}")
    images = json.loads(small[_MANIFEST])
    if lost := {layer for image in images for layer in image["Layers"]} - names:
        raise DamagedError(f"{len(lost)} layers are missing")
    return Contents(tuple(_packed(image, small) for image in images), frozenset(_manifests(small)), size)


def _packed(image: Mapping[str, Any], small: Mapping[str, bytes]) -> Packed:
    text = small[image["Config"]]
    labels = (json.loads(text).get("config") or {}).get("Labels") or {}
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    names = tuple(image.get("RepoTags") or ())
    own = labels.get(LABEL_NAME) in (None, *names)  # as engine.stand_in: what is made from a stand-in is none
    return Packed(digest, names, (labels.get(LABEL_STANDS_FOR) or "") if own else "")


def _manifests(small: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the digests of index.json whose manifests are in the archive, and are what the digest says."""
    index = json.loads(small.get("index.json", b"{}"))
    for one in index.get("manifests") or ():
        kind, _, value = str(one.get("digest")).partition(":")
        content = small.get(f"blobs/{kind}/{value}", b"")
        if kind == "sha256" and hashlib.sha256(content).hexdigest() == value:
            yield f"{kind}:{value}"


def _chosen(contents: Contents, path: Path, reference: str) -> Packed:
    """Return the image that stands for the reference, else the one of that name."""
    stand_ins = [one for one in contents.images if one.stands_for == reference]
    named = [one for one in contents.images if any(references.same_name(name, reference) for name in one.names)]
    # A reference by digest alone has no name that an archive could hold.
    alone = [] if references.split(reference)[1] or "@" not in reference else list(contents.images[:1])
    if found := stand_ins or named or alone:
        return found[0]
    held = ", ".join(name for one in contents.images for name in one.names) or "an image without a name"
    raise RefusedError(f"{path} holds {held}, not {reference}.", f"{_anew(reference)}; or change image.reference")


def _check_digest(contents: Contents, packed: Packed, path: Path, reference: str, *, sworn: bool) -> None:
    """Raise RefusedError where a pinned digest can neither be seen in the archive nor is vouched for by FILE.sha256."""
    digest = reference.partition("@")[2]
    if digest and not packed.stands_for and digest not in contents.digests and not sworn:
        raise RefusedError(
            f"Whether {path} is {digest[:19]} cannot be told: `docker save` does not keep a registry's digest.",
            f"vouch for the file: sha256sum {path.name} > {path.name}.sha256, where it was made, and copy both",
        )


def _pieces(source: Source, doing: str, progress: Progress) -> Iterator[bytes]:
    say = Paced(progress, _PAUSE)
    while piece := source.stream.read(_PIECE):
        say(f"{doing}: {source.share}")
        yield piece


def _anew(reference: str = "REFERENCE") -> str:
    return f"make it anew where there is a network: docker save {reference} | zstd > mlflow.tar.zst, and copy it"
