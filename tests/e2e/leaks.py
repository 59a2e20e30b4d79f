"""Where a secret must not stand: all that mlflowd writes, says, starts and builds, read back as the guest's root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.trial import NAME

if TYPE_CHECKING:
    from e2e.guest import Guest

OUTPUTS = {
    "the journal": "journalctl --output=export --all --no-pager",
    "mlflowd status": "mlflowd status; mlflowd status --json",
    "mlflowd config": "mlflowd config",
    "mlflowd config --toml": "mlflowd config --toml",
    "mlflowd check": "mlflowd check",
    "the process list": "ps auxww",
    "the container's command line": f"docker inspect --format '{{{{json .Path}}}} {{{{json .Args}}}}' {NAME}",
    "the container's labels": f"docker inspect --format '{{{{json .Config.Labels}}}}' {NAME}",
    "the container's mounts": f"docker inspect --format '{{{{json .HostConfig.Binds}}}} {{{{json .Mounts}}}}' {NAME}",
    "the engine's log of the container": f"docker logs {NAME}",
    "the images": "docker images -q | sort -u | xargs docker image inspect",
    "the images' history": "docker images -q | sort -u | xargs -n1 docker history --no-trunc",
    "the unit": "systemctl show mlflowd; systemctl cat mlflowd",
    "status.json": "cat /run/mlflowd/status.json",
    "files that everybody may read": (
        "find /var/lib/mlflowd /run/mlflowd /etc/mlflowd* /var/log /tmp -type f -perm -o=r -exec cat {} +"
    ),
}
"""Commands by the place that they show. Each is run as it stands: none names the secret itself."""


def places_with(host: Guest, *secrets: str) -> list[str]:
    """Return the names of the places that show one of these texts; [] is what secrets must have."""
    said = {name: host.run(command, check=False, timeout=120).stdout for name, command in OUTPUTS.items()}
    return [name for name, text in said.items() if any(secret in text for secret in secrets)]
