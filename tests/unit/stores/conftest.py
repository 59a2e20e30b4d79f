"""Settings whose stores lie in a directory of the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflowd.config import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(ground: Path) -> Settings:
    (ground / "backend").mkdir(mode=0o700)
    (ground / "artifacts").mkdir(mode=0o700)
    return Settings.model_validate(
        {
            "backend_store": {"uri": f"sqlite:///{ground}/backend/mlflow.db"},
            "artifact_store": {"uri": f"{ground}/artifacts"},
            "disk": {"warn": "0", "critical": "0", "require_free": "0"},
        }
    )
