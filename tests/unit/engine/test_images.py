"""Images against an engine's recorded answers; tests/contract/test_images.py asks a real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from docker.errors import APIError, ImageNotFound

from mlflowd.engine.images import LABEL_BUILD, Images
from mlflowd.errors import EngineError, ImageMissingError

if TYPE_CHECKING:
    import docker

ANSWER = {"Id": "sha256:1", "RepoTags": ["r/i:t"], "RepoDigests": None, "Config": {"Labels": None}}


class Answers:
    """The engine's side: each call returns what was recorded for it; a recorded exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.hooks: dict[str, list[Any]] = {"response": []}
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            answer = self.answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def images(self) -> Images:
        return Images(cast("docker.APIClient", self))


def ignore(_: str) -> None:
    pass


def test_an_image_without_labels_and_digests_is_an_image() -> None:
    image = Answers(inspect_image=ANSWER).images().image("r/i:t")
    assert image is not None
    assert (image.id, image.references, image.labels, image.digests) == ("sha256:1", ("r/i:t",), {}, ())


def test_a_missing_image_is_none() -> None:
    assert Answers(inspect_image=ImageNotFound("no such image")).images().image("r/i:t") is None


def test_the_refusal_in_the_midst_of_a_pull_is_plain() -> None:
    stream = [
        {"status": "Pulling fs layer", "id": "a"},
        {"error": "x", "errorDetail": {"message": "write /var/lib/docker/tmp/x: no space left on device"}},
    ]
    with pytest.raises(ImageMissingError, match="disk is full"):
        Answers(pull=stream).images().pull("r/i:t", ignore)


def test_the_refusal_before_a_pull_is_plain() -> None:
    error = APIError("500 Server Error", explanation='Get "https://r/v2/": dial tcp: lookup r: no such host')
    with pytest.raises(ImageMissingError, match="cannot be reached"):
        Answers(pull=error).images().pull("r/i:t", ignore)


def test_a_reference_without_a_tag_does_not_pull_every_tag() -> None:
    engine = Answers(pull=[], inspect_image=ANSWER)
    engine.images().pull("r/i", ignore)
    assert engine.calls[0][2]["tag"] == "latest"


def test_a_failed_build_shows_its_last_lines_and_forgets_its_stages() -> None:
    stream = [
        {"stream": "Step 1/2 : FROM base\n"},
        {"stream": "==> installing\n\x1b[31mERROR: No matching distribution found for nonesuch\x1b[0m\n"},
        {"errorDetail": {"code": 1, "message": "The command returned a non-zero code: 1"}, "error": "The command …"},
    ]
    said: list[str] = []
    engine = Answers(build=stream, inspect_image=ImageNotFound("none"))
    with pytest.raises(EngineError, match=r"No matching distribution found for nonesuch\n.*non-zero code: 1"):
        engine.images().build(b"", tag="r/i:t", labels={}, build_args={}, progress=said.append)
    assert said == ["building r/i:t: installing"]
    mark = next(kwargs for name, _, kwargs in engine.calls if name == "build")["buildargs"]["MLFLOWD_BUILD"]
    assert engine.calls[-2] == ("prune_images", ({"dangling": True, "label": [f"{LABEL_BUILD}={mark}"]},), {})
    assert engine.hooks == {"response": []}


def test_a_build_that_is_interrupted_forgets_its_stages() -> None:
    def progress(_: str) -> None:
        raise KeyboardInterrupt

    engine = Answers(build=[{"stream": "==> installing"}], inspect_image=ImageNotFound("none"))
    with pytest.raises(KeyboardInterrupt):
        engine.images().build(b"", tag="r/i:t", labels={}, build_args={}, progress=progress)
    assert engine.calls[-1][0] == "prune_images"


def test_an_import_that_fails_in_its_answer_is_an_error() -> None:
    answer = '{"status":"a"}\n{"errorDetail":{"message":"unexpected EOF"},"error":"unexpected EOF"}\n'
    with pytest.raises(EngineError, match="unexpected EOF"):
        Answers(import_image_from_file=answer).images().import_root("/x.tar", tag="r/b:t", changes=[])
