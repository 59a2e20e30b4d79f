from __future__ import annotations

import configparser
from typing import TYPE_CHECKING

import pytest

from mlflowd.operations import index_settings as module
from mlflowd.operations.index_settings import CA_IN_BUILD, IndexSettings, index_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this machine's own files out."""
    monkeypatch.setattr(module, "_BUNDLES", ())
    monkeypatch.setattr(module, "_MACHINE_FILES", (tmp_path / "etc" / "pip.conf",))


def pip_conf(settings: IndexSettings) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    parser.read_string(settings.pip_conf)
    return dict(parser["global"])


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_nothing_configured_is_an_empty_section(tmp_path: Path) -> None:
    settings = index_settings({}, tmp_path)
    assert pip_conf(settings) == {}
    assert (settings.ca_bundle, settings.proxies, settings.left_out) == (b"", {}, ())


def test_the_environment_wins_over_the_user_and_the_user_over_the_machine(tmp_path: Path) -> None:
    write(tmp_path / "etc/pip.conf", "[global]\nindex-url = https://machine/simple\ntimeout = 5\nretries = 1\n")
    write(tmp_path / ".config/pip/pip.conf", "[global]\ntimeout = 6\n[install]\nretries = 2\n")
    settings = index_settings({"PIP_RETRIES": "3"}, tmp_path)
    assert pip_conf(settings) == {"index-url": "https://machine/simple", "timeout": "6", "retries": "3"}


def test_paths_and_file_urls_are_left_out_and_said(tmp_path: Path) -> None:
    own = write(
        tmp_path / "own.conf",
        "[global]\nextra-index-url = file:///srv/simple\n    https://one/simple\n    https://two/simple\n",
    )
    settings = index_settings({"PIP_CONFIG_FILE": str(own), "PIP_FIND_LINKS": "/srv/wheels"}, tmp_path)
    assert pip_conf(settings)["extra-index-url"].split() == ["https://one/simple", "https://two/simple"]
    assert "find-links" not in pip_conf(settings)
    assert [sentence.split(" is ")[0] for sentence in settings.left_out] == [
        "pip's extra-index-url file:///srv/simple",
        "pip's find-links /srv/wheels",
    ]


def test_the_null_device_turns_the_files_off(tmp_path: Path) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\ntimeout = 6\n")
    assert pip_conf(index_settings({"PIP_CONFIG_FILE": "/dev/null"}, tmp_path)) == {}


def test_a_damaged_file_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "etc/pip.conf", "no section\n")
    assert pip_conf(index_settings({"PIP_TIMEOUT": "9"}, tmp_path)) == {"timeout": "9"}


def test_the_bundle_is_that_of_pip_before_that_of_the_environment(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.pem", "one"), write(tmp_path / "two.pem", "two")
    settings = index_settings({"PIP_CERT": str(one), "SSL_CERT_FILE": str(two)}, tmp_path)
    assert settings.ca_bundle == b"one"
    assert pip_conf(settings)["cert"] == CA_IN_BUILD
    assert index_settings({"PIP_CERT": "/nonesuch", "SSL_CERT_FILE": str(two)}, tmp_path).ca_bundle == b"two"


def test_proxies_pass_in_either_case_and_nothing_else_does(tmp_path: Path) -> None:
    environ = {"https_proxy": "http://p:1", "NO_PROXY": "x", "http_proxy": "", "HOME": "/root"}
    assert index_settings(environ, tmp_path).proxies == {"https_proxy": "http://p:1", "NO_PROXY": "x"}


def test_no_password_shows_in_the_representation(tmp_path: Path) -> None:
    environ = {"PIP_INDEX_URL": "https://u:hunter2@h/simple", "https_proxy": "http://u:hunter2@p"}
    settings = index_settings(environ, tmp_path)
    assert "hunter2" in settings.pip_conf
    assert "hunter2" not in repr(settings)
