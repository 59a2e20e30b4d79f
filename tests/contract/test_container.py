"""What create() asks for is what a real engine then says of the container, item by item; and its log, in the raw."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from contract.podman import SAYS
from mlflowd.engine.body import LABEL_IMAGE, LABEL_NETWORK
from mlflowd.engine.docker import DockerEngine
from mlflowd.errors import EngineError
from mlflowd.model import LABEL_SLOT, LABEL_SPEC, Address, ContainerStatus, Mount

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from contract.conftest import MakeWorld
    from contract.worlds import RealWorld

TMP = "/tmp"  # noqa: S108 - the container's own
pytestmark = pytest.mark.engine

ASKED: dict[str, tuple[str, object]] = {
    "an init reaps and forwards signals": ("HostConfig.Init", True),
    "the root is read-only": ("HostConfig.ReadonlyRootfs", True),
    "every capability is dropped": ("HostConfig.CapDrop", ["ALL"]),
    "no capability is added": ("HostConfig.CapAdd", None),
    "no new privileges, SELinux labels, and no profile switched off": (
        "HostConfig.SecurityOpt",
        ["no-new-privileges", "label=type:container_t", "label=level:s0:c1,c2"],
    ),
    "it is not privileged": ("HostConfig.Privileged", False),
    "no device is handed in": ("HostConfig.Devices", None),
    "its memory is shared with nobody": ("HostConfig.IpcMode", "private"),
    "it has processes of its own": ("HostConfig.PidMode", ""),
    "it has a host name of its own": ("HostConfig.UTSMode", ""),
    "its users are the engine's to map": ("HostConfig.UsernsMode", ""),
    "its share of a busy processor is the spec's": ("HostConfig.CpuShares", 512),
    "processes are limited": ("HostConfig.PidsLimit", 64),
    "memory is limited": ("HostConfig.Memory", 64 << 20),
    "it gets no swap": ("HostConfig.MemorySwap", 64 << 20),
    "no swap is preferred or avoided": ("HostConfig.MemorySwappiness", None),
    "it is ended when its memory is full": ("HostConfig.OomKillDisable", False),
    "no limit of the engine's own is changed": ("HostConfig.Ulimits", None),
    "names of this machine are the engine's to resolve": ("HostConfig.ExtraHosts", ["db.example:host-gateway"]),
    "shared memory is sized": ("HostConfig.ShmSize", 4 << 20),
    "the engine does not restart it": ("HostConfig.RestartPolicy.Name", "no"),
    "the engine does not remove it": ("HostConfig.AutoRemove", False),
    "the log driver is json-file": ("HostConfig.LogConfig.Type", "json-file"),
    "the log is bounded": ("HostConfig.LogConfig.Config", {"max-size": "10m", "max-file": "3"}),
    "temporary files are in a tmpfs": (
        "HostConfig.Tmpfs",
        {TMP: f"rw,nosuid,nodev,noexec,mode=1777,size={8 << 20}"},
    ),
    "it runs as the given user": ("Config.User", "1234:2345"),
    "it works in /tmp": ("Config.WorkingDir", TMP),
    "SIGTERM stops it": ("Config.StopSignal", "SIGTERM"),
    "the engine's own stop waits as long": ("Config.StopTimeout", 30),
    "the image's health check is off": ("Config.Healthcheck.Test", ["NONE"]),
    "the program is the spec's": ("Config.Entrypoint", ["/bin/busybox"]),
    "its arguments are the spec's": ("Config.Cmd", ["sleep", "300"]),
    "no directory is bound the old way": ("HostConfig.Binds", None),
}


def inspected(real: RealWorld) -> Any:
    return real.api.inspect_container(real.engine.create(real.spec))


@pytest.mark.parametrize("item", ASKED)
def test_create_asks_that(shared: tuple[str, dict[str, Any]], item: str) -> None:
    engine, found = shared
    path, expected = ASKED[item]
    for key in path.split("."):
        found = found[key]
    assert found == (SAYS.get(item, expected) if engine == "podman" else expected)


@pytest.fixture(scope="module")
def shared(make_real: MakeWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The engine's name and one container's inspect answer, for all of the above."""
    world = make_real(tmp_path_factory.mktemp("backend"))
    labels = ("type:container_t", "level:s0:c1,c2")
    world.spec = replace(world.spec, cpu_weight=512, security_labels=labels, host_names=("db.example",))
    try:
        return world.engine.info().name, inspected(world)
    finally:
        world.clean()


def test_environment_is_the_specs(real: RealWorld) -> None:
    assert {"HOME=/tmp", "MLFLOW_X=a=b c"} <= set(inspected(real)["Config"]["Env"])


def test_labels_tell_slot_spec_and_image(real: RealWorld) -> None:
    labels = inspected(real)["Config"]["Labels"]
    assert labels == {LABEL_SLOT: "0", LABEL_SPEC: real.spec.digest, LABEL_IMAGE: real.spec.image}


def test_only_the_one_port_is_published_on_the_one_address(real: RealWorld) -> None:
    bindings = inspected(real)["HostConfig"]["PortBindings"]
    assert bindings == {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(real.spec.publish.port)}]}


def test_a_published_name_is_resolved_and_never_means_every_interface(real: RealWorld) -> None:
    real.spec = replace(real.spec, publish=Address("localhost", real.spec.publish.port))
    assert inspected(real)["HostConfig"]["PortBindings"]["5000/tcp"][0]["HostIp"] == "127.0.0.1"


def test_an_unknown_published_name_is_refused(real: RealWorld) -> None:
    real.spec = replace(real.spec, publish=Address("no such host", 1))
    with pytest.raises(EngineError, match=r"no such host.*server\.listen"):
        real.engine.create(real.spec)


def test_the_network_is_a_labelled_bridge_of_our_own(real: RealWorld) -> None:
    assert list(inspected(real)["NetworkSettings"]["Networks"]) == [real.spec.network]
    network = real.api.inspect_network(real.spec.network)
    assert (network["Driver"], network["Labels"]) == ("bridge", {LABEL_NETWORK: real.spec.network})


def test_the_network_mode_is_the_network(real: RealWorld) -> None:
    assert inspected(real)["HostConfig"]["NetworkMode"] == real.spec.network


def test_a_name_of_this_machine_leads_to_it(real: RealWorld) -> None:
    real.spec = replace(real.spec, host_names=("db.example",))
    with socket.create_server(("", 0)) as listener:
        listener.settimeout(20)
        port = listener.getsockname()[1]
        real.engine.start(real.engine.create(real.running(f"echo hello | busybox nc -w 20 db.example {port}")))
        with listener.accept()[0] as visitor:
            assert visitor.recv(16) == b"hello\n"


def test_a_network_that_was_removed_is_made_again_by_the_start(real: RealWorld) -> None:
    container_id = real.engine.create(real.spec)
    real.engine.start(container_id)
    real.engine.stop(container_id, 5)
    real.api.remove_network(real.spec.network)
    real.engine.start(container_id)
    found = real.api.inspect_container(container_id)
    assert found["State"]["Running"]
    assert list(found["NetworkSettings"]["Networks"]) == [real.spec.network]
    assert f"{real.spec.publish.port}" in str(found["NetworkSettings"]["Ports"])


def test_mounts_are_binds_and_read_only_where_asked(real: RealWorld, tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    real.spec = replace(
        real.spec, mounts=(*real.spec.mounts, Mount(str(tmp_path / "ca"), "/mlflow/ca", read_only=True))
    )
    keys = ("Type", "Source", "RW", "Propagation")
    mounts = {m["Destination"]: tuple(m[key] for key in keys) for m in inspected(real)["Mounts"]}
    assert mounts == {
        "/mlflow/backend": ("bind", str(real.directory), True, "rprivate"),
        "/mlflow/ca": ("bind", str(tmp_path / "ca"), False, "rprivate"),
    }


def test_a_missing_source_directory_is_refused_and_not_made(real: RealWorld, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    real.spec = replace(real.spec, mounts=(Mount(str(missing), "/mlflow/artifacts"),))
    with pytest.raises(EngineError, match=f"{missing}.*check --fix"):
        real.engine.create(real.spec)
    assert not missing.exists()
    assert real.spec.network not in real.networks()


def test_no_limit_of_memory_means_none(real: RealWorld) -> None:
    real.spec = replace(real.spec, memory=None)
    assert inspected(real)["HostConfig"]["Memory"] == 0


def test_inside_only_tmp_and_the_mounts_can_be_written(real: RealWorld) -> None:
    os.chown(real.directory, 1234, 2345)
    script = (
        "id -u; id -g; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status | tr -d '\\t';"
        "touch /x 2>/dev/null && echo wrote root; touch /tmp/x && echo wrote tmp;"
        "touch /mlflow/backend/x && echo wrote backend; pwd; cat /proc/1/comm"
    )
    *found, init = said(real, script)
    assert found == [
        "1234",
        "2345",
        "CapEff:0000000000000000",
        "CapBnd:0000000000000000",
        "NoNewPrivs:1",
        "wrote tmp",
        "wrote backend",
        TMP,
    ]
    assert init in {"docker-init", "podman-init"}


def test_nothing_else_can_be_written(real: RealWorld) -> None:
    script = (
        "for d in / /bin /run /var/tmp /dev /sys /proc /mlflow; do touch $d/x 2>/dev/null && echo $d; done; echo end"
    )
    assert said(real, script) == ["end"]


def test_what_is_written_to_tmp_cannot_be_run(real: RealWorld) -> None:
    assert said(real, "cp /bin/busybox /tmp/sh; /tmp/sh true 2>&1") == ["sh: /tmp/sh: Permission denied"]


def test_seccomp_holds(real: RealWorld) -> None:
    assert said(real, "grep -w Seccomp /proc/self/status | tr -d '\\t'") == ["Seccomp:2"]


def test_out_of_memory_is_told(real: RealWorld) -> None:
    real.spec = real.running("exec tail /dev/zero")
    container_id = real.engine.create(replace(real.spec, memory=16 << 20))
    real.engine.start(container_id)
    list(real.engine.logs(container_id, since=0, follow=True))
    found = real.engine.inspect(container_id)
    assert found is not None
    assert (found.status, found.oom_killed) == (ContainerStatus.EXITED, True)


def test_an_image_without_the_program_ends_with_127_and_says_so(real: RealWorld) -> None:
    real.spec = replace(real.spec, argv=("mlflow", "server"))
    container_id = real.engine.create(real.spec)
    real.engine.start(container_id)
    (line,) = real.engine.logs(container_id, since=0, follow=True)
    found = real.engine.inspect(container_id)
    assert found is not None
    assert found.exit_code == 127
    assert line.endswith(b"exec mlflow failed: No such file or directory")


def test_an_address_of_another_machine_is_said(real: RealWorld) -> None:
    container_id = real.engine.create(replace(real.spec, publish=Address("192.0.2.1", real.spec.publish.port)))
    with pytest.raises(EngineError, match=r"192\.0\.2\.1.*server\.listen"):
        real.engine.start(container_id)


# --- the log, in the raw ------------------------------------------------------------------------


def said(real: RealWorld, script: str, *arguments: str) -> list[str]:
    """Return what a container that runs this script wrote, decoded."""
    return [line.decode() for line in said_raw(real, script, *arguments)]


def said_raw(real: RealWorld, script: str, *arguments: str) -> list[bytes]:
    container_id = real.engine.create(real.running(script, *arguments))
    real.engine.start(container_id)
    for _ in real.engine.logs(container_id, since=0, follow=True):
        pass
    # Read again: a follower of Docker 20.10 often misses the last line where that has no end.
    return [line.split(b" ", 1)[1] for line in real.engine.logs(container_id, since=0, follow=False)]


def test_a_line_longer_than_the_engines_buffer_is_one_line(real: RealWorld) -> None:
    lines = said_raw(real, "head -c 50000 /dev/zero | tr '\\0' x; echo; echo after")
    assert [len(line) for line in lines] == [50000, 5]
    assert set(lines[0]) == {ord("x")}


def test_long_lines_of_both_outputs_do_not_mix(real: RealWorld) -> None:
    script = "(for i in 1 2 3; do head -c 20000 /dev/zero | tr '\\0' o; echo; done) & "
    script += "(for i in 1 2 3; do head -c 20000 /dev/zero | tr '\\0' e; echo; done) >&2; wait"
    lines = said_raw(real, script)
    assert sorted((len(line), len(set(line))) for line in lines) == [(20000, 1)] * 6


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (r"printf 'a\r\nb\n'", [b"a", b"b"]),
        (r"printf '\377\376 text\n'", [b"\xff\xfe text"]),
        (r"printf '\n\nx\n'", [b"", b"", b"x"]),
        (r"printf 'no line end'", [b"no line end"]),
        (r"echo out; echo err >&2", [b"err", b"out"]),
    ],
    ids=["carriage return", "no UTF-8", "empty lines", "no line end", "both outputs"],
)
def test_odd_output_stays_lines_of_bytes(real: RealWorld, script: str, expected: list[bytes]) -> None:
    order: Callable[[list[bytes]], list[bytes]] = sorted if "err" in script else list
    # Docker 20.10 keeps what is not UTF-8 as U+FFFD in its json-file; the bytes that it gives are the bytes we give.
    kept = [line.replace(b"\xff", b"\xef\xbf\xbd").replace(b"\xfe", b"\xef\xbf\xbd") for line in expected]
    assert order(said_raw(real, script)) in (expected, kept)


def test_a_follower_sees_lines_as_they_come(real: RealWorld) -> None:
    fifo = real.directory / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    real.directory.chmod(0o755)
    container_id = real.engine.create(real.running("echo begun; exec cat /mlflow/backend/fifo"))
    real.engine.start(container_id)
    lines = real.engine.logs(container_id, since=0, follow=True)
    assert next(lines).endswith(b" begun")
    with fifo.open("w", buffering=1) as writer:
        for word in ("one", "two"):
            writer.write(f"{word}\n")
            assert next(lines).split(b" ", 1)[1] == word.encode()


def test_a_follower_may_begin_before_the_first_line(real: RealWorld) -> None:
    real.engine.close()
    real.engine = DockerEngine(real.socket_path, 5.0)
    container_id = real.engine.create(real.running("exec sleep 30"))
    real.engine.start(container_id)
    lines = real.engine.logs(container_id, since=0, follow=True)
    real.kill(container_id)
    assert list(lines) == []


def test_a_lines_stamp_has_a_fraction(real: RealWorld) -> None:
    container_id = real.engine.create(real.running("echo one"))
    real.engine.start(container_id)
    (line,) = real.engine.logs(container_id, since=0, follow=True)
    assert b"." in line.split(b" ")[0]
