from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflowd.host import redaction

PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n" * 2 + "-----END-----\n"


@pytest.mark.parametrize(
    "form",
    [
        "s3cr/t p@ss",
        quote("s3cr/t p@ss", safe=""),
        quote("s3cr/t p@ss", safe=" +"),
        json.dumps("s3cr/t p@ss"),
        repr("s3cr/t p@ss"),
    ],
)
def test_a_secret_is_masked_in_each_form_in_which_it_is_printed(form: str) -> None:
    redaction.hide(["s3cr/t p@ss"])
    assert redaction.redact(f"connecting with {form} failed").replace('"', "").replace("'", "") == (
        "connecting with *** failed"
    )


@given(st.text(min_size=8))
def test_any_secret_of_eight_characters_is_masked(secret: str) -> None:
    redaction.forget()
    redaction.hide([secret])
    if secret.lower() not in {"credential", "database", "localhost", "password", "postgres", "postgresql"}:
        assert secret not in redaction.redact(f"a {secret} b {json.dumps(secret)}").replace("***", "")


def test_a_short_secret_is_masked_where_it_stands_alone() -> None:
    redaction.hide(["abcd"])
    assert redaction.redact("user:abcd@db abcdef xabcd") == "user:***@db abcdef xabcd"


def test_what_is_shorter_than_four_characters_or_a_word_of_ours_is_no_secret_that_can_be_kept() -> None:
    redaction.hide(["abc", "mlflow", "Password", ""])
    assert redaction.redact("abc: mlflow has a password") == "abc: mlflow has a password"


def test_each_line_of_a_key_is_masked_and_its_frame_is_not() -> None:
    redaction.hide([PEM, json.dumps({"private_key": PEM})])
    assert redaction.redact("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ") == "***"
    assert redaction.redact("-----BEGIN OPENSSH PRIVATE KEY-----") == "-----BEGIN OPENSSH PRIVATE KEY-----"


def test_a_longer_secret_is_masked_before_its_part() -> None:
    redaction.hide(["hunter2hunter2", "hunter2hunter2-and-more"])
    assert redaction.redact("hunter2hunter2-and-more") == "***"


@pytest.mark.parametrize("known", [True, False])
def test_the_password_of_a_uri_is_masked_whether_it_is_known_or_not(known: bool) -> None:
    redaction.hide(["hunter2"] if known else [])
    assert redaction.redact("postgresql+psycopg2://mlflow:hunter2@db:5432/x") == (
        "postgresql+psycopg2://mlflow:***@db:5432/x"
    )
    assert redaction.redact("see http://127.0.0.1:5000/a and mail me@example") == (
        "see http://127.0.0.1:5000/a and mail me@example"
    )


def test_a_secret_of_yesterday_is_still_one() -> None:
    redaction.hide(["hunter2-old"])
    redaction.hide(["hunter2-new"])
    assert redaction.redact("hunter2-old hunter2-new") == "*** ***"


def test_a_document_is_redacted_and_stays_one() -> None:
    redaction.hide(['": "x', "hunter2x"])
    document = {"a": "hunter2x", "b": ["hunter2x", 1, None], "c": {"d": True}, "e": "x"}
    assert json.loads(json.dumps(redaction.redacted(document))) == {
        "a": "***",
        "b": ["***", 1, None],
        "c": {"d": True},
        "e": "x",
    }


def test_a_line_costs_microseconds_with_many_secrets() -> None:
    redaction.hide([f"secret-number-{n:04}" for n in range(100)])
    line = "2026/11/20 12:00:00 INFO mlflow.store.db.utils: Updating database tables " * 2
    start = time.process_time()
    for _ in range(1000):
        redaction.redact(line)
    assert time.process_time() - start < 0.5
