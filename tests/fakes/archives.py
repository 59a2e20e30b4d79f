"""Archives as `docker save` writes them, small: one image without any content."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Pack = Callable[[bytes], bytes]


def zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-cq"], input=content, capture_output=True, check=True).stdout


def plain(content: bytes) -> bytes:
    return content


PACKERS: dict[str, Pack] = {
    "tar": plain,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstd,
}


def description(**labels: str) -> bytes:
    """Return an image's configuration; its digest is the image's id."""
    return json.dumps({"config": {"Labels": labels}, "os": "linux", "rootfs": {"type": "layers"}}).encode()


def identifier(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def saved(*names: str, config: bytes, layer: bytes = b"layer", index: Any = None) -> bytes:
    """Return the tar archive of an image with these names."""
    own = identifier(config).removeprefix("sha256:")
    manifest = [{"Config": f"{own}.json", "RepoTags": list(names) or None, "Layers": ["l/layer.tar"]}]
    files: dict[str, bytes] = {"l/layer.tar": layer, f"{own}.json": config}
    if index is not None:
        blob = json.dumps(index).encode()
        digest = identifier(blob)
        files[f"blobs/sha256/{digest.removeprefix('sha256:')}"] = blob
        files["index.json"] = json.dumps({"manifests": [{"digest": digest}]}).encode()
    files["manifest.json"] = json.dumps(manifest).encode()
    return packed(files)


def packed(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def written(path: Path, content: bytes, *, sworn: bool = False) -> Path:
    """Write the file, with its SHA-256 beside it where it is `sworn`."""
    path.write_bytes(content)
    if sworn:
        text = f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
        path.with_name(f"{path.name}.sha256").write_text(text)
    return path
