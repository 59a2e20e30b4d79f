"""An S3 server of the tests: moto's, over HTTP or, with a CA of its own, over HTTPS; a wrong key is refused.

    with running_s3("127.0.0.1") as s3:
        s3.endpoint, s3.bucket, s3.access_key, s3.secret_key
    with running_s3("127.0.0.1", tls=True) as s3:
        s3.ca_file                      # the CA that signed its certificate, which is for this address

moto is in an environment of its own (requirements/services.txt). It checks signatures and policies only after
it was told to, so the account and the bucket are made first. Objects are kept in the server's memory.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.environment import environment
from services.process import answers, free_port, run, running, workplace

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "models"
REGION = "eu-central-1"
PROGRAM = Path(__file__).with_name("s3_account.py")


@dataclass(frozen=True)
class S3:
    """A running server with one bucket and one account that may do everything."""

    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: str
    ca_file: Path | None
    python: Path
    """An interpreter that has boto3."""

    @property
    def place(self) -> tuple[str, int]:
        """Return address and port."""
        host, _, port = self.endpoint.partition("://")[2].partition(":")
        return host, int(port)

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/mlflow"

    def keys(self) -> list[str]:
        """Return the names of all objects in the bucket."""
        return list(self._call("keys")["keys"])

    def _call(self, verb: str) -> dict[str, list[str]]:
        return dict(json.loads(run([str(self.python), "-W", "ignore", str(PROGRAM), verb], stdin=self._document())))

    def _document(self) -> str:
        return json.dumps({
            "endpoint": self.endpoint, "bucket": self.bucket, "region": self.region,
            "access_key": self.access_key, "secret_key": self.secret_key,
        })  # fmt: skip


@contextlib.contextmanager
def running_s3(address: str = "127.0.0.1", *, tls: bool = False, port: int | None = None) -> Iterator[S3]:
    """Run one with the bucket `models`, empty, and an account of its own. Raises ServiceError."""
    home, chosen = environment("services"), port or free_port(address)
    with workplace("s3") as place:
        certified = certificate(place, address) if tls else []
        command = [str(home / "bin" / "moto_server"), "--host", address, "--port", str(chosen), *certified]
        with running(command, place / "log", lambda: answers(address, chosen)):
            ca = place / "ca.pem" if tls else None
            yield with_account(f"http{'s' * tls}://{address}:{chosen}", home / "bin" / "python", ca)


def with_account(endpoint: str, python: Path, ca: Path | None) -> S3:
    """Make the account and the bucket, then have every request's signature checked."""
    document = json.dumps({"endpoint": endpoint, "bucket": BUCKET, "region": REGION})
    made = json.loads(run([str(python), "-W", "ignore", str(PROGRAM), "make"], stdin=document))
    return S3(endpoint, BUCKET, REGION, made["access_key"], made["secret_key"], ca, python)


def certificate(place: Path, address: str) -> list[str]:
    """Make a CA and a certificate for the address; return moto's arguments that name it."""
    ca, key, asked = place / "ca.pem", place / "ca.key", place / "server.csr"
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run([*new, "-x509", "-days", "2", "-subj", "/CN=mlflowd test CA", "-keyout", str(key), "-out", str(ca)])
    run([*new, "-subj", f"/CN={address}", "-keyout", str(place / "server.key"), "-out", str(asked)])
    extensions = place / "extensions"
    extensions.write_text(f"subjectAltName=IP:{address}\n")
    signed = ["-CA", str(ca), "-CAkey", str(key), "-CAcreateserial", "-days", "2", "-extfile", str(extensions)]
    run(["openssl", "x509", "-req", "-in", str(asked), *signed, "-out", str(place / "server.pem")])
    return ["--ssl-cert", str(place / "server.pem"), "--ssl-key", str(place / "server.key")]
