"""Faults of the container and of what is around it, each injected on a real host with a real engine.

A test's name begins with the number of its fault in docs/reliability.md. `s` is the time that MLflow itself takes
from start to first answer on this host, measured without mlflowd; bounds are that time plus what is allowed on top.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.trial import NAME, STARTED, Trial, ask, start_seconds, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.guest import Guest

pytestmark = pytest.mark.timeout(600)
SLACK = 15.0
"""Seconds that a loaded machine may add to any bound; ratios and medians stand in bench/."""


@pytest.fixture(scope="module")
def s(host: Guest) -> float:
    return start_seconds(host)


@pytest.fixture
def configured(host: Guest) -> Iterator[Guest]:
    """A host whose /etc/mlflowd.toml the test may change; it is put back and reloaded."""
    before = host.read("/etc/mlflowd.toml")
    yield host
    host.write("/etc/mlflowd.toml", before)
    host.run("chown root:mlflowd /etc/mlflowd.toml && chmod 640 /etc/mlflowd.toml")
    host.run("systemctl reload-or-restart mlflowd", timeout=180)
    host.wait_serving(120)


def main_process(host: Guest) -> int:
    return int(host.run(f"docker inspect -f '{{{{.State.Pid}}}}' {NAME}").stdout)


def processes(host: Guest, words: str = "") -> list[int]:
    """Return the processes of the container whose command line has these words, by their numbers in the guest."""
    lines = host.run(f"docker top {NAME} -eo pid,args").stdout.splitlines()[1:]
    return [int(line.split()[0]) for line in lines if words in line]


def configure(host: Guest, toml: str) -> None:
    host.write("/etc/mlflowd.toml", toml)
    host.run("chown root:mlflowd /etc/mlflowd.toml && chmod 640 /etc/mlflowd.toml")


def test_01_a_killed_container_serves_again(host: Guest, s: float) -> None:
    with Trial(host, restarts=1) as trial:
        container = host.run(f"docker inspect -f '{{{{.Id}}}}' {NAME}").stdout
        host.run(f"docker kill {NAME}")
        trial.wait_recovered(s + 1 + SLACK)
        assert host.run(f"docker inspect -f '{{{{.Id}}}}' {NAME}").stdout == container
        assert "SERVER_STOPPED_BY_HAND" in trial.events(), "docker kill is said"


def test_02_a_killed_uvicorn_is_a_failure_though_the_exit_status_is_0(host: Guest, s: float) -> None:
    with Trial(host, restarts=1) as trial:
        uvicorn = processes(host, "-m uvicorn")[0]
        host.run(f"kill -9 {uvicorn}")
        trial.said("SERVER_EXITED")
        trial.wait_recovered(s + 1 + SLACK)


def test_03_a_removed_container_is_made_again_after_a_check_of_the_database(host: Guest, s: float) -> None:
    with Trial(host, restarts=1) as trial:
        host.run(f"docker rm -f {NAME}")
        trial.wait_recovered(s + 3 + SLACK)
        assert "SERVER_REMOVED" in trial.events()


def test_04_a_stop_by_hand_is_said_and_undone(host: Guest, s: float) -> None:
    with Trial(host, restarts=1) as trial:
        host.run(f"docker stop {NAME}", timeout=60)
        trial.said("SERVER_STOPPED_BY_HAND")
        trial.wait_recovered(s + 5 + SLACK)


def test_05_a_paused_server_is_unpaused(host: Guest) -> None:
    with Trial(host) as trial:
        host.run(f"docker pause {NAME}")
        trial.said("SERVER_PAUSED")
        trial.wait_recovered(15)


def test_06_a_hung_server_is_killed_and_restarted(host: Guest, s: float) -> None:
    with Trial(host, restarts=1) as trial:
        host.run(["kill", "-STOP", *map(str, processes(host))])
        trial.said("SERVER_HUNG", timeout=40)
        trial.wait_recovered(35 + s + SLACK)


def test_07_one_hung_worker_of_several_causes_no_restart(host: Guest) -> None:
    with Trial(host) as trial:
        worker = processes(host, "spawn_main")[-1]
        host.run(f"kill -STOP {worker}")
        host.wait_serving(60)
        host.run(f"kill -CONT {worker} || true")
        assert "SERVER_HUNG" not in trial.events()


def test_08_out_of_memory_is_named_and_backed_off(configured: Guest) -> None:
    cursor = configured.journal_end()
    configure(configured, '[container]\nmemory = "160M"\n')
    configured.run("systemctl reload mlflowd")
    said = configured.wait_journal(
        lambda entry: entry.get("MLFLOWD_EVENT") == "SERVER_OUT_OF_MEMORY" or "memory" in entry.get("CAUSE", ""),
        unit="mlflowd",
        cursor=cursor,
        timeout=90,
    )
    assert "memory" in said["MESSAGE"]
    configured.wait_journal(
        lambda entry: entry.get("MLFLOWD_EVENT") == "RETRY_LATER", unit="mlflowd", cursor=cursor, timeout=120
    )


def test_09_a_crash_loop_backs_off(configured: Guest) -> None:
    configure(configured, '[server]\nextra_arguments = ["--no-such-option"]\n')
    cursor = configured.journal_end()
    configured.run("systemctl reload mlflowd")

    def waits_8_seconds(entry: dict[str, str]) -> bool:
        return entry.get("MLFLOWD_EVENT") == "RETRY_LATER" and int(entry.get("ATTEMPT", "0")) >= 6

    configured.wait_journal(waits_8_seconds, unit="mlflowd", cursor=cursor, timeout=180)
    entries = configured.journal(unit="mlflowd", cursor=cursor)
    starts = [entry for entry in entries if entry.get("MLFLOWD_EVENT") == "SERVER_STARTING"]
    assert len(starts) <= 6, "the starts grow rarer: 0, 1, 2, 4, 8 s"
    assert any("no-such-option" in entry["MESSAGE"] for entry in entries), "MLflow's own words are there"


def test_10_a_taken_port_is_named_with_its_holder(host: Guest) -> None:
    host.run("systemctl stop mlflowd", timeout=90)
    cursor = host.journal_end()
    squatter = host.popen(
        ["python3", "-m", "http.server", "--bind", "127.0.0.1", "5000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        host.run("timeout 20 sh -c 'until ss -Hltn sport = :5000 | grep -q .; do sleep 0.05; done'")
        host.run("systemctl start --no-block mlflowd")
        host.wait_journal(
            lambda entry: "127.0.0.1:5000 is taken by" in entry["MESSAGE"] and "python3" in entry["MESSAGE"],
            unit="mlflowd",
            cursor=cursor,
            timeout=5 + SLACK,
        )
    finally:
        host.run("pkill -f '[h]ttp.server'")
        squatter.wait(10)
    host.wait_serving(120)


def test_11_a_foreign_container_of_our_name_is_never_touched(host: Guest) -> None:
    host.run("systemctl stop mlflowd", timeout=90)
    host.run(f"docker rm {NAME}")
    image = host.run("docker images -q | head -1").stdout.strip()
    host.run(f"docker create --name {NAME} {image} true")
    cursor = host.journal_end()
    before = host.run(f"docker inspect {NAME}").stdout
    try:
        host.run("systemctl start --no-block mlflowd")
        host.wait_journal(
            lambda entry: entry.get("MLFLOWD_EVENT") == "FOREIGN_CONTAINER",
            unit="mlflowd",
            cursor=cursor,
            timeout=2 + SLACK,
        )
        assert host.run(f"docker inspect {NAME}").stdout == before
        assert host.run("mlflowd status", check=False).returncode == 1
    finally:
        host.run(f"docker rm {NAME}")
    host.wait_serving(120)


def test_12_an_engine_restart_is_recovered_from(host: Guest, s: float) -> None:
    with Trial(host, restarts=1) as trial:
        host.run("systemctl restart docker", timeout=120)
        # the engine's own restart, which stops the server first, comes before the bound
        trial.wait_recovered(20 + s + 5 + SLACK)


def test_15_an_engine_absent_at_boot_is_waited_for(host: Guest, s: float) -> None:
    units = "docker.service docker.socket"
    host.run(f"systemctl stop mlflowd {units} && systemctl mask {units}", timeout=120)
    host.reboot(whole=False)
    cursor_entry = host.wait_journal(lambda entry: entry.get("MLFLOWD_EVENT") == "ENGINE_UNREACHABLE", unit="mlflowd")
    assert "engine" in cursor_entry["MESSAGE"].lower()
    assert "engine" in host.run("systemctl show -p StatusText --value mlflowd").stdout.lower()
    host.run(f"systemctl unmask {units} && systemctl start docker", timeout=60)
    host.wait_serving(s + 5 + SLACK)


@pytest.fixture
def proxied(configured: Guest) -> Iterator[tuple[Guest, subprocess.Popen[bytes]]]:
    """A host whose daemon speaks to the engine through a proxy that can end or silence its event stream."""
    configured.copy_in(Path(__file__).with_name("socket_proxy.py"), "/root/socket_proxy.py")
    command = ["python3", "/root/socket_proxy.py", "/run/engine-proxy.sock", "/run/docker.sock"]
    with configured.popen(command, stdout=subprocess.PIPE) as proxy:
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == b"ready\n"
        configure(configured, '[engine]\nsocket = "/run/engine-proxy.sock"\n')
        configured.run("systemctl restart mlflowd", timeout=180)
        configured.wait_serving(120)
        yield configured, proxy
        configured.run("pkill -f '[s]ocket_proxy.py'")
    configure(configured, "")
    configured.run("systemctl restart mlflowd", timeout=180)


def signalled(host: Guest, proxy: subprocess.Popen[bytes], signal: str) -> None:
    host.run(f"pkill -{signal} -f '[s]ocket_proxy.py'")
    assert proxy.stdout is not None
    proxy.stdout.readline()


def test_17_an_event_stream_that_ends_is_subscribed_to_again(
    proxied: tuple[Guest, subprocess.Popen[bytes]], s: float
) -> None:
    host, proxy = proxied
    with Trial(host, restarts=1) as trial:
        signalled(host, proxy, "USR1")
        host.run("sleep 1")  # the bound is 2 s: what comes after them must be heard
        host.run(f"docker kill {NAME}")
        trial.said("SERVER_STOPPED_BY_HAND", timeout=2 + SLACK)
        trial.wait_recovered(1 + s + 2 + SLACK)


def test_18_a_silent_event_stream_costs_one_interval(proxied: tuple[Guest, subprocess.Popen[bytes]], s: float) -> None:
    host, proxy = proxied
    with Trial(host, restarts=1) as trial:
        signalled(host, proxy, "USR2")
        host.run(f"docker kill {NAME}")
        trial.wait_recovered(10 + s + SLACK)


def test_31_a_reboot_brings_it_back(host: Guest, s: float) -> None:
    rows = write_rows(host)
    host.reboot()
    host.wait_serving(s + 10 + SLACK)
    assert host.run("systemctl is-active mlflowd").stdout.strip() == "active"
    run, key, value = rows[-1]
    history = ask(host, "GET", f"metrics/get-history?run_id={run}&metric_key={key}")
    assert float(history["metrics"][0]["value"]) == value


def test_46_a_hot_journal_is_rolled_back(host: Guest, s: float) -> None:
    """The server is killed while it writes: what it had not acknowledged is gone, what it had is there."""
    with Trial(host, restarts=1) as trial:
        before = host.run(STARTED).stdout
        batch = [{"key": f"k{n}", "value": n, "timestamp": 1, "step": n} for n in range(900)]
        run = ask(host, "POST", "runs/create", {"experiment_id": "0", "start_time": 1})["run"]["info"]["run_id"]
        request = json.dumps({"run_id": run, "metrics": batch}).encode()
        connection = host.socket(timeout=30)
        head = f"POST /api/2.0/mlflow/runs/log-batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(request)}\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + request)
        host.run(f"kill -9 {main_process(host)}")
        connection.close()
        trial.wait_recovered(s + 1 + SLACK)
        assert host.run(STARTED).stdout != before
