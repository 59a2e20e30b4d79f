"""The effective settings as rows and as a TOML file, for a person to read. No effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mlflowd.config.catalogue import SECTIONS
from mlflowd.config.masking import mask, mask_entry, mask_uri
from mlflowd.config.notation import toml
from mlflowd.config.secret_sources import SecretSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflowd.config.settings import Settings


class Row(NamedTuple):
    """One key with its effective value in TOML notation, and where that came from."""

    key: str
    value: str
    origin: str


def rows(settings: Settings, origins: Mapping[str, str], *, secrets: bool = False) -> Iterator[Row]:
    """Yield a row for each key, and one for each entry of a table; `secrets` shows them instead of masking."""
    for section, model in SECTIONS.items():
        for name in model.model_fields:
            for key, value in _parts(f"{section}.{name}", _value(settings, section, name, secrets=secrets)):
                yield Row(key, toml(value), origins[key])


def as_toml(settings: Settings, *, secrets: bool = False) -> Iterator[str]:
    """Yield the lines of a file that gives these settings again (with `secrets`, or where there are none)."""
    for section, model in SECTIONS.items():
        yield f"[{section}]"
        for name in model.model_fields:
            yield f"{name} = {toml(_value(settings, section, name, secrets=secrets))}"
        yield ""


def has_secrets(settings: Settings) -> bool:
    """Tell whether anything is masked."""
    return list(as_toml(settings)) != list(as_toml(settings, secrets=True))


def _parts(key: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield the entries of a table that has some, anything else as it is."""
    if isinstance(value, dict) and value:
        yield from ((f"{key}.{name}", entry) for name, entry in value.items())
    else:
        yield key, value


def _value(settings: Settings, section: str, name: str, *, secrets: bool) -> Any:  # noqa: ANN401 - of any kind
    value = getattr(getattr(settings, section), name)
    if isinstance(value, SecretSource):
        return _source(value, secrets=secrets)
    if name == "secrets":
        return {entry: _source(source, secrets=secrets) for entry, source in value.items()}
    if name == "environment":
        return {entry: text if secrets else mask_entry(entry, text) for entry, text in value.items()}
    return value if secrets else _masked(name, value)


def _masked(name: str, value: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, tuple):
        return _masked_list(value)
    if name == "uri":
        return mask_uri(value)
    return mask(value) if isinstance(value, str) and name != "reference" else value


def _source(source: SecretSource, *, secrets: bool) -> str:
    return source.revealed if secrets else str(source)


def _masked_list(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Mask each text, and the one behind an option whose name sounds like a secret (["--password", "x"])."""
    pairs = zip(("", *texts), texts, strict=False)
    return tuple(
        mask_entry(before, text) if before.startswith("-") and "=" not in before else mask(text)
        for before, text in pairs
    )
