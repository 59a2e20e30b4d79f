"""A base image from Debian's packages, where no registry is reachable: debootstrap, tar, import.

Effects: needs root; writes below a temporary directory, which is removed on every path, and makes one image.
debootstrap runs in its own mount and process namespaces, so that nothing of it outlives it, mounts included.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from mlflowd.errors import ExitStatus, MlflowdError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflowd.engine.api import Engine, Progress
    from mlflowd.model import Image

SUITES: Mapping[str, str] = {"3.11": "bookworm", "3.13": "trixie"}
"""The Debian release that has each version of Python."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PACKAGES = "python3,python3-venv,ca-certificates"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HURRY = "etc/dpkg/dpkg.cfg.d/mlflowd-build"
_LEFT_OUT = (
    f"./{_HURRY}",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./etc/resolv.conf",
    "./etc/hostname",
)
"""What a container needs none of: 269 MB become 117 MB."""
_STEPS = ("I: Installing core", "I: Unpacking required", "I: Unpacking the base", "I: Configuring the base")
"""debootstrap's own words for its longer steps; it has a line for each package besides."""
_TAIL = 8


def base_tag(suite: str) -> str:
    """Return the tag of the base image of this Debian release."""
    return f"mlflowd/base:{suite}"


def debian_base(engine: Engine, suite: str, progress: Progress, *, fresh: bool = False) -> Image:
    """Return the base image of `suite`, made now where there is none or `fresh` is asked for (about a minute).

    Raises MlflowdError where debootstrap, its keyring or root's rights are missing, or debootstrap fails.
    """
    tag = base_tag(suite)
    if not fresh and (present := engine.image(tag)):
        progress(f"the base {tag} is there already")
        return present
    preflight()
    with tempfile.TemporaryDirectory(prefix="mlflowd-base-", dir=temporary_directory()) as place:
        root, archive = Path(place) / "root", Path(place) / "root.tar"
        _hurry(root)
        _debootstrap(suite, root, progress)
        progress(f"importing {tag}")
        _name_no_mirror(root)
        _archive(root, archive)
        shutil.rmtree(root)
        return engine.import_root(str(archive), tag=tag, changes=[f"ENV PATH={_PATH}", 'CMD ["python3"]'])


def temporary_directory() -> str:
    """Return where to work: TMPDIR or /var/tmp, since /tmp is often in memory and forbids device nodes."""
    return os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 (a random directory is made below it)


def preflight() -> None:
    """Raise MlflowdError with the remedy where this machine cannot run debootstrap."""
    if os.geteuid() != 0:
        raise MlflowdError(
            "Only root can build an image from Debian packages.",
            "sudo mlflowd image build, or name an image with Python: mlflowd image build --base python:3.13-slim",
            ExitStatus.PERMISSION,
        )
    install = "dnf install" if shutil.which("dnf") else "apt-get install --no-install-recommends"
    if shutil.which("debootstrap") is None:
        raise MlflowdError(
            "An image from Debian packages needs debootstrap, which is not installed.", f"sudo {install} debootstrap"
        )
    if not KEYRING.is_file():
        package = "debian-keyring" if shutil.which("dnf") else "debian-archive-keyring"
        raise MlflowdError(
            f"The keys that Debian's packages are signed with are missing ({KEYRING}).", f"sudo {install} {package}"
        )


def _hurry(root: Path) -> None:
    """Tell dpkg not to wait for the disk after each file: after a power cut this directory is worth nothing anyway."""
    settings = root / _HURRY
    settings.parent.mkdir(parents=True)
    settings.write_text("force-unsafe-io\n", encoding="utf-8")


def _debootstrap(suite: str, root: Path, progress: Progress) -> None:
    command = ["unshare", "--mount", "--pid", "--kill-child", "debootstrap", "--variant=minbase"]
    command += ["--force-check-gpg", f"--keyring={KEYRING}", f"--include={_PACKAGES}", suite, str(root)]
    if host_mirror := mirror():
        command.append(host_mirror)
    progress(f"fetching Debian {suite} from {host_mirror or 'its default mirror'}")
    tail: deque[str] = deque(maxlen=_TAIL)
    with _running(command) as process:
        for line in process.stdout or ():
            tail.append(line.strip())
            if line.startswith(_STEPS):
                progress(f"debootstrap: {line.strip().removeprefix('I: ').rstrip('.')}")
    if process.returncode != 0:
        shown = "\n  ".join(tail)
        raise MlflowdError(
            f"debootstrap could not make a Debian {suite} below {root.parent.parent} (exit status "
            f"{process.returncode}). Its last lines:\n  {shown}",
            "check the mirror and the proxy (http_proxy); where the directory forbids device nodes: TMPDIR=/srv",
        )


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program with its output as lines; an exception inside (Ctrl-C too) ends it before it goes on."""
    environ = {**os.environ, **_apt_proxy(), "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    with subprocess.Popen(  # noqa: S603 (fixed programs; the arguments are our own)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environ,
    ) as process:
        try:
            yield process
            process.wait()
        except BaseException:
            process.kill()
            raise


def _name_no_mirror(root: Path) -> None:
    """Leave no mirror of this machine's in the image: its address may hold a password."""
    (root / "etc" / "apt" / "sources.list").unlink(missing_ok=True)


def _archive(root: Path, archive: Path) -> None:
    leave_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    command = ["tar", "-C", str(root), "--numeric-owner", *leave_out, "-cf", str(archive), "."]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own arguments)
    if done.returncode != 0:
        raise MlflowdError(f"tar could not pack {root}: {done.stderr.strip()}", "make room, or set TMPDIR")


def mirror() -> str | None:
    """Return the mirror that this host's own apt uses, None where it is no Debian (debootstrap has a default)."""
    if platform.freedesktop_os_release().get("ID") != "debian":
        return None
    targets = _output(
        "apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"
    )
    for line in targets.splitlines():
        origin, component, uri = (*line.split(), "", "", "")[:3]
        if (origin, component) == ("Debian", "main") and uri.startswith("http") and "security" not in uri:
            return uri
    return None


def _apt_proxy() -> dict[str, str]:
    """Return apt's own proxy as environment variables, where debootstrap (which does not ask apt) has none."""
    if "http_proxy" in os.environ:
        return {}
    proxy = _output("apt-config", "--format", "%v%n", "dump", "Acquire::http::Proxy").strip()
    return {"http_proxy": proxy} if proxy.startswith("http") else {}


def _output(*command: str) -> str:
    """Return what a program printed; empty where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 (our own arguments)
