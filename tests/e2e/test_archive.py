"""A machine without a registry and without the image: image.archive brings it, as `docker save` has packed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e import stores
from e2e.trial import NAME

if TYPE_CHECKING:
    from e2e.guest import Guest

pytestmark = pytest.mark.timeout(1500)
ARCHIVE = "/srv/mlflow.tar.gz"
SERVED = f"docker inspect --format '{{{{.Image}}}}' {NAME}"


def test_the_image_is_loaded_from_the_archive_and_served(host: Guest) -> None:
    image = host.run(SERVED).stdout.strip()
    name = host.run(f"docker inspect --format '{{{{index .RepoTags 0}}}}' {image}").stdout.strip()
    host.run(f"docker save {name} | gzip -1 >{ARCHIVE} && chmod 644 {ARCHIVE}", timeout=300)
    host.run("systemctl stop mlflowd", timeout=90)
    host.run(f"docker rm {NAME} && docker image prune --all --force", timeout=120)
    assert host.run("docker images -q").stdout == ""
    stores.configure(host, stores.Store(f'[image]\narchive = "{ARCHIVE}"\n'))
    assert host.run(SERVED).stdout.strip() == image


def test_a_cut_off_archive_is_refused_with_its_name(host: Guest) -> None:
    host.run("systemctl stop mlflowd", timeout=90)
    host.run(f"docker rm {NAME} && docker image prune --all --force", timeout=120)
    host.run(f"truncate -s 50M {ARCHIVE}")
    cursor = host.journal_end()
    host.run("systemctl start --no-block mlflowd")
    said = host.wait_journal(lambda entry: ARCHIVE in entry["MESSAGE"] and "whole" in entry["MESSAGE"],
                             unit="mlflowd", cursor=cursor, timeout=90)  # fmt: skip
    assert said["PRIORITY"] <= "3"
    assert host.run("docker images -q").stdout == ""
