"""What `mlflowd backup list` prints. No effects."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from mlflowd.host.redaction import redact, redacted
from mlflowd.host.restic.words import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflowd.operations.backup.record import Record
    from mlflowd.operations.backup.repository import Backup


def table(found: Sequence[Backup], known: Record, where: str) -> str:
    """Return the list for people: what can be restored, and apart from it what cannot, with the reason."""
    good, bad = [each for each in found if not each.wrong], [each for each in found if each.wrong]
    lines = [f"{where}: {len(good)} backups that can be restored"]
    if good:
        headers = ("id", "made (UTC)", "MLflow", "runs", "databases", "")
        lines.append(tabulate([_row(each, known) for each in good], headers, tablefmt="plain", disable_numparse=True))
    if bad:
        lines += ["", "Not to be restored:"]
        rows = [(each.snapshot.short, _moment(each.snapshot.time), each.wrong) for each in bad]
        lines.append(tabulate(rows, tablefmt="plain", disable_numparse=True))
    return redact("\n".join(lines) + "\n")


def _row(backup: Backup, known: Record) -> tuple[str, ...]:
    held = backup.manifest
    runs = str(held.counts["runs"]) if held and held.counts and "runs" in held.counts else ""
    version = (held.mlflow if held else "") or "unknown"
    return (
        backup.snapshot.short,
        _moment(backup.snapshot.time),
        version,
        runs,
        size(backup.size),
        "verified" if _verified(backup, known) else "",
    )


def document(found: Sequence[Backup], known: Record, where: str) -> str:
    """Return the same as JSON (schema 1)."""
    listed: list[dict[str, Any]] = [
        {
            "id": each.snapshot.id,
            "time": each.snapshot.time.isoformat().replace("+00:00", "Z"),
            "hostname": each.snapshot.hostname,
            "restorable": not each.wrong,
            "wrong": each.wrong,
            "verified": _verified(each, known),
            "mlflow": each.manifest.mlflow if each.manifest else "",
            "bytes": each.size,
            "counts": dict(each.manifest.counts or {}) if each.manifest else {},
        }
        for each in found
    ]
    return json.dumps(redacted({"schema": 1, "repository": where, "backups": listed}), indent=1) + "\n"


def _verified(backup: Backup, known: Record) -> bool:
    last = known.last_verify
    return last is not None and backup.snapshot.id.startswith(last.snapshot)


def _moment(time_: datetime) -> str:
    return f"{time_.astimezone(UTC):%Y-%m-%d %H:%M}"
