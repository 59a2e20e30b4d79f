"""Measure the time to recover from SIGKILL: mlflowd beside `docker run --restart=always`, interleaved, in one run.

    python bench/recovery.py --container mlflowd --address 127.0.0.1:5000 [--rounds N]

Needs root (it kills main processes by their number and copies the stores) and an mlflowd that serves. The peer is
a container of the same image, command, user, limits and database (a copy), published on another port of 127.0.0.1.
`docker kill` would suspend the engine's restart policy, so both are killed in the same way, from outside. Each is
left alone for --settle seconds before its turn: both supervisors answer quick repetitions with a growing wait. The
engine's ends after 10 s of running, mlflowd's after restart.stable_after: start it for this bench with
MLFLOWD_RESTART__STABLE_AFTER=10s.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sqlite3
import statistics
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import report
from containers import PROBE_PAUSE, BenchError, docker, ended_by_signal, first_answer, free_port, healthy

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 300.0
"""Seconds within which a killed server has to answer again."""


@dataclass(slots=True)
class Contestant:
    """One supervised container and what was measured on it, in seconds from the kill."""

    title: str
    name: str
    port: int
    answered: list[float] = field(default_factory=list)
    """To the first answer of the new server."""
    started: list[float] = field(default_factory=list)
    """To the start of the new main process, as the engine tells it: what the supervisor adds to MLflow's own start."""
    up_since: float = 0.0


def inspect(name: str) -> dict[str, Any]:
    """Return what the engine knows of a container."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", "--type=container", name))
    return found[0]


def seconds_of(instant: str) -> float:
    """Return an engine's timestamp (RFC 3339 with nanoseconds) as seconds of the epoch."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", instant)).timestamp()


def strike(who: Contestant) -> None:
    """Kill the main process, wait for the first answer of its successor and note both spans."""
    pid = int(inspect(who.name)["State"]["Pid"])
    if not pid:
        raise BenchError(f"{who.name} is not running")
    wall, begin = time.time(), time.monotonic()
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() or not healthy(who.port, limit=1.0):
        if time.monotonic() - begin > LIMIT:
            raise BenchError(f"{who.title} did not come back within {LIMIT:.0f} s")
        time.sleep(PROBE_PAUSE)
    who.answered.append(time.monotonic() - begin)
    who.up_since = time.monotonic()
    who.started.append(seconds_of(inspect(who.name)["State"]["StartedAt"]) - wall)


def peer(container: str, name: str, directory: Path) -> Contestant:
    """Start a container like `container` under the engine's own restart policy and wait until it serves."""
    model, port = inspect(container), free_port()
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o711)
    variables = directory / "environment"
    variables.touch(mode=0o600)
    variables.write_text("\n".join(model["Config"]["Env"] or []), encoding="utf-8")
    inside = next(iter(model["HostConfig"]["PortBindings"]))
    command = [*(model["Config"]["Entrypoint"] or []), *(model["Config"]["Cmd"] or [])]
    options = [*_limits(model), *_mounts(model, directory), f"--env-file={variables}"]
    since = time.monotonic()
    docker(
        "run", "-d", "--restart=always", f"--name={name}", "-p", f"127.0.0.1:{port}:{inside.split('/')[0]}",
        *options, "--entrypoint=", model["Image"], *command,
    )  # fmt: skip
    first_answer(port, since)
    return Contestant("docker run --restart=always", name, port, up_since=time.monotonic())


def _limits(model: dict[str, Any]) -> list[str]:
    host = model["HostConfig"]
    options = [f"--network={host['NetworkMode']}", f"--shm-size={host['ShmSize']}", "--no-healthcheck"]
    options += [f"--workdir={model['Config']['WorkingDir']}"] if model["Config"]["WorkingDir"] else []
    options += [f"--user={model['Config']['User']}"] if model["Config"]["User"] else []
    options += [f"--cap-drop={capability}" for capability in host["CapDrop"] or []]
    options += [f"--security-opt={option}" for option in host["SecurityOpt"] or []]
    options += [f"--tmpfs={path}:{how}" for path, how in (host.get("Tmpfs") or {}).items()]
    options += [f"--memory={host['Memory']}"] if host["Memory"] else []
    options += [f"--pids-limit={host['PidsLimit']}"] if host["PidsLimit"] else []
    return options + ["--init"] * bool(host["Init"]) + ["--read-only"] * bool(host["ReadonlyRootfs"])


def _mounts(model: dict[str, Any], directory: Path) -> list[str]:
    options = []
    for number, mount in enumerate(model["Mounts"]):
        if mount["Type"] == "bind" and not mount["RW"]:
            options.append(f"--volume={mount['Source']}:{mount['Destination']}:ro")
        elif mount["Type"] == "bind":
            copy = directory / str(number)
            _copy(Path(mount["Source"]), copy)
            options.append(f"--volume={copy}:{mount['Destination']}")
    return options


def _copy(source: Path, target: Path) -> None:
    """Copy the databases of a directory, not its artifacts, with the directory's owner and mode."""
    target.mkdir(mode=0o700)
    like = source.stat()
    for database in source.glob("*.db"):
        with sqlite3.connect(database) as there, sqlite3.connect(target / database.name) as here:
            there.backup(here)
        there.close()
        here.close()
    for path in (target, *target.iterdir()):
        shutil.chown(path, like.st_uid, like.st_gid)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the sorted values lies (the nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def tell(contestants: Sequence[Contestant]) -> str:
    """Return the table of medians and 99th percentiles, and the difference of the medians."""
    rows = [["seconds from SIGKILL", *(who.title for who in contestants), "difference"]]
    for title, key in (("first answer", "answered"), ("start of the new main process", "started")):
        for word, share in (("median", 0.5), ("p99", 0.99)):
            spans = [getattr(who, key) for who in contestants]
            values = [statistics.median(span) if word == "median" else quantile(span, share) for span in spans]
            rows.append([f"{title}, {word}", *(f"{value:.2f}" for value in values), f"{values[0] - values[1]:+.2f}"])
    return report.table(rows)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--container", default="mlflowd", help="the name of the container under mlflowd")
    parser.add_argument("--address", default="127.0.0.1:5000", help="where it serves")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--settle", type=float, default=15.0, help="seconds of serving before each kill")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp/mlflowd-bench/peer"))  # noqa: S108 - made fresh, on disk
    parser.add_argument("--prefix", default="mlflowd-bench", help="of the peer's name")
    parser.add_argument("--json", type=Path, help="write every sample there")
    return parser.parse_args()


def run(options: argparse.Namespace, name: str) -> None:
    """Kill both in turn, so many times, and print the table."""
    port = int(options.address.rpartition(":")[2])
    if not healthy(port):
        raise BenchError(f"nothing serves at {options.address}; start mlflowd first")
    ours = Contestant("mlflowd", options.container, port, up_since=time.monotonic())
    contestants = [ours, peer(options.container, name, options.directory)]
    for number in range(options.rounds):
        for who in contestants:
            time.sleep(max(0.0, who.up_since + options.settle - time.monotonic()))
            strike(who)
            print(
                f"{number + 1}: {who.title} {who.answered[-1]:.2f} s, started after {who.started[-1]:.2f} s",
                file=sys.stderr,
                flush=True,
            )
    if options.json:
        samples = {who.title: {"answered": who.answered, "started": who.started} for who in contestants}
        options.json.write_text(json.dumps(samples, indent=1), encoding="utf-8")
    print(f"{options.rounds} rounds\n\n{tell(contestants)}")


def main() -> int:
    """Run the bench; 1 and one sentence where it cannot be done."""
    options = arguments()
    name = f"{options.prefix}-peer"
    ended_by_signal()
    try:
        run(options, name)
    except BenchError as error:
        print(f"bench/recovery.py: {error}", file=sys.stderr)
        return 1
    finally:
        docker("rm", "-f", name)
        shutil.rmtree(options.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
