from __future__ import annotations

from pathlib import Path

import pytest

from mlflowd.config import Settings, load
from mlflowd.config.reference import markdown, toml_file

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("path", "written", "form"),
    [("etc/mlflowd.toml", toml_file, "toml"), ("docs/configuration.md", markdown, "markdown")],
)
def test_the_shipped_file_is_what_the_settings_say(path: str, written: object, form: str) -> None:
    assert callable(written)
    expected = "\n".join(written()) + "\n"
    assert (ROOT / path).read_text() == expected, f"python -m mlflowd.config.reference {form} > {path}"


def test_the_shipped_configuration_sets_nothing() -> None:
    loaded = load(ROOT / "etc/mlflowd.toml", {})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}


def test_the_shipped_configuration_is_right_with_every_key_taken_in(tmp_path: Path) -> None:
    file = tmp_path / "mlflowd.toml"
    lines = (ROOT / "etc/mlflowd.toml").read_text().splitlines()
    file.write_text("\n".join(line[1:] if line.startswith("#") and line[1:2].isalpha() else line for line in lines))
    loaded = load(file, {})
    assert loaded.settings == Settings()
    assert "default" not in loaded.origins.values()
