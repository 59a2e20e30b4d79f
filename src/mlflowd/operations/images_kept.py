"""What mlflowd remembers of images: what each can do, which one a reference meant, which ones served.

Effects: reads and writes state/images.json below the state directory, with the rights of the service user.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflowd.errors import MlflowdError
from mlflowd.host import files
from mlflowd.host.paths import run_as
from mlflowd.server.abilities import Abilities

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from mlflowd.host.paths import Identity

_SCHEMA = 2
"""1 had the abilities alone, without schema revisions: what it says is asked again."""
_LONGEST = 20
"""Images that served and are remembered; two of them are kept, the others are gone or go."""


@dataclass(frozen=True, slots=True)
class Served:
    """One image that a server ran from."""

    image: str
    """Its id."""
    base: str
    """The id of the image that it was made from, its own where it was not derived."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The content of the file."""

    abilities: Mapping[str, Abilities] = field(default_factory=dict)
    """By image id."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """The image id that each reference means, until a person accepts another one."""
    served: tuple[Served, ...] = ()
    """The latest first."""


class ImagesKept:
    """The file; every call reads it anew, because a command may have written meanwhile."""

    def __init__(self, state: Path, who: Identity) -> None:
        self.path = state / "state" / "images.json"
        self._who = who
        self._lock = threading.Lock()

    def read(self) -> Kept:
        """Return what is remembered; nothing where the file is not there, damaged or older."""
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            return _kept(told) if told.get("schema") == _SCHEMA else Kept()
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return Kept()  # it is asked again

    def know(self, image_id: str, able: Abilities) -> None:
        """Remember what an image can do; what cannot be written down is asked again."""
        with suppress(OSError, MlflowdError):
            self._change(lambda kept: replace(kept, abilities={**kept.abilities, image_id: able}))

    def pin(self, reference: str, image_id: str) -> None:
        """Remember which image a reference means. Raises OSError and MlflowdError, as `serve` and `forget`."""
        self._change(lambda kept: replace(kept, pins={**kept.pins, reference: image_id}))

    def serve(self, now: Served) -> None:
        """Remember which image serves now."""

        def noted(kept: Kept) -> Kept:
            before = (one for one in kept.served if one.image != now.image)
            return replace(kept, served=(now, *before)[:_LONGEST])

        self._change(noted)

    def forget(self, gone: Collection[str]) -> None:
        """Forget images that are not there any more; what a reference meant is remembered."""

        def without(kept: Kept) -> Kept:
            able = {key: value for key, value in kept.abilities.items() if key not in gone}
            return replace(kept, abilities=able, served=tuple(one for one in kept.served if one.image not in gone))

        self._change(without)

    def _change(self, change: Callable[[Kept], Kept]) -> None:
        with self._lock:
            before = self.read()
            after = change(before)
            if after != before:
                text = _text(after)
                run_as(self._who, lambda: files.write_atomically(self.path, text))


def _kept(told: Mapping[str, Any]) -> Kept:
    return Kept(
        {str(key): _abilities(value) for key, value in told["abilities"].items()},
        {str(key): str(value) for key, value in told["pins"].items()},
        tuple(Served(str(image), str(base)) for image, base in told["served"]),
    )


def _abilities(told: Mapping[str, Any]) -> Abilities:
    lists = {"packages": frozenset(told["packages"]), "revisions": tuple(told["revisions"])}
    return Abilities(**{**told, **lists})


def _text(kept: Kept) -> str:
    able = {key: {**asdict(one), "packages": sorted(one.packages)} for key, one in kept.abilities.items()}
    served = [[one.image, one.base] for one in kept.served]
    return json.dumps({"schema": _SCHEMA, "abilities": able, "pins": dict(kept.pins), "served": served})
