"""`mlflowd status`: what the daemon last wrote, as a table or as JSON. Asks neither daemon, engine nor server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from mlflowd.errors import ExitStatus
from mlflowd.host import paths
from mlflowd.host.restic.words import span
from mlflowd.model import Phase
from mlflowd.supervisor import status

if TYPE_CHECKING:
    import argparse


_SYSTEMD = Path("/run/systemd/system")
"""There where systemd is PID 1 (sd_booted(3))."""
_START = "sudo systemctl start mlflowd"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "status", help="show how the server is", description="Exit status: 0 serving, 1 degraded, 3 not running."
    )
    parser.add_argument("--json", action="store_true", help="print the status document (schema 1)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the status; return 0 while serving, 1 when degraded, 3 when mlflowd does not run."""
    document = status.read(paths.status_file())
    running = document is not None and _alive(document.get("pid"))
    if args.json:
        print(json.dumps({"running": running, **(document or {})}, indent=1))
    else:
        print(_table(document or {}, running=running))
    return _exit(document or {}, running=running)


def _alive(pid: object) -> bool:
    """Whether this process is there and is mlflowd: after a crash its number may be another's."""
    try:
        return b"mlflowd" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _exit(document: dict[str, Any], *, running: bool) -> int:
    if not running:
        return ExitStatus.NOT_RUNNING
    return ExitStatus.OK if document.get("phase") == Phase.SERVING and document.get("serving") else ExitStatus.FAILURE


def _table(document: dict[str, Any], *, running: bool) -> str:
    if not running:
        last = f" It last said at {document['since']}: {document['reason']}." if document else ""
        return f"mlflowd is not running.{last}\nStart it: {_START if _SYSTEMD.exists() else './install.sh'}"
    return tabulate(_rows(document), tablefmt="plain", disable_numparse=True)


def _rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    container = document.get("container") or {}
    rows = [
        ("phase", f"{document['phase']} since {document['since']}"),
        ("reason", document["reason"]),
        ("address", f"http://{document['address']}"),
        ("MLflow", f"{document['mlflow'] or 'unknown'}, image {document['image']}"),
        ("container", f"{container['name']} ({container['id'][:12]}), {container['status']}" if container else "none"),
        ("engine", document["engine"]),
        ("restarts", str(document["restarts"])),
    ]
    for trouble in document["troubles"]:
        rows.append((trouble["layer"], trouble["message"]))
        rows += [("", f"remedy: {trouble['remedy']}")] if trouble["remedy"] else []
    if refusal := document.get("refusal"):
        rows += [("refused", refusal["message"]), ("", f"remedy: {refusal['remedy']}")]
    if change := document.get("transaction"):
        rows.append(
            (
                f"last {change['kind']}",
                f"{'done' if change['ok'] else 'undone'} {change['ended']}: {change['sentence']}",
            )
        )
    if backup := document.get("backup"):
        rows.append(("last backup", _age(backup["last"], backup["snapshot"])))
        rows.append(("last verification", _age(backup["verified"], backup["verified_snapshot"])))
    if incidents := document["incidents"]:
        last = incidents[-1]
        rows.append(
            ("last incident", f"{last['seconds']} s without an answer, ended {last['ended']}: {last['reason']}")
        )
    return rows


def _age(instant: str | None, snapshot: str | None) -> str:
    if instant is None:
        return "none yet"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(instant)).total_seconds()
    return f"{instant}, {span(max(seconds, 0))} ago ({snapshot})"
