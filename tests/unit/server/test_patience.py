from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from mlflowd.server import patience


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_lost_packets_end_a_request_before_the_probe_gives_up(driver: str) -> None:
    options = {name: int(value[0]) for name, value in parse_qs(patience.bounded("", driver)).items()}
    assert options["tcp_user_timeout"] / 1000 + options["connect_timeout"] < 25


def test_mysql_gets_a_limit_for_an_answer() -> None:
    assert patience.bounded("", "pymysql") == "connect_timeout=10&read_timeout=120&write_timeout=120"


def test_what_a_person_wrote_stays_and_comes_first() -> None:
    options = patience.bounded("sslmode=verify-full&connect%5Ftimeout=3", "psycopg2")
    assert options.startswith("sslmode=verify-full&connect%5Ftimeout=3&tcp_user_timeout=")
    assert "connect_timeout=10" not in options


@pytest.mark.parametrize("driver", ["", "pymssql", "pyodbc", "mysqldb"])
def test_driver_of_other_words_is_left_as_it_is(driver: str) -> None:
    assert patience.bounded("a=b", driver) == "a=b"
    assert patience.bounded("", driver) == ""


@pytest.mark.parametrize(
    ("uri", "unhurried"),
    [
        ("mysql+pymysql://m:p%40@db1/m?connect_timeout=10&read_timeout=120&write_timeout=120",
         "mysql+pymysql://m:p%40@db1/m?connect_timeout=10"),
        ("mysql+pymysql://m@db1/m?read%5Ftimeout=5", "mysql+pymysql://m@db1/m"),
        ("mysql+pymysql://m@db1/m", "mysql+pymysql://m@db1/m"),
        ("postgresql+psycopg2://m@db1/m?tcp_user_timeout=10000", "postgresql+psycopg2://m@db1/m?tcp_user_timeout=10000"),
    ],
)  # fmt: skip
def test_a_migration_s_statements_have_no_limit_and_a_lost_connection_has(uri: str, unhurried: str) -> None:
    assert patience.unhurried(uri) == unhurried
