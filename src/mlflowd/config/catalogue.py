"""All sections and keys by name, and which one a misspelt name probably meant. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlflowd.config.section import Section
from mlflowd.config.settings import Settings
from mlflowd.config.values import Kind, nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

SECTIONS: Final[dict[str, type[Section]]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}

KEYS: Final[dict[tuple[str, str], FieldInfo]] = {
    (section, key): field for section, model in SECTIONS.items() for key, field in model.model_fields.items()
}


def kind_of(section: str, key: str) -> Kind:
    """Return what a key takes."""
    return next(kind for kind in KEYS[section, key].metadata if isinstance(kind, Kind))


def nearest_key(section: str, key: str) -> tuple[str, str] | None:
    """Return the key that was probably meant: of the same section, or of the same name in another one."""
    if close := nearest(key, SECTIONS[section].model_fields):
        return section, close
    return homes[0] if (homes := [each for each in KEYS if each[1] == key]) else None
