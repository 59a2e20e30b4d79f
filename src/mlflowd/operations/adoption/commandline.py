"""What a container's command line tells its MLflow: the options of `mlflow server`, wherever they stand. No effects.

Facts are of mlflow/cli of 3.3 to 3.17: every option has a variable of its own beside it, which the option overrules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlflowd.operations.adoption import shell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OPTIONS: Final = {
    "--backend-store-uri": "MLFLOW_BACKEND_STORE_URI",
    "--read-replica-backend-store-uri": "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "--registry-store-uri": "MLFLOW_REGISTRY_STORE_URI",
    "--default-artifact-root": "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "--artifacts-destination": "MLFLOW_ARTIFACTS_DESTINATION",
    "--host": "MLFLOW_HOST",
    "--port": "MLFLOW_PORT",
    "--workers": "MLFLOW_WORKERS",
    "--static-prefix": "MLFLOW_STATIC_PREFIX",
    "--allowed-hosts": "MLFLOW_SERVER_ALLOWED_HOSTS",
    "--cors-allowed-origins": "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "--x-frame-options": "MLFLOW_SERVER_X_FRAME_OPTIONS",
    "--gunicorn-opts": "MLFLOW_GUNICORN_OPTS",
    "--uvicorn-opts": "MLFLOW_UVICORN_OPTS",
    "--waitress-opts": "",
    "--expose-prometheus": "MLFLOW_EXPOSE_PROMETHEUS",
    "--app-name": "",
    "--trace-archival-config": "MLFLOW_TRACE_ARCHIVAL_CONFIG",
    "--secrets-cache-ttl": "",
    "--secrets-cache-max-size": "",
    "--workspace-store-uri": "MLFLOW_WORKSPACE_STORE_URI",
}
"""Options that take a value, and the variable that gives it as well."""
FLAGS: Final = {
    "--serve-artifacts": "MLFLOW_SERVE_ARTIFACTS",
    "--artifacts-only": "MLFLOW_ARTIFACTS_ONLY",
    "--disable-security-middleware": "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE",
    "--enable-workspaces": "MLFLOW_ENABLE_WORKSPACES",
    "--dev": "",
}
_NEGATIVE: Final = {"--no-serve-artifacts": "--serve-artifacts"}
_SHORT: Final = {"-h": "--host", "-p": "--port", "-w": "--workers"}
_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})

_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "busybox"})
_WRAPPERS: Final = frozenset({"tini", "dumb-init", "docker-init", "catatonit", "env", "exec", "nohup", "time"})
"""Programs that run the command behind them, which may have options of their own before it."""
_WAITERS: Final = frozenset({"wait-for-it", "wait-for-it.sh", "wait-for", "wait-for.sh", "dockerize"})
"""Scripts that wait for a port and then run what stands behind "--"."""
_HARMLESS: Final = frozenset(
    {"apt", "apt-get", "apk", "cat", "cd", "chmod", "chown", "date", "echo", "export", "id", "ls", "mkdir", "printf"}
    | {"pwd", "set", "sleep", "true", "umask", "whoami", ":"}
)
"""What may run before MLflow without being carried over."""
_BEHIND: Final = frozenset({"tee", "sleep", "true", "echo", "exit", "cat"})
_WAITING: Final = re.compile(
    r"\b(?:until|while)\b[^;\n]*[;\n]\s*do\b\s*(?:(?:sleep|echo|printf|true|:)\b[^;\n]*[;\n]\s*)+done\b"
)
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][\w.\[\],<>=!~+-]*")


class UnreadableError(ValueError):
    """A command line that cannot be read, with the reason as the second half of a sentence."""


@dataclass(frozen=True, slots=True)
class Told:
    """What MLflow is told."""

    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """By the option's long name; flags are "true" or "false"; what comes from variables is among them."""
    unknown: tuple[str, ...] = ()
    """Options of no name that is known."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """The variables that MLflow sees."""
    used: frozenset[str] = frozenset()
    """Variables that the shell put into the command line."""
    packages: tuple[str, ...] = ()
    """What pip installs before each start."""
    working_dir: str = "/"
    notes: tuple[str, ...] = ()

    def get(self, option: str) -> str:
        """Return the option's value, "" where it has none."""
        return self.options.get(option, "")

    def flag(self, option: str, *, default: bool) -> bool:
        """Return whether a flag is set."""
        return self.options[option] == "true" if option in self.options else default


def is_server(argv: Sequence[str]) -> bool:
    """Whether a command line looks like one of MLflow's tracking server; it may still be one that cannot be read."""
    text = " ".join(argv)
    return re.search(r"\bmlflow(?:\.exe)?\s+(?:[^;&|]*?\s)?(?:server|ui)\b|\bmlflow\.server\b", text) is not None


def read(argv: Sequence[str], environment: Mapping[str, str], working_dir: str) -> Told:
    """Read a command line. Raises UnreadableError."""
    return _Reader(dict(environment), working_dir).read(list(argv))


@dataclass
class _Reader:
    environment: dict[str, str]
    working_dir: str
    used: set[str] = field(default_factory=set)
    packages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read(self, words: list[str]) -> Told:
        words = self.unwrapped(words)
        if not words:
            raise UnreadableError("there is no command")
        program = PurePosixPath(words[0]).name
        if program in _SHELLS and (script := _script(words)) is not None:
            return self._shell(script)
        if (arguments := _arguments(words)) is not None:
            return self._told(arguments)
        if "gunicorn" in program or "uvicorn" in program:
            raise UnreadableError(f"{program} runs MLflow's application itself, past `mlflow server`")
        if program == "mlflow":
            raise UnreadableError(f"it runs `mlflow {' '.join(words[1:2])}`, which is no tracking server")
        raise UnreadableError(f"it runs {words[0]}, and mlflowd cannot see what that does")

    def unwrapped(self, words: list[str]) -> list[str]:
        """Return the command without what only runs it; variables before it are taken over."""
        while words:
            program = PurePosixPath(words[0]).name
            if found := _ASSIGNMENT.fullmatch(words[0]):
                self.environment[found[1]] = found[2]
            elif program in _WAITERS:
                if "--" not in words:
                    return words
                words = words[words.index("--") :]
            elif program not in _WRAPPERS:
                return words
            words = words[1:]
            while words and words[0].startswith("-") and not program.startswith("mlflow"):
                words = words[1:]
        return words

    def _shell(self, script: str) -> Told:
        plain = _WAITING.sub(":", script)
        try:
            commands, used = shell.commands(plain, self.environment)
        except ValueError as error:
            raise UnreadableError(f"its shell script is not a plain one: {error}") from None
        self.used |= used
        for number, command in enumerate(commands):
            if self._is_mlflow(command.words):
                self._behind(command, commands[number + 1 :])
                return self.read(command.words)
            self._before(command.words)
        raise UnreadableError("its shell script runs no `mlflow server`")

    def _is_mlflow(self, words: list[str]) -> bool:
        inner = replace(self, environment=dict(self.environment)).unwrapped(list(words))
        return is_server(inner) and PurePosixPath(inner[0]).name not in {"pip", "echo", "pip3"}

    def _before(self, words: list[str]) -> None:
        """Take note of a command that runs before the server."""
        words = self.unwrapped(words)
        if not words:
            return
        program = PurePosixPath(words[0]).name
        if (installed := _installed(words)) is not None:
            self.packages += installed
        elif program == "export":
            self.environment |= {found[1]: found[2] for word in words[1:] if (found := _ASSIGNMENT.fullmatch(word))}
        elif program == "cd" and len(words) > 1:
            self.working_dir = str(PurePosixPath(self.working_dir) / words[1])
        elif words[:3] == ["mlflow", "db", "upgrade"]:
            self.notes.append("`mlflow db upgrade` before each start is not carried over: an upgrade under mlflowd "
                              "does it, with a way back.")  # fmt: skip
        elif program not in _HARMLESS:
            raise UnreadableError(f"it runs `{program}` before MLflow, and mlflowd cannot see what that does")

    def _behind(self, command: shell.Command, rest: list[shell.Command]) -> None:
        """Judge what stands behind the server's command."""
        strange = [each.words[0] for each in rest if PurePosixPath(each.words[0]).name not in _BEHIND]
        if strange:
            raise UnreadableError(f"it runs `{strange[0]}` beside or after MLflow")
        if command.joined == "|" or command.redirected:
            self.notes.append("The log file that its script writes is not carried over: the log is in the journal.")

    def _told(self, arguments: list[str]) -> Told:
        options, unknown = _options(arguments)
        from_variables = {
            option: self.environment[variable]
            for option, variable in (OPTIONS | FLAGS).items()
            if variable and self.environment.get(variable)
        }
        flags = {name: _truth(value) for name, value in from_variables.items() if name in FLAGS}
        return Told(
            options=from_variables | flags | options,
            unknown=tuple(dict.fromkeys(unknown)),
            environment=self.environment,
            used=frozenset(self.used),
            packages=tuple(dict.fromkeys(self.packages)),
            working_dir=self.working_dir,
            notes=tuple(self.notes),
        )


def _script(words: list[str]) -> str | None:
    """Return the script behind -c, in whatever combination (-lc, -ec, -e -c); None where there is none."""
    for number, word in enumerate(words[1:-1], 1):
        if re.fullmatch(r"-[a-z]*c", word):
            return words[number + 1]
    return None


def _arguments(words: list[str]) -> list[str] | None:
    """Return what stands behind `mlflow server`, None where the command is another one."""
    rest = words
    if re.fullmatch(r"(?:python|pypy)[\d.]*", PurePosixPath(words[0]).name) and "mlflow" in words:
        if words[1 : words.index("mlflow") + 1] not in (["-m", "mlflow"], ["-u", "-m", "mlflow"]):
            return None
        rest = words[words.index("mlflow") :]
    if PurePosixPath(rest[0]).name != "mlflow" or len(rest) < 2:  # noqa: PLR2004 - the program and its verb
        return None
    if rest[1].startswith("--env-file"):
        raise UnreadableError("its variables come from a file (--env-file); put them into the container's environment")
    return rest[2:] if rest[1] in {"server", "ui"} else None


def _installed(words: list[str]) -> list[str] | None:
    """Return what a command of pip installs, [] for its own upgrade; None for other commands."""
    names = [PurePosixPath(word).name for word in words[:4]]
    if names[:1] and re.fullmatch(r"python[\d.]*", names[0]) and names[1:2] == ["-m"]:
        words, names = words[2:], names[2:]
    if names[:1] == ["uv"]:
        words, names = words[1:], names[1:]
    if not names or not re.fullmatch(r"pip[\d.]*", names[0]):
        return None
    if names[1:2] != ["install"]:
        return []
    strange = [word for word in words[2:] if word.startswith(("-r", "--requirement", "-e", "-c", "--constraint"))]
    if strange or any("/" in word or word == "." for word in words[2:] if not word.startswith("-")):
        raise UnreadableError("it installs what a file names (pip install), and mlflowd cannot see into that")
    found = [word for word in words[2:] if _REQUIREMENT.fullmatch(word)]
    return [each for each in found if each not in {"pip", "setuptools", "wheel"}]


def _options(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return options by their long names, and those that are unknown."""
    found: dict[str, str] = {}
    unknown: list[str] = []
    rest = iter(arguments)
    for word in rest:
        name, value = _split(word)
        if name in FLAGS or name in _NEGATIVE:
            found[_NEGATIVE.get(name, name)] = "false" if name in _NEGATIVE else "true"
        elif name in OPTIONS:
            found[name] = next(rest, "") if value is None else value
        elif word.startswith("-"):
            unknown.append(name)
        else:
            unknown += [] if unknown else [word]  # behind an unknown option stands its value
    return found, unknown


def _split(word: str) -> tuple[str, str | None]:
    """Return the option's long name and its value where that stands in the same word."""
    if word[:2] in _SHORT and not word.startswith("--"):
        return _SHORT[word[:2]], word[2:].removeprefix("=") or None
    name, mark, value = word.partition("=")
    return name, value if mark else None


def _truth(text: str) -> str:
    return "true" if text.strip().lower() in _TRUE else "false"


def leftover(told: Told) -> Iterator[tuple[str, str]]:
    """Yield the variables that are no options of the server."""
    taken = {variable for variable in (OPTIONS | FLAGS).values() if variable}
    yield from ((name, value) for name, value in told.environment.items() if name not in taken)
