"""Makes Settings of the file and the environment, or says everything that is wrong with them at once.

Effects: reads the file. The environment is handed in. The environment stands over the file over the defaults.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from mlflowd.config import effective, environment
from mlflowd.config.agreement import ContradictionsError
from mlflowd.config.catalogue import KEYS, SECTIONS, kind_of, nearest_key
from mlflowd.config.inventory import plain_secrets
from mlflowd.config.locate import Document, NotTomlError, read
from mlflowd.config.notation import dotted, shown
from mlflowd.config.settings import Settings
from mlflowd.config.values import Fault, Wrong, nearest
from mlflowd.errors import ConfigurationError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflowd.config.effective import Row

DEFAULT_PATH: Final = Path("/etc/mlflowd.toml")
DEFAULT: Final = "default"
_MOST_SHOWN: Final = 50
"""Problems that one error lists."""
_LONGEST_KEY: Final = 100
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each key got its value."""

    settings: Settings
    origins: Mapping[str, str]
    """Key ("server.listen") to "default", "/etc/mlflowd.toml:12" or "MLFLOWD_SERVER__LISTEN"."""
    path: Path
    """The file, whether or not it was there."""

    @property
    def plain_secrets(self) -> tuple[tuple[str, str], ...]:
        """The keys whose secret stands in the file itself, each with its "PATH:LINE"."""
        found = [(key, self.origins[key]) for key in plain_secrets(self.settings)]
        return tuple(
            sorted((each for each in found if each[1].startswith(str(self.path))), key=lambda each: _place(each[1]))
        )

    def rows(self, *, secrets: bool = False) -> Iterator[Row]:
        """Yield (key, effective value in TOML notation, origin); secrets are masked unless asked for."""
        return effective.rows(self.settings, self.origins, secrets=secrets)


class _Given(NamedTuple):
    """What the file or the environment says of one key."""

    value: Any
    origin: str


class _Problem(NamedTuple):
    origin: str
    key: str
    reason: str
    hint: str

    def __str__(self) -> str:
        """Return one line, whatever the names in it hold."""
        key = self.key if len(self.key) <= _LONGEST_KEY else f"{self.key[:_LONGEST_KEY]}…"
        where = ": ".join(part for part in (self.origin, key) if part)
        line = f"{where}: {self.reason}." + (f" Hint: {self.hint}" if self.hint else "")
        return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), line)


class _Reading:
    """What one reading of file and environment has found so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document = Document()
        self.given: dict[tuple[str, str], _Given] = {}
        self.problems: list[_Problem] = []
        self.file_failed = False
        """What the file says is not known, so nothing is said of keys that may contradict it."""

    def origin(self, *keys: str) -> str:
        """Return "PATH:LINE" of a key in the file, of the table around it where its own line is not known."""
        found = (self.document.lines.get(keys[:end]) for end in range(len(keys), 0, -1))
        line = next((number for number in found if number), 0)
        return f"{self.path}:{line}" if line else str(self.path)

    def problem(self, origin: str, key: str, reason: str, hint: str = "") -> None:
        self.problems.append(_Problem(origin, key, reason, hint))


def load(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Return the effective settings; `path` None means the default file, which may be missing.

    Raises ConfigurationError with every problem, a line each (status 78; 77 where the file may not be read).
    """
    reading = _Reading(path or DEFAULT_PATH)
    _read_file(reading, required=path is not None)
    for table, contents in reading.document.values.items():
        _take_table(reading, table, contents)
    _take_environment(reading, environ)
    settings = _validated(reading)
    if settings is None or reading.problems:
        raise ConfigurationError(_listed(reading.problems))
    return Loaded(settings, _origins(reading, settings), reading.path)


def _listed(problems: list[_Problem]) -> str:
    """Return a line for each problem, in the order of the file's lines."""
    lines = [str(problem) for problem in sorted(problems, key=lambda each: _place(each.origin))]
    more = len(lines) - _MOST_SHOWN
    return "\n".join([*lines[:_MOST_SHOWN], *([f"… and {more} more."] if more > 0 else [])])


def _place(origin: str) -> tuple[str, int]:
    file, _, line = origin.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (origin, 0)


# --- the file -----------------------------------------------------------------------------------


def _read_file(reading: _Reading, *, required: bool) -> None:
    path = reading.path
    try:
        reading.document = read(path)
    except FileNotFoundError:
        if not required and not path.is_symlink():
            return
        reading.problem(str(path), "", "no such file", "create it, or leave out --config for the defaults")
    except PermissionError:
        raise _unreadable(path) from None
    except NotTomlError as error:
        origin = f"{path}:{error.line}" if error.line else str(path)
        reading.problem(origin, "", error.reason, error.hint)
    except OSError as error:
        reason = error.strerror or str(error)
        reading.problem(str(path), "", f"cannot be read: {reason}", "name a TOML file with --config")
    reading.file_failed = bool(reading.problems)


def _unreadable(path: Path) -> ConfigurationError:
    name = shlex.quote(str(path))
    return ConfigurationError(
        f"{path}: uid {os.geteuid()} may not read it.",
        f"sudo chgrp mlflowd {name} && sudo chmod g+r {name} (the directories above it need o+x)",
        ExitStatus.PERMISSION,
    )


def _take_table(reading: _Reading, table: str, contents: object) -> None:
    origin = reading.origin(table)
    if table not in SECTIONS:
        reading.problem(origin, dotted(table), *_unknown_table(table, is_table=isinstance(contents, dict)))
        return
    if not isinstance(contents, dict):
        reading.problem(
            origin, table, f"expected a section, got {shown(contents)}", f"write [{table}] and its keys below"
        )
        return
    for name, value in contents.items():
        if (table, name) in KEYS:
            reading.given[table, name] = _Given(value, reading.origin(table, name))
        else:
            reading.problem(reading.origin(table, name), dotted(table, name), "unknown key", _meant(table, name))


def _unknown_table(name: str, *, is_table: bool) -> tuple[str, str]:
    if close := nearest(name, SECTIONS):
        return "unknown section", f"did you mean [{close}]?"
    if homes := [section for section, key in KEYS if key == name and not is_table]:
        return "stands in no section", f"move it below [{homes[0]}]"
    return "unknown section", f"sections: {', '.join(SECTIONS)}"


def _meant(table: str, name: str) -> str:
    close = nearest_key(table, name)
    if close is None:
        return f"keys of [{table}]: {', '.join(SECTIONS[table].model_fields)}"
    return f"did you mean '{close[1]}'?" if close[0] == table else f"'{name}' is a key of [{close[0]}]"


# --- the environment ----------------------------------------------------------------------------


def _take_environment(reading: _Reading, environ: Mapping[str, str]) -> None:
    for found in environment.read(environ):
        if isinstance(found, environment.Variable):
            reading.given[found.section, found.key] = _Given(found.value, found.name)
        else:
            reading.problem(found.name, "", found.reason, found.hint)


# --- both ---------------------------------------------------------------------------------------


def _validated(reading: _Reading) -> Settings | None:
    """Return the settings, or note what is wrong with each key, then what is wrong between the others."""
    bad: set[str] = set()
    given = dict(reading.given)
    for _ in range(2):
        try:
            return Settings.layered(*_layers(given))
        except ValidationError as error:
            for problem in _translated(reading, error, bad):
                reading.problems.append(problem)
        bad = {problem.key for problem in reading.problems}
        given = {keys: value for keys, value in given.items() if not _is_bad(keys, bad)}
    return None


def _is_bad(keys: tuple[str, str], bad: set[str]) -> bool:
    """Tell whether a key or a part of it ("server.environment.A", "image.packages[0]") is among the bad ones."""
    name = ".".join(keys)
    return any(key == name or key.startswith((f"{name}.", f"{name}[")) for key in bad)


def _layers(given: Mapping[tuple[str, str], _Given]) -> Iterator[dict[str, dict[str, Any]]]:
    """Yield what the environment says, then what the file says."""
    for of_environment in (True, False):
        yield _nested(
            {keys: each for keys, each in given.items() if each.origin.startswith(environment.PREFIX) is of_environment}
        )


def _nested(given: Mapping[tuple[str, str], _Given]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for (section, key), (value, _) in given.items():
        nested.setdefault(section, {})[key] = value
    return nested


def _translated(reading: _Reading, error: ValidationError, bad: set[str]) -> Iterator[_Problem]:
    """Yield pydantic's findings in a person's words."""
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, ContradictionsError):
            yield from _contradicting(reading, cause, bad)
        else:
            section, key = str(detail["loc"][0]), str(detail["loc"][1])
            yield from _faults(reading, section, key, cause)


def _faults(reading: _Reading, section: str, key: str, cause: object) -> Iterator[_Problem]:
    """Yield a problem for each fault of one value, on the line of the part where it is."""
    kind, value = kind_of(section, key), reading.given[section, key].value
    expected = f"expected {kind.phrase}" + ("" if kind.secret else f", got {shown(value)}")
    for reason, hint, at in cause.faults if isinstance(cause, Wrong) else (Fault(),):
        yield _Problem(*_part(reading, section, key, at), reason or expected, hint)


def _part(reading: _Reading, section: str, key: str, at: str) -> tuple[str, str]:
    """Return the origin and the name of a part of a value; the entries of a table have lines of their own."""
    origin = reading.given[section, key].origin
    if not at.startswith("."):
        return origin, f"{section}.{key}{at}"
    entry = at.removeprefix(".")
    from_file = not origin.startswith(environment.PREFIX)
    return reading.origin(section, key, entry) if from_file else origin, dotted(section, key, entry)


def _contradicting(reading: _Reading, error: ContradictionsError, bad: set[str]) -> Iterator[_Problem]:
    """Yield the contradictions, each at the key that somebody set; those with a bad key are no news."""
    for keys, reason, hint in error.found:
        if bad.isdisjoint(keys) and not reading.file_failed:
            origins = [_origin_of(reading, key) for key in keys]
            yield _Problem(next((each for each in origins if each != DEFAULT), DEFAULT), keys[0], reason, hint)


def _origin_of(reading: _Reading, name: str) -> str:
    section, _, key = name.partition(".")
    given = reading.given.get((section, key))
    return given.origin if given else DEFAULT


def _origins(reading: _Reading, settings: Settings) -> dict[str, str]:
    """Return every key's origin, and that of each entry of a table."""
    origins = {f"{section}.{key}": _origin_of(reading, f"{section}.{key}") for section, key in KEYS}
    for table, entries in (("environment", settings.server.environment), ("secrets", settings.server.secrets)):
        whole = origins[f"server.{table}"]
        of_file = not whole.startswith(environment.PREFIX)
        for name in entries:
            origins[f"server.{table}.{name}"] = reading.origin("server", table, name) if of_file else whole
    return origins
