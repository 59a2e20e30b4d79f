"""Questions and tasks against an engine's recorded answers; tests/contract/test_ask.py asks a real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import requests
from docker.errors import APIError, ImageNotFound, NotFound
from requests.exceptions import ReadTimeout

from fakes.worlds import SPEC
from mlflowd.engine import asking
from mlflowd.engine.asked import Question
from mlflowd.errors import AskedError, EngineError, EngineUnreachableError, ImageMissingError

if TYPE_CHECKING:
    import docker

QUESTION = Question("sha256:1", ("true",))
TASK = Question("sha256:1", ("migrate",), SPEC, task="migration-x")


class Answers:
    """The engine's side: each call returns what was recorded for it, of a list the next; exceptions are raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"logs": b"", "wait": {"StatusCode": 0}, "create_host_config": {}} | answers
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            answer = self.answers.get(name)
            answer = answer.pop(0) if isinstance(answer, list) else answer
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    @property
    def api(self) -> docker.APIClient:
        return cast("docker.APIClient", self)

    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]


def refusal(status: int) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError(str(status), response=response, explanation="it is marked for removal")


def test_the_container_is_removed_when_its_creation_went_wrong() -> None:
    engine = Answers(create_container=ImageNotFound("no such image"))
    with pytest.raises(ImageMissingError, match="no image sha256:1"):
        asking.ask(engine.api, QUESTION, 1)
    assert engine.names()[-1] == "remove_container"


def test_what_was_asked_by_one_that_was_killed_is_removed_when_it_is_old_but_no_task() -> None:
    engine = Answers()
    asking.ask(engine.api, QUESTION, 1)
    assert engine.calls[0] == ("prune_containers", ({"label": ["io.mlflowd.asked="], "until": "15m"},), {})


def test_a_task_carries_its_name_and_the_servers_size_and_a_question_is_small() -> None:
    for question, label, memory in ((QUESTION, "", 2**30), (TASK, "migration-x", SPEC.memory)):
        engine = Answers()
        asking.ask(engine.api, question, 1)
        (created,) = (kwargs for name, _, kwargs in engine.calls if name == "create_container")
        (host,) = (kwargs for name, _, kwargs in engine.calls if name == "create_host_config")
        assert created["labels"] == {"io.mlflowd.asked": label}
        assert host["mem_limit"] == memory


def test_a_failure_keeps_its_words_and_says_whether_memory_was_the_cause() -> None:
    said = "x" * 30_000 + "\nthe reason"
    engine = Answers(wait={"StatusCode": 137}, logs=said.encode(), inspect_container={"State": {"OOMKilled": True}})
    with pytest.raises(AskedError, match="status 137") as caught:
        asking.ask(engine.api, TASK, 1)
    assert caught.value.said == said
    assert caught.value.out_of_memory
    assert len(caught.value.message) < 2_500


def test_what_is_late_is_ended_and_says_what_it_said() -> None:
    engine = Answers(wait=ReadTimeout("Read timed out."), logs=b"half way")
    with pytest.raises(AskedError, match="longer than 1 s") as caught:
        asking.ask(engine.api, TASK, 1)
    assert (caught.value.late, caught.value.said) == (True, "half way")
    assert engine.names()[-1] == "remove_container"


@pytest.mark.parametrize("call", ["start", "wait", "logs", "inspect_container"])
@pytest.mark.parametrize("status", [404, 409])
def test_a_task_that_was_ended_from_elsewhere_is_told_as_that(call: str, status: int) -> None:
    engine = Answers(**{"wait": {"StatusCode": 137}, call: refusal(status)})
    with pytest.raises(AskedError, match="ended from elsewhere"):
        asking.ask(engine.api, TASK, 1)


def test_a_container_that_may_still_be_there_is_never_told_as_gone() -> None:
    engine = Answers(wait=ReadTimeout("Read timed out."), remove_container=ReadTimeout("Read timed out."))
    with pytest.raises(EngineUnreachableError):
        asking.ask(engine.api, TASK, 1)
    engine = Answers(remove_container=APIError("500", explanation="device or resource busy"))
    with pytest.raises(EngineError) as caught:
        asking.ask(engine.api, TASK, 1)
    assert not isinstance(caught.value, AskedError)


def test_the_end_of_a_task_waits_until_somebody_else_has_removed_it() -> None:
    engine = Answers(containers=[[{"Id": "c1"}], []], remove_container=[refusal(409), NotFound("no such container")])
    assert asking.end(engine.api, "migration-x") == 1
    assert engine.calls[0][2]["filters"] == {"label": ["io.mlflowd.asked=migration-x"]}
    assert engine.names() == ["containers", "remove_container", "remove_container", "containers"]
