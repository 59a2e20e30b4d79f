from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflowd.config.secret_sources import Origin, SecretSource, secret_source
from mlflowd.config.values import Wrong


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("credential:database", SecretSource(Origin.CREDENTIAL, "database")),
        ("credential:db.password-1_a", SecretSource(Origin.CREDENTIAL, "db.password-1_a")),
        ("file:/etc/mlflowd/pass word", SecretSource(Origin.FILE, "/etc/mlflowd/pass word")),
        ("env:DB_PASSWORD", SecretSource(Origin.ENVIRONMENT, "DB_PASSWORD")),
        ("correct horse battery", SecretSource(Origin.TEXT, "correct horse battery")),
        ("a:b@c/d?e#f", SecretSource(Origin.TEXT, "a:b@c/d?e#f")),
        ("/wJalrXUtnFEMI/K7MDENG+bPxRfiCY", SecretSource(Origin.TEXT, "/wJalrXUtnFEMI/K7MDENG+bPxRfiCY")),
        (
            "DefaultEndpointsProtocol=https;AccountKey=a==",
            SecretSource(Origin.TEXT, "DefaultEndpointsProtocol=https;AccountKey=a=="),
        ),
        ("$2b$12$abc", SecretSource(Origin.TEXT, "$2b$12$abc")),
    ],
)
def test_a_source_is_read_and_said_again(text: str, source: SecretSource) -> None:
    assert secret_source(text) == source
    assert source.revealed == text
    assert str(source) == ("***" if source.origin is Origin.TEXT else text)


def test_none_is_no_secret() -> None:
    assert secret_source("none") is None
    assert secret_source(None) is None


def fault(text: object) -> str:
    with pytest.raises(Wrong) as caught:
        secret_source(text)
    return f"{caught.value.faults[0].reason} | {caught.value.faults[0].hint}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'write "none" for none'),
        ("credential:", 'such as "credential:database"'),
        ("credential:../hunter2", 'such as "credential:database"'),
        ("credential:a/hunter2", 'such as "credential:database"'),
        ("file:hunter2", "an absolute path"),
        ("file:", "an absolute path"),
        ("env:HUNTER 2", "a variable such as"),
        ("credental:hunter2", 'did you mean "credential:NAME"?'),
        ("Credential:hunter2", 'did you mean "credential:NAME"?'),
        ("credentials:hunter2", 'did you mean "credential:NAME"?'),
        ("cred:hunter2", 'did you mean "credential:NAME"?'),
        ("flie:/hunter2", 'did you mean "file:/PATH"?'),
        ("path:/hunter2", 'did you mean "file:/PATH"?'),
        ("File :/hunter2", 'did you mean "file:/PATH"?'),
        ("/etc/mlflowd/hunter2", 'did you mean "file:/PATH"?'),
        ("ENV:hunter2", 'did you mean "env:NAME"?'),
        ("environment:hunter2", 'did you mean "env:NAME"?'),
        ("${HUNTER2}", 'did you mean "env:NAME"?'),
        ("$HUNTER2", 'did you mean "env:NAME"?'),
        ("***", "mlflowd config --toml --show-secrets"),
        ("hunter2\n", "control character"),
        (["hunter2"], "put it into quotes"),
    ],
)
def test_what_is_neither_a_secret_nor_its_place_is_refused_and_not_repeated(text: object, said: str) -> None:
    assert said in fault(text)
    assert "hunter2" not in fault(text).lower()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=":/$*"), min_size=1))
def test_any_password_without_a_colon_is_taken_as_it_is(text: str) -> None:
    source = secret_source(text)
    assert source is None or (source.origin, source.place) == (Origin.TEXT, text)


def test_no_repr_shows_the_place_which_may_be_the_secret() -> None:
    assert "hunter2" not in repr(secret_source("hunter2"))
