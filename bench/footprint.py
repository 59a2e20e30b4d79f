"""Measure what the daemon itself costs: memory, processor, engine calls, and exec to READY when it adopts.

    python bench/footprint.py --pid PID [--seconds N]                # memory and processor of a running daemon
    python bench/footprint.py [--seconds N] -- mlflowd run [...]     # everything, on a daemon of its own

The second form needs the rights of the daemon. It puts a counting door before the engine's socket, starts the
command, waits until it serves, then --starts times kills it by SIGKILL (the container stays) and takes the time
from exec to READY=1 of its successor, and last watches that one idle. The daemon gets SIGTERM at the end and so
stops its server.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from containers import BenchError, ended_by_signal
from counting import CountingDoor

READY_LIMIT = 300.0
"""Seconds within which a daemon has to say READY=1: the first one may have to build its container."""
STOP_LIMIT = 90.0


def resident(pid: int) -> float:
    """Return MiB of resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def processor(pid: int) -> float:
    """Return the seconds of processor time that a process and its ended children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def watch(pid: int, seconds: float) -> str:
    """Watch a process for so long; return its greatest memory and its processor share."""
    begin, used, memory = time.monotonic(), processor(pid), resident(pid)
    while time.monotonic() - begin < seconds:
        time.sleep(min(5.0, seconds))
        memory = max(memory, resident(pid))
    share = 100 * (processor(pid) - used) / (time.monotonic() - begin)
    return f"resident memory: {memory:.1f} MiB\nprocessor share over {seconds:.0f} s: {share:.3f} %"


class Notified:
    """A daemon that was started with a NOTIFY_SOCKET of ours."""

    def __init__(self, command: list[str], folder: Path, door: Path) -> None:
        path = folder / "notify"
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o666)
        variables = os.environ | {"NOTIFY_SOCKET": str(path), "MLFLOWD_ENGINE__SOCKET": str(door)}
        self.begin = time.monotonic()
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)  # noqa: S603 - the command that the person gave

    def ready(self) -> float:
        """Return the seconds from exec to READY=1; BenchError where it ends or takes too long."""
        while (left := self.begin + READY_LIMIT - time.monotonic()) > 0:
            self.socket.settimeout(min(1.0, left))
            try:
                message = self.socket.recv(65536)
            except TimeoutError:
                if self.process.poll() is not None:
                    last = self.log.read_text(encoding="utf-8", errors="replace")[-800:]
                    raise BenchError(f"the daemon ended with status {self.process.returncode}: {last}") from None
                continue
            if b"READY=1" in message.split(b"\n"):
                return time.monotonic() - self.begin
        raise BenchError(f"no READY=1 within {READY_LIMIT:.0f} s")

    def kill(self) -> None:
        """End the daemon by SIGKILL, which leaves the container alone."""
        self.process.kill()
        self.process.wait()
        self.socket.close()

    def stop(self) -> None:
        """Stop the daemon, and with it the server."""
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
        self.socket.close()


def own_daemon(options: argparse.Namespace) -> None:
    """Measure everything on a daemon that is started here."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        door = CountingDoor(folder / "engine.sock", options.engine)
        daemon = Notified(options.command, folder, folder / "engine.sock")
        try:
            print(f"exec to READY, first start: {daemon.ready():.2f} s", flush=True)
            spans = []
            for _ in range(options.starts):
                daemon.kill()
                daemon = Notified(options.command, folder, folder / "engine.sock")
                spans.append(daemon.ready())
            print(
                f"exec to READY, adopting: median {statistics.median(spans):.2f} s, worst {max(spans):.2f} s",
                flush=True,
            )
            time.sleep(options.settle)
            begin = time.monotonic()
            print(watch(daemon.process.pid, options.seconds))
            print(told(door.since(begin), options.seconds))
        finally:
            daemon.stop()
            door.close()


def told(calls: list[str], seconds: float) -> str:
    """Return the engine calls a minute, each kind of them, and how many were execs."""
    kinds = Counter(call.partition("?")[0] for call in calls)
    lines = [f"  {count} {call}" for call, count in kinds.most_common()]
    execs = sum("/exec" in call for call in calls)
    return "\n".join([f"engine calls a minute: {60 * len(calls) / seconds:.1f}, execs: {execs}", *lines])


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pid", type=int, help="of a running daemon")
    parser.add_argument("--seconds", type=float, default=120.0, help="to watch it idle")
    parser.add_argument("--settle", type=float, default=20.0, help="seconds before the watch")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--engine", default="/run/docker.sock", help="the engine's socket")
    parser.add_argument("command", nargs="*", help="the daemon's command line")
    return parser.parse_args()


def main() -> int:
    """Run the bench; 1 and one sentence where it cannot be done, 2 where nothing was asked for."""
    options = arguments()
    ended_by_signal()
    try:
        if options.pid:
            print(watch(options.pid, options.seconds))
        elif options.command:
            own_daemon(options)
        else:
            print("bench/footprint.py: give --pid PID, or -- and the daemon's command line", file=sys.stderr)
            return 2
    except BenchError as error:
        print(f"bench/footprint.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
