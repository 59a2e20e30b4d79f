"""The scripts behind `sh -c`: words as the shell makes them, and a refusal of what would have to be run."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflowd.operations.adoption.shell import commands

ENVIRONMENT = {"USER": "mlflow", "PASSWORD": "p w", "EMPTY": "", "DB": "db"}


def words(script: str) -> list[list[str]]:
    return [each.words for each in commands(script, ENVIRONMENT)[0]]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("a b  c", [["a", "b", "c"]]),
        ("a 'b c' \"d e\"", [["a", "b c", "d e"]]),
        ("a && b; c\nd", [["a"], ["b"], ["c"], ["d"]]),
        ("a \\\n  --b \\\n  c", [["a", "--b", "c"]]),
        ("a $USER ${DB}:5432", [["a", "mlflow", "db:5432"]]),
        ("a $PASSWORD", [["a", "p", "w"]]),
        ('a "$PASSWORD"', [["a", "p w"]]),
        ("a '$USER' \\$USER", [["a", "$USER", "$USER"]]),
        ("a ${NOTHING:-5000} ${EMPTY:-x} ${EMPTY-y} ${USER:+set}", [["a", "5000", "x", "y", "set"]]),
        ("a ${DB:?must be set}", [["a", "db"]]),
        ('a "" $EMPTY b', [["a", "", "b"]]),
        ("a # the rest\nb", [["a"], ["b"]]),
        ("a b#c", [["a", "b#c"]]),
        ("a > /log 2>&1", [["a"]]),
        ("a | tee /log", [["a"], ["tee", "/log"]]),
        ("a x=1&&b", [["a", "x=1"], ["b"]]),
        ("a http://x/?b=c", [["a", "http://x/?b=c"]]),
    ],
)
def test_words_are_as_the_shell_makes_them(script: str, expected: list[list[str]]) -> None:
    assert words(script) == expected


@pytest.mark.parametrize(
    "script",
    [
        "a $(cat /run/secrets/x)",
        "a `date`",
        'a "$(date)"',
        "if true; then a; fi",
        "for x in 1 2; do a; done",
        "while true; do a; done",
        "(a)",
        "a <<EOF",
        "{ a; }",
        "a 'b",
        'a "b',
        "a $1",
        "a ${USER%x}",
        "eval a",
    ],
)
def test_what_would_have_to_be_run_is_refused(script: str) -> None:
    with pytest.raises(ValueError, match=r"^(it|a quote) "):
        commands(script, ENVIRONMENT)


def test_a_refusal_repeats_no_value() -> None:
    with pytest.raises(ValueError, match="computes") as caught:
        commands("a $PASSWORD ${DB:-$(secret)}", ENVIRONMENT)
    assert "secret" not in str(caught.value)


def test_the_variables_that_it_uses_are_told() -> None:
    assert commands("a $USER ${NOTHING:-x} '$DB'", ENVIRONMENT)[1] == {"USER", "NOTHING"}


@given(st.lists(st.text(st.sampled_from("ab '\"\\$#;&|-=/{}"), max_size=6), min_size=1, max_size=4))
def test_a_plain_command_is_read_as_the_shell_reads_it(parts: list[str]) -> None:
    script = "printf '%s\\n' " + " ".join(parts)
    try:
        found = words(script)
    except ValueError:
        return
    if len(found) != 1 or any(op in script for op in ("&", "|", ";")):
        return
    said = subprocess.run(["/bin/sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False)
    if said.returncode == 0 and not any(sign in script for sign in ("{", "$")):
        expected = "".join(f"{word}\n" for word in found[0][2:]) or "\n"
        assert said.stdout.decode() == expected
