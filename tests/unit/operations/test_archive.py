"""An archive is known to be sound and to hold what is wanted before the engine is touched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fakes.archives import PACKERS, description, identifier, packed, saved, written
from fakes.engine import FakeEngine
from mlflowd.errors import ExitStatus, MlflowdError, RefusedError
from mlflowd.model import LABEL_STANDS_FOR, Image
from mlflowd.operations import archive, archive_file, room
from mlflowd.server.abilities import Abilities

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity

REFERENCE = "ghcr.io/mlflow/mlflow:v3.17.2"
CONFIG = description()
IMAGE = Image(identifier(CONFIG), (REFERENCE,), {})


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "space", lambda _: type("", (), {"free": 10**12})())


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.archived = (IMAGE,)
    return engine


def load(engine: FakeEngine, path: Path, who: Identity, reference: str = REFERENCE) -> archive.Loaded:
    return archive.load(engine, path, reference, who, lambda _: None)


def refusal(engine: FakeEngine, path: Path, who: Identity, reference: str = REFERENCE) -> MlflowdError:
    with pytest.raises(MlflowdError) as caught:
        load(engine, path, who, reference)
    assert "load" not in engine.calls
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_of_every_kind_is_loaded_unpacked(
    engine: FakeEngine, tmp_path: Path, who: Identity, kind: str
) -> None:
    content = saved(REFERENCE, config=CONFIG, layer=os.urandom(3_000_000))
    path = written(tmp_path / f"mlflow.{kind}", PACKERS[kind](content), sworn=True)
    said: list[str] = []
    loaded = archive.load(engine, path, REFERENCE, who, said.append)
    assert (loaded.image, loaded.fresh, engine.loaded) == (IMAGE, True, len(content))
    assert said[0] == f"checking {path} against mlflow.{kind}.sha256"
    assert any(one.startswith(f"loading {path}: ") and one.endswith(" MB") for one in said)


def test_what_stands_in_for_the_reference_is_taken_before_what_has_its_name(
    engine: FakeEngine, tmp_path: Path, who: Identity
) -> None:
    labels = {LABEL_STANDS_FOR: REFERENCE}
    config = description(**labels)
    stand_in = Image(identifier(config), ("mlflowd/mlflow:v3.17.2",), labels)
    engine.archived = (stand_in,)
    path = written(tmp_path / "a.tar", saved("mlflowd/mlflow:v3.17.2", config=config))
    assert load(engine, path, who).image == stand_in


def test_a_file_that_is_not_what_its_sum_says_is_refused(engine: FakeEngine, tmp_path: Path, who: Identity) -> None:
    path = written(tmp_path / "a.tar", saved(REFERENCE, config=CONFIG), sworn=True)
    path.write_bytes(saved(REFERENCE, config=description(other="1")))
    assert "is not the file that a.tar.sha256 is of" in refusal(engine, path, who).message


def test_a_sum_that_is_none_is_refused(engine: FakeEngine, tmp_path: Path, who: Identity) -> None:
    path = written(tmp_path / "a.tar", saved(REFERENCE, config=CONFIG))
    (tmp_path / "a.tar.sha256").write_text("no sum\n")
    assert "holds no SHA-256" in refusal(engine, path, who).message


def test_an_archive_of_another_image_is_named_with_what_it_holds(
    engine: FakeEngine, tmp_path: Path, who: Identity
) -> None:
    path = written(tmp_path / "a.tar", saved("debian:13", config=CONFIG))
    error = refusal(engine, path, who)
    assert error.message == f"{path} holds debian:13, not {REFERENCE}."
    assert error.exit_status == ExitStatus.REFUSED


@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_that_was_cut_off_is_refused(engine: FakeEngine, tmp_path: Path, who: Identity, kind: str) -> None:
    content = PACKERS[kind](saved(REFERENCE, config=CONFIG, layer=os.urandom(200_000)))
    path = written(tmp_path / "a", content[: len(content) // 2])
    assert f"{path} is no whole archive of `docker save`: " in refusal(engine, path, who).message


@pytest.mark.parametrize(
    "content",
    [b"", b"no tar at all", packed({"etc/passwd": b"{}"}), packed({"manifest.json": b'[{"Config": "x"}]'})],
    ids=["empty", "text", "another tar", "nothing behind the manifest"],
)
def test_what_is_no_archive_of_images_is_refused(
    engine: FakeEngine, tmp_path: Path, who: Identity, content: bytes
) -> None:
    assert "is no whole archive of `docker save`" in refusal(engine, written(tmp_path / "a", content), who).message


def test_a_missing_file_is_named(engine: FakeEngine, tmp_path: Path, who: Identity) -> None:
    assert refusal(engine, tmp_path / "none.tar", who).message == f"There is no file {tmp_path}/none.tar."


def test_a_file_that_the_service_user_may_not_read_is_named_with_the_command(ground: Path, other: Identity) -> None:
    path = written(ground / "a.tar", b"")
    path.chmod(0o600)
    error = archive_file.refused(path, other, PermissionError(13, "Permission denied"))
    assert error.exit_status == ExitStatus.PERMISSION
    assert f"The user mlflowd may not read {path}" in error.message
    assert error.hint.endswith(f"{path} && sudo chmod g+r {path}")


def test_a_missing_zstd_is_named_with_its_package(
    engine: FakeEngine, tmp_path: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.tar.zst", PACKERS["tar.zst"](saved(REFERENCE, config=CONFIG)))
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refusal(engine, path, who)
    assert "packed with zstd, which is not installed" in error.message
    assert error.hint.endswith("install zstd")


def test_a_pinned_digest_is_seen_in_the_archives_own_manifest(
    engine: FakeEngine, tmp_path: Path, who: Identity
) -> None:
    index = {"schemaVersion": 2, "layers": []}
    digest = identifier(b'{"schemaVersion": 2, "layers": []}')
    path = written(tmp_path / "a.tar", saved(REFERENCE, config=CONFIG, index=index))
    assert load(engine, path, who, f"{REFERENCE}@{digest}").image == IMAGE


def test_a_pinned_digest_that_cannot_be_seen_needs_somebody_to_vouch(
    engine: FakeEngine, tmp_path: Path, who: Identity
) -> None:
    pinned = f"{REFERENCE}@sha256:{'0' * 64}"
    content = saved(REFERENCE, config=CONFIG)
    error = refusal(engine, written(tmp_path / "a.tar", content), who, pinned)
    assert "does not keep a registry's digest" in error.message
    assert "sha256sum a.tar > a.tar.sha256" in error.hint
    assert load(engine, written(tmp_path / "b.tar", content, sworn=True), who, pinned).image == IMAGE


def test_another_mlflow_than_the_tag_says_is_refused_and_removed_again(
    engine: FakeEngine, tmp_path: Path, who: Identity
) -> None:
    path = written(tmp_path / "a.tar", saved(REFERENCE, config=CONFIG))
    loaded = load(engine, path, who)
    able = Abilities("3.10.1", "3.11", False, False, frozenset())
    with pytest.raises(RefusedError, match=r"holds MLflow 3\.10\.1, but ghcr"):
        archive.check_version(engine, loaded, path, REFERENCE, able)
    assert engine.image(IMAGE.id) is None


def test_too_little_room_is_said_before_anything_is_loaded(
    engine: FakeEngine, tmp_path: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "space", lambda _: type("", (), {"free": 1})())
    assert "has 0.0 GB left" in refusal(engine, written(tmp_path / "a", saved(REFERENCE, config=CONFIG)), who).message
