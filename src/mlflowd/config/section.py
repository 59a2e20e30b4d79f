"""What every section of /etc/mlflowd.toml is made from. No effects."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def key(default: object, description: str) -> Any:  # noqa: ANN401 - what pydantic's Field itself returns
    """Make a key of a section: its default in the notation of the file, and one line of why."""
    return Field(default=default, description=description)


class Section(BaseModel):
    """A section of the file: frozen, no unknown keys, defaults checked like any other value."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Say nothing: values may hold secrets, and a repr ends up in tracebacks."""
        yield from ()
