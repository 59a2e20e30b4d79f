"""Turns what docker-py, requests, urllib3 and the socket raise into the exceptions of mlflowd.errors, once.

docker-py lets requests' errors through (a hung engine is requests.ReadTimeout), and wraps the system's own
error two or three deep. No effects, but that a denied socket is looked at for the remedy.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from contextlib import contextmanager
from http.client import HTTPException
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING

import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, StreamParseError

from mlflowd.errors import (
    EngineError,
    EnginePermissionError,
    EngineUnreachableError,
    ImageMissingError,
    PortTakenError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET_NOTE = "The engine's socket: "
"""Begins the note that engine/client.py leaves on an error: docker-py's own errors do not say where."""

_RAISED = (DockerException, StreamParseError, JSONDecodeError, urllib3.exceptions.HTTPError, HTTPException, OSError)
"""All that is translated; requests' exceptions are OSErrors."""

_TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)

_PORT_TAKEN = re.compile(r"port is already allocated|address already in use")
_ADDRESS = re.compile(r"(?:[Bb]ind for|listen tcp[46]?|host port(?: for)?) (\[[^\]]+\]:\d+|[\d.]*:\d+)")
"""Docker 20.10: "Bind for 127.0.0.1:5000 failed: port is already allocated" (another container) and "listen tcp4
127.0.0.1:5000: bind: address already in use" (a process); 28: "failed to bind host port for 127.0.0.1:5000:…"."""

_GROUP_MAY = 0o060
"""Read and write for the group: what a socket needs so that its group may use it."""

_GATEWAY = frozenset({502, 503, 504})

_REMEDIES = (
    ("cannot assign requested address", "change server.listen to an address of this machine: ip -brief address"),
    ("source path does not exist", "sudo mlflowd check --fix"),
    ("no space left on device", "make room on the engine's file system: docker system df"),
    ("is already in use by container", "see whose it is: docker ps -a --no-trunc; or change container.name"),
    ("non-overlapping ipv4 address pool", "remove unused networks: docker network prune"),
    ("container-init binary not found", "sudo apt-get install catatonit"),
    ("no such container", "it was removed meanwhile; mlflowd makes a new one"),
)
"""What the engine's answer contains (in lower case), and the remedy."""


@contextmanager
def translated(doing: str, socket: str = "") -> Iterator[None]:
    """Raise what the library raises inside as an EngineError of mlflowd.errors; only engine calls belong inside.

    `doing` is the attempt as a gerund ("inspecting the container mlflowd"), `socket` the engine's path where
    the caller knows it. An OSError about a file of one's own (it has a `filename`) passes unchanged.
    """
    try:
        yield
    except _RAISED as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise translate(error, doing, socket) from error


def translate(error: BaseException, doing: str, socket: str = "") -> EngineError:
    """Return the EngineError that says the same as `error`, with the remedy."""
    if isinstance(error, APIError):
        said = (error.explanation or str(error)).strip()
        return answered(error.status_code or 0, said, doing, image_missing=isinstance(error, ImageNotFound))
    socket = socket or _noted(error)
    if isinstance(error, requests.exceptions.InvalidJSONError | JSONDecodeError | StreamParseError):
        return unreachable(f"gave an answer that is no JSON ({doing})", socket, "status")
    if isinstance(error, DockerException):
        return EngineError(f"{_upper(doing)} failed: {error}.")
    return _unanswered(error, socket)


def answered(status: int, said: str, doing: str, *, image_missing: bool = False) -> EngineError:
    """Return what an error status of the engine means; `said` is the engine's own message."""
    if _PORT_TAKEN.search(said):
        return _port_taken(said)
    if image_missing:
        return ImageMissingError(f"{_upper(doing)} failed: {said}.", "docker images; see image.reference")
    if status in _GATEWAY or said.startswith("client version"):
        # The latter: the engine was exchanged for one of another age. The next call agrees on a version anew.
        return unreachable(f"cannot answer ({said})", "", "status")
    remedy = next((remedy for words, remedy in _REMEDIES if words in said.lower()), "")
    return EngineError(f"{_upper(doing)} failed: {said}.", remedy)


def unreachable(what: str, socket: str, verb: str) -> EngineUnreachableError:
    """Return the error for an engine that cannot be asked; `verb` is systemctl's for the remedy."""
    unit, command = ("podman.socket" if "podman" in socket else "docker"), "systemctl"
    if socket.startswith(("/run/user/", "/var/run/user/")):
        command = "systemctl --user"
    elif verb != "status":
        command = "sudo systemctl"
    return EngineUnreachableError(f"The container engine{_at(socket)} {what}.", f"{command} {verb} {unit}")


def _unanswered(error: BaseException, socket: str) -> EngineError:
    """Return what a broken or refused connection means."""
    links = list(_chain(error))
    if any(isinstance(link, _TIMEOUTS) for link in links):
        return unreachable("does not answer within the time limit", socket, "status")
    for link in links:
        if isinstance(link, PermissionError):
            return _denied(socket)
        if isinstance(link, FileNotFoundError | ConnectionRefusedError):
            return unreachable(f"is not running ({link.strerror or link})", socket, "start")
    return unreachable(f"broke the connection ({str(links[-1]) or type(links[-1]).__name__})", socket, "status")


def _port_taken(said: str) -> PortTakenError:
    found = _ADDRESS.search(said)
    if not found:
        return PortTakenError(f"The address to publish on is taken: {said}.", "change server.listen")
    port = found[1].rpartition(":")[2]
    see = f"sudo ss -ltnp 'sport = :{port}' and docker ps --filter publish={port} show by whom"
    return PortTakenError(f"{found[1]} is taken.", f"{see}; or change server.listen")


def _denied(socket: str) -> EnginePermissionError:
    """Return the error for a socket that may not be opened, the remedy by what the socket's mode says."""
    user = _name_of_user(os.geteuid())
    message = f"The user {user} may not use the container engine{_at(socket)}."
    try:
        found = Path(socket).stat()
    except OSError:
        return EnginePermissionError(message, f"sudo usermod -aG docker {user}")
    mode, group = found.st_mode & 0o777, _name_of_group(found.st_gid)
    if mode & _GROUP_MAY != _GROUP_MAY:
        return EnginePermissionError(f"{message[:-1]}: its mode is {mode:04o}.", f"sudo chmod 0660 {socket}")
    remedy = f"sudo usermod -aG {group} {user}, then sudo systemctl restart mlflowd"
    return EnginePermissionError(f"{message[:-1]}: it is for the group {group}.", remedy)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what lies beneath it, whether as cause, context or argument."""
    heap, seen = [error], set[int]()
    while heap:
        link = heap.pop(0)
        if id(link) not in seen:
            seen.add(id(link))
            yield link
            beneath = (link.__cause__, link.__context__, *link.args)
            heap.extend(item for item in beneath if isinstance(item, BaseException))


def _noted(error: BaseException) -> str:
    notes = (note for link in _chain(error) for note in getattr(link, "__notes__", ()))
    return next((note.removeprefix(SOCKET_NOTE) for note in notes if note.startswith(SOCKET_NOTE)), "")


def _at(socket: str) -> str:
    return f" at {socket}" if socket else ""


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name_of_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
