"""What a registry's answers mean: progress as one sentence, refusals in plain words with the remedy.

No effects; the texts are those of dockerd (and of containers/image behind Podman), matched by their stable parts.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from docker import auth, utils
from docker.errors import DockerException

from mlflowd.errors import ImageMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflowd.engine.api import Progress

_MEGABYTE = 1_000_000
_BUILD = "Build an equivalent image here: sudo mlflowd image build"
_LOG_IN = "check image.reference in the configuration, or log in: sudo docker login {registry}"

_UNREACHABLE = (
    r"no such host|server misbehaving|name resolution|no route to host|network is unreachable|connection refused"
    r"|i/o timeout|timed? ?out|timeout|deadline exceeded|request canceled while waiting|proxyconnect"
)

_REFUSALS: tuple[tuple[str, str, str], ...] = (
    # the cause in the engine's words, the sentence, the remedy
    (
        r"no space left on device",
        "The engine's disk is full: {reference} does not fit.",
        "make room, for example with: sudo docker image prune",
    ),
    (
        r"x509:|certificate (signed by|has expired|is not|verify failed)",
        "The certificate of the registry {registry} is not trusted on this machine ({detail}).",
        "add the registry's (or proxy's) CA: sudo cp CA.crt /usr/local/share/ca-certificates/ && "
        "sudo update-ca-certificates && sudo systemctl restart docker. " + _BUILD,
    ),
    (
        r"server gave HTTP response to HTTPS client",
        "The registry {registry} speaks plain HTTP, which the engine does not accept.",
        'add "insecure-registries": ["{registry}"] to /etc/docker/daemon.json and restart the engine',
    ),
    (
        r"toomanyrequests|rate limit|429 Too Many Requests",
        "The registry {registry} has had too many requests from this address for now.",
        "wait an hour, or log in: sudo docker login {registry}. " + _BUILD,
    ),
    (
        r"no matching manifest|no image found in (manifest list|image index)|does not match the specified platform",
        "{reference} is not made for this machine's processor ({detail}).",
        _BUILD,
    ),
    (
        r"manifest unknown|manifest for .* not found|manifest .* not found",
        "There is no {tag} in {repository}.",
        "check image.reference in the configuration. " + _BUILD,
    ),
    (
        r"name unknown|repository name not known|repository .* not found",
        "There is no repository {repository}.",
        "check image.reference in the configuration. " + _BUILD,
    ),
    (
        r"denied|unauthorized|authentication required|no basic auth|40[13] |forbidden",
        "The registry {registry} denies access to {repository}, or the repository does not exist.",
        _LOG_IN + ". " + _BUILD,
    ),
    (
        r"invalid reference format|invalid repository name|must be lowercase|could not parse reference",
        "{reference} is not the name of an image.",
        "image.reference in the configuration reads like ghcr.io/mlflow/mlflow:v3.17.2",
    ),
    (
        _UNREACHABLE,
        "The registry {registry} cannot be reached from this machine ({detail}).",
        _BUILD + ", or check the network and the engine's proxy settings",
    ),
    (
        r"unexpected EOF|connection reset|\bEOF\b|verification failed for digest",
        "The download of {reference} broke off ({detail}).",
        "try again: sudo mlflowd image pull",
    ),
)


def refusal(reference: str, text: str) -> ImageMissingError:
    """Return the error for what the engine said (`text`) when it could not pull `reference`."""
    repository, tag = utils.parse_repository_tag(reference)
    words = {
        "reference": reference,
        "repository": repository,
        "registry": registry_of(repository),
        "tag": f"image with the digest {tag}" if tag and ":" in tag else f"tag {tag or 'latest'}",
        "detail": _detail(text),
    }
    for pattern, sentence, remedy in _REFUSALS:
        if re.search(pattern, text, re.IGNORECASE):
            return ImageMissingError(sentence.format_map(words), remedy.format_map(words))
    return ImageMissingError("The engine could not pull {reference}: {detail}.".format_map(words), _BUILD)


def registry_of(repository: str) -> str:
    """Return the registry's host name: "ghcr.io" of "ghcr.io/mlflow/mlflow", "docker.io" where none is named."""
    try:
        return str(auth.resolve_repository_name(repository)[0])
    except DockerException:
        return repository.partition("/")[0]


def _detail(text: str) -> str:
    """Return the cause at the end of a chain such as 'Get "https://…": dial tcp: lookup …: no such host'."""
    last = text.strip().splitlines()[-1] if text.strip() else "no reason given"
    return re.sub(r'^.*?(?:Get|Head|Post) "[^"]*":\s*', "", last).rstrip(".")


class Paced:
    """Passes a sentence on when it is new and `interval` seconds have passed since the last one."""

    def __init__(self, report: Progress, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._interval = interval
        self._clock = clock
        self._last = ("", float("-inf"))

    def __call__(self, sentence: str, *, at_once: bool = False) -> None:
        """Report `sentence`, or drop it."""
        now = self._clock()
        said, at = self._last
        if sentence != said and (at_once or now - at >= self._interval):
            self._last = (sentence, now)
            self._report(sentence)


class PullProgress:
    """Adds up the layers of a pull: "pulling ghcr.io/…: 120 of 480 MB", at most once a second."""

    def __init__(self, reference: str, report: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._reference = reference
        self._say = Paced(report, 1.0, clock)
        self._fetched: dict[str, tuple[int, int]] = {}
        self._unpacked: dict[str, tuple[int, int]] = {}
        self._say(f"pulling {reference}", at_once=True)

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take one event of the engine's pull stream (status, id, progressDetail: current and total in bytes)."""
        layer, status = str(event.get("id", "")), str(event.get("status", ""))
        detail = event.get("progressDetail") or {}
        amounts = (int(detail.get("current") or 0), int(detail.get("total") or 0))
        if status == "Downloading":
            self._fetched[layer] = amounts
        elif status == "Extracting":
            self._unpacked[layer] = amounts
        elif status in {"Download complete", "Pull complete"}:
            done = self._fetched if status == "Download complete" else self._unpacked
            total = self._fetched.get(layer, (0, 0))[1]
            done[layer] = (total, total)
        else:
            return
        self._say(self._sentence())

    def _sentence(self) -> str:
        fetched, total = _sums(self._fetched)
        if total and fetched >= total and self._unpacked:
            unpacked, _ = _sums(self._unpacked)
            return f"pulling {self._reference}: unpacked {_mb(unpacked)} of {_mb(total)} MB"
        return f"pulling {self._reference}: {_mb(fetched)} of {_mb(total)} MB"


def _sums(layers: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    return sum(done for done, _ in layers.values()), sum(total for _, total in layers.values())


def _mb(size: int) -> int:
    return round(size / _MEGABYTE)
