"""Faults of the daemon, its configuration and the files that it keeps, on a real host with a real systemd.

A test's name begins with the number of its fault in docs/reliability.md.
"""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING

import pytest

from e2e.trial import DATABASE, NAME, STARTED, Trial, ask, start_seconds, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.guest import Guest

pytestmark = pytest.mark.timeout(600)
SLACK = 15.0
"""Seconds that a loaded machine may add to any bound."""
CONFIGURATION = "/etc/mlflowd.toml"


@pytest.fixture(scope="module")
def s(host: Guest) -> float:
    return start_seconds(host)


@pytest.fixture
def shipped(host: Guest) -> Iterator[str]:
    """The configuration as it was shipped, put back after the test."""
    before = host.read(CONFIGURATION)
    yield before
    configure(host, before)


@pytest.fixture
def stopped(host: Guest) -> Iterator[Guest]:
    """A host on which mlflowd was stopped; it is started and serves afterwards."""
    host.run("systemctl stop mlflowd", timeout=90)
    yield host
    host.run("systemctl reset-failed mlflowd; systemctl start mlflowd", timeout=180)
    host.wait_serving(120)


def configure(host: Guest, toml: str) -> None:
    host.write(CONFIGURATION, toml)
    host.run(f"chown root:mlflowd {CONFIGURATION} && chmod 640 {CONFIGURATION}")


def daemon(host: Guest) -> str:
    return host.run("systemctl show -p MainPID --value mlflowd").stdout.strip()


def wait_exit(host: Guest) -> int:
    """Wait until the unit has failed and return the daemon's exit status."""
    host.run("systemctl start mlflowd", check=False, timeout=60)
    shown = host.run("systemctl show -p ExecMainStatus,NRestarts,ActiveState mlflowd").stdout
    assert "ActiveState=failed" in shown, shown
    return int(re.findall(r"ExecMainStatus=(\d+)", shown)[0])


def test_24_a_killed_daemon_adopts_without_an_outage(host: Guest) -> None:
    with Trial(host, daemon_stays=False) as trial:
        host.run(f"kill -9 {daemon(host)}")
        trial.said("SERVER_ADOPTED", timeout=3 + SLACK)
        assert trial.prober.outage() == 0


def test_25_a_stopped_daemon_is_restarted_by_the_watchdog(host: Guest) -> None:
    with Trial(host, daemon_stays=False) as trial:
        host.run(f"kill -STOP {daemon(host)}")
        trial.said("SERVER_ADOPTED", timeout=30 + 5 + SLACK)
        assert trial.prober.outage() == 0


def test_26_a_daemon_out_of_memory_adopts(host: Guest) -> None:
    with Trial(host, daemon_stays=False) as trial:
        host.run("systemctl set-property --runtime mlflowd MemoryMax=20M")
        host.run(f"kill -9 {daemon(host)} || true")  # whether or not the limit was quicker
        host.run("systemctl set-property --runtime mlflowd MemoryMax=infinity")
        host.run("systemctl reset-failed mlflowd; systemctl start mlflowd", timeout=60)
        trial.said("SERVER_ADOPTED", timeout=3 + SLACK)
        assert trial.prober.outage() == 0


def mutations(text: str, count: int) -> list[str]:
    """Return broken versions of a configuration: one thing wrong in each."""
    keys = re.findall(r"^#(\w+) = (.*)$", text, re.MULTILINE)
    chance = random.Random(28)  # noqa: S311 - the same files in each run
    wrong = ["-1", '"no such thing"', "[]", "{}", "1979-05-27", '"20 parsecs"', "true.false"]
    broken: list[str] = []
    while len(broken) < count:
        key, value = chance.choice(keys)
        section = re.findall(r"^\[(\w+)\]", text[: text.index(f"#{key} = {value}")], re.MULTILINE)[-1]
        misspelt = key[:1] + "x" + key[1:]
        broken.append(
            chance.choice(
                [
                    f"[{section}]\n{misspelt} = {value}\n",
                    f"[{section}]\n{key} = {chance.choice(wrong)}\n"
                    if "{" not in value
                    else f"[{section}]\n{key} = 7\n",
                    f"[{section}x]\n{key} = {value}\n",
                    f"[{section}\n{key} = {value}\n",
                ]
            )
        )
    return broken


def test_28_a_bad_configuration_ends_with_78_and_names_the_error(stopped: Guest, shipped: str) -> None:
    """A hundred mutated files; each through the daemon itself, the first also through systemd."""
    for number, toml in enumerate(mutations(shipped, 100)):
        stopped.write(f"/root/mutated/{number}.toml", toml)
    one = "timeout -s KILL 20 mlflowd --config {} run 2>{}.err; echo {} $?"
    every = f"cd /root/mutated && ls *.toml | xargs -P 2 -I {{}} sh -c '{one}'"
    statuses = dict(line.split() for line in stopped.run(every, timeout=300).stdout.splitlines())
    accepted = [name for name, status in statuses.items() if status != "78"]
    assert len(statuses) == 100
    assert not accepted, {name: stopped.read(f"/root/mutated/{name}") for name in accepted[:3]}
    unnamed = stopped.run("cd /root/mutated; grep -L '[0-9]*.toml' *.err", check=False).stdout
    assert not unnamed
    configure(stopped, "[server]\nlistne = 1\n")
    assert wait_exit(stopped) == 78
    assert "NRestarts=0" in stopped.run("systemctl show -p NRestarts mlflowd").stdout
    said = stopped.journal(unit="mlflowd")[-8:]
    assert any("listne" in entry["MESSAGE"] and "listen" in entry["MESSAGE"] for entry in said)


def test_29_a_bad_configuration_on_reload_fails_and_changes_nothing(host: Guest, shipped: str) -> None:
    with Trial(host):
        configure(host, shipped + "\n[server]\nlisten = 7\n")
        assert host.run("systemctl reload mlflowd", check=False).returncode != 0
        assert host.run("systemctl is-active mlflowd").stdout.strip() == "active"
        configure(host, shipped)


def test_30_a_second_daemon_is_refused_and_told_the_first(host: Guest) -> None:
    with Trial(host):
        began = time.monotonic()
        second = host.run(
            "setpriv --reuid mlflowd --regid mlflowd --init-groups env RUNTIME_DIRECTORY=/run/mlflowd "
            "STATE_DIRECTORY=/var/lib/mlflowd mlflowd run",
            check=False,
        )
        assert time.monotonic() - began < 1 + SLACK
        assert second.returncode == 75
        assert daemon(host) in second.stdout


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        ("chown -R root:root /var/lib/mlflowd/backend", 77),
        ("chmod 500 /var/lib/mlflowd/artifacts", 77),
        (
            "touch /var/lib/mlflowd/backend/mlflow.db-journal && chmod 600 /var/lib/mlflowd/backend/mlflow.db-journal",
            77,
        ),
    ],
)
def test_38_a_wrong_owner_or_mode_is_named_and_mended(stopped: Guest, spoil: str, status: int) -> None:
    stopped.run("rm -f /var/lib/mlflowd/backend/mlflow.db-journal")
    stopped.run(spoil)
    cursor = stopped.journal_end()
    assert wait_exit(stopped) == status
    said = [entry for entry in stopped.journal(unit="mlflowd", cursor=cursor) if entry.get("REMEDY")]
    assert any("chown" in entry["REMEDY"] or "chmod" in entry["REMEDY"] for entry in said), said
    assert stopped.run("mlflowd check", check=False).returncode != 0
    stopped.run("mlflowd check --fix")
    stopped.run("systemctl start mlflowd", timeout=120)
    assert stopped.serving()


def test_41_a_renamed_database_is_never_replaced_by_an_empty_one(host: Guest) -> None:
    with Trial(host) as trial:
        host.run(f"mv {DATABASE} {DATABASE}.away")
        said = trial.said("STORE_MISSING", timeout=30)
        assert DATABASE in said["MESSAGE"]
        assert host.run("mlflowd status", check=False).returncode == 1
        host.run(f"docker kill {NAME}")  # even now nothing may make an empty one
        trial.said("PREFLIGHT_FAILED")
        host.run(f"test ! -e {DATABASE} && mv {DATABASE}.away {DATABASE}")
        host.wait_serving(120)
        trial.restarts = 2  # the one that was refused, and the one after the file was back


@pytest.mark.parametrize("spoil", [f"rm {DATABASE}", f"truncate -s 0 {DATABASE}"])
def test_42_an_empty_or_missing_database_is_refused_at_start(stopped: Guest, spoil: str) -> None:
    stopped.run(f"cp -a {DATABASE} /root/kept.db && rm -f {DATABASE}-wal {DATABASE}-shm && {spoil}")
    cursor = stopped.journal_end()
    assert wait_exit(stopped) == 69
    said = "\n".join(entry["MESSAGE"] + entry.get("REMEDY", "") for entry in stopped.journal(cursor=cursor))
    assert DATABASE in said
    assert "--accept-database" in said, "the way out is printed"
    stopped.run(f"test ! -s {DATABASE} && cp -a /root/kept.db {DATABASE}")


def test_43_a_garbage_database_is_refused(stopped: Guest) -> None:
    stopped.run(f"cp -a {DATABASE} /root/kept.db && rm -f {DATABASE}-wal {DATABASE}-shm")
    stopped.run(f"dd if=/dev/urandom of={DATABASE} bs=4096 count=64 conv=notrunc status=none")
    started = stopped.run(STARTED).stdout
    assert wait_exit(stopped) == 69
    assert stopped.run(STARTED).stdout == started, "no start was tried on it"
    stopped.run(f"cp -a /root/kept.db {DATABASE}")


def test_45_a_schema_of_another_version_is_named_without_a_loop(stopped: Guest) -> None:
    set_revision = "import sqlite3,sys;c=sqlite3.connect(sys.argv[1]);"
    set_revision += "c.execute('UPDATE alembic_version SET version_num=?',(sys.argv[2],));c.commit()"
    read = "import sqlite3,sys;c=sqlite3.connect(sys.argv[1]);"
    read += "print(c.execute('SELECT version_num FROM alembic_version').fetchone()[0])"
    as_service = "setpriv --reuid mlflowd --regid mlflowd --clear-groups python3 -c"
    revision = stopped.run([*as_service.split(), read, DATABASE]).stdout.strip()
    stopped.run([*as_service.split(), set_revision, DATABASE, "0123456789ab"])
    cursor, started = stopped.journal_end(), stopped.run(STARTED).stdout
    assert wait_exit(stopped) == 69
    said = stopped.journal(unit="mlflowd", cursor=cursor)
    assert any(entry.get("MLFLOWD_EVENT") == "PREFLIGHT_FAILED" and "schema" in entry["MESSAGE"] for entry in said)
    assert stopped.run(STARTED).stdout == started, "no start was tried on it"
    stopped.run([*as_service.split(), set_revision, DATABASE, revision])


def test_a_stop_is_graceful_and_loses_nothing(host: Guest) -> None:
    rows = write_rows(host)
    host.run("systemctl stop mlflowd", timeout=90)
    assert host.run(f"docker inspect -f '{{{{.State.ExitCode}}}}' {NAME}").stdout.strip() in {"0", "143"}
    assert "ActiveState=inactive" in host.run("systemctl show -p ActiveState mlflowd").stdout
    host.run("systemctl start mlflowd", timeout=120)
    run, key, value = rows[-1]
    history = ask(host, "GET", f"metrics/get-history?run_id={run}&metric_key={key}")
    assert float(history["metrics"][0]["value"]) == value
