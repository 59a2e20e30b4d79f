"""What SFTP needs of OpenSSH's files: a private key that can be used, and the server's host key. No effects.

MLflow connects by pysftp 0.2.9, its last release: it reads RSA keys without a passphrase, looks a host key up by the
host's name alone, whatever the port, and takes the first of several.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from fnmatch import fnmatchcase
from typing import Final

_PREFERRED: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_PEM: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----\s+(.+?)-----END \1-----", re.DOTALL)
_MAGIC: Final = b"openssh-key-v1\0"


def key_fault(text: str) -> str:
    """Return why pysftp cannot use this private key, as the end of a sentence; "" where it can."""
    found = _PEM.search(text)
    if found is None:
        return "is no private key of OpenSSH"
    label, body = found.groups()
    if label == "RSA PRIVATE KEY":
        return "has a passphrase, which nobody could type" if "ENCRYPTED" in body else ""
    if label != "OPENSSH PRIVATE KEY":
        return f'has the format "{label.title()}", which pysftp does not read'
    try:
        cipher, kind = _openssh(base64.b64decode(body))
    except (binascii.Error, ValueError, IndexError):
        return "is damaged"
    if cipher != "none":
        return "has a passphrase, which nobody could type"
    return "" if kind == "ssh-rsa" else f"is of the type {kind}, and pysftp reads RSA keys alone"


def _openssh(blob: bytes) -> tuple[str, str]:
    """Return the cipher and the type of the key, from OpenSSH's format (its PROTOCOL.key)."""
    if not blob.startswith(_MAGIC):
        raise ValueError("no key")
    cipher, rest = _text(blob[len(_MAGIC) :])
    _, rest = _text(rest)  # the key derivation
    _, rest = _text(rest)  # its options
    public, _ = _text(rest[4:])  # behind the number of keys
    return cipher.decode("ascii"), _text(public)[0].decode("ascii")


def _text(blob: bytes) -> tuple[bytes, bytes]:
    """Split off a string of the SSH protocol, which begins with its length."""
    size = int.from_bytes(blob[:4])
    if len(blob) < 4 + size:
        raise ValueError("too short")
    return blob[4 : 4 + size], blob[4 + size :]


def host_key(known_hosts: str, host: str, port: int) -> str:
    """Return one line with the key of this host as pysftp looks for it, "" where `known_hosts` has none."""
    keys: dict[str, str] = {}
    for line in known_hosts.splitlines():
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith(("#", "@")) and _matches(fields[0], host, port):  # noqa: PLR2004 - names, type, key
            keys.setdefault(fields[1], fields[2])
    kind = next((kind for kind in _PREFERRED if kind in keys), "")
    return f"{host} {kind} {keys[kind]}\n" if kind else ""


def _matches(patterns: str, host: str, port: int) -> bool:
    """Say whether the first field of a line names the host (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT")."""
    names = (f"[{host}]:{port}", host) if port != 22 else (host,)  # noqa: PLR2004 - the port that is not written
    if patterns.startswith("|1|"):
        return any(_hashed(patterns, name) for name in names)
    every = [pattern.lower() for pattern in patterns.split(",")]
    refused = any(_glob(pattern[1:], name) for pattern in every if pattern.startswith("!") for name in names)
    return not refused and any(_glob(pattern, name) for pattern in every for name in names)


def _glob(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))  # * and ? alone have a meaning there


def _hashed(field: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in field.split("|")[2:4])
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), hashlib.sha1), digest)
