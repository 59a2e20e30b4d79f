"""What registries and the engine say, recorded, and what a person reads instead."""

from __future__ import annotations

from itertools import count

import pytest

from mlflowd.engine.registry import Paced, PullProgress, refusal, registry_of

REFERENCE = "ghcr.io/mlflow/mlflow:v9.9.9"
UNREACHABLE = "The registry ghcr.io cannot be reached from this machine"

SAID = [
    ('Get "https://ghcr.io/v2/": dial tcp: lookup ghcr.io on 10.0.0.2:53: no such host', UNREACHABLE),
    ('Get "https://ghcr.io/v2/": dial tcp: lookup ghcr.io: Temporary failure in name resolution', UNREACHABLE),
    ('Get "https://ghcr.io/v2/": dial tcp: lookup ghcr.io on 127.0.0.53:53: server misbehaving', UNREACHABLE),
    ('Get "https://ghcr.io/v2/": dial tcp 140.82.121.34:443: connect: no route to host', UNREACHABLE),
    ('Get "https://ghcr.io/v2/": dial tcp 140.82.121.34:443: connect: network is unreachable', UNREACHABLE),
    ('Get "https://ghcr.io/v2/": dial tcp 140.82.121.34:443: connect: connection refused', UNREACHABLE),
    ('Get "https://ghcr.io/v2/": dial tcp 140.82.121.34:443: i/o timeout', UNREACHABLE),
    ('Get "https://ghcr.io/v2/": net/http: TLS handshake timeout', UNREACHABLE),
    (
        'Get "https://ghcr.io/v2/": net/http: request canceled (Client.Timeout exceeded while awaiting headers)',
        UNREACHABLE,
    ),
    ('Get "https://ghcr.io/v2/": context deadline exceeded', UNREACHABLE),
    ('Get "https://ghcr.io/v2/": proxyconnect tcp: dial tcp 10.1.1.1:3128: connect: connection refused', UNREACHABLE),
    (
        'Head "https://ghcr.io/v2/mlflow/mlflow/manifests/v9.9.9": denied',
        "The registry ghcr.io denies access to ghcr.io/mlflow/mlflow",
    ),
    (
        "pull access denied for mlflow, repository does not exist or may require 'docker login': denied",
        "The registry ghcr.io denies access",
    ),
    (
        'Head "https://ghcr.io/v2/mlflow/mlflow/manifests/v9.9.9": unauthorized: authentication required',
        "The registry ghcr.io denies access",
    ),
    (
        "error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: \"<html>\"",
        "The registry ghcr.io denies access",
    ),
    ("manifest unknown", "There is no tag v9.9.9 in ghcr.io/mlflow/mlflow."),
    (
        "manifest for ghcr.io/mlflow/mlflow:v9.9.9 not found: manifest unknown: manifest unknown",
        "There is no tag v9.9.9 in ghcr.io/mlflow/mlflow.",
    ),
    ("name unknown: repository name not known to registry", "There is no repository ghcr.io/mlflow/mlflow."),
    (
        "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating",
        "The registry ghcr.io has had too many requests",
    ),
    (
        "failed to register layer: Error processing tar file(exit status 1): write /opt/x.so: no space left on device",
        "The engine's disk is full",
    ),
    (
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
        "ghcr.io/mlflow/mlflow:v9.9.9 is not made for this machine's processor",
    ),
    (
        'Get "https://ghcr.io/v2/": x509: certificate signed by unknown authority',
        "The certificate of the registry ghcr.io is not trusted on this machine (x509: certificate signed by unknown",
    ),
    (
        'Get "https://ghcr.io/v2/": x509: certificate has expired or is not yet valid: current time 2026-01-01',
        "The certificate of the registry ghcr.io is not trusted",
    ),
    (
        'Get "https://ghcr.io/v2/": http: server gave HTTP response to HTTPS client',
        "The registry ghcr.io speaks plain HTTP",
    ),
    ("unexpected EOF", "The download of ghcr.io/mlflow/mlflow:v9.9.9 broke off"),
    ("filesystem layer verification failed for digest sha256:abc", "The download of ghcr.io/mlflow/mlflow:v9.9.9"),
    ("invalid reference format", "ghcr.io/mlflow/mlflow:v9.9.9 is not the name of an image."),
    ("something new", "The engine could not pull ghcr.io/mlflow/mlflow:v9.9.9: something new."),
    ("", "The engine could not pull ghcr.io/mlflow/mlflow:v9.9.9: no reason given."),
]


@pytest.mark.parametrize(("said", "plain"), SAID)
def test_what_the_engine_says_becomes_plain_words_and_a_remedy(said: str, plain: str) -> None:
    error = refusal(REFERENCE, said)
    assert error.message.startswith(plain)
    assert error.hint


def test_an_unreachable_registry_leads_to_a_build_and_keeps_the_cause() -> None:
    error = refusal(REFERENCE, SAID[0][0])
    assert "no such host" in error.message
    assert "sudo mlflowd image build" in error.hint


def test_a_moved_digest_is_called_a_digest() -> None:
    error = refusal("ghcr.io/mlflow/mlflow@sha256:" + "a" * 64, "manifest unknown")
    assert error.message.startswith("There is no image with the digest sha256:aaa")


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("ghcr.io/mlflow/mlflow", "ghcr.io"),
        ("localhost:5000/mlflow", "localhost:5000"),
        ("mlflow", "docker.io"),
        ("-bad-.io/mlflow", "-bad-.io"),
    ],
)
def test_the_registry_is_named(repository: str, registry: str) -> None:
    assert registry_of(repository) == registry


def event(layer: str, status: str, current: int = 0, total: int = 0) -> dict[str, object]:
    return {"id": layer, "status": status, "progressDetail": {"current": current, "total": total}}


def test_the_layers_add_up_to_one_sentence() -> None:
    said: list[str] = []
    seconds = count(step=2)
    progress = PullProgress("r/i:t", said.append, lambda: float(next(seconds)))
    for one in (
        {"id": "t", "status": "Pulling from i"},
        event("z", "Already exists"),
        event("a", "Downloading", 20_000_000, 80_000_000),
        event("b", "Downloading", 100_000_000, 400_000_000),
        event("a", "Download complete"),
        event("b", "Download complete"),
        event("a", "Extracting", 40_000_000, 80_000_000),
        event("a", "Pull complete"),
    ):
        progress.feed(one)
    assert said == [
        "pulling r/i:t",
        "pulling r/i:t: 20 of 80 MB",
        "pulling r/i:t: 120 of 480 MB",
        "pulling r/i:t: 180 of 480 MB",
        "pulling r/i:t: 480 of 480 MB",
        "pulling r/i:t: unpacked 40 of 480 MB",
        "pulling r/i:t: unpacked 80 of 480 MB",
    ]


def test_at_most_one_sentence_a_second() -> None:
    said: list[str] = []
    tenths = count()
    progress = PullProgress("r/i:t", said.append, lambda: next(tenths) / 10)
    for megabytes in range(1, 101):
        progress.feed(event("a", "Downloading", megabytes * 1_000_000, 100_000_000))
    assert len(said) == 11


def test_the_same_sentence_is_said_once() -> None:
    said: list[str] = []
    hours = count(step=3600)
    say = Paced(said.append, 1.0, lambda: float(next(hours)))
    say("a")
    say("a")
    assert said == ["a"]
