"""The container as a compose file: what is in it, and that no secret is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.worlds import SPEC
from mlflowd.model import Address, Image, Mount, PrivateFile, Secrets
from mlflowd.operations.composed import Composed, composed
from unit.operations.test_yaml_text import read

IMAGE = Image("sha256:" + "1" * 64, ("registry/mlflow:v1",), {}, ("registry/mlflow@sha256:" + "2" * 64,))
SECRETS = Secrets({"backend_store.password": "pa$$ 'word"})
FULL = replace(
    SPEC,
    argv=("mlflow", "server", "--uvicorn-opts", "--header x:$HOME"),
    environment=(
        ("HOME", "/tmp"),  # noqa: S108 - inside the container
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://u:pa$$ 'word@db/mlflow"),
        ("SOME_TOKEN", "abcdef"),
        ("PRICE", "5$"),
    ),
    mounts=(
        Mount("/srv/mlflow", "/mlflow/artifacts"),
        Mount("/run/mlflowd/private", "/mlflow/private", read_only=True),
    ),
    files=(PrivateFile("ssh/key", "PRIVATE KEY"),),
    memory=1 << 30,
    host_names=("host.docker.internal",),
    security_labels=("type:container_t",),
)


def made(image: Image = IMAGE, *, others: bool = False, prefix: str = "", **changes: Any) -> Composed:
    return composed(replace(FULL, **changes), image, SECRETS, prefix=prefix, network_of_others=others)


def service(**changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = read(made(**changes).text)["services"]["mlflow"]
    return told


def test_no_secret_is_in_the_file() -> None:
    text = made().text
    for secret in ("word", "abcdef", "PRIVATE KEY"):
        assert secret not in text
    assert "word" not in repr(made())


def test_what_is_secret_is_awaited_from_dotenv() -> None:
    environment = service()["environment"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "${MLFLOW_BACKEND_STORE_URI:?is missing in .env}"
    assert environment["SOME_TOKEN"] == "${SOME_TOKEN:?is missing in .env}"  # noqa: S105 - the name of a variable
    assert dict(made().environment) == {
        "MLFLOW_BACKEND_STORE_URI": "postgresql://u:pa$$ 'word@db/mlflow",
        "SOME_TOKEN": "abcdef",
    }


def test_dotenv_quotes_what_has_a_meaning_there() -> None:
    assert made().dotenv == (
        "MLFLOW_BACKEND_STORE_URI=\"postgresql://u:pa\\$\\$ 'word@db/mlflow\"\nSOME_TOKEN='abcdef'\n"
    )


def test_compose_replaces_nothing_in_what_is_no_secret() -> None:
    assert service()["environment"]["PRICE"] == "5$$"
    assert service()["command"] == ["server", "--uvicorn-opts", "--header x:$$HOME"]


def test_private_files_are_named_and_mounted_read_only() -> None:
    assert dict(made().files) == {"ssh/key": "PRIVATE KEY"}
    assert service()["volumes"][1] == {
        "type": "bind",
        "source": "./private",
        "target": "/mlflow/private",
        "read_only": True,
        "bind": {"propagation": "rprivate"},
    }


def test_an_image_of_a_registry_is_named_by_its_digest() -> None:
    assert service()["image"] == "registry/mlflow@sha256:" + "2" * 64


@pytest.mark.parametrize(
    ("references", "named", "said"),
    [
        (("registry/mlflow:v1",), "registry/mlflow:v1", "made on this machine"),
        (("mlflowd/mlflow:v1-abc",), "mlflowd/mlflow:v1-abc", "in the place of registry/mlflow:v1"),
        ((), "sha256:" + "1" * 64, "in the place of"),
    ],
    ids=["built here", "a stand-in", "without a name"],
)
def test_an_image_of_this_machine_is_said_to_be_one(references: tuple[str, ...], named: str, said: str) -> None:
    image = replace(IMAGE, references=references, digests=())
    assert service(image=image)["image"] == named
    assert said in made(image=image).text


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert service(publish=Address("::1", 5000))["ports"] == ["[::1]:5000:5000"]


def test_a_network_of_others_is_joined_and_an_own_one_is_made() -> None:
    assert read(made(others=True).text)["networks"]["default"] == {"name": "mlflowd", "external": True}
    assert read(made().text)["networks"]["default"] == {"driver": "bridge"}


def test_the_health_check_asks_below_the_prefix() -> None:
    assert "http://127.0.0.1:5000/mlflow/health" in service(prefix="/mlflow")["healthcheck"]["test"][3]


def test_no_limit_of_memory_is_none() -> None:
    assert not {"mem_limit", "memswap_limit"} & service(memory=None).keys()


def test_what_is_lost_is_said() -> None:
    assert "# What the mlflowd that wrote this did beyond it" in made().text
