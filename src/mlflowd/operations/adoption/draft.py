"""What is being understood of one deployment: settings, secrets, notes, and every reason against it. No effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflowd.operations.adoption.deployment import SECRETS, NewSecret, Place, Where
from mlflowd.operations.adoption.mounts import place

if TYPE_CHECKING:
    from mlflowd.model.deployed import Deployed
    from mlflowd.operations.adoption.commandline import Told
    from mlflowd.operations.adoption.facts import Facts


@dataclass
class Draft:
    """What was read of a container, and what follows from it so far."""

    container: Deployed
    facts: Facts
    told: Told
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: list[NewSecret] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reasons: list[tuple[str, str]] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    """Names and addresses of other servers that the stores are at."""
    places: dict[str, Place] = field(default_factory=dict)
    """What holds data, by its field in Deployment."""
    taken: set[str] = field(default_factory=set)
    """Variables that have been dealt with."""
    needed: set[str] = field(default_factory=set)
    """Targets of mounts that something was found to be for."""

    def set(self, section: str, key: str, value: object) -> None:
        """Set a key of the configuration."""
        self.settings.setdefault(section, {})[key] = value

    def extend(self, section: str, key: str, *values: str) -> None:
        """Add to a list of the configuration."""
        known = self.settings.setdefault(section, {}).setdefault(key, [])
        known += [each for each in values if each not in known]

    def secret(self, section: str, key: str, name: str, content: str) -> None:
        """Let a key of the configuration be a secret of its own file."""
        new = NewSecret(f"{section}.{key}", SECRETS / name, content)
        self.secrets.append(new)
        self.set(section, key, new.source)

    def secret_variable(self, name: str, content: str) -> None:
        """Let an environment variable of the server be a secret of its own file."""
        new = NewSecret(f"server.secrets.{name}", SECRETS / name.lower().replace("_", "-"), content)
        self.secrets.append(new)
        self.settings.setdefault("server", {}).setdefault("secrets", {})[name] = new.source

    def variable(self, name: str, value: str) -> None:
        """Let the server have an environment variable."""
        self.settings.setdefault("server", {}).setdefault("environment", {})[name] = value

    def reason(self, sentence: str, remedy: str = "") -> None:
        """Take note of a reason not to take the deployment over."""
        self.reasons.append((sentence, remedy))

    def note(self, sentence: str) -> None:
        """Take note of something that the owner should know."""
        self.notes.append(sentence)

    def take(self, name: str) -> str:
        """Return a variable, "" where there is none, and take note that it has been dealt with."""
        self.taken.add(name)
        return self.told.environment.get(name, "")

    def place(self, path: str) -> Place:
        """Return where a path of the container is."""
        found = place(path, self.told.working_dir, self.container.mounts)
        if found.mount:
            self.needed.add(found.mount.target)
        return found

    def store(self, name: str, path: str, what: str) -> Place:
        """Return where the data at a path are, and judge the place."""
        found = self.places[name] = self.place(path)
        if found.where is Where.MEMORY:
            self.reason(f"{what} ({found.path}) lies in memory (tmpfs) and is lost at each stop.",
                        "copy what is there to a directory of this machine, and mount that")  # fmt: skip
        if found.mount and found.mount.read_only:
            self.note(f"{what} ({found}) is mounted read-only; mlflowd's server writes there.")
        return found

    def file(self, path: str, what: str) -> str:
        """Return the path on this machine of a file that the server reads; "" with a reason where it has none."""
        found = self.place(path)
        if found.host is None or found.mount is None or found.mount.source in self.facts.gone:
            self.reason(f"{what} is {path} inside the container, which is no file of this machine.",
                        "put the file on this machine and mount it")  # fmt: skip
            return ""
        return str(found.host)
