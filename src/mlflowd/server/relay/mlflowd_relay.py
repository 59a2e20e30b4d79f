"""Artifacts go through the server alone: a plugin of MLflow that runs inside the server, not in mlflowd.

MLflow 3.17 tells its clients whether the store can sign links, and they then fetch every file from an S3 store
itself, and take files from 500 MB on to it (to Google's and Azure's likewise). A client that does not reach the store,
or does not know its certificate authority, cannot fetch what it has just logged. Here the server's own store is
wrapped, so that it has no links to offer; stores that an experiment names by itself are left as they are.

Connections of SFTP are opened once by MLflow: after an outage of that server every transfer fails until MLflow is
restarted. Here they are looked at before each use, and all opened again where one is gone.

Registered by the entry points beside this file, which lie on PYTHONPATH (server/artifact_stores.py).
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from typing import Any

from mlflow.store.artifact.artifact_repo import ArtifactRepository  # type: ignore[import-not-found, unused-ignore]
from mlflow.store.artifact.azure_blob_artifact_repo import (  # type: ignore[import-not-found, unused-ignore]
    AzureBlobArtifactRepository,
)
from mlflow.store.artifact.gcs_artifact_repo import (  # type: ignore[import-not-found, unused-ignore]
    GCSArtifactRepository,
)
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository  # type: ignore[import-not-found, unused-ignore]
from mlflow.store.artifact.sftp_artifact_repo import (  # type: ignore[import-not-found, unused-ignore]
    SFTPArtifactRepository,
)

KEEPALIVE = 15
"""Seconds between two signs of life on an idle connection of SFTP, so that a silent end is noticed."""


class Relay(ArtifactRepository):  # type: ignore[misc, unused-ignore]  # as above
    """The server's store, with nothing but what the server itself carries."""

    def __init__(self, make: Any, uri: str, **further: Any) -> None:  # noqa: ANN401 - MLflow's own
        """Open the store; `make` is MLflow's class for it."""
        self._make = functools.partial(make, uri, **further)
        self._store = self._make()
        super().__init__(uri, **further)  # type: ignore[no-untyped-call, unused-ignore]

    @property
    def store(self) -> Any:  # noqa: ANN401 - as above
        """Return MLflow's own repository."""
        return self._store

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Take a file to the store."""
        self.store.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Take a directory to the store."""
        self.store.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> Any:  # noqa: ANN401 - as above
        """List a directory of the store."""
        return self.store.list_artifacts(path)

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None, **further: Any) -> Any:  # noqa: ANN401 - as above
        """Fetch a file or a directory from the store."""
        return self.store.download_artifacts(artifact_path, dst_path, **further)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self.store._download_file(remote_file_path, local_path)  # noqa: SLF001 - the method that MLflow overrides

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete in the store."""
        self.store.delete_artifacts(artifact_path)


class Lasting(Relay):
    """SFTP, with connections that are opened again after an outage."""

    def __init__(self, make: Any, uri: str, **further: Any) -> None:  # noqa: ANN401 - as above
        """Open the connections, and keep an eye on them."""
        self._turn = threading.Lock()
        super().__init__(make, uri, **further)
        self._watch()

    @property
    def store(self) -> Any:  # noqa: ANN401 - as above
        """Return a repository whose idle connections are alive."""
        with self._turn:
            if not all(transport.is_active() for transport in self._transports()):
                for transport in self._transports():
                    transport.close()
                self._store = self._make()
                self._watch()
            return self._store

    def _watch(self) -> None:
        for transport in self._transports():
            transport.set_keepalive(KEEPALIVE)

    def _transports(self) -> list[Any]:
        return [each._transport for each in list(self._store.pool._idle_connection_queue.queue)]  # noqa: SLF001 - pysftp offers no other way


def s3(uri: str, **further: Any) -> Any:  # noqa: ANN401 - as above
    """Return the repository for s3://."""
    return _relayed(Relay, S3ArtifactRepository, uri, further)


def gs(uri: str, **further: Any) -> Any:  # noqa: ANN401 - as above
    """Return the repository for gs://."""
    return _relayed(Relay, GCSArtifactRepository, uri, further)


def wasbs(uri: str, **further: Any) -> Any:  # noqa: ANN401 - as above
    """Return the repository for wasbs://."""
    return _relayed(Relay, AzureBlobArtifactRepository, uri, further)


def sftp(uri: str, **further: Any) -> Any:  # noqa: ANN401 - as above
    """Return the repository for sftp://."""
    _introduce()
    return _relayed(Lasting, SFTPArtifactRepository, uri, further)


def _introduce() -> None:
    """Let pysftp be imported beside paramiko 4 and later, where the image brings one: it asks for a class that is gone.

    pysftp uses it for a key that is none of RSA, which then is refused as such.
    """
    with contextlib.suppress(ImportError):
        import paramiko  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: PLC0415 - the image of another store has none

        if not hasattr(paramiko, "DSSKey"):
            paramiko.DSSKey = paramiko.RSAKey


def _relayed(wrap: Any, make: Any, uri: str, further: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
    own = uri == os.environ.get("MLFLOW_ARTIFACTS_DESTINATION")
    return wrap(make, uri, **further) if own else make(uri, **further)
