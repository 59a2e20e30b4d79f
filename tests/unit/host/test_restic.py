"""What restic says, as errors and progress for people; what it is given. The real one is in tests/contract."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mlflowd.config.settings import Settings
from mlflowd.errors import ConfigurationError, ExitStatus
from mlflowd.host.restic import access, faults, words
from mlflowd.host.restic.client import _verdict
from mlflowd.model import Secrets

if TYPE_CHECKING:
    from pathlib import Path

WHERE = "/mnt/backup"
ELSEWHERE = "Is there a repository at the following location?"
SFTP = "Fatal: unable to open repository at sftp:x@127.0.0.1:/x: unable to start the sftp session, error: EOF"
LOCK = "unable to create lock in backend: repository is already locked by PID 7 on vm by root (UID 0, GID 0)"
DIAL = 'Fatal: unable to open config file: Stat: Get "http://127.0.0.1:9/b/": dial tcp 127.0.0.1:9: connect: '
NO_KEY = "Fatal: unable to open config file: Stat: The AWS Access Key Id you provided does not exist in our records."
INDEX = "error: error loading index 1f89: load <index/1f89>: invalid data returned"
NO_SSH = 'Fatal: unable to start the sftp session, error: exec: "ssh": executable file not found in $PATH'
SAID = [
    (["Fatal: wrong password or no key found"], ExitStatus.CONFIGURATION, "password does not open"),
    ([LOCK], ExitStatus.LOCKED, "at work"),
    (["Fatal: unable to save snapshot: write /x: no space left on device"], ExitStatus.REFUSED, "no room"),
    (
        ["Fatal: unable to open config file: stat /x/config: no such file", ELSEWHERE],
        ExitStatus.REFUSED,
        "no repository",
    ),
    ([f"{DIAL}connection refused", ELSEWHERE], ExitStatus.FAILURE, "cannot be reached"),
    (["subprocess ssh: ssh: connect to host h port 1: Connection refused", SFTP], 1, "cannot be reached"),
    (["subprocess ssh: Host key verification failed.", SFTP], ExitStatus.CONFIGURATION, "host key"),
    (["subprocess ssh: x@h: Permission denied (publickey).", SFTP], ExitStatus.PERMISSION, "refuses the credentials"),
    ([NO_KEY, ELSEWHERE], ExitStatus.PERMISSION, "refuses the credentials"),
    (["Fatal: ReadDir: open /root/x/keys: permission denied"], ExitStatus.PERMISSION, "may not be used"),
    (["Fatal: config or key 8273 is damaged: ciphertext verification failed"], ExitStatus.REFUSED, "is damaged"),
    ([INDEX, "Fatal: LoadIndex returned errors"], ExitStatus.REFUSED, "is damaged"),
    ([NO_SSH], ExitStatus.FAILURE, "OpenSSH"),
    (["Fatal: something new"], ExitStatus.FAILURE, "something new"),
]


@pytest.mark.parametrize(("said", "status", "expected"), SAID, ids=[case[0][0][:40] for case in SAID])
@pytest.mark.parametrize("as_json", [False, True], ids=["words", "json"])
def test_each_fault_is_named_with_its_remedy(said: list[str], status: int, expected: str, *, as_json: bool) -> None:
    lines = [json.dumps({"message_type": "exit_error", "code": 1, "message": "\n".join(said)})] if as_json else said
    error = faults.translate("backup", WHERE, lines)
    assert expected in error.message
    assert error.exit_status == status
    assert error.hint


def test_a_lock_of_another_is_recognised() -> None:
    locked = {"message_type": "exit_error", "code": 11, "message": "repository is already locked exclusively by PID 1"}
    assert faults.is_locked([json.dumps(locked)])
    assert not faults.is_locked(["Fatal: wrong password or no key found"])


PACK = "1c677676f3426fc1364ff844a8502ae5c19bac37c9b51322894ce7f1c5618c15"
OTHER = "fa153aeecc5d64ed4057dc73ed06723b30c00b0a3ef69908ce1cccac9ae5694d"


def complaint(message: str) -> str:
    return json.dumps({"message_type": "error", "message": message})


@pytest.mark.parametrize(
    "said",
    [
        [f"pack {PACK}: does not exist"],
        [f"Pack ID does not match, want {PACK}, got {OTHER}"],
        [
            complaint(f"pack {PACK} contains 1 errors: [unexpected pack id {OTHER}]\n"),
            complaint("restic repair packs 00\nrestic repair snapshots --forget\n"),
            json.dumps({"message_type": "summary", "num_errors": 1, "broken_packs": [PACK]}),
        ],
    ],
    ids=["missing, 0.14", "flipped, 0.14", "flipped, 0.18"],
)  # fmt: skip
def test_a_check_names_the_damaged_packs(said: list[str]) -> None:
    noise = ["check all packs", "[0:00] 100.00%  1 / 1 snapshots", "Fatal: repository contains errors"]
    verdict = _verdict([*noise, *said])
    assert verdict.packs == (PACK,)
    assert len(verdict.damage) == 1


def test_progress_is_told_in_sizes_files_and_time() -> None:
    told = {"bytes_done": 2.1e9, "total_bytes": 5.4e9, "files_done": 812, "total_files": 2000, "seconds_remaining": 40}
    assert words.status(told) == "2.1 GB of 5.4 GB, 812 of 2000 files, 40 s left"
    assert words.status({"total_bytes": 100, "total_files": 1}) == "0 bytes of 100 bytes, 0 of 1 files"


def test_a_listener_keeps_the_summary_and_the_files_that_failed() -> None:
    listener = words.Listener(lambda _sentence: None)
    assert listener(json.dumps({"message_type": "summary", "snapshot_id": "ab"}))
    assert listener(json.dumps({"message_type": "status", "total_bytes": 1}))
    assert not listener("no JSON")
    assert listener.fails(json.dumps({"message_type": "error", "error": {}, "item": "/a/b"}))
    assert not listener.fails(json.dumps({"message_type": "error", "error": {}}))
    assert listener.summary["snapshot_id"] == "ab"
    assert list(listener.failed) == ["/a/b"]


def granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secrets: dict[str, str], **backup: Any) -> access.Access:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    settings = Settings.layered({"backup": {"password": "env:X", **backup}})
    with access.granted(settings.backup, Secrets({"backup.password": "pw-0815-secret", **secrets}), tmp_path) as found:
        for option in found.options:
            assert "pw-0815-secret" not in option
            assert "PRIVATE" not in option
        assert "secret" not in repr(found)
        return found


def test_ssh_gets_key_and_host_key_in_private_files_that_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"backup.key_file": "PRIVATE KEY\n", "backup.known_hosts": "h ssh-ed25519 AAAA\n"}
    where = "sftp://saver@nas.example:2222//srv/mlflow"
    found = granted(tmp_path, monkeypatch, secrets, repository=where, key_file="env:X", known_hosts="/etc/known_hosts")
    command = found.options[1]
    assert found.options[0] == "-o"
    assert command.startswith("sftp.command=ssh -o BatchMode=yes -o StrictHostKeyChecking=yes")
    assert command.endswith("-p 2222 -s -- saver@nas.example sftp")
    assert f"UserKnownHostsFile={tmp_path}/restic-" in command
    assert not list(tmp_path.glob("restic-*"))


def test_the_environment_holds_what_restic_needs_and_nothing_else_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other-secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    secrets = {"backup.access_key": "id-1", "backup.secret_key": "key-1"}
    keys = {"access_key": "env:X", "secret_key": "env:X", "region": "eu-central-1"}
    found = granted(tmp_path, monkeypatch, secrets, repository="s3:https://s3.example/bucket", **keys)
    environment = found.environment
    assert environment["RESTIC_PASSWORD"] == "pw-0815-secret"  # noqa: S105 - of this test
    assert (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]) == ("id-1", "key-1")
    assert environment["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert "MLFLOW_TRACKING_PASSWORD" not in environment


def test_without_a_repository_or_a_password_it_says_what_to_set(tmp_path: Path) -> None:
    for backup, key in (({}, "backup.repository"), ({"repository": "/mnt/x"}, "backup.password")):
        settings = Settings.model_construct(backup=Settings().backup.model_copy(update=backup))
        with pytest.raises(ConfigurationError, match=key), access.granted(settings.backup, Secrets({}), tmp_path):
            pass
