"""Fixtures of the end-to-end tests: fresh installations, and running guests made from them.

They need root and systemd-nspawn; with MLFLOWD_TEST_REQUIRE_GUEST=1 their absence fails instead of skipping.
"""

from __future__ import annotations

import functools
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from e2e import outside
from e2e.installation import Installation, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.guest import Guest

NEEDED = ("systemd-nspawn", "debootstrap", "nsenter", "ip", "iptables")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):  # noqa: PTH120 - pytest gives both as they are
            item.add_marker(pytest.mark.guest)


@pytest.fixture(scope="session", autouse=True)
def machine_for_guests() -> Iterator[None]:
    """A machine that can boot guests, without what a crashed run left behind."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    reason = "root" if os.geteuid() != 0 else ", ".join(missing)
    if reason and os.environ.get("MLFLOWD_TEST_REQUIRE_GUEST") == "1":
        pytest.fail(f"the end-to-end tests need {reason}; ./test.sh installs all they need")
    if reason:
        pytest.skip(f"the end-to-end tests need {reason}")
    outside.sweep()
    yield
    outside.sweep()


@pytest.fixture(scope="session")
def installation() -> Callable[[str], Installation]:
    """What `./install.sh` did on a fresh machine of this suite; done once a session.

    On Debian 12 it does everything, the build of the image included (some minutes). The fresh Debian 13 gets
    that image in its /var/lib/docker beforehand, to save the time; the engine itself is installed there too.
    """

    @functools.cache
    def attempt(suite: str) -> Installation | Exception:
        try:
            return installed(suite, None if suite == "bookworm" else of("bookworm").snapshot)
        except Exception as error:  # noqa: BLE001 - told to every test that needs it, instead of tried again by each
            return error

    def of(suite: str) -> Installation:
        result = attempt(suite)
        if isinstance(result, Exception):
            pytest.fail(f"./install.sh on a fresh {suite}: {result}", pytrace=False)
        return result

    return of


@pytest.fixture(scope="module")
def host(installation: Callable[[str], Installation]) -> Iterator[Guest]:
    """A Debian 12 with mlflowd that serves; this module's own."""
    with installation("bookworm").boot() as guest:
        yield guest
