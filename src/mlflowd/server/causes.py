"""Why the server ended (or does not begin): its own words become one sentence, with the remedy. No effects.

What is known stands in rules.py; this is the choosing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflowd.model import KnownCause
from mlflowd.server import command, schema
from mlflowd.server.rules import RULES, Rule
from mlflowd.server.wiring import ARTIFACTS, BACKEND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflowd.model import ContainerSpec

_SERVED = re.compile(
    r"Application startup complete\.|Exception in ASGI application|\bException on /|/starlette/middleware/"
    r"|/flask/app\.py"
)
"""What a server says that has served; the first line may be gone from a long log, the others stand in its errors."""
_SIGNALLED = 128
"""Exit statuses above are those of a process that a signal ended."""


OUT_OF_MEMORY = KnownCause(
    "out-of-memory",
    "the server was ended for using more memory than its container may.",
    "raise container.memory in /etc/mlflowd.toml, or set fewer server.workers, then 'systemctl reload mlflowd'.",
    curable=True,
)

_PACKAGES = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "psycopg[binary]",
    "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL",
    "flask_wtf": "Flask-WTF",
    "google": "google-cloud-storage",
    "azure": "azure-storage-blob",
    "pysftp": "pysftp",
    "prometheus_flask_exporter": "prometheus-flask-exporter",
}
"""Python packages by the module that is missed; others have the module's name."""


def recognise(
    lines: Iterable[str],
    exit_code: int,
    oom_killed: bool,
    spec: ContainerSpec | None = None,
    *,
    served: bool = False,
) -> KnownCause | None:
    """Return the cause that the log lines of one run name, None where they name none.

    `lines` are texts as loglines.read_all gives them, of this run alone; about 200 hold any of MLflow's tracebacks.
    `exit_code` and `oom_killed` are the engine's words of the run's end (0 and False while it still runs: a server
    that repeats its try at a database for 105 s can be recognised before it gives up). With `spec`, remedies name
    the real image and directories.

    What a server logged after it had served does not explain why it ended: an error in one request is no end. Then
    only rules marked late are asked, and none where a signal ended it. `served`: it is known to have served, though
    these lines may begin later than that.
    """
    if oom_killed:
        return OUT_OF_MEMORY
    text = "\n".join(lines)
    began = _last(_SERVED, text)
    served = served or began is not None
    if served and exit_code > _SIGNALLED:
        return None
    late = text[began.end() :] if began else text
    for rule in RULES:
        if (not served or rule.late) and (found := re.search(rule.pattern, late)):
            return _cause(rule, found, spec)
    return None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = None
    for last in pattern.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return last


def _cause(rule: Rule, found: re.Match[str], spec: ContainerSpec | None) -> KnownCause:
    values = _places(spec) | {name: value for name, value in found.groupdict().items() if value is not None}
    module = values.get("module", "").partition(".")[0]
    values["package"] = _PACKAGES.get(module, module)
    return KnownCause(rule.key, rule.sentence.format_map(values), rule.remedy.format_map(values), rule.curable)


def _places(spec: ContainerSpec | None) -> dict[str, str]:
    """Return what remedies name: the image, the directories on the host, the user, the server's port."""
    mounted = {mount.target: mount.source for mount in spec.mounts} if spec else {}
    uri = dict(spec.environment).get("MLFLOW_BACKEND_STORE_URI", "").partition("?")[0] if spec else ""
    backend = mounted.get(BACKEND, "/var/lib/mlflowd/backend")
    return {
        "image": spec.image if spec else "IMAGE",
        "user": spec.user if spec else "UID:GID",
        "port": str(command.PORT),
        "backend": backend,
        "database": f"{backend}/{uri.rpartition('/')[2] or 'mlflow.db'}" if uri.startswith("sqlite:") else "DATABASE",
        "artifacts": mounted.get(ARTIFACTS, "/var/lib/mlflowd/artifacts"),
        "back_up": schema.back_up(spec),
        "upgrade": schema.upgrade(spec),
    }
