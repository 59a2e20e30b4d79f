"""The names by which the server is reached: what MLflow is told, and what it takes then."""

from __future__ import annotations

from typing import Any

import pytest

from mlflowd.config import Settings
from mlflowd.server import names

OWN = ("localhost:33333", "127.0.0.1:5000", "[::1]:5000", "localhost", "192.168.1.5:5000", "10.0.0.1", "172.16.0.9:80")


def server(**keys: Any) -> Settings:
    return Settings(server=keys)


def takes_host(settings: Settings, header: str) -> bool:
    return names.matches(names.allowed_hosts(settings), header)


def takes_page(settings: Settings, origin: str) -> bool:
    return names.matches(names.allowed_origins(settings), origin)


def test_nothing_is_said_where_nothing_is_given() -> None:
    assert names.wiring(Settings()).environment == {}


def test_the_variables_are_lists_with_commas() -> None:
    made = names.wiring(server(allowed_hosts=["mlflow.example.org"], cors_origins=["https://a.example"])).environment
    assert made["MLFLOW_SERVER_ALLOWED_HOSTS"].endswith(",mlflow.example.org,mlflow.example.org:*")
    assert made["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")[0] == "https://a.example"


@pytest.mark.parametrize("header", [*OWN, "mlflow.example.org", "mlflow.example.org:8443"])
def test_a_name_is_taken_with_any_port_and_mlflows_own_stay(header: str) -> None:
    assert takes_host(server(allowed_hosts=["MLflow.example.org"]), header)


@pytest.mark.parametrize("header", ["evil.example", "mlflow.example.org.evil.example", "xmlflow.example.org:5000"])
def test_other_names_are_not_taken(header: str) -> None:
    assert not takes_host(server(allowed_hosts=["mlflow.example.org"]), header)


def test_a_name_with_a_port_is_taken_with_that_port_alone() -> None:
    settings = server(allowed_hosts=["mlflow.example.org:8443"])
    assert takes_host(settings, "mlflow.example.org:8443")
    assert not takes_host(settings, "mlflow.example.org:80")


def test_a_wildcard_stays_one() -> None:
    assert takes_host(server(allowed_hosts=["*.example.org"]), "a.example.org")
    assert names.allowed_hosts(server(allowed_hosts=["*"])) == ("*",)


@pytest.mark.parametrize("name", ["[2001:db8::1]", "[2001:db8::1]:5000", "[2001:db8::1]:*"])
def test_an_ipv6_address_is_written_so_that_its_bracket_is_one(name: str) -> None:
    settings = server(allowed_hosts=[name])
    assert takes_host(settings, "[2001:db8::1]:5000")
    assert not takes_host(settings, "2:5000")


@pytest.mark.parametrize("listen", ["203.0.113.7:5000", "[2001:db8::7]:5000", "[fd00::7]:5000"])
def test_an_address_of_its_own_that_mlflow_would_not_take_is_added(listen: str) -> None:
    settings = server(listen=listen)
    assert takes_host(settings, listen)
    assert all(takes_host(settings, header) for header in OWN)
    assert takes_page(settings, f"http://{listen}")


@pytest.mark.parametrize("listen", ["127.0.0.1:5000", "192.168.1.5:5000", "0.0.0.0:5000", "[::]:5000"])
def test_an_address_that_mlflow_takes_needs_no_list(listen: str) -> None:
    assert names.allowed_hosts(server(listen=listen)) == ()


def test_the_pages_of_the_server_itself_are_taken_under_each_of_its_names() -> None:
    settings = server(allowed_hosts=["mlflow.example.org", "other.example:8443", "*"])
    for origin in ("https://mlflow.example.org", "http://mlflow.example.org:5000", "https://other.example:8443"):
        assert takes_page(settings, origin)
    assert not takes_page(settings, "https://evil.example")
    assert not takes_page(settings, "https://other.example")


def test_its_pages_are_taken_under_every_private_address_where_it_is_published_on_all() -> None:
    settings = server(listen="0.0.0.0:5000")
    for host in ("192.168.1.5", "10.20.30.40", "172.31.255.1"):
        assert takes_page(settings, f"http://{host}:5000")
        assert not takes_page(settings, f"http://{host}:8888")
    for host in ("10.evil.example", "192.168.1.5.evil.example", "10.1.1.1.evil.example", "172.32.0.1", "8.8.8.8"):
        assert not takes_page(settings, f"http://{host}:5000")


def test_behind_a_tunnel_no_page_but_localhost_is_taken() -> None:
    assert names.allowed_origins(Settings()) == ()


def test_any_page_is_what_a_person_may_wish() -> None:
    assert names.allowed_origins(server(cors_origins=["*"], listen="0.0.0.0:5000")) == ("*",)
