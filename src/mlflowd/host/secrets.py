"""Secrets of this machine: read where the configuration says they are, written where the server reads them.

Effects: reads credentials, files and the environment; makes the secrets that mlflowd keeps itself (`KEPT`) where they
are missing; writes the private directory. What was read is known to host/redaction.py from then on.
"""

from __future__ import annotations

import os
import re
import secrets as randomness
import shutil
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlflowd.config.inventory import plain_secrets, public_files, secret_sources
from mlflowd.config.secret_sources import Origin
from mlflowd.errors import ConfigurationError, ExitStatus, MlflowdError
from mlflowd.host import files, redaction, secret_files
from mlflowd.host.paths import run_as
from mlflowd.model import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from mlflowd.config import Settings
    from mlflowd.config.secret_sources import SecretSource
    from mlflowd.host.paths import Identity
    from mlflowd.model import PrivateFile

KEPT: Final = {"login.secret_key": "login-secret-key", "login.probe_password": "login-probe-password"}
"""Secrets that mlflowd makes where login.enabled, and their files in <state>/state; never made again while there."""
_UNIT: Final = Path("/run/credentials/mlflowd.service")
"""The credentials of the unit while it runs: root may look at them from outside (systemd.exec(5))."""
_FILES: Final = ("artifact_store.key_file", "backup.key_file", "backend_store.uri.")
"""Keys whose secret is a whole file, kept as it is: OpenSSH wants the last line end of a key."""
_BACKUP: Final = "backup."
"""Begins the keys of what backups alone need."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class UnreadError(ConfigurationError):
    """Secrets that could not be read; `message` holds each, a line each."""

    def __init__(self, message: str, hint: str = "", exit_status: ExitStatus | None = None) -> None:
        super().__init__(message, hint, exit_status)
        self.elsewhere = False
        """All of them may be there for the unit's own processes: credentials, variables."""


class _ElsewhereError(MlflowdError):
    """The unit's own processes may see what this one does not."""


def read(  # noqa: PLR0913 - whose, and how, by name
    settings: Settings,
    state: Path,
    who: Identity,
    *,
    make: bool = True,
    backup: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Secrets:
    """Return every secret and file that the settings name, by its key.

    `make`: secrets of KEPT that are missing are made; without it they are left out. `backup`: those of `[backup]` too,
    which the server has no use for. `environ`: of this process, another one in tests alone. Raises UnreadError with
    the remedies; nothing that is raised holds a secret.
    """
    around = os.environ if environ is None else environ
    values: dict[str, str] = {}
    problems: list[tuple[str, MlflowdError]] = []
    for key, fetch in _fetchers(settings, state, who, around, make=make):
        if key.startswith(_BACKUP) and not backup:
            continue
        try:
            values[key] = fetch()
        except MlflowdError as error:
            problems.append((key, error))
    public = public_files(settings)
    redaction.hide([*(text for key, text in values.items() if key not in public), *plain_secrets(settings).values()])
    if problems:
        raise _unread(problems)
    return Secrets(MappingProxyType(values))


def in_unit(environ: Mapping[str, str]) -> bool:
    """Whether systemd started this very process (SYSTEMD_EXEC_PID of systemd.exec(5)), and not a person's shell."""
    return environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def write(directory: Path, wanted: Iterable[PrivateFile], who: Identity) -> None:
    """Make `directory` hold these files and nothing else, for `who` alone; without files it is removed.

    The directory itself stays where there are files before and after: a container that runs has it mounted.
    Raises MlflowdError.
    """
    contents = {each.name: each.content for each in wanted}
    try:
        run_as(who, lambda: _write(directory, contents))
    except OSError as error:
        raise MlflowdError(f"{directory} cannot be written: {error.strerror}", f"ls -ld {directory.parent}") from error


# --- reading ------------------------------------------------------------------------------------


def _fetchers(
    settings: Settings, state: Path, who: Identity, environ: Mapping[str, str], *, make: bool
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield each key with what reads it."""
    for key, source in secret_sources(settings).items():
        yield key, partial(_secret, key, source, who, environ)
    for key, path in public_files(settings).items():
        yield key, partial(secret_files.public, Path(path), who)
    for key, name in KEPT.items() if settings.login.enabled else ():
        kept = state / "state" / name
        if make or files.exists(kept):
            yield key, partial(_kept, kept, who)


def _secret(key: str, source: SecretSource, who: Identity, environ: Mapping[str, str]) -> str:
    return _shaped(key, source, _raw(source, who, environ))


def _raw(source: SecretSource, who: Identity, environ: Mapping[str, str]) -> str:
    match source.origin:
        case Origin.CREDENTIAL:
            return _credential(source.place, environ)
        case Origin.FILE:
            return secret_files.private(Path(source.place), who)
        case Origin.ENVIRONMENT:
            return _variable(source.place, environ)
        case Origin.TEXT:
            return source.place


def _credential(name: str, environ: Mapping[str, str]) -> str:
    directory = next((each for each in _credentials(environ) if os.path.isdir(each)), None)  # noqa: PTH112 - no error
    text = secret_files.credential(directory / name) if directory else None
    if text is None:
        remedy = (
            f"sudo systemctl edit mlflowd, there: [Service] and below it LoadCredential={name}:/etc/mlflowd/{name}; "
            "then sudo systemctl restart mlflowd"
        )
        raise _ElsewhereError(f"the unit has no credential {name}", remedy)
    return text


def _credentials(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the directories where the unit's credentials may be seen from here.

    systemd 252 and 257 hide them from ExecReload='s processes, which see them as the daemon does: by MAINPID, which
    systemd gives them too.
    """
    given = Path(environ.get("CREDENTIALS_DIRECTORY") or _UNIT)
    yield given
    if (daemon := environ.get("MAINPID", "")).isdecimal() and in_unit(environ):
        yield Path(f"/proc/{daemon}/root{given}")
    yield _UNIT


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if not (text := environ.get(name, "")):
        remedy = (
            f"sudo systemctl edit mlflowd, there: [Service] and below it EnvironmentFile=/etc/mlflowd/environment, "
            f"a file of the mode 0600 with {name}=…; then sudo systemctl restart mlflowd"
        )
        raise _ElsewhereError(f"the variable {name} is {'empty' if name in environ else 'not set'}", remedy)
    return text


def _shaped(key: str, source: SecretSource, text: str) -> str:
    """Return the secret without the line end that editors add; one line, unless it is a file or a variable's value."""
    if key.startswith(_FILES):
        return text
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise MlflowdError("the secret is empty", f"look at {source}")
    if not key.startswith("server.secrets.") and _CONTROL.search(text):
        raise MlflowdError("the secret has several lines, or a control character", f"leave one line in {source}")
    return text


def _kept(path: Path, who: Identity) -> str:
    """Return what mlflowd made once, and make it the first time."""

    def make() -> None:
        if not files.exists(path):
            files.write_atomically(path, randomness.token_urlsafe(32) + "\n", mode=0o600)

    try:
        run_as(who, make)
    except OSError as error:
        raise MlflowdError(f"{path} cannot be made: {error.strerror}", "sudo mlflowd check") from error
    return secret_files.private(path, who).strip()


def _unread(problems: list[tuple[str, MlflowdError]]) -> UnreadError:
    """Return one error for all of them, a line each; a single one keeps its remedy apart."""
    permanent = {error.exit_status for _, error in problems} == {ExitStatus.PERMISSION}
    status = ExitStatus.PERMISSION if permanent else ExitStatus.CONFIGURATION
    if len(problems) == 1:
        key, error = problems[0]
        found = UnreadError(f"{key}: {error.message}.", error.hint, status)
    else:
        lines = [f"{key}: {error.message}. Hint: {error.hint}" for key, error in problems]
        found = UnreadError("\n".join(lines), "", status)
    found.elsewhere = all(isinstance(error, _ElsewhereError) for _, error in problems)
    return found


# --- writing ------------------------------------------------------------------------------------


def _write(directory: Path, contents: Mapping[str, str]) -> None:
    if not contents:
        shutil.rmtree(directory, ignore_errors=True)
        return
    wanted = {PurePosixPath(name) for name in contents}
    if any(name.is_absolute() or ".." in name.parts or not name.parts for name in wanted):
        raise MlflowdError("A private file has no name of its own.")
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    parents = {parent for name in wanted for parent in name.parents}
    _clear(directory, wanted | parents)
    for parent in sorted(parents):
        (directory / parent).mkdir(mode=0o700, exist_ok=True)
    for name, content in contents.items():
        files.write_atomically(directory / name, content, mode=0o400)


def _clear(directory: Path, wanted: set[PurePosixPath]) -> None:
    """Remove what is not wanted, and what a write that was cut short has left."""
    for path in sorted(directory.rglob("*"), reverse=True):
        if PurePosixPath(path.relative_to(directory)) in wanted and not path.is_symlink():
            continue
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
