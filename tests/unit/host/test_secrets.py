"""Secrets read from real files, credentials and variables, and the private directory written."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflowd.config import Settings
from mlflowd.errors import ExitStatus, MlflowdError
from mlflowd.host import redaction, secret_files, secrets
from mlflowd.host.secrets import UnreadError
from mlflowd.model import PrivateFile, Secrets

if TYPE_CHECKING:
    from mlflowd.host.paths import Identity

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
DATABASE = {"uri": "postgresql://mlflow@db/mlflow"}


@pytest.fixture(autouse=True)
def _no_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(secrets, "_UNIT", tmp_path / "no-unit")


def password(source: str) -> Settings:
    return Settings.model_validate({"backend_store": {**DATABASE, "password": source}})


def read(settings: Settings, ground: Path, who: Identity, **environ: str) -> Secrets:
    return secrets.read(settings, ground, who, environ=environ)


def refused(settings: Settings, ground: Path, who: Identity, **environ: str) -> UnreadError:
    with pytest.raises(UnreadError) as caught:
        read(settings, ground, who, **environ)
    return caught.value


def private(path: Path, text: str | bytes = "hunter2\n", mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


# --- where a secret comes from --------------------------------------------------------------------


def test_a_credential_is_read_from_the_directory_that_systemd_names(ground: Path, who: Identity) -> None:
    private(ground / "credentials" / "database", mode=0o440)
    found = read(password("credential:database"), ground, who, CREDENTIALS_DIRECTORY=str(ground / "credentials"))
    assert found.get("backend_store.password") == "hunter2"


def test_root_s_shell_sees_the_credentials_of_the_unit_that_runs(
    ground: Path, who: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "_UNIT", ground / "credentials")
    private(ground / "credentials" / "database", mode=0o440)
    assert read(password("credential:database"), ground, who).get("backend_store.password") == "hunter2"


def test_a_reload_sees_the_credentials_as_the_daemon_does(ground: Path) -> None:
    private(ground / "credentials" / "database")
    environ = {"CREDENTIALS_DIRECTORY": str(ground / "credentials"), "MAINPID": str(os.getpid())}
    unit = {"SYSTEMD_EXEC_PID": str(os.getpid())}
    places = list(secrets._credentials(environ | unit))  # noqa: SLF001 - the rest needs a mount namespace
    assert places[1] == Path(f"/proc/{os.getpid()}/root{ground}/credentials")
    assert (places[1] / "database").read_text() == "hunter2\n"
    assert len(list(secrets._credentials(environ))) == 2, "a shell's MAINPID is not believed"  # noqa: SLF001


@pytest.mark.parametrize("environ", [{}, {"CREDENTIALS_DIRECTORY": "/nonexistent"}])
def test_a_missing_credential_is_refused_with_the_drop_in(ground: Path, who: Identity, environ: dict[str, str]) -> None:
    error = refused(password("credential:database"), ground, who, **environ)
    assert error.message == "backend_store.password: the unit has no credential database."
    assert "sudo systemctl edit mlflowd" in error.hint
    assert "LoadCredential=database:/etc/mlflowd/database" in error.hint
    assert "sudo systemctl restart mlflowd" in error.hint
    assert error.exit_status is ExitStatus.CONFIGURATION
    assert error.elsewhere


def test_a_variable_is_read_as_it_is(ground: Path, who: Identity) -> None:
    assert read(password("env:DB"), ground, who, DB=" hunter2 ").get("backend_store.password") == " hunter2 "


def test_a_variable_that_is_not_there_is_refused_with_the_drop_in(ground: Path, who: Identity) -> None:
    error = refused(password("env:DB"), ground, who)
    assert error.message == "backend_store.password: the variable DB is not set."
    assert "EnvironmentFile=" in error.hint
    assert error.elsewhere
    assert "is empty" in refused(password("env:DB"), ground, who, DB="").message


def test_a_text_is_the_secret_itself(ground: Path, who: Identity) -> None:
    assert read(password("hunter2"), ground, who).get("backend_store.password") == "hunter2"


def test_nothing_is_read_where_nothing_is_named(ground: Path, who: Identity) -> None:
    assert dict(read(Settings(), ground, who).values) == {}
    assert not list(ground.iterdir())


# --- private files --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_alone_is_read(ground: Path, who: Identity, mode: int) -> None:
    file = private(ground / "password", mode=mode)
    assert read(password(f"file:{file}"), ground, who).get("backend_store.password") == "hunter2"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601, 0o666])
def test_a_file_that_others_may_use_is_refused_with_the_command(ground: Path, who: Identity, mode: int) -> None:
    file = private(ground / "pass word", mode=mode)
    error = refused(password(f"file:{file}"), ground, who)
    assert f"has the mode {mode:04o}" in error.message
    assert error.hint == f"sudo chmod 0600 '{file}'"
    assert not error.elsewhere


def test_a_link_is_refused_and_the_file_behind_it_named(ground: Path, who: Identity) -> None:
    file = private(ground / "password")
    link = ground / "link"
    link.symlink_to(file)
    assert refused(password(f"file:{link}"), ground, who).hint == f"name the file itself: {file}"


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\0", "not UTF-8 text"),
        (b"hunter2\xff", "not UTF-8 text"),
        (b"hunter2\nhunter3\n", "several lines"),
        (b"hunter2\n\n", "several lines"),
        (b"\thunter2", "control character"),
        (b"hunter2" * 200_000, "larger than 1 MiB"),
    ],
)
def test_what_can_be_no_secret_is_refused_and_never_repeated(
    ground: Path, who: Identity, contents: bytes, said: str
) -> None:
    file = private(ground / "password", contents)
    error = refused(password(f"file:{file}"), ground, who)
    assert said in error.message
    assert error.message.startswith("backend_store.password: ")
    assert "hunter" not in str(error)


@pytest.mark.parametrize(("text", "secret"), [("a b\n", "a b"), ("a b\r\n", "a b"), ("a b", "a b"), (" é ", " é ")])
def test_the_line_end_that_editors_add_is_no_part_of_it(ground: Path, who: Identity, text: str, secret: str) -> None:
    file = private(ground / "password", text)
    assert read(password(f"file:{file}"), ground, who).get("backend_store.password") == secret


def test_a_key_stays_as_it_is(ground: Path, who: Identity) -> None:
    key = private(ground / "id", "-----BEGIN\nx\n-----END\n")
    settings = Settings.model_validate({"artifact_store": {"uri": "gs://models", "key_file": f"file:{key}"}})
    assert read(settings, ground, who).get("artifact_store.key_file") == "-----BEGIN\nx\n-----END\n"


def test_the_value_of_a_variable_of_the_server_may_have_several_lines(ground: Path, who: Identity) -> None:
    file = private(ground / "x", "a\nb\n")
    settings = Settings.model_validate({"server": {"secrets": {"X": f"file:{file}"}}})
    assert read(settings, ground, who).get("server.secrets.X") == "a\nb"


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe"])
def test_what_is_no_file_is_refused_at_once(ground: Path, who: Identity, kind: str) -> None:
    path = ground / "password"
    if kind == "directory":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    error = refused(password(f"file:{path}"), ground, who)
    assert str(path) in error.message
    assert error.hint


@AS_ROOT
def test_a_file_of_somebody_else_is_refused_with_the_command(ground: Path, who: Identity) -> None:
    file = private(ground / "password")
    os.chown(file, 61233, 61233)
    error = refused(password(f"file:{file}"), ground, who)
    assert "belongs to 61233, who could change it" in error.message
    assert error.hint == f"sudo chown {who.owner} {file} && sudo chmod 0400 {file}"


@AS_ROOT
def test_root_hears_of_a_file_that_the_service_user_cannot_read(ground: Path, other: Identity) -> None:
    file = private(ground / "password")
    error = refused(password(f"file:{file}"), ground, other)
    assert error.message == f"backend_store.password: {file} may not be read by mlflowd."
    assert f"sudo chown {other.owner} {file}" in error.hint
    assert error.exit_status is ExitStatus.PERMISSION
    os.chown(file, other.uid, other.gid)
    assert read(password(f"file:{file}"), ground, other).get("backend_store.password") == "hunter2"


def test_all_that_is_wrong_is_told_at_once(ground: Path, who: Identity) -> None:
    file = private(ground / "password", mode=0o644)
    settings = Settings.model_validate(
        {
            "backend_store": {**DATABASE, "password": f"file:{file}"},
            "artifact_store": {"uri": "s3://models", "access_key": "env:KEY", "secret_key": "credential:secret"},
        }
    )
    error = refused(settings, ground, who)
    assert [line.split(":")[0] for line in error.message.split("\n")] == [
        "backend_store.password",
        "artifact_store.access_key",
        "artifact_store.secret_key",
    ]
    assert error.message.count("Hint: ") == 3
    assert not error.elsewhere


# --- public files -----------------------------------------------------------------------------------


def test_files_that_anybody_may_read_come_along_under_their_keys(ground: Path, who: Identity) -> None:
    ca = private(ground / "ca.pem", "CA\n", 0o644)
    link = ground / "link.pem"
    link.symlink_to(ca)
    key = private(ground / "key.pem", "KEY\n", 0o600)
    uri = f"postgresql://mlflow@db/mlflow?sslmode=verify-full&sslrootcert={link}&sslkey={key}"
    settings = Settings.model_validate(
        {"backend_store": {"uri": uri}, "artifact_store": {"uri": "s3://models", "ca_file": str(ca)}}
    )
    assert dict(read(settings, ground, who).values) == {
        "artifact_store.ca_file": "CA\n",
        "backend_store.uri.sslrootcert": "CA\n",
        "backend_store.uri.sslkey": "KEY\n",
    }
    assert redaction.redact("CA KEY") == "CA KEY"


def test_a_missing_public_file_and_a_loose_private_one_are_named(ground: Path, who: Identity) -> None:
    key = private(ground / "key.pem", "KEY\n", 0o644)
    uri = f"postgresql://mlflow@db/mlflow?sslrootcert={ground}/ca.pem&sslkey={key}"
    error = refused(Settings.model_validate({"backend_store": {"uri": uri}}), ground, who)
    assert f"backend_store.uri.sslrootcert: there is no file {ground}/ca.pem." in error.message
    assert f"backend_store.uri.sslkey: {key} has the mode 0644" in error.message


# --- made and kept ------------------------------------------------------------------------------------

LOGIN = {"login": {"enabled": True, "admin_password": "correct horse battery"}}


def test_the_login_s_own_secrets_are_made_once_and_kept(ground: Path, who: Identity) -> None:
    first = read(Settings.model_validate(LOGIN), ground, who)
    assert len(first.get("login.secret_key")) > 40
    assert first.get("login.secret_key") != first.get("login.probe_password")
    for name in secrets.KEPT.values():
        assert stat.S_IMODE((ground / "state" / name).stat().st_mode) == 0o600
    assert dict(read(Settings.model_validate(LOGIN), ground, who).values) == dict(first.values)


def test_looking_alone_makes_none(ground: Path, who: Identity) -> None:
    found = secrets.read(Settings.model_validate(LOGIN), ground, who, make=False, environ={})
    assert list(found.values) == ["login.admin_password"]
    assert not list(ground.iterdir())


@AS_ROOT
def test_they_belong_to_the_service_user_even_where_root_makes_them(ground: Path, other: Identity) -> None:
    (ground / "state").mkdir()
    os.chown(ground / "state", other.uid, other.gid)
    read(Settings.model_validate(LOGIN), ground, other)
    assert {path.stat().st_uid for path in (ground / "state").iterdir()} == {other.uid}


def test_one_that_others_may_read_is_refused_and_never_made_again(ground: Path, who: Identity) -> None:
    before = read(Settings.model_validate(LOGIN), ground, who)
    key = ground / "state" / secrets.KEPT["login.secret_key"]
    key.chmod(0o644)
    assert f"sudo chmod 0600 {key}" in str(refused(Settings.model_validate(LOGIN), ground, who))
    key.chmod(0o600)
    assert read(Settings.model_validate(LOGIN), ground, who).values == before.values


# --- what is known is masked ------------------------------------------------------------------------


def test_whatever_was_read_is_masked_from_then_on(ground: Path, who: Identity) -> None:
    file = private(ground / "password", "from a file\n")
    settings = Settings.model_validate(
        {
            "backend_store": {**DATABASE, "password": f"file:{file}"},
            "artifact_store": {"uri": "ftp://me:in-the-uri@nas/x"},
            "server": {"environment": {"MY_TOKEN": "in-the-table"}, "secrets": {"A": "env:VARIABLE"}},
        }
    )
    read(settings, ground, who, VARIABLE="in-a-variable")
    said = redaction.redact("from a file, in-the-uri, in-the-table, in-a-variable")
    assert said == "***, ***, ***, ***"


def test_no_repr_of_what_was_read_shows_it(ground: Path, who: Identity) -> None:
    assert "hunter2" not in repr(read(password("hunter2"), ground, who))
    assert "hunter2" not in repr(PrivateFile("x", "hunter2"))


# --- the private directory --------------------------------------------------------------------------


def test_the_private_directory_holds_what_is_wanted_and_nothing_else(ground: Path, who: Identity) -> None:
    directory = ground / "private"
    secrets.write(directory, [PrivateFile("old", "x"), PrivateFile("ssh/old", "x"), PrivateFile("kept", "1")], who)
    (directory / ".kept.new").write_text("cut short")
    (directory / ".kept.new").chmod(0o400)
    secrets.write(directory, [PrivateFile("kept", "2"), PrivateFile("ssh/id", "é\n"), PrivateFile("a/b/c", "x")], who)
    names = {str(path.relative_to(directory)) for path in directory.rglob("*")}
    assert names == {"kept", "ssh", "ssh/id", "a", "a/b", "a/b/c"}
    assert (directory / "kept").read_text() == "2"
    assert (directory / "ssh" / "id").read_text() == "é\n"
    for path, mode in ((directory, 0o700), (directory / "ssh", 0o700), (directory / "ssh" / "id", 0o400)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_directory_itself_stays_for_a_container_has_it_mounted(ground: Path, who: Identity) -> None:
    directory = ground / "private"
    secrets.write(directory, [PrivateFile("a", "1")], who)
    inode = directory.stat().st_ino
    secrets.write(directory, [PrivateFile("a", "2")], who)
    assert directory.stat().st_ino == inode


def test_without_files_there_is_no_directory(ground: Path, who: Identity) -> None:
    directory = ground / "private"
    secrets.write(directory, [], who)
    assert not directory.exists()
    secrets.write(directory, [PrivateFile("a", "1")], who)
    secrets.write(directory, [], who)
    assert not directory.exists()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "", "a/../../x"])
def test_a_name_that_leads_out_is_refused(ground: Path, who: Identity, name: str) -> None:
    with pytest.raises(MlflowdError):
        secrets.write(ground / "private", [PrivateFile(name, "1")], who)


def test_a_directory_that_cannot_be_written_is_an_error_with_its_name(ground: Path, who: Identity) -> None:
    with pytest.raises(MlflowdError, match=r"none/private cannot be written"):
        secrets.write(ground / "none" / "private", [PrivateFile("a", "1")], who)


@AS_ROOT
def test_root_writes_them_for_the_service_user(ground: Path, other: Identity) -> None:
    os.chown(ground, other.uid, other.gid)
    secrets.write(ground / "private", [PrivateFile("a", "1")], other)
    assert (ground / "private" / "a").stat().st_uid == other.uid


def test_a_process_of_the_unit_is_told_from_a_shell() -> None:
    assert secrets.in_unit({"SYSTEMD_EXEC_PID": str(os.getpid())})
    assert not secrets.in_unit({"SYSTEMD_EXEC_PID": "1", "INVOCATION_ID": "x"})
    assert not secrets.in_unit({})


def test_a_link_in_place_of_a_credential_is_not_followed(ground: Path) -> None:
    (ground / "link").symlink_to(private(ground / "x"))
    with pytest.raises(MlflowdError, match="symbolic link"):
        secret_files.credential(ground / "link")
