"""What `mlflowd export compose` prints, given to a real compose: its container has the facts of mlflowd's own."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from contract.worlds import RealWorld
from mlflowd.model import LABEL_SPEC, Image, Mount, PrivateFile, Secrets
from mlflowd.operations.composed import composed
from mlflowd.server.wiring import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.engine

COMPOSE = (["docker-compose"], ["docker", "compose"])
SECRETS = Secrets({"backend_store.password": 'pa wo\'rd \\ "x" #y'})
ENVIRONMENT = (
    ("ODD", "a=b # c ${HOME} $$ 'q' \"d\""),
    ("PASSWORD_PLAIN", "simple$word $$ # x"),
    ("URI", f"postgresql://u:{SECRETS.get('backend_store.password')}@db/x"),
)
CONFIG = ("User", "WorkingDir", "Entrypoint", "Cmd", "StopSignal", "StopTimeout", "Env", "Image")
HOST = (
    *("ReadonlyRootfs", "CapDrop", "CapAdd", "SecurityOpt", "Privileged", "Init", "IpcMode", "PidMode", "UTSMode"),
    *("CpuShares", "PidsLimit", "Memory", "MemorySwap", "ShmSize", "Tmpfs", "PortBindings", "ExtraHosts", "Devices"),
    *("LogConfig", "AutoRemove", "UsernsMode", "Dns", "CgroupParent"),
)


@pytest.fixture(scope="module")
def compose() -> list[str]:
    for command in COMPOSE:
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True, check=False).returncode
        ):
            return command
    pytest.skip("no docker compose: apt-get install docker-compose")


@pytest.fixture
def both(
    engine_socket: str, busybox: str, compose: list[str], tmp_path: Path
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What the engine says of mlflowd's own container, and of the one that compose made from the export."""
    (tmp_path / "store").mkdir()
    (tmp_path / "private").mkdir()
    real = RealWorld(engine_socket, busybox, tmp_path / "store")
    spec = replace(
        real.spec,
        environment=ENVIRONMENT,
        mounts=(*real.spec.mounts, Mount(str(tmp_path / "private"), PRIVATE, read_only=True)),
        files=(PrivateFile("login", "secret"),),
        host_names=("host.docker.internal",),
        cpu_weight=512,
        argv=("/bin/busybox", "sleep", "$HOME", "# x"),
    )
    own = real.api.inspect_container(real.engine.create(spec))
    made = composed(spec, Image(busybox, (), {}), SECRETS, prefix="", network_of_others=False)
    theirs = replace(spec, name=f"{spec.name}-compose")
    (tmp_path / "compose.yaml").write_text(made.text.replace(f'"{spec.name}"', f'"{theirs.name}"'))
    (tmp_path / ".env").write_text(made.dotenv)
    call = [*compose, "-p", spec.name, "-f", "compose.yaml"]
    environment = {
        "DOCKER_HOST": f"unix://{engine_socket}",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    try:
        done = subprocess.run(
            [*call, "up", "--no-start"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        yield own, real.api.inspect_container(theirs.name)
    finally:
        subprocess.run([*call, "down"], cwd=tmp_path, env=environment, capture_output=True, check=False)
        real.clean()


def test_the_container_of_compose_has_the_facts_of_mlflowds_own(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    own, theirs = both
    for part, keys in (("Config", CONFIG), ("HostConfig", HOST)):
        for key in keys:
            assert _plain(key, theirs[part].get(key)) == _plain(key, own[part].get(key)), key
    assert _mounts(theirs) == _mounts(own)


def test_what_is_different_is_what_compose_does_itself(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    own, theirs = both
    assert LABEL_SPEC not in theirs["Config"]["Labels"]
    assert theirs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert own["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert theirs["Config"]["Healthcheck"]["Test"][:3] == ["CMD", "python", "-c"]


def _plain(key: str, value: Any) -> Any:
    """Return a value without what is the same in other words: no list and an empty one, an order that says nothing."""
    if key == "Env":
        return sorted(each for each in value if not each.startswith("PATH="))
    if key == "SecurityOpt":
        return sorted(value or [])
    return value or None


def _mounts(told: dict[str, Any]) -> set[tuple[Any, ...]]:
    keys = ("Type", "Source", "Destination", "RW", "Propagation")
    return {tuple(each[key] for key in keys) for each in told["Mounts"]}
