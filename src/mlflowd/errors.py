"""What goes wrong, as one exception type: a message, the remedy, an exit status.

Every error that reaches a person is an MlflowdError. The message says what and where, the hint says
the exact remedy, and the exit status is one of ExitStatus, which README.md and the unit file document.
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of every verb, after sysexits.h where it has a word for it.

    The permanent ones (69, 75, 77, 78) stand in the unit's RestartPreventExitStatus=.
    """

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_RUNNING = 3
    REFUSED = 69
    """EX_UNAVAILABLE: a store is refused (missing, empty, damaged, no room)."""
    SOFTWARE = 70
    """EX_SOFTWARE: a defect of mlflowd itself; worth a restart and a bug report."""
    LOCKED = 75
    """EX_TEMPFAIL: another mlflowd holds the lock."""
    PERMISSION = 77
    """EX_NOPERM: a file, a directory or the engine's socket may not be used."""
    CONFIGURATION = 78
    """EX_CONFIG: the configuration is wrong."""


class MlflowdError(Exception):
    """An error for the person on call.

    `message` is one sentence (what, where); `hint` is the remedy, as a command where there is one.
    """

    exit_status: ExitStatus = ExitStatus.FAILURE

    def __init__(self, message: str, hint: str = "", exit_status: ExitStatus | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_status is not None:
            self.exit_status = exit_status

    def __str__(self) -> str:
        """Return the message and, where there is one, the hint behind it."""
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message


class ConfigurationError(MlflowdError):
    """The configuration is wrong; `message` holds every problem, a line each."""

    exit_status = ExitStatus.CONFIGURATION


class RefusedError(MlflowdError):
    """A store or the machine does not allow a start; nothing was changed."""

    exit_status = ExitStatus.REFUSED


class LockedError(MlflowdError):
    """Another mlflowd holds the lock."""

    exit_status = ExitStatus.LOCKED


class EngineError(MlflowdError):
    """The container engine answered with an error, or not at all."""


class EngineUnreachableError(EngineError):
    """The engine does not answer: not running, hung, or no such socket. A state, not a defect."""


class EnginePermissionError(EngineError):
    """The engine's socket may not be opened by this user."""

    exit_status = ExitStatus.PERMISSION


class AskedError(EngineError):
    """What ran in a throw-away container failed, took too long, or was ended; that container is gone."""

    def __init__(self, message: str, hint: str = "", exit_status: ExitStatus | None = None) -> None:
        super().__init__(message, hint, exit_status)
        self.said = ""
        """The end of what it printed, without the secrets of its container."""
        self.out_of_memory = False
        self.late = False
        """It took longer than it was given."""


class ImageMissingError(EngineError):
    """An image is not present, or the registry will not give it."""


class PortTakenError(EngineError):
    """The address to publish on is in use."""
