"""Stores of other machines for a guest: what /etc/mlflowd.toml says of each, and its secrets as systemd credentials.

    configure(host, POSTGRES.toml + S3.toml, {**credentials of both})   # writes, starts, returns when it serves

Effects: in the guest /etc/mlflowd.toml, /etc/mlflowd.secrets, a drop-in of mlflowd.service; restarts the service.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e2e.installation import SERVE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.guest import Guest
    from services.azure import Azure
    from services.mariadb import Mariadb
    from services.postgres import Postgres
    from services.s3 import S3
    from services.sftp import Sftp

BUILD_LIMIT = 400.0
"""Seconds for a start that derives an image first."""
SECRETS = "/etc/mlflowd.secrets"
DROP_IN = "/etc/systemd/system/mlflowd.service.d/credentials.conf"
QUICK = """\
[health]
database_interval = "2s"
database_timeout = "8s"
store_interval = "2s"
artifact_interval = "5s"
"""
"""Looks at the stores often enough for a test to wait for one."""


@dataclass(frozen=True)
class Store:
    """One store: the lines of the configuration, and the secrets that they name, by credential."""

    toml: str
    secrets: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """Public files of the guest by their path."""


def database(server: Postgres | Mariadb) -> Store:
    toml = f'[backend_store]\nuri = "{server.uri_without_password}"\npassword = "credential:database"\n'
    return Store(toml, {"database": server.password})


def s3(server: S3) -> Store:
    toml = f"""\
[artifact_store]
uri = "{server.uri}"
endpoint = "{server.endpoint}"
region = "{server.region}"
addressing = "path"
access_key = "credential:s3-id"
secret_key = "credential:s3-secret"
"""
    secrets = {"s3-id": server.access_key, "s3-secret": server.secret_key}
    if server.ca_file is None:
        return Store(toml, secrets)
    trusted = "/etc/ssl/store-ca.pem"
    return Store(f'{toml}ca_file = "{trusted}"\n', secrets, {trusted: server.ca_file.read_text()})


def azure(server: Azure) -> Store:
    toml = f'[artifact_store]\nuri = "{server.uri}"\nconnection_string = "credential:azure"\n'
    return Store(toml, {"azure": server.connection_string})


def sftp(server: Sftp) -> Store:
    known = "/etc/ssh_known_hosts_of_the_store"
    toml = f"""\
[artifact_store]
uri = "{server.uri}"
key_file = "credential:sftp-key"
known_hosts = "{known}"
"""
    return Store(toml, {"sftp-key": server.key_file.read_text()}, {known: server.known_hosts + "\n"})


def write(host: Guest, *stores: Store, more: str = QUICK) -> None:
    """Write the configuration, the secrets and the drop-in; nothing is restarted."""
    write_toml(host, "\n".join([*(store.toml for store in stores), more]))
    secrets = {name: text for store in stores for name, text in store.secrets.items()}
    for name, text in secrets.items():
        host.write(f"{SECRETS}/{name}", text)
    host.run(f"mkdir -p {SECRETS} && chmod -R u=rwX,go= {SECRETS}")
    for path, text in [entry for store in stores for entry in store.files.items()]:
        host.write(path, text)
        host.run(f"chmod 644 {path}")
    loads = [f"LoadCredential={name}:{SECRETS}/{name}" for name in secrets]
    host.write(DROP_IN, "\n".join(["[Service]", *loads, ""]))
    host.run("systemctl daemon-reload")


def write_toml(host: Guest, toml: str) -> None:
    host.write("/etc/mlflowd.toml", toml)
    host.run("chown root:mlflowd /etc/mlflowd.toml && chmod 640 /etc/mlflowd.toml")


def restart(host: Guest, timeout: float = SERVE_LIMIT) -> None:
    """Start the service anew and return when it says that it serves."""
    host.run("systemctl reset-failed mlflowd; systemctl restart mlflowd", timeout=timeout)
    host.wait_serving(timeout)


def configure(host: Guest, *stores: Store, more: str = QUICK, anew: bool = False) -> None:
    """Have the guest serve with these stores, and with no others; `anew`: although the last database has data."""
    write(host, *stores, more=more)
    if anew:
        host.run("mlflowd check --accept-database", check=False, timeout=120)
    restart(host, BUILD_LIMIT)


@contextlib.contextmanager
def unreachable(host: Guest, address: str, port: int) -> Iterator[None]:
    """Drop the guest's packets to this server, its containers' and its own, until the block ends."""
    rule = f"-d {address} -p tcp --dport {port} -j DROP"
    host.run(f"iptables -w -I FORWARD 1 {rule} && iptables -w -I OUTPUT 1 {rule}")
    try:
        yield
    finally:
        host.run(f"iptables -w -D FORWARD {rule} && iptables -w -D OUTPUT {rule}")
