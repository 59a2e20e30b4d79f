"""Environments of Python programs that are no part of ours, each from its lock, kept in the cache.

Made by pip in about a minute, made again when the lock or the Python changes. Effects: CACHE/<name>.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from e2e.places import CACHE, CHECKOUT
from services.process import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def environment(name: str) -> Path:
    """Return CACHE/<name> with the packages of requirements/<name>.txt, made where it is not there yet."""
    home, lock = CACHE / name, CHECKOUT / "requirements" / f"{name}.txt"
    with locked(name):
        complete, wanted = home / "complete", hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
        if not complete.exists() or complete.read_text() != wanted:
            make(home, lock)
            complete.write_text(wanted)
    return home


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other runs of the tests from making the same thing of the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(home: Path, lock: Path) -> None:
    """Install the lock as it stands: it is complete, so nothing is resolved; imports compile what they need."""
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "--quiet", "--cache-dir", str(CACHE / "pip")]
    how = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile"]
    done = subprocess.run([*pip, "install", *how, "-r", str(lock)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServiceError(f"pip could not install {lock}:\n{done.stderr[-4000:]}")
