"""Whatever the file and the environment hold: settings, or a ConfigurationError that says where (fault 28)."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mlflowd.config import Settings, load
from mlflowd.config.catalogue import KEYS, SECTIONS
from mlflowd.config.environment import VARIABLES
from mlflowd.config.notation import toml
from mlflowd.errors import ConfigurationError

LINE = re.compile(r".+\.toml(:\d+)?: \S.*\.( Hint: .+)?|MLFLOWD_\S+: \S.*\.( Hint: .+)?|… and \d+ more\.")
ORIGINAL = "\n".join(
    line
    for section, model in SECTIONS.items()
    for line in (f"[{section}]", *(f"{name} = {toml(field.default)}" for name, field in model.model_fields.items()))
)

SCRAPS = st.one_of(
    st.sampled_from(
        ["=", '"', "'", '"""', "[", "]", "[[", "{", "}", "\n", "#", ".", "-", "\\", "\0", "nan", "1e999", "true"]
    ),
    st.sampled_from(["sqlite:///x", "postgresql://u:p@h/d", "-1s", "5 min", "10%", "[server]", "server.listen = 1\n"]),
    st.text(max_size=6),
)
EDITS = st.lists(st.tuples(st.integers(0, len(ORIGINAL)), st.integers(0, 40), SCRAPS), min_size=1, max_size=5)

VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(
            ["0s", "4G", "101%", "none", "auto", "sqlite:////a/b", "/a", "file:///a%00", "[::1]:5", "--host"]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
NAMES = st.sampled_from([*SECTIONS, *(key for _, key in KEYS)]) | st.text(max_size=8)


def outcome(contents: bytes, environ: dict[str, str] | None = None) -> Settings | list[str]:
    """Return the settings or the error's lines; anything else that is raised fails the test."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "mlflowd.toml"
        file.write_bytes(contents)
        try:
            return load(file, environ or {}).settings
        except ConfigurationError as error:
            return str(error).split("\n")


def check(result: Settings | list[str]) -> None:
    if isinstance(result, list):
        assert result
        for line in result:
            assert LINE.fullmatch(line), line
            line.encode()


def as_toml(value: object) -> str:
    """Write any value; the product's own writer says floats as time spans and has no odd names."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(name)} = {as_toml(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return str(value) if isinstance(value, float) else toml(value)


def test_the_original_is_all_defaults() -> None:
    assert outcome(ORIGINAL.encode()) == Settings()


@settings(max_examples=300, deadline=None)
@given(EDITS)
def test_a_file_with_random_edits_gives_settings_or_says_where(edits: list[tuple[int, int, str]]) -> None:
    text = ORIGINAL
    for place, cut, scrap in edits:
        text = text[:place] + scrap + text[place + cut :]
    check(outcome(text.encode("utf-8", "surrogatepass")))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(ORIGINAL)), st.binary(min_size=1, max_size=8))
def test_a_file_with_random_bytes_gives_settings_or_says_where(place: int, scrap: bytes) -> None:
    original = ORIGINAL.encode()
    check(outcome(original[:place] + scrap + original[place:]))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=4), max_size=4))
def test_a_file_with_random_tables_gives_settings_or_says_where(tables: dict[str, object]) -> None:
    check(outcome("\n".join(f"{toml(name)} = {as_toml(value)}" for name, value in tables.items()).encode()))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(KEYS)), VALUES)
def test_a_random_value_of_a_key_gives_settings_or_names_the_key(keys: tuple[str, str], value: object) -> None:
    section, key = keys
    result = outcome(f"[{section}]\n{key} = {as_toml(value)}\n".encode())
    check(result)
    if isinstance(result, list):
        assert all(":2: " in line for line in result)
        assert any(f": {section}." in line for line in result), f"{key} may contradict another key of its section"


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(VARIABLES)), st.text(max_size=20) | VALUES.map(as_toml))
def test_a_random_variable_gives_settings_or_is_named(name: str, text: str) -> None:
    result = outcome(b"", {name: text})
    check(result)
    if isinstance(result, list):
        assert all(line.startswith(f"{name}: ") for line in result)
