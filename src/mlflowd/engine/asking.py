"""Questions to an image, and longer tasks: run in a throw-away container, which is gone when the answer is there.

Effects: a container on the engine for the while. One whose mlflowd was killed goes on: a small question's is removed
by a later `ask` once it has ended, a task's by `end`.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from docker.errors import APIError, ImageNotFound, NotFound
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import ReadTimeout

from mlflowd.engine import asked
from mlflowd.engine.translate import translated
from mlflowd.errors import AskedError, ImageMissingError

if TYPE_CHECKING:
    from docker import APIClient

    from mlflowd.engine.asked import Question

_QUOTED: Final = 2000
"""Characters of its words that the message of a failure repeats."""
_KEPT: Final = 50_000
"""Characters of its words that a failure keeps."""
_REMOVAL: Final = 60.0
"""Seconds that the engine gets to remove a container; on a busy disk it takes some."""
_CONFLICT: Final = HTTPStatus.CONFLICT
_TAKEN_AWAY: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
_KILLED: Final = 137
"""The exit status of what SIGKILL ended."""


def ask(api: APIClient, question: Question, limit: float) -> str:
    """Run it and return what it printed (stdout); the network of `like` must be there.

    Raises AskedError where it fails, takes longer than `limit` seconds or is ended by `end`, ImageMissingError where
    there is no such image.
    """
    name = f"mlflowd-ask-{secrets.token_hex(6)}"
    with translated(f"running {question.argv[0]} in the image {question.image_id}"):
        with suppress(APIError):
            api.prune_containers({"label": [f"{asked.LABEL}="], "until": asked.ABANDONED})
        try:
            return _run(api, name, question, limit)
        finally:
            _remove(api, name)


def end(api: APIClient, task: str) -> int:
    """Remove the containers of this task, running or not, and return how many there were; see engine/api.py."""
    with translated(f"ending {task}"):
        ended: set[str] = set()
        while found := api.containers(all=True, filters={"label": [f"{asked.LABEL}={task}"]}):
            for each in found:
                _remove(api, each["Id"])
            ended.update(each["Id"] for each in found)
        return len(ended)


def _run(api: APIClient, name: str, question: Question, limit: float) -> str:
    _create(api, asked.arguments(question, name, api))
    try:
        api.start(name)
        status = _wait(api, name, limit)
        if status == 0:
            return _said(api, name, stderr=False)
        raise _failed(api, name, question, status)
    except APIError as error:
        # Gone, or marked for removal: then there are no words of it any more.
        if not question.task or error.status_code not in _TAKEN_AWAY:
            raise
        raise AskedError(f"What ran in {name} for {question.task} was ended from elsewhere.") from error
    except TimeoutError as error:
        raise _late(api, name, question, limit) from error


def _create(api: APIClient, arguments: dict[str, Any]) -> None:
    try:
        api.create_container(**arguments)
    except ImageNotFound as error:
        raise ImageMissingError(f"There is no image {arguments['image']} on this engine.") from error


def _wait(api: APIClient, name: str, limit: float) -> int:
    """Return its exit status. Raises TimeoutError."""
    try:
        return int(api.wait(name, timeout=ceil(limit))["StatusCode"])
    except (ReadTimeout, RequestsConnectionError) as error:
        # a read that takes too long comes as either: urllib3 wraps the second kind
        if "timed out" in str(error).lower():
            raise TimeoutError from error
        raise


def _failed(api: APIClient, name: str, question: Question, status: int) -> AskedError:
    said = asked.masked(_said(api, name, stderr=True), question.like)
    message = f"{question.argv[0]} in the image {question.image_id} ended with status {status}: {said[-_QUOTED:]}"
    error = AskedError(message)
    error.said = said[-_KEPT:]
    error.out_of_memory = status == _KILLED and bool(api.inspect_container(name)["State"].get("OOMKilled"))
    return error


def _late(api: APIClient, name: str, question: Question, limit: float) -> AskedError:
    error = AskedError(f"What ran in {name} took longer than {limit:g} s and was ended.")
    error.late = True
    with suppress(APIError):  # its words are not worth more than its end
        error.said = asked.masked(_said(api, name, stderr=True), question.like)[-_KEPT:]
    return error


def _remove(api: APIClient, container_id: str) -> None:
    """Remove it by force, and return when it is gone: the engine refuses while somebody else removes it."""
    deadline = time.monotonic() + _REMOVAL
    while True:
        try:
            api.remove_container(container_id, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != _CONFLICT or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.1)


def _said(api: APIClient, name: str, *, stderr: bool) -> str:
    text: bytes = api.logs(name, stdout=True, stderr=stderr)
    return text.decode(errors="replace").strip()
