"""What the reference of an image says by itself. No effects."""

from __future__ import annotations

import re

from mlflowd.errors import ConfigurationError

VERSION = re.compile(r"\d+(\.\d+)+([a-z]+\d+)?")
_TAG = re.compile(r"v?(\d+(?:\.\d+)+(?:[a-z]+\d+)?)(-full)?")
_OFFICIAL = "ghcr.io/mlflow/mlflow"
FULL = "-full"
"""Ends the tags of MLflow's images that have the drivers of all stores."""


def undigested(reference: str) -> str:
    """Return the reference without its digest."""
    return reference.partition("@")[0]


def split(reference: str) -> tuple[str, str]:
    """Return repository and tag, "" where there is none; a digest is left out."""
    repository, _, tag = undigested(reference).rpartition(":")
    return (repository, tag) if repository and "/" not in tag else (undigested(reference), "")


def version_of(reference: str) -> str:
    """Return the version of MLflow that a tag such as "v3.17.2" or "v3.17.2-full" names, "" where it names none."""
    found = _TAG.fullmatch(split(reference)[1])
    return found[1] if found else ""


def is_full(reference: str) -> bool:
    """Whether the tag is that of an image with the drivers of all stores."""
    found = _TAG.fullmatch(split(reference)[1])
    return bool(found and found[2])


def full_variant(reference: str) -> str:
    """Return MLflow's own image of the same version with all drivers, "" where the reference is not of MLflow's own."""
    repository, tag = split(reference)
    official = repository == _OFFICIAL and version_of(reference) and not is_full(reference)
    return f"{repository}:{tag}{FULL}" if official else ""


def with_version(reference: str, wanted: str) -> str:
    """Return the image of another version: `wanted` as a version ("3.17.2") in place of the tag's, or as a reference.

    "-full" stays, a digest goes. Raises ConfigurationError where the tag of `reference` names no version.
    """
    version = wanted.removeprefix("v")
    if not VERSION.fullmatch(version):
        return wanted
    repository, tag = split(reference)
    if not (tagged := version_of(reference)):
        message = f"The tag of {reference} (image.reference) is no version that {version} could take the place of."
        raise ConfigurationError(message, f"name the whole reference, such as {repository}:v{version}")
    return f"{repository}:{tag.replace(tagged, version)}"


def same_name(one: str, other: str) -> bool:
    """Whether two references have the same repository and tag, as engines write them."""
    return _plain(one) == _plain(other)


def _plain(reference: str) -> str:
    repository, tag = split(reference)
    return f"{repository.removeprefix('docker.io/').removeprefix('library/')}:{tag or 'latest'}"
