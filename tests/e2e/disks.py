"""The guests' disks: a cached base for each suite, a throw-away overlay over it, snapshots of powered-off guests.

Everything lies below the cache directory of places.py:
base/SUITE            a Debian as the installer leaves it, made once by debootstrap
apt/SUITE             packages that guests fetched, handed to the next ones
snapshots/NAME        what a guest had changed (root) and its engine's data (docker), when it was frozen
guests/MACHINE        the same of a guest in use, with the merged root file system
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e import outside
from e2e.places import CA_BUNDLE, CACHE, MIRROR

SUITES = ("bookworm", "trixie")
BASE_PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates,iproute2,procps"


def base(suite: str) -> Path:
    """Return the root file system of a fresh Debian, made (about a minute) where it is not in the cache yet."""
    ready = CACHE / "base" / suite
    if not ready.is_dir():
        part = ready.with_name(f"{suite}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        command = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", suite, str(part), *MIRROR.split()]
        with (ready.with_name(f"{suite}.log")).open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
        part.rename(ready)
    return ready


def snapshot_path(name: str) -> Path:
    return CACHE / "snapshots" / name


def drop_snapshot(name: str) -> None:
    shutil.rmtree(snapshot_path(name), ignore_errors=True)


@dataclass(frozen=True)
class Disk:
    """One guest's disk: the overlay's layers below (the nearest first) and the directory of the guest."""

    suite: str
    layers: tuple[Path, ...]
    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def docker(self) -> Path:
        return self.directory / "docker"

    @property
    def upper(self) -> Path:
        return self.directory / "upper"

    def mount(self) -> None:
        work = self.directory / "work"
        for directory in (self.root, self.upper, work):
            directory.mkdir(parents=True, exist_ok=True)
        self.docker.mkdir(mode=0o710, exist_ok=True)
        lower = ":".join(str(layer) for layer in self.layers)
        options = f"lowerdir={lower},upperdir={self.upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(self.root)], check=True)

    def unmount(self) -> None:
        for point in outside.mounts_below(self.directory):
            subprocess.run(["umount", "--lazy", point], check=False)

    def remove(self) -> None:
        self.unmount()
        keep_packages(self.upper, self.suite)
        shutil.rmtree(self.directory, ignore_errors=True)

    def freeze(self, name: str) -> None:
        """Make a snapshot of the powered-off guest; the disk itself is gone then."""
        self.unmount()
        keep_packages(self.upper, self.suite)
        drop_snapshot(name)
        target = snapshot_path(name)
        target.mkdir(parents=True)
        self.upper.rename(target / "root")
        self.docker.rename(target / "docker")
        layers = [str(target / "root"), *(str(layer) for layer in self.layers)]
        (target / "layers.json").write_text(json.dumps({"suite": self.suite, "layers": layers}))
        shutil.rmtree(self.directory)


def fresh_disk(directory: Path, suite: str) -> Disk:
    """Return a mounted disk over a fresh base."""
    clear_leftovers(directory)
    return ready(Disk(suite, (base(suite),), directory))


def snapshot_disk(directory: Path, name: str) -> Disk:
    """Return a mounted disk over a snapshot, with a copy of its engine's data."""
    clear_leftovers(directory)
    frozen = json.loads((snapshot_path(name) / "layers.json").read_text())
    disk = Disk(frozen["suite"], tuple(Path(layer) for layer in frozen["layers"]), directory)
    copy_docker(snapshot_path(name) / "docker", disk.docker)
    return ready(disk)


def ready(disk: Disk) -> Disk:
    disk.mount()
    settle_in(disk.root)
    hand_out_packages(disk)
    return disk


def clear_leftovers(directory: Path) -> None:
    """Take away what a crashed run left at this place."""
    for point in outside.mounts_below(directory):
        subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(directory, ignore_errors=True)


# --- what a guest gets from the outer machine ------------------------------------------------------


def settle_in(root: Path) -> None:
    """Give the guest this machine's way to the world: name servers, trusted authorities, package index."""
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    systemd_resolved = Path("/run/systemd/resolve/resolv.conf")
    shutil.copy(systemd_resolved if systemd_resolved.exists() else "/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy(CA_BUNDLE, root / CA_BUNDLE.relative_to("/"))
    index = os.environ.get("PIP_INDEX_URL", "")
    lines = ["[global]", f"cert = {CA_BUNDLE}", *([f"index-url = {index}"] if index.startswith("http") else [])]
    (root / "etc/pip.conf").write_text("\n".join(lines) + "\n")


def hand_out_packages(disk: Disk) -> None:
    """Put the packages of earlier guests where apt looks before it fetches."""
    archives = disk.root / "var/cache/apt/archives"
    for package in (CACHE / "apt" / disk.suite).glob("*.deb"):
        if not (archives / package.name).exists():
            shutil.copy2(package, archives / package.name)


def keep_packages(upper: Path, suite: str) -> None:
    """Keep what apt fetched for the next guests."""
    store = CACHE / "apt" / suite
    store.mkdir(parents=True, exist_ok=True)
    for package in (upper / "var/cache/apt/archives").glob("*.deb"):
        if not (store / package.name).exists():
            shutil.copy2(package, store / f"{package.name}.part")
            (store / f"{package.name}.part").rename(store / package.name)
        package.unlink()


# --- the engine's data -----------------------------------------------------------------------------


def copy_docker(source: Path, target: Path) -> None:
    """Copy the engine's data directory; the files of image layers, which nobody writes to, as hard links.

    The layers of containers (docker: layerdb/mounts) are written to, hence copied.
    """
    target.mkdir(parents=True, exist_ok=True, mode=0o710)
    copy([entry for entry in source.iterdir() if entry.name != "overlay2"], target)
    written = container_layers(source)
    layers = list((source / "overlay2").glob("*"))
    copy([layer for layer in layers if layer.name in written or layer.name == "l"], target / "overlay2")
    copy([layer for layer in layers if layer.name not in written and layer.name != "l"], target / "overlay2", "--link")


def copy_images(source: Path, target: Path) -> None:
    """Copy the engine's images and nothing else: no container, network or volume."""
    target.mkdir(parents=True, exist_ok=True, mode=0o710)
    images = source / "image/overlay2"
    copy([images / "imagedb", images / "repositories.json"], target / "image/overlay2")
    copy([images / "layerdb/sha256"], target / "image/overlay2/layerdb")
    written = container_layers(source)
    layers = [layer for layer in (source / "overlay2").glob("*") if layer.name not in {*written, "l"}]
    copy([source / "overlay2/l"], target / "overlay2")
    copy(layers, target / "overlay2", "--link")


def container_layers(docker: Path) -> set[str]:
    return {file.read_text().strip() for file in docker.glob("image/overlay2/layerdb/mounts/*/*-id")}


def copy(sources: list[Path], directory: Path, *options: str) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o710)
    if sources:
        command = ["cp", "-a", *options, "-t", str(directory), *(str(source) for source in sources)]
        subprocess.run(command, check=True)
