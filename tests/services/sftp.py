"""An SFTP server of the tests: OpenSSH's sshd on a port of its own, with accounts that the machine does not have.

    with running_sftp("127.0.0.1") as sftp:
        sftp.user, sftp.key_file            # an account that a private key lets in
        sftp.password_user, sftp.password   # an account that a password lets in
        sftp.known_hosts                    # its host key, as a line of known_hosts
        sftp.root                           # a directory both may write, by the same path in their sessions

sshd sees its own /etc/passwd, shadow and group, mounted over the machine's in a mount namespace of its own.
Needs root and the package `openssh-server`.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.process import answers, free_port, run, running, workplace

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, UID = "mlflowkey", 61234
PASSWORD_USER, PASSWORD_UID = "mlflowword", 61235
GROUP = 61234
CONFIGURATION = """\
ListenAddress {address}
Port {port}
HostKey {place}/host_key
PidFile none
AuthorizedKeysFile {place}/authorized_keys
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
ForceCommand internal-sftp -u 0007
AllowUsers {user} {password_user}
Match User {password_user}
    PasswordAuthentication yes
"""
# StrictModes: it would refuse a key file below a directory that all may write, such as /tmp.
# /run/sshd is where sshd locks its unprivileged child in; a machine has it only while its own sshd runs.
ENTER = """\
for file in passwd shadow group; do mount --bind "$1/$file" "/etc/$file"; done
mkdir -p /run/sshd && chmod 755 /run/sshd
exec /usr/sbin/sshd -D -e -f "$1/sshd_config"
"""


@dataclass(frozen=True)
class Sftp:
    """A running server, one account for a key and one for a password."""

    address: str
    port: int
    root: Path
    user: str
    key_file: Path
    known_hosts: str
    password_user: str
    password: str

    @property
    def uri(self) -> str:
        return f"sftp://{self.user}@{self.address}:{self.port}{self.root}"

    @property
    def uri_for_password(self) -> str:
        return f"sftp://{self.password_user}@{self.address}:{self.port}{self.root}"

    def files(self) -> list[Path]:
        """Return all files that were stored."""
        return sorted(path for path in self.root.rglob("*") if path.is_file())


@contextlib.contextmanager
def running_sftp(address: str = "127.0.0.1", *, password: str | None = None, port: int | None = None) -> Iterator[Sftp]:
    """Run one. Raises ServiceError."""
    chosen, word = port or free_port(address), password or f"sf-{secrets.token_hex(12)}"
    with workplace("sftp") as place:
        server = Sftp(
            address, chosen, place / "store", USER, place / "key", make_keys(place, address, chosen),
            PASSWORD_USER, word,
        )  # fmt: skip
        make_accounts(place, word)
        make_store(server.root)
        text = CONFIGURATION.format(
            address=address, port=chosen, place=place, user=USER, password_user=PASSWORD_USER,
        )  # fmt: skip
        (place / "sshd_config").write_text(text)
        command = ["unshare", "--mount", "sh", "-ec", ENTER, "sh", str(place)]
        with running(command, place / "log", lambda: answers(address, chosen)):
            yield server


def make_keys(place: Path, address: str, port: int) -> str:
    """Make the host's key and the account's; return the line for known_hosts."""
    for name, algorithm in (("host_key", "ed25519"), ("key", "rsa")):  # of private keys pysftp reads RSA alone
        run(["ssh-keygen", "-q", "-t", algorithm, "-m", "PEM", "-N", "", "-C", name, "-f", str(place / name)])
    (place / "key.pub").rename(place / "authorized_keys")
    kind, key, _ = (place / "host_key.pub").read_text().split()
    return f"[{address}]:{port} {kind} {key}"


def make_accounts(place: Path, password: str) -> None:
    """Write the machine's accounts with our two appended, as sshd is to see them."""
    hashed = run(["openssl", "passwd", "-6", "-stdin"], stdin=password + "\n").strip()
    accounts = ((USER, UID, "*"), (PASSWORD_USER, PASSWORD_UID, hashed))
    lines = {
        "passwd": [f"{user}:x:{uid}:{GROUP}::/nonexistent:/bin/sh" for user, uid, _ in accounts],
        "shadow": [f"{user}:{word}:20000:0:99999:7:::" for user, _, word in accounts],
        "group": [f"mlflowsftp:x:{GROUP}:"],
    }
    for name, added in lines.items():
        file = place / name
        file.touch(mode=0o600 if name == "shadow" else 0o644)
        file.write_text("\n".join([Path("/etc", name).read_text().rstrip("\n"), *added, ""]))


def make_store(root: Path) -> None:
    """Make the directory that both accounts write: their group's, for new directories too."""
    root.mkdir()
    run(["chgrp", str(GROUP), str(root)])
    root.chmod(0o2770)
