"""Fixtures of the unit tests that need real files of a known owner."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflowd.host import redaction
from mlflowd.host.paths import Identity, user_name

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What one test makes known as a secret is not masked in the next."""
    yield
    redaction.forget()


@pytest.fixture
def who() -> Identity:
    """Whoever runs the tests."""
    return Identity(os.geteuid(), os.getegid(), user_name(os.geteuid()))


@pytest.fixture
def other() -> Identity:
    """A user that owns nothing here, and has no name on this machine."""
    return Identity(61234, 61234, "mlflowd")


@pytest.fixture
def ground() -> Iterator[Path]:
    """A directory that every user may pass; pytest's own tmp_path lies below one that only its owner may."""
    path = Path(tempfile.mkdtemp(prefix="mlflowd-test-")).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
