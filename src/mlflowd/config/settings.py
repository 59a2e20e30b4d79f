"""The settings: one model a section of /etc/mlflowd.toml, every key with its default and its description.

The descriptions are the single source: docs/configuration.md and etc/mlflowd.toml are written from them
(config/reference.py). Defaults stand in the notation of the file and pass the same checks as a person's values.
No effects: load.py reads the file and the environment, since pydantic-settings' own readers know no lines and stop
at the first error; what it does here is to lay them over each other and over the defaults.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mlflowd.config import uris
from mlflowd.config.agreement import ContradictionsError, contradictions
from mlflowd.config.secret_sources import Secret
from mlflowd.config.section import Section, key
from mlflowd.config.server_rules import (
    Arguments,
    Environment,
    Hosts,
    Origins,
    Packages,
    Reference,
    ServerSecrets,
    UvicornOptions,
)
from mlflowd.config.stores import Artifacts, Backend, Region, StoreEndpoint
from mlflowd.config.upkeep import (
    BackupSettings,
    DiskSettings,
    HealthSettings,
    LogSettings,
    RestartSettings,
    UpgradeSettings,
)
from mlflowd.config.values import (
    WORKERS,
    AbsolutePath,
    Automatic,
    Endpoint,
    Flag,
    MaybePath,
    Share,
    Span,
    WholeSeconds,
    choice,
    matching,
    selinux_label,
    texts,
    whole,
    whole_or_auto,
)


class EngineSettings(Section):
    """The container engine: Docker, or Podman by its Docker socket."""

    socket: AbsolutePath = key(
        "/run/docker.sock", "the engine's socket (a rootless engine has its own); a change needs a restart"
    )
    timeout: Span = key("10s", "how long one call to the engine may take")


class ServerSettings(Section):
    """The MLflow server."""

    listen: Endpoint = key("127.0.0.1:5000", 'where people reach MLflow; "0.0.0.0:5000" opens it to the network')
    workers: Annotated[Literal["auto"] | int, WORKERS] = key("auto", '"auto": 2 where the image has uvloop, else 1')
    jobs: Flag = key(False, "MLflow's background jobs (GenAI scoring, trace archival); they cost about 1 GiB of memory")
    uvicorn_options: UvicornOptions = key("", "further options of uvicorn, as on its command line")
    extra_arguments: Arguments = key([], "further arguments of `mlflow server`; no secrets, every user can read them")
    environment: Environment = key({}, "further environment variables of the server")
    secrets: ServerSecrets = key({}, "further environment variables whose values are secrets, by where each one is")
    allowed_hosts: Hosts = key([], "names under which clients reach the server, beside localhost and private addresses")
    cors_origins: Origins = key([], "web pages that may call the server from a browser, beside those of localhost")
    graceful_timeout: WholeSeconds = key("10s", "how long requests in progress may take at a stop")
    telemetry: Flag = key(False, "whether MLflow may send usage data to its makers")


class ImageSettings(Section):
    """The image that the server runs from."""

    reference: Reference = key(
        "ghcr.io/mlflow/mlflow:v3.17.2", "the image; a tag that moves later is told and not followed"
    )
    packages: Packages = key(
        [], "further Python packages that the image is to have; what the stores need comes by itself"
    )
    build: Flag = key(True, "whether packages that the image lacks are installed into an image of its own")
    archive: MaybePath = key(
        "none", "a file of `docker save` (.tar, .tar.gz, .tar.zst) to load where the image is missing"
    )


class ContainerSettings(Section):
    """The container around the server, and its limits."""

    name: Annotated[
        str,
        matching('a container name such as "mlflowd" (letters, digits, "_", "." and "-")', r"[A-Za-z0-9][\w.-]{1,62}"),
    ] = key("mlflowd", "the container's name; one that mlflowd did not make is never touched; a change needs a restart")
    network: Annotated[
        str,
        matching('the name of a network of its own such as "mlflowd"', r"(?!(?:host|none)$)[A-Za-z0-9][\w.-]{1,62}"),
    ] = key("mlflowd", "the container's network, made where it is missing")
    memory: Automatic = key("auto", 'the most memory; "auto" goes by workers and jobs and is 75% at most')
    pids: Annotated[Literal["auto"] | int, whole_or_auto(32, 4194304)] = key(
        "auto", 'the most processes and threads; "auto" goes by workers and jobs'
    )
    cpu_weight: Annotated[int, whole(2, 262144)] = key(
        1024, "the share of a busy processor beside other containers, which have 1024"
    )
    selinux: Annotated[
        tuple[str, ...], texts('a list of SELinux labels such as ["type:container_t"], or ["disable"]', selinux_label)
    ] = key([], "SELinux labels of the container, where the engine's own do not reach the stores")
    tmp_size: Share = key("2G", "the size of /tmp, which lies in memory")
    shm_size: Share = key("256M", "the size of /dev/shm, which jobs use")
    stop_grace: Span = key(
        "30s", "how long a stop may take before the server is killed; more than server.graceful_timeout"
    )


class BackendStoreSettings(Section):
    """MLflow's database."""

    uri: Backend = key(
        "sqlite:////var/lib/mlflowd/backend/mlflow.db",
        "SQLite's file, with four slashes, or the URI of a PostgreSQL, MySQL, MariaDB or SQL Server database",
    )
    password: Secret = key("none", "the password of the database's user")
    journal_mode: Annotated[Literal["wal", "delete", "keep"], choice("wal", "delete", "keep")] = key(
        "wal", '"wal" lets readers and writers work side by side; "delete" for network file systems; "keep" leaves it'
    )
    create: Flag = key(True, "whether a missing directory is made (a database that was there before never is)")

    @property
    def database(self) -> uris.DatabaseUri:
        """Return the parts of the URI."""
        return uris.database(self.uri)

    @property
    def file(self) -> Path | None:
        """Return SQLite's file on this machine, None where the database is a server's."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:") else None


class ArtifactStoreSettings(Section):
    """MLflow's files: models, plots, data sets. The server hands them on, so that clients need no credentials."""

    uri: Artifacts = key("/var/lib/mlflowd/artifacts", "a directory, or the URI of a store: s3, gs, wasbs, sftp, ftp")
    create: Flag = key(True, "whether a missing directory is made")
    mounted: Flag = key(
        False, "whether a file system must be mounted for the directory (NFS); without it nothing starts"
    )
    proxied: Flag = key(True, "whether the server hands artifacts on; false: each client needs the store's credentials")
    signed_links: Flag = key(
        False, "of S3, Azure and Google: whether clients move files past the server, by links that it signs"
    )
    endpoint: StoreEndpoint = key("", "of S3: the URL of a store that is not Amazon's")
    region: Region = key("", "of S3: the region")
    addressing: Annotated[Literal["auto", "path", "virtual"], choice("auto", "path", "virtual")] = key(
        "auto", 'of S3: "path" puts the bucket behind the host, as most other stores want it'
    )
    ca_file: MaybePath = key("none", "of S3, Azure and Google: the certificate authority of the endpoint, a PEM file")
    access_key: Secret = key("none", 'of S3: the id of the access key; "none" leaves it to the machine\'s role')
    secret_key: Secret = key("none", "of S3: the secret access key; of Azure: the account's key")
    connection_string: Secret = key("none", "of Azure: a connection string, in place of secret_key")
    password: Secret = key("none", "of SFTP and FTP: the password of the user in the URI")
    key_file: Secret = key("none", "of SFTP: the private key; of Google: the service account's key, a JSON file")
    known_hosts: MaybePath = key("none", "of SFTP: a file with the server's host key, as ssh-keyscan prints it")

    @property
    def place(self) -> uris.ArtifactUri:
        """Return the parts of the URI."""
        return uris.artifacts(self.uri)

    @property
    def directory(self) -> Path | None:
        """Return the directory on this machine, None where the artifacts lie elsewhere."""
        return Path(self.uri) if self.uri.startswith("/") else None


class LoginSettings(Section):
    """Names and passwords for the server: MLflow's basic-auth."""

    enabled: Flag = key(False, "whether clients have to log in")
    admin_password: Secret = key("none", "the first password of the user admin, 12 characters or more")
    default_permission: Annotated[
        Literal["READ", "EDIT", "MANAGE", "NO_PERMISSIONS"], choice("READ", "EDIT", "MANAGE", "NO_PERMISSIONS")
    ] = key("READ", "what a user may do with what others made")


_LAYERS = "layers"


class Settings(BaseSettings):
    """Everything that /etc/mlflowd.toml may say."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    engine: EngineSettings = Field(default_factory=EngineSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    image: ImageSettings = Field(default_factory=ImageSettings)
    container: ContainerSettings = Field(default_factory=ContainerSettings)
    backend_store: BackendStoreSettings = Field(default_factory=BackendStoreSettings)
    artifact_store: ArtifactStoreSettings = Field(default_factory=ArtifactStoreSettings)
    login: LoginSettings = Field(default_factory=LoginSettings)
    health: HealthSettings = Field(default_factory=HealthSettings)
    restart: RestartSettings = Field(default_factory=RestartSettings)
    disk: DiskSettings = Field(default_factory=DiskSettings)
    backup: BackupSettings = Field(default_factory=BackupSettings)
    upgrade: UpgradeSettings = Field(default_factory=UpgradeSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @classmethod
    def layered(cls, *layers: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return the settings that these layers give, the first one uppermost. Raises pydantic.ValidationError."""
        named: dict[str, Any] = {_LAYERS: layers}
        return cls(**named)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the layers that `layered` was given, and nothing that the process's environment happens to hold."""
        del env_settings, dotenv_settings, file_secret_settings
        given = dict(init_settings())
        layers = given.pop(_LAYERS, ())
        return tuple(InitSettingsSource(settings_cls, dict(layer)) for layer in (given, *layers))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if found := tuple(contradictions(self)):
            raise ContradictionsError(found)
        return self
