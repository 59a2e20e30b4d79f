"""Where the end-to-end tests keep things, and the checkout as a person would have it. Writes below CACHE alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("MLFLOWD_TEST_CACHE", "/var/cache/mlflowd-tests"))
CHECKOUT = Path(__file__).resolve().parents[2]
MIRROR = os.environ.get("MLFLOWD_TEST_MIRROR", "")
"""Debian mirror of the guests, "" for debootstrap's own default."""
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
INSTALLED_FROM = ("install.sh", "pyproject.toml", "README.md", "src", "etc", "systemd", "requirements")
"""What an installation is made from: the key of a snapshot of an installed guest."""


def checkout_files(*under: str) -> list[Path]:
    """Return the files git knows or would add, relative to the checkout, sorted."""
    command = ["git", "-C", str(CHECKOUT), "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run([*command, "--", *under], check=True, capture_output=True, text=True).stdout
    return sorted(Path(name) for name in set(listed.split("\0")) if name and (CHECKOUT / name).is_file())


def export_checkout(target: Path) -> None:
    """Copy those files to `target`, as `git clone` would."""
    for file in checkout_files():
        copy = target / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / file, copy)


def checkout_key() -> str:
    """Return 12 hex digits over everything that install.sh installs."""
    digest = hashlib.sha256()
    for file in checkout_files(*INSTALLED_FROM):
        digest.update(f"{file}\0".encode() + (CHECKOUT / file).read_bytes() + b"\0")
    return digest.hexdigest()[:12]
