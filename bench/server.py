"""Measure server configurations beside MLflow's own defaults, interleaved, in one run.

    python bench/server.py [--rounds N] [--json FILE] [--configurations NAME,…]

Needs a container engine, the right to use it, and root (the stores belong to a uid of their own). Writes below
--directory only, on a file system that should be the one where the data would lie. Everything listens on
127.0.0.1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import report
from configurations import CANDIDATES, DEFAULTS, NO_TURNS, NO_UVLOOP, SHIPPED, Configuration
from containers import BenchError, Server, docker, ended_by_signal
from driver import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = "ghcr.io/mlflow/mlflow:v3.17.2"
FAST = 'RUN python -c "import uvloop, httptools" 2>/dev/null || pip install --no-cache-dir uvloop httptools'
PLAIN = "RUN pip uninstall -y uvloop httptools"
VERSIONS = """
import importlib.metadata as m, sqlite3, sys
names = ["mlflow", "uvicorn", "uvloop", "httptools", "SQLAlchemy"]
have = {d.metadata["Name"].lower() for d in m.distributions()}
found = [f"{n} {m.version(n)}" for n in names if n.lower() in have]
print(", ".join([f"Python {sys.version.split()[0]}", *found, f"SQLite {sqlite3.sqlite_version}"]))
"""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--megabytes", type=float, default=300.0, help="size of the artifact, 0 for none")
    parser.add_argument("--image", default=IMAGE, help="an image with MLflow; both variants are derived from it")
    parser.add_argument(
        "--configurations", default=",".join(each.name for each in (DEFAULTS, SHIPPED, NO_TURNS, NO_UVLOOP))
    )
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp/mlflowd-bench"))  # noqa: S108 - made fresh, on disk
    parser.add_argument("--prefix", default="mlflowd-bench", help="of container names and image tags")
    parser.add_argument("--cgroup-parent", help="of all containers: a group with a CPU weight, on a busy machine")
    parser.add_argument("--json", type=Path, help="write every sample there")
    parser.add_argument("--list", action="store_true", help="print the names of the configurations")
    return parser.parse_args()


def chosen(names: str) -> list[Configuration]:
    """Return the configurations of a comma-separated list, in its order."""
    known = {configuration.name: configuration for configuration in CANDIDATES}
    if missing := [name for name in names.split(",") if name not in known]:
        raise BenchError(f"no such configuration: {', '.join(missing)}; --list prints them")
    return [known[name] for name in names.split(",")]


def variant(image: str, tag: str, line: str) -> str:
    """Build an image from `image` by one line of Dockerfile and return its tag."""
    docker("build", "--network=host", "-t", tag, "-", stdin=f"FROM {image}\nUSER 0\n{line}\n")
    return tag


def measure(server: Server, client: Client, options: argparse.Namespace) -> report.Sample:
    """Put one server under every load and return the figures by the keys of report.COLUMNS."""
    sample = {"first_answer": server.answered()}
    alone = client.ask("sequential", server.url, options.seconds)
    many = client.ask("concurrent", server.url, options.seconds, options.clients)
    batch = client.ask("batch", server.url, options.seconds)
    sample |= {"sequential": alone["rate"], "sequential_p50": 1e3 * alone["p50"], "sequential_p99": 1e3 * alone["p99"]}
    sample |= {"concurrent": many["rate"], "concurrent_p50": 1e3 * many["p50"], "concurrent_p99": 1e3 * many["p99"]}
    sample |= {"batch": batch["rate"], "errors": alone["errors"] + many["errors"] + batch["errors"]}
    if options.megabytes:
        sample |= client.ask("artifact", server.url, options.megabytes)
    sample |= {"memory": server.memory(), "processes": server.processes()}
    return sample | {"start_again": server.start_again()}


def one_round(
    configurations: list[Configuration], images: dict[bool, str], client: Client, options: argparse.Namespace
) -> dict[str, report.Sample]:
    """Measure every configuration once, one after the other."""
    found = {}
    for configuration in configurations:
        name = f"{options.prefix}-server"
        further = (f"--network={options.prefix}", *group(options))
        with Server(configuration, images[configuration.fast], name, options.directory / "data", further) as server:
            found[configuration.name] = measure(server, client, options)
        figures = " ".join(f"{key}={value:.4g}" for key, value in found[configuration.name].items())
        print(f"{configuration.name}: {figures}", file=sys.stderr, flush=True)
    return found


def group(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the options of `docker run` that every container gets."""
    return (f"--cgroup-parent={options.cgroup_parent}",) if options.cgroup_parent else ()


@contextmanager
def network(name: str) -> Iterator[None]:
    """Make the network of the servers, and remove it."""
    docker("network", "create", name)
    try:
        yield
    finally:
        docker("network", "rm", name)


def machine(image: str) -> str:
    """Return one line on the machine and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    engine = docker("version", "-f", "Docker {{.Server.Version}}")
    versions = docker("run", "--rm", "--network=none", image, "python", "-c", VERSIONS)
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, {engine}; {versions}"


def run(options: argparse.Namespace) -> None:
    """Carry out the rounds and print the tables."""
    configurations = chosen(options.configurations)
    images = {
        True: variant(options.image, f"{options.prefix}:fast", FAST),
        False: variant(options.image, f"{options.prefix}:plain", PLAIN),
    }
    samples: dict[str, list[report.Sample]] = {configuration.name: [] for configuration in configurations}
    with network(options.prefix), Client(images[True], f"{options.prefix}-client", group(options)) as client:
        for _ in range(options.rounds):
            for name, sample in one_round(configurations, images, client, options).items():
                samples[name].append(sample)
    told = machine(images[True])
    if options.json:
        options.json.write_text(json.dumps({"machine": told, "samples": samples}, indent=1), encoding="utf-8")
    print(f"{told}; {options.rounds} rounds\n\n{report.medians(samples)}")
    if DEFAULTS.name in samples:
        print(f"\n{report.ratios(samples, DEFAULTS.name)}")


def main() -> int:
    """Run the bench; 1 and one sentence where it cannot be done."""
    options = arguments()
    if options.list:
        print("\n".join(configuration.name for configuration in CANDIDATES))
        return 0
    ended_by_signal()
    try:
        run(options)
    except BenchError as error:
        print(f"bench/server.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
