from __future__ import annotations

import pytest

from mlflowd.config.environment import Stray, Variable, read, value_of, variable_of


def test_a_variable_is_its_section_and_key_in_capitals_with_two_underscores() -> None:
    assert variable_of("backend_store", "journal_mode") == "MLFLOWD_BACKEND_STORE__JOURNAL_MODE"
    assert list(read({"MLFLOWD_BACKEND_STORE__JOURNAL_MODE": "wal"})) == [
        Variable("MLFLOWD_BACKEND_STORE__JOURNAL_MODE", "backend_store", "journal_mode", "wal")
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MLFLOWD_SERVER__LISTNE", "did you mean MLFLOWD_SERVER__LISTEN?"),
        ("MLFLOWD_SEVRER__LISTEN", "did you mean MLFLOWD_SERVER__LISTEN?"),
        ("MLFLOWD_SERVER_LISTEN", "did you mean MLFLOWD_SERVER__LISTEN?"),
        ("MLFLOWD_server__listen", "did you mean MLFLOWD_SERVER__LISTEN?"),
        ("MLFLOWD_SERVER__MEMORY", "did you mean MLFLOWD_CONTAINER__MEMORY?"),
        ("MLFLOWD_QQQQ__X", "sections: engine, server"),
    ],
)
def test_a_variable_that_names_no_key_is_reported_with_the_nearest(name: str, hint: str) -> None:
    (found,) = read({name: "secret"})
    assert isinstance(found, Stray)
    assert hint in found.hint
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    "name",
    ["MLFLOWD_TEST_SEED", "MLFLOWD", "MLFLOWD_", "MLFLOWD_DEBUG", "MLFLOW_TRACKING_URI", "NOTIFY_SOCKET", "PATH"],
)
def test_other_variables_are_left_alone(name: str) -> None:
    assert list(read({name: "x"})) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("64", 64), ('["a", "b"]', ["a", "b"]), ('{A = "1"}', {"A": "1"}), ("auto", "auto"), ("", "")],
)
def test_flags_numbers_lists_and_tables_are_read_as_toml(text: str, value: object) -> None:
    assert value_of(text, textual=False) == value


@pytest.mark.parametrize("text", ["true\nx = 1", "[" * 5000, "9" * 5000, "1 # a\n[x]"])
def test_what_is_no_toml_value_stays_text_for_the_key_to_refuse(text: str) -> None:
    assert value_of(text, textual=False) == text


def test_texts_stand_as_they_are() -> None:
    assert value_of("20", textual=True) == "20"
