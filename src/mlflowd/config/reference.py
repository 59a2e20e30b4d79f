"""Writes etc/mlflowd.toml and docs/configuration.md from the settings, so that the three never disagree.

No effects but the standard output of `python -m mlflowd.config.reference toml|markdown`, which is how both files
are made; a test compares them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from mlflowd.config.catalogue import SECTIONS, kind_of
from mlflowd.config.environment import variable_of
from mlflowd.config.notation import toml

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOML_HEAD: Final = """\
# /etc/mlflowd.toml: what mlflowd is to keep up. Every key stands here with its default; take away the "#" to set it.
# In effect after: systemctl reload mlflowd (a file with a mistake is refused and changes nothing)
# What is in effect, and why: mlflowd config      All about each key: docs/configuration.md
#
# Time spans as systemd writes them: "100ms", "20s", "1min 30s". Sizes: "512M", "4G" (to the base 1024), "10%".
# Secrets by their place: "credential:NAME" (systemd's), "file:/PATH" (mode 0600), "env:NAME": docs/secrets.md
"""

_MARKDOWN_HEAD: Final = """\
# Configuration

mlflowd reads `/etc/mlflowd.toml`, or the file that `--config` names. Without a file every key has its default, and
the service runs on SQLite and a local artifact directory. This page is written from the settings themselves
(`python -m mlflowd.config.reference markdown`); a test keeps the two together.

## How a value is found

1. The environment variable `MLFLOWD_<SECTION>__<KEY>` (two underscores), such as `{variable}`.
   Texts, time spans and sizes stand there as they are; flags, numbers, lists and tables as in TOML:
   `MLFLOWD_IMAGE__PACKAGES='["psycopg2-binary"]'`.
2. The file.
3. The default.

`mlflowd config` shows each key's effective value and which of the three it came from, secrets masked.
`mlflowd config --toml` prints them as a file; `mlflowd config --validate` prints nothing and only says by its exit
status whether the configuration is right and its secrets can be read, which is what `systemctl reload mlflowd` does
first.

A variable that begins with `MLFLOWD_` and has two underscores later must name a key, otherwise it is an error; one
that would name a key if an underscore were doubled is an error too. All others are left alone.

## Notation

| what | how | examples |
|---|---|---|
| time span | as in systemd.time(7): us, ms, s, min, h, d, w; without a unit, seconds | `"20s"`, `"1min 30s"`, `20` |
| size | to the base 1024: K, M, G, T; without a unit, bytes | `"512M"`, `"1.5G"`, `1048576` |
| share | a size, or percent of the whole | `"10%"` |
| secret | where it is ([secrets.md](secrets.md)) | `"credential:database"`, `"file:/etc/mlflowd/db"`, `"env:DB"` |

## Mistakes

All of them are reported at once, each with its line (or variable), the key, and what to write instead:

```
/etc/mlflowd.toml:12: server.listne: unknown key. Hint: did you mean 'listen'?
```

| exit status | meaning |
|---|---|
| 78 | the configuration is wrong; nothing was started or changed |
| 77 | the file may not be read by the user that mlflowd runs as |

A password in a value is never repeated in an error.

## What mlflowd keeps for itself

`server.extra_arguments`, `server.uvicorn_options` and `server.environment` go to the server as they are, except for
what mlflowd sets from other keys (the address, the stores, the workers, jobs, telemetry, the access log) and what it
needs unchanged (such as `HOME`): these are refused, naming the key to use.

Secrets belong into a systemd credential, a private file or a variable; the key says which one, such as
`password = "credential:database"` ([secrets.md](secrets.md)). A secret that stands in the file itself is taken, with a
warning.

The directories of both stores are given to the service user and mounted into the container, so each must be one of
the store's own (`/srv/mlflow`, not `/srv`), and the database may not lie in the artifact directory, where every
client could fetch it.

Keys of one section or two can contradict each other: `health.timeout` and `health.starting_interval` must be shorter
than `health.start_deadline`, `server.graceful_timeout` shorter than `container.stop_grace`, `restart.backoff_first`
not longer than `restart.backoff_max`, `disk.critical` not more than `disk.warn`. A key of `[artifact_store]` that the
kind of store does not use is refused, and so is a password that stands in the URI and in a key of its own. A backup's
repository has a password, and lies in none of the stores' directories.
"""


def toml_file() -> Iterator[str]:
    """Yield the lines of etc/mlflowd.toml: every key commented out, with its default and one line of why."""
    yield from _TOML_HEAD.splitlines()
    for section, model in SECTIONS.items():
        yield from ("", f"# {model.__doc__}", f"[{section}]")
        for name, field in model.model_fields.items():
            yield f"# {field.description}"
            yield f"#{name} = {toml(field.default)}"


def markdown() -> Iterator[str]:
    """Yield the lines of docs/configuration.md."""
    yield from _MARKDOWN_HEAD.format(variable=variable_of("server", "listen")).splitlines()
    for section, model in SECTIONS.items():
        yield from (
            "",
            f"## [{section}]",
            "",
            model.__doc__ or "",
            "",
            "| key | default | takes | what for |",
            "|---|---|---|---|",
        )
        for name, field in model.model_fields.items():
            cells = (
                f"`{name}`",
                f"`{toml(field.default)}`",
                kind_of(section, name).phrase,
                field.description or "",
            )
            yield "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.stdout.write("\n".join((markdown if sys.argv[1:] == ["markdown"] else toml_file)()) + "\n")
