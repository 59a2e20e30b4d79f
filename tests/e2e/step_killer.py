"""Kills a process at one step of a transaction. Runs inside a guest, by Python alone.

    python3 step_killer.py PID TRANSACTION STEP [FILE]

It says "ready" on stdout, looks at mlflowd's transaction.json without a pause until the step is the one (and, where it
is named, the file is there), sends SIGKILL, and then says which step is written down when the process is dead: "gone"
where there is no transaction. With a STEP of "-" the file alone counts.
"""

from __future__ import annotations

import json
import os
import pathlib
import select
import signal
import sys


def _step(transaction: pathlib.Path) -> str:
    try:
        return str(json.loads(transaction.read_bytes())["step"])
    except FileNotFoundError:
        return "gone"


def main(pid: str, transaction: str, step: str, file: str = "/") -> None:
    """Wait, kill and tell."""
    os.nice(-20)
    process = os.pidfd_open(int(pid))
    path, condition = pathlib.Path(transaction), pathlib.Path(file)
    print("ready", flush=True)
    while not (step in {"-", _step(path)} and condition.exists()):
        pass
    signal.pidfd_send_signal(process, signal.SIGKILL)
    select.select([process], [], [])  # a pidfd can be read when its process has ended
    print(_step(path), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
