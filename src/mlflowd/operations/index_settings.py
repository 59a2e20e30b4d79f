"""How this machine reaches a Python package index: pip's settings, the CA bundle, the proxies.

Reads pip's configuration files and environment; no other effects. The values may hold credentials: they go into
the first stage of an image's build and nowhere else, in no log and no exception.
"""

from __future__ import annotations

import configparser
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CA_IN_BUILD = "/build/ca.pem"

_LISTS = ("index-url", "extra-index-url", "find-links")
"""Settings that name places: each a list of URLs or paths, separated by blanks."""
_VALUES = ("trusted-host", "timeout", "default-timeout", "retries", "proxy", "prefer-binary")
_MACHINE_FILES = (Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"))
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""The machine's own bundle: Debian and Ubuntu, Fedora, others."""
_BUNDLE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What a build may use to reach the index."""

    pip_conf: str = field(default="", repr=False)
    """The text of a pip.conf for the build."""
    ca_bundle: bytes = field(default=b"", repr=False)
    """PEM certificates, or empty for what the base image trusts."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Build arguments that every engine knows and keeps out of the image's history."""
    left_out: tuple[str, ...] = ()
    """Sentences about settings that a container cannot use."""


def index_settings(environ: Mapping[str, str], home: Path) -> IndexSettings:
    """Return the settings of pip for the user with this environment and home directory."""
    settings = {**_from_files(environ, home), **_from_environment(environ)}
    kept: dict[str, str] = {key: settings[key] for key in _VALUES if key in settings}
    left_out: list[str] = []
    for key in _LISTS:
        places = settings.get(key, "").split()
        if remote := [place for place in places if not _local(place)]:
            kept[key] = "\n".join(remote)
        left_out += [
            f"pip's {key} {place} is a path on this machine, which a build cannot see: left out"
            for place in places
            if _local(place)
        ]
    bundle = _ca_bundle(environ, settings.get("cert"))
    return IndexSettings(
        pip_conf=_text(kept, with_bundle=bool(bundle)),
        ca_bundle=bundle,
        proxies={name: value for name, value in environ.items() if name.lower() in _PROXIES and value},
        left_out=tuple(left_out),
    )


def _from_files(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return what pip's configuration files set for `pip install`, a later file over an earlier one."""
    own = environ.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:  # pip's way to say: no configuration files at all
        return {}
    settings: dict[str, str] = {}
    for path in _files(home, own):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip itself would refuse the file; the build then goes by the other ones
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update({_normal(key): value for key, value in parser.items(section)})
    return settings


def _files(home: Path, own: str) -> Iterator[Path]:
    yield from _MACHINE_FILES
    yield home / ".pip" / "pip.conf"
    yield home / ".config" / "pip" / "pip.conf"
    if own:
        yield Path(own)


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {_normal(name[4:]): value for name, value in environ.items() if name.startswith("PIP_")}


def _normal(key: str) -> str:
    return key.lower().replace("_", "-")


def _local(place: str) -> bool:
    return place.startswith("file:") or "://" not in place


def _ca_bundle(environ: Mapping[str, str], cert: str | None) -> bytes:
    """Return the first bundle that can be read: pip's own setting, the environment's, the machine's."""
    for path in (cert, *(environ.get(name) for name in _BUNDLE_VARIABLES), *_BUNDLES):
        if path and Path(path).is_file() and os.access(path, os.R_OK):
            return Path(path).read_bytes()
    return b""


def _text(settings: Mapping[str, str], *, with_bundle: bool) -> str:
    parser = configparser.RawConfigParser()
    parser["global"] = {**settings, **({"cert": CA_IN_BUILD} if with_bundle else {})}
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
