"""The settings: one model a section of /etc/mlflowd.toml, every key with its default and its description.

The descriptions are the single source: docs/configuration.md and etc/mlflowd.toml are written from them
(config/reference.py). Defaults stand in the notation of the file and pass the same checks as a person's values.
No effects: load.py reads the file and the environment, since pydantic-settings' own readers know no lines and stop
at the first error; what it does here is to lay them over each other and over the defaults.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mlflowd.config.server_rules import Arguments, Environment, Packages, UvicornOptions
from mlflowd.config.stores import Artifacts, Backend
from mlflowd.config.values import (
    WORKERS,
    AbsolutePath,
    Endpoint,
    Flag,
    Free,
    Grace,
    Limit,
    Share,
    Span,
    WholeSeconds,
    choice,
    matching,
    whole,
)


def key(default: object, description: str) -> Any:  # noqa: ANN401 - what pydantic's Field itself returns
    """Make a key of a section: its default in the notation of the file, and one line of why."""
    return Field(default=default, description=description)


class Section(BaseModel):
    """A section of the file: frozen, no unknown keys, defaults checked like any other value."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


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
    environment: Environment = key({}, "further environment variables of the server, the place for its secrets")
    graceful_timeout: WholeSeconds = key("10s", "how long requests in progress may take at a stop")
    telemetry: Flag = key(False, "whether MLflow may send usage data to its makers")


class ImageSettings(Section):
    """The image that the server runs from."""

    reference: Annotated[
        str,
        matching(
            'an image reference such as "ghcr.io/mlflow/mlflow:v3.17.2"',
            r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
        ),
    ] = key("ghcr.io/mlflow/mlflow:v3.17.2", "the image; a tag that moves is pulled only where it is missing")
    packages: Packages = key([], "further Python packages that `mlflowd image build` adds, such as a database driver")


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
    memory: Limit = key("75%", "the most memory; a percentage is of the machine's")
    pids: Annotated[int, whole(32, 4194304)] = key(1024, "the most processes and threads")
    tmp_size: Share = key("2G", "the size of /tmp, which lies in memory")
    shm_size: Share = key("256M", "the size of /dev/shm, which jobs use")
    stop_grace: Span = key(
        "30s", "how long a stop may take before the server is killed; more than server.graceful_timeout"
    )


class BackendStoreSettings(Section):
    """MLflow's database."""

    uri: Backend = key(
        "sqlite:////var/lib/mlflowd/backend/mlflow.db",
        "the database file, with four slashes; its directory goes to the service user",
    )
    journal_mode: Annotated[Literal["wal", "delete", "keep"], choice("wal", "delete", "keep")] = key(
        "wal", '"wal" lets readers and writers work side by side; "delete" for network file systems; "keep" leaves it'
    )
    create: Flag = key(True, "whether a missing directory is made (a database that was there before never is)")

    @property
    def path(self) -> Path:
        """Return the database file on this machine."""
        return Path(self.uri.removeprefix("sqlite:///"))


class ArtifactStoreSettings(Section):
    """MLflow's files: models, plots, data sets."""

    uri: Artifacts = key("/var/lib/mlflowd/artifacts", "the directory of the artifacts; it goes to the service user")
    create: Flag = key(True, "whether a missing directory is made")

    @property
    def path(self) -> Path:
        """Return the directory on this machine."""
        return Path(self.uri)


class HealthSettings(Section):
    """How the server is watched."""

    interval: Span = key("6s", "between two looks while all is well")
    retry_interval: Span = key("1s", "between two looks after a missed probe")
    starting_interval: Span = key("100ms", "between two looks while the server starts")
    timeout: Span = key("3s", "how long the server may take to answer a probe")
    misses: Annotated[int, whole(1, 100)] = key(3, "missed probes in a row that make the server hung, and restarted")
    start_deadline: Span = key(
        "3min", "from the start to the first answer; MLflow waits 105s for a database that is down"
    )
    database_interval: Span = key("10s", "between two looks at the database through the server")
    database_timeout: Span = key("25s", "how long that may take; MLflow itself waits 20s for a locked database")
    store_interval: Span = key("10s", "between two looks at the stores' files")
    artifact_interval: Span = key("15min", "between two artifacts written, read and deleted as a probe")


class RestartSettings(Section):
    """How the server is brought back."""

    backoff_first: Span = key("1s", "the wait after the first failure; it doubles with each further one")
    backoff_max: Span = key("60s", "the longest wait; MLflow's clients give up after about 4 minutes")
    stable_after: Span = key("2min", "how long the server must serve until its failures are forgotten")
    kill_grace: Grace = key("5s", "what a hung server gets before it is killed")


class DiskSettings(Section):
    """How full the file systems of the stores and of the engine may get; percentages go for inodes too."""

    interval: Span = key("30s", "between two looks at the file systems")
    warn: Free = key("10%", "free space below which the journal has a warning")
    critical: Free = key("3%", "free space below which the state is degraded")
    require_free: Free = key("100M", "free space below which a start is refused")


_LEVELS = Literal["debug", "info", "warning", "error"]


class LogSettings(Section):
    """What the journal gets."""

    level: Annotated[_LEVELS, choice("debug", "info", "warning", "error")] = key(
        "info", "mlflowd's own events, from this level on"
    )
    forward: Flag = key(True, "whether the server's own lines go to the journal, under the identifier mlflow")
    access: Flag = key(False, "whether the server logs every request; it costs throughput")


class Contradiction(NamedTuple):
    """Keys that are right each by itself and wrong together."""

    keys: tuple[str, ...]
    """The key to blame first."""
    reason: str
    hint: str


class ContradictionsError(ValueError):
    """All contradictions of some settings."""

    def __init__(self, found: tuple[Contradiction, ...]) -> None:
        super().__init__("; ".join(f"{each.keys[0]}: {each.reason}" for each in found))
        self.found = found


_LAYERS = "layers"


class Settings(BaseSettings):
    """Everything that /etc/mlflowd.toml may say."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    engine: EngineSettings = Field(default_factory=EngineSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    image: ImageSettings = Field(default_factory=ImageSettings)
    container: ContainerSettings = Field(default_factory=ContainerSettings)
    backend_store: BackendStoreSettings = Field(default_factory=BackendStoreSettings)
    artifact_store: ArtifactStoreSettings = Field(default_factory=ArtifactStoreSettings)
    health: HealthSettings = Field(default_factory=HealthSettings)
    restart: RestartSettings = Field(default_factory=RestartSettings)
    disk: DiskSettings = Field(default_factory=DiskSettings)
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


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Yield what is wrong between keys."""
    yield from _spans(settings)
    yield from _disk(settings.disk)
    database, artifacts = settings.backend_store.path.parent, settings.artifact_store.path
    if database.is_relative_to(artifacts):
        yield Contradiction(
            ("artifact_store.uri", "backend_store.uri"),
            f"the database would lie in the artifact directory {artifacts}, where every client can fetch it",
            "give artifacts a directory of their own, beside that of the database or below it",
        )


def _spans(settings: Settings) -> Iterator[Contradiction]:
    server, container, health, restart = settings.server, settings.container, settings.health, settings.restart
    for shorter, short, longer, long in (
        ("health.timeout", health.timeout, "health.start_deadline", health.start_deadline),
        ("health.starting_interval", health.starting_interval, "health.start_deadline", health.start_deadline),
        ("server.graceful_timeout", server.graceful_timeout, "container.stop_grace", container.stop_grace),
    ):
        if short >= long:
            yield Contradiction((shorter, longer), f"must be shorter than {longer}", f"lower it or raise {longer}")
    if restart.backoff_first > restart.backoff_max:
        keys = ("restart.backoff_first", "restart.backoff_max")
        yield Contradiction(keys, f"must not be longer than {keys[1]}", f"lower it or raise {keys[1]}")


def _disk(disk: DiskSettings) -> Iterator[Contradiction]:
    """Compare the two limits where both are bytes or both are percentages; otherwise the disk decides."""
    warn, critical = disk.warn, disk.critical
    alike = (warn.percent is None) == (critical.percent is None)
    if alike and (critical.bytes, critical.percent or 0) > (warn.bytes, warn.percent or 0):
        yield Contradiction(
            ("disk.critical", "disk.warn"), "must not be more than disk.warn", "lower it or raise disk.warn"
        )
