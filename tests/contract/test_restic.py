"""Backups by the real restic: to a directory, to SFTP and to S3; what is said of each fault, and what stays behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fakes import databases
from mlflowd.config.settings import Settings
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.host import restic
from mlflowd.host.paths import Identity, user_name
from mlflowd.host.restic import (
    BusyRepositoryError,
    DamagedRepositoryError,
    NoRepositoryError,
    NoRoomError,
    UnreachableRepositoryError,
)
from mlflowd.model import Secrets
from mlflowd.operations.backup.check import check
from mlflowd.operations.backup.create import Made, Source, create
from mlflowd.operations.backup.record import RecordFile
from mlflowd.operations.backup.repository import Backup, Backups
from mlflowd.operations.copies import DamagedError
from services.process import free_port
from services.s3 import running_s3
from services.sftp import running_sftp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services.s3 import S3
    from services.sftp import Sftp

PASSWORD = "correct-horse-7f2a91c4"  # noqa: S105 - of repositories that live for seconds
WRONG = "wr0ng-0b6e11d2"
FILES, FILE_BYTES = 40, 100_000


@pytest.fixture(autouse=True)
def _restic_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("restic") is None:
        reason = "restic is not installed; ./test.sh installs it"
        if os.environ.get("MLFLOWD_TEST_REQUIRE_ENGINE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))


class Store:
    """A database, some artifacts, and a configuration that saves them to a repository."""

    def __init__(self, place: Path, who: Identity) -> None:
        self.place, self.who = place, who
        self.state, self.artifacts = place / "state", place / "artifacts"
        self.database = databases.make(self.state / "backend" / "mlflow.db", rows=20_000)
        (self.artifacts / "0/run/artifacts").mkdir(parents=True)
        for number in range(FILES):
            (self.artifacts / f"0/run/artifacts/{number}.bin").write_bytes(os.urandom(FILE_BYTES))
        (self.artifacts / "0/run/artifacts/.artifact.uploading.part").write_text("half")
        (self.artifacts / ".mlflowd-probe").mkdir()
        (self.artifacts / ".mlflowd-probe/x").write_text("probe")
        (place / "mlflowd.toml").write_text("# the configuration\n")
        self.repository = str(place / "repository")
        self.password = PASSWORD
        self.secrets: dict[str, str] = {}
        self.more: dict[str, Any] = {}
        self.require_free = "10M"

    def source(self) -> Source:
        values: dict[str, Any] = {
            "backend_store": {"uri": f"sqlite:///{self.database}"},
            "artifact_store": {"uri": str(self.artifacts)},
            "disk": {"require_free": self.require_free},
            "backup": {"repository": self.repository, "password": "env:X", "keep": {"last": 9}, **self.more},
        }
        secrets = Secrets({"backup.password": self.password, **self.secrets})
        return Source(Settings.layered(values), secrets, self.state, self.who, self.place / "mlflowd.toml")

    def backup(self, **options: bool) -> Made:
        return create(self.source(), lambda _sentence: None, **options)

    def check(self, read: str = "") -> None:
        check(self.source(), read, lambda _sentence: None)

    @contextmanager
    def door(self) -> Iterator[restic.Restic]:
        source = self.source()
        with restic.opened(source.settings.backup, source.secrets, self.state, lambda _sentence: None) as door:
            yield door

    def listed(self) -> tuple[Backup, ...]:
        with self.door() as door:
            return Backups(door, self.state, self.record).all()

    def good(self) -> list[str]:
        return [each.snapshot.id for each in self.listed() if not each.wrong]

    @property
    def record(self) -> RecordFile:
        return RecordFile(self.state, self.who)

    def packs(self) -> list[Path]:
        """The repository's pack files, the largest first."""
        found = [path for path in Path(self.repository, "data").rglob("*") if path.is_file()]
        return sorted(found, key=lambda path: path.stat().st_size, reverse=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, Identity(os.geteuid(), os.getegid(), user_name(os.geteuid())))


@pytest.fixture(scope="module")
def sftp() -> Iterator[Sftp]:
    with running_sftp("127.0.0.1") as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running_s3("127.0.0.1", tls=True) as server:
        yield server


def to_sftp(store: Store, sftp: Sftp, name: str) -> None:
    known = store.place / "known_hosts"
    known.write_text(sftp.known_hosts + "\n")
    store.repository = f"sftp://{sftp.user}@{sftp.address}:{sftp.port}/{sftp.root}/{name}"
    store.more = {"key_file": "env:X", "known_hosts": str(known)}
    store.secrets = {"backup.key_file": sftp.key_file.read_text(), "backup.known_hosts": known.read_text()}


def to_s3(store: Store, s3: S3, name: str) -> None:
    assert s3.ca_file is not None
    store.repository = f"s3:{s3.endpoint}/{s3.bucket}/{name}"
    store.more = {"access_key": "env:X", "secret_key": "env:X", "ca_file": str(s3.ca_file), "region": s3.region}
    store.secrets = {
        "backup.access_key": s3.access_key,
        "backup.secret_key": s3.secret_key,
        "backup.ca_file": s3.ca_file.read_text(),
    }


def round_trip(store: Store) -> None:
    """Two backups, the second one of what changed; then every byte restored."""
    first = store.backup()
    assert first.added.bytes > FILES * FILE_BYTES
    (store.artifacts / "0/run/artifacts/new.bin").write_bytes(os.urandom(FILE_BYTES))
    second = store.backup()
    assert FILE_BYTES < second.added.bytes < 2 * FILE_BYTES
    assert store.good() == [second.added.snapshot, first.added.snapshot]
    store.check("all")
    target = store.place / "restored"
    with store.door() as door:
        door.restore(second.added.snapshot, target, [str(store.artifacts)])
        newest = Backups(door, store.state, store.record).chosen()
    assert newest.snapshot.id == second.added.snapshot
    back = target / store.artifacts.relative_to("/")
    names = sorted(path.name for path in (store.artifacts / "0/run/artifacts").glob("[!.]*"))
    assert sorted(path.name for path in (back / "0/run/artifacts").iterdir()) == names
    assert all(
        (back / "0/run/artifacts" / n).read_bytes() == (store.artifacts / "0/run/artifacts" / n).read_bytes()
        for n in names
    )
    assert not (back / ".mlflowd-probe").exists()


def test_a_directory_gets_two_backups_and_gives_every_byte_back(store: Store) -> None:
    round_trip(store)
    assert not (store.state / "backup/staging").exists()
    assert list((store.place / "run").iterdir()) == []
    record = store.record.read()
    assert record.failing is None
    assert record.last_check is not None


def test_sftp_gets_two_backups_and_gives_every_byte_back(store: Store, sftp: Sftp) -> None:
    to_sftp(store, sftp, "good")
    round_trip(store)
    assert list((store.place / "run").iterdir()) == [], "the key lies nowhere any more"


def test_s3_gets_two_backups_and_gives_every_byte_back(store: Store, s3: S3) -> None:
    to_s3(store, s3, "good")
    round_trip(store)


def test_the_manifest_says_what_a_backup_holds(store: Store) -> None:
    store.backup()
    held = store.listed()[0].manifest
    assert held is not None
    assert held.counts == {"experiments": 1, "runs": 1}
    assert held.artifacts == str(store.artifacts)
    assert held.copy.part("backend") is not None
    assert held.hostname == socket.gethostname()


def test_retention_removes_what_the_policy_does_not_keep(store: Store) -> None:
    store.more = {"keep": {"last": 2}}
    made = [store.backup().added.snapshot for _ in range(3)]
    assert store.good() == [made[2], made[1]]


def test_another_ones_snapshots_are_neither_listed_nor_removed(store: Store) -> None:
    store.more = {"keep": {"last": 1}}
    store.backup()
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": store.repository}
    mine = ["restic", "--no-cache", "backup", "--quiet", "--tag", "mine", str(store.artifacts)]
    subprocess.run(mine, check=True, env=environment)
    store.backup()
    assert len(store.listed()) == 1
    listed = subprocess.run(
        ["restic", "--no-cache", "snapshots", "--json", "--tag", "mine"],
        check=True,
        env=environment,
        capture_output=True,
    )
    assert len(json.loads(listed.stdout)) == 1


# --- faults ---------------------------------------------------------------------------------------


def refused(store: Store, kind: type[MlflowdError], status: ExitStatus, *words: str) -> MlflowdError:
    with pytest.raises(kind) as caught:
        store.backup()
    error = caught.value
    assert error.exit_status == status
    assert all(word in f"{error.message} {error.hint}" for word in words), str(error)
    assert not any(secret in str(error) for secret in (PASSWORD, WRONG, *store.secrets.values()))
    failing = store.record.read().failing
    assert failing is not None
    assert failing.message == error.message
    assert not (store.state / "backup/staging").exists()
    return error


def test_a_wrong_password_is_named(store: Store) -> None:
    store.backup()
    store.password = WRONG
    refused(store, MlflowdError, ExitStatus.CONFIGURATION, "password does not open", "backup.password")


def test_a_repository_that_is_gone_is_not_made_again_unless_asked_for(store: Store) -> None:
    store.backup()
    shutil.rmtree(store.repository)
    refused(store, NoRepositoryError, ExitStatus.REFUSED, "it is gone", "--init")
    assert not Path(store.repository).exists()
    store.backup(anew=True)
    assert len(store.good()) == 1


def test_a_deleted_pack_is_named_and_what_needs_it_is_not_restorable(store: Store) -> None:
    first = store.backup().added.snapshot
    store.packs()[0].unlink()
    assert store.good() == [], "a look at the structure finds it"
    with pytest.raises(DamagedRepositoryError) as caught:
        store.check()
    assert first[:8] in caught.value.message
    with store.door() as door, pytest.raises(MlflowdError, match="no backup that can be restored"):
        Backups(door, store.state, store.record).chosen()
    with store.door() as door, pytest.raises(DamagedRepositoryError):
        door.restore(first, store.place / "restored")


def test_flipped_bytes_are_found_by_reading_and_only_what_holds_them_is_condemned(store: Store) -> None:
    (store.artifacts / "large.bin").write_bytes(os.urandom(40_000_000))
    first = store.backup().added.snapshot
    (store.artifacts / "large.bin").unlink()
    for path in (store.artifacts / "0/run/artifacts").iterdir():
        path.unlink()
    store.database.unlink()
    databases.make(store.database, created=1, rows=300)
    second = store.backup().added.snapshot
    with store.door() as door:
        flip(next(path for path in store.packs() if door.holders([path.name]) == {first}))
    store.check()
    with pytest.raises(DamagedRepositoryError) as caught:
        store.check("all")
    assert first[:8] in caught.value.message
    assert second[:8] not in caught.value.message
    assert store.good() == [second]
    assert set(store.record.read().bad) == {first}


def test_a_new_backup_on_damaged_data_is_not_good_until_a_new_repository_is_begun(store: Store) -> None:
    store.backup()
    flip(store.packs()[0])
    with pytest.raises(DamagedRepositoryError):
        store.check("all")
    refused(store, DamagedRepositoryError, ExitStatus.REFUSED, "rest on the damaged data", "--init")
    assert store.good() == []
    Path(store.repository).rename(f"{store.repository}.damaged")
    store.backup(anew=True)
    assert len(store.good()) == 1
    record = store.record.read()
    assert not record.bad
    assert record.failing is None


def flip(path: Path) -> None:
    path.chmod(0o600)
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 0xFF]))


def test_a_damaged_database_gets_no_backup(store: Store) -> None:
    first = store.backup().added.snapshot
    with store.database.open("r+b") as stream:
        stream.seek(4096 * 20)
        stream.write(b"\xff" * 4096)
    refused(store, DamagedError, ExitStatus.REFUSED, str(store.database))
    assert store.good() == [first]
    failing = store.record.read().failing
    assert failing is not None
    assert failing.damaged


def test_a_full_target_is_named_and_nothing_is_listed(store: Store) -> None:
    repository = Path(store.repository)
    repository.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", repository], check=True)
    try:
        store.require_free = "0"
        refused(store, NoRoomError, ExitStatus.REFUSED, "no room", str(repository))
        assert store.listed() == ()
    finally:
        subprocess.run(["umount", repository], check=True)


def test_a_lack_of_room_is_refused_before_anything_is_copied(store: Store) -> None:
    repository = Path(store.repository)
    repository.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", repository], check=True)
    try:
        refused(store, MlflowdError, ExitStatus.REFUSED, "needs", str(repository))
        assert list(repository.iterdir()) == []
    finally:
        subprocess.run(["umount", repository], check=True)


def test_a_file_that_cannot_be_read_makes_no_backup(store: Store) -> None:
    bad = store.artifacts / "0/run/artifacts/0.bin"
    unreadable = store.place / "fuse"
    unreadable.mkdir()
    # root reads everything, but not what is no file of its own: /proc/self/mem gives EIO
    bad.unlink()
    bad.touch()
    subprocess.run(["mount", "--bind", "/proc/self/mem", bad], check=True)
    try:
        refused(store, MlflowdError, ExitStatus.FAILURE, str(bad), "could not be read")
    finally:
        subprocess.run(["umount", bad], check=True)
    assert store.listed() == ()


def test_the_lock_of_a_dead_restic_is_removed_and_a_living_one_is_waited_for(store: Store) -> None:
    store.backup()
    other = subprocess.Popen(
        ["restic", "--no-cache", "--limit-download", "50", "check", "--read-data"],
        env={**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": store.repository},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with other:
        locks = Path(store.repository, "locks")
        wait(lambda: any(map(is_lock, locks.iterdir())))
        other.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(BusyRepositoryError) as caught:
                store.backup()
            assert caught.value.exit_status == ExitStatus.LOCKED
            assert store.record.read().failing is None, "that passes"
            assert len(store.good()) == 1, "a list goes beside it"
        finally:
            other.kill()
    assert any(locks.iterdir())
    store.backup()
    assert len(store.good()) == 2


def test_what_is_ended_midway_leaves_no_lock_no_copy_and_no_backup(store: Store) -> None:
    (store.artifacts / "large.bin").write_bytes(os.urandom(200_000_000))
    timer = threading.Thread(target=interrupt_once_saving, args=(store,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        store.backup()
    ended = time.monotonic()
    timer.join()
    assert ended - INTERRUPTED[-1] < 20
    assert not (store.state / "backup/staging").exists()
    assert list(Path(store.repository, "locks").iterdir()) == []
    assert store.listed() == ()
    store.backup()
    assert len(store.good()) == 1


INTERRUPTED: list[float] = []


def is_lock(path: Path) -> bool:
    """Return whether it is whole: restic writes under another name first."""
    return re.fullmatch(r"[0-9a-f]{64}", path.name) is not None


def has_packs(store: Store) -> bool:
    try:
        return bool(store.packs())
    except OSError:
        return False  # a file was renamed meanwhile, or there is no repository yet


def interrupt_once_saving(store: Store) -> None:
    wait(lambda: has_packs(store))
    INTERRUPTED.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)


def wait(until: Callable[[], bool], limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_time_limit_ends_it(store: Store) -> None:
    (store.artifacts / "large.bin").write_bytes(os.urandom(100_000_000))
    store.more["time_limit"] = "2s"
    refused(store, MlflowdError, ExitStatus.FAILURE, "backup.time_limit")


def test_a_killed_mlflowd_leaves_no_restic_behind(store: Store) -> None:
    (store.artifacts / "large.bin").write_bytes(os.urandom(200_000_000))
    program = (
        "import sys, mlflowd.host.restic as r, pathlib;"
        "from mlflowd.config.settings import Settings; from mlflowd.model import Secrets;"
        "s = Settings.layered({'backup': {'repository': sys.argv[1], 'password': 'env:X'}});"
        f"o = r.opened(s.backup, Secrets({{'backup.password': '{PASSWORD}'}}), pathlib.Path(sys.argv[2]), print);"
        "d = o.__enter__(); d.make(); d.save([pathlib.Path(sys.argv[3])], [])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, store.repository, store.state, store.artifacts], stdout=subprocess.PIPE
    )
    with child:
        wait(lambda: bool(store.packs()) if Path(store.repository, "data").exists() else False)
        child.kill()
    wait(lambda: not restics_at(store), 20)
    store.backup()
    assert len(store.good()) == 1


def restics_at(store: Store) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if store.repository.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


class TestElsewhere:
    """What another machine may say."""

    def test_an_unreachable_ssh_server_is_named(self, store: Store, sftp: Sftp) -> None:
        to_sftp(store, sftp, "x")
        store.repository = store.repository.replace(f":{sftp.port}/", f":{free_port('127.0.0.1')}/")
        refused(store, UnreachableRepositoryError, ExitStatus.FAILURE, "cannot be reached")

    def test_an_unknown_host_key_is_named(self, store: Store, sftp: Sftp) -> None:
        to_sftp(store, sftp, "x")
        store.secrets["backup.known_hosts"] = "elsewhere.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ\n"
        refused(store, MlflowdError, ExitStatus.CONFIGURATION, "host key", "backup.known_hosts")

    def test_a_refused_ssh_key_is_named(self, store: Store, sftp: Sftp, tmp_path: Path) -> None:
        to_sftp(store, sftp, "x")
        key = tmp_path / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        store.secrets["backup.key_file"] = key.read_text()
        refused(store, MlflowdError, ExitStatus.PERMISSION, "credentials", "backup.key_file")

    def test_a_wrong_s3_key_is_named(self, store: Store, s3: S3) -> None:
        to_s3(store, s3, "x")
        store.secrets["backup.secret_key"] = WRONG
        refused(store, MlflowdError, ExitStatus.PERMISSION, "credentials", "backup.secret_key")

    def test_an_untrusted_certificate_is_named(self, store: Store, s3: S3) -> None:
        to_s3(store, s3, "x")
        del store.secrets["backup.ca_file"]
        refused(store, MlflowdError, ExitStatus.CONFIGURATION, "certificate", "backup.ca_file")

    def test_an_unreachable_s3_server_is_named(self, store: Store) -> None:
        store.repository = f"s3:http://127.0.0.1:{free_port('127.0.0.1')}/bucket/x"
        store.more = {"time_limit": "30s"}
        store.secrets = {"backup.access_key": "mlflowd-tests", "backup.secret_key": WRONG}
        refused(store, MlflowdError, ExitStatus.FAILURE, "127.0.0.1")
