from __future__ import annotations

import pytest

from mlflowd.errors import ConfigurationError
from mlflowd.operations import references

DIGEST = "@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("reference", "version", "full"),
    [
        ("ghcr.io/mlflow/mlflow:v3.17.2", "3.17.2", False),
        ("ghcr.io/mlflow/mlflow:v3.17.2-full", "3.17.2", True),
        ("ghcr.io/mlflow/mlflow:3.9.0rc1", "3.9.0rc1", False),
        (f"ghcr.io/mlflow/mlflow:v3.17.2-full{DIGEST}", "3.17.2", True),
        ("registry:5000/mlflow", "", False),
        ("registry:5000/mlflow:v3.17.2", "3.17.2", False),
        (f"ghcr.io/mlflow/mlflow{DIGEST}", "", False),
        ("ghcr.io/mlflow/mlflow:latest-full", "", False),
        ("mlflowd/mlflow:v3.17.2-0123456789ab-01234567", "", False),
    ],
)
def test_a_tag_tells_the_version_and_whether_all_drivers_are_there(reference: str, version: str, full: bool) -> None:
    assert references.version_of(reference) == version
    assert references.is_full(reference) is full


@pytest.mark.parametrize(
    ("reference", "variant"),
    [
        ("ghcr.io/mlflow/mlflow:v3.17.2", "ghcr.io/mlflow/mlflow:v3.17.2-full"),
        (f"ghcr.io/mlflow/mlflow:v3.17.2{DIGEST}", "ghcr.io/mlflow/mlflow:v3.17.2-full"),
        ("ghcr.io/mlflow/mlflow:v3.17.2-full", ""),
        ("ghcr.io/mlflow/mlflow:latest", ""),
        ("example.org/mlflow:v3.17.2", ""),
    ],
)
def test_only_mlflows_own_images_have_a_full_variant(reference: str, variant: str) -> None:
    assert references.full_variant(reference) == variant


def test_engines_write_the_default_registry_and_tag_in_several_ways() -> None:
    assert references.same_name("docker.io/library/python", "python:latest")
    assert references.same_name(f"a/b:1{DIGEST}", "a/b:1")
    assert not references.same_name("a/b:1", "a/b:2")


@pytest.mark.parametrize(
    ("reference", "wanted", "other"),
    [
        ("ghcr.io/mlflow/mlflow:v3.10.1", "3.17.2", "ghcr.io/mlflow/mlflow:v3.17.2"),
        ("ghcr.io/mlflow/mlflow:v3.10.1", "v3.17.2", "ghcr.io/mlflow/mlflow:v3.17.2"),
        (f"ghcr.io/mlflow/mlflow:v3.10.1-full{DIGEST}", "3.17.2", "ghcr.io/mlflow/mlflow:v3.17.2-full"),
        ("registry:5000/mlflow:3.10.1", "3.17.2", "registry:5000/mlflow:3.17.2"),
        ("ghcr.io/mlflow/mlflow:v3.10.1", "registry:5000/own:stable", "registry:5000/own:stable"),
        ("registry:5000/own:stable", "registry:5000/own:next", "registry:5000/own:next"),
    ],
)
def test_another_version_keeps_what_the_tag_says_besides(reference: str, wanted: str, other: str) -> None:
    assert references.with_version(reference, wanted) == other


def test_a_version_cannot_take_the_place_of_a_tag_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="no version") as caught:
        references.with_version("registry:5000/own:stable", "3.17.2")
    assert "registry:5000/own:v3.17.2" in caught.value.hint
