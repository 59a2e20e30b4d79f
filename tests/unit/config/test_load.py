from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflowd.config import Loaded, Settings, load
from mlflowd.config import load as load_function
from mlflowd.config.load import DEFAULT_PATH
from mlflowd.errors import ConfigurationError, ExitStatus


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mlflowd.toml"


def loaded(file: Path, text: str, **environ: str) -> Loaded:
    file.write_text(text)
    return load(file, environ)


def problems(file: Path, text: str, **environ: str) -> list[str]:
    """Return the lines of the error, the file's path cut off."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(file, text, **environ)
    assert caught.value.exit_status == ExitStatus.CONFIGURATION
    return str(caught.value).replace(f"{file}:", "").split("\n")


def test_without_a_file_every_key_has_its_default(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr(sys.modules[load_function.__module__], "DEFAULT_PATH", file)
    result = load(None, {})
    assert result.settings == Settings()
    assert set(result.origins.values()) == {"default"}
    assert "server.listen" in result.origins


def test_the_default_path_is_in_etc() -> None:
    assert Path("/etc/mlflowd.toml") == DEFAULT_PATH


def test_a_file_that_was_named_must_be_there(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load(file, {})


def test_a_default_file_that_is_a_dangling_link_is_a_mistake(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.symlink_to("/nonexistent")
    monkeypatch.setattr(sys.modules[load_function.__module__], "DEFAULT_PATH", file)
    with pytest.raises(ConfigurationError, match="no such file"):
        load(None, {})


def test_an_empty_file_is_all_defaults(file: Path) -> None:
    assert loaded(file, "").settings == Settings()


def test_the_environment_stands_over_the_file_over_the_default(file: Path) -> None:
    text = '[health]\ninterval = "7s"\nretry_interval = "2s"\n'
    result = loaded(
        file, text, MLFLOWD_HEALTH__INTERVAL="8s", MLFLOWD_SERVER__JOBS="true", MLFLOWD_CONTAINER__PIDS="99"
    )
    assert result.settings.health.interval == 8.0
    assert result.settings.health.retry_interval == 2.0
    assert result.settings.server.jobs is True
    assert result.settings.container.pids == 99
    assert result.origins["health.interval"] == "MLFLOWD_HEALTH__INTERVAL"
    assert result.origins["health.retry_interval"] == f"{file}:3"
    assert result.origins["health.timeout"] == "default"


def test_a_variable_over_a_wrong_value_of_the_file_mends_it(file: Path) -> None:
    assert loaded(file, "[health]\ninterval = []\n", MLFLOWD_HEALTH__INTERVAL="8s").settings.health.interval == 8.0


def test_every_entry_of_the_environment_table_has_its_line(file: Path) -> None:
    result = loaded(file, '[server]\njobs = true\n[server.environment]\nA = "1"\n\nB = "2"\n')
    assert result.origins["server.environment"] == f"{file}:3"
    assert result.origins["server.environment.A"] == f"{file}:4"
    assert result.origins["server.environment.B"] == f"{file}:6"


MISTAKES = """\
listen = "x"
[server]
listne = "127.0.0.1"
listen = "localhost:5000"
workers = 0
jobs = "yes"
memory = "4G"
[server.environment]
MLFLOW_HOST = "x"
"A B" = "1"
[helth]
x = 1
[health]
timeout = "4min"
interval = "3parsec"
[backend_store]
journal_mode = "wall"
[image]
packages = ["a", "-r", 3]
"""


def test_all_mistakes_are_told_at_once_each_with_line_key_and_hint(file: Path) -> None:
    expected = [
        "1: listen: stands in no section. Hint: move it below [server]",
        "3: server.listne: unknown key. Hint: did you mean 'listen'?",
        (
            '4: server.listen: expected an IP address and a port such as "127.0.0.1:5000", got "localhost:5000". '
            'Hint: write "127.0.0.1:5000"'
        ),
        '5: server.workers: expected "auto" or a whole number from 1 to 64, got 0.',
        '6: server.jobs: expected true or false, got "yes". Hint: write true or false, without quotes',
        "7: server.memory: unknown key. Hint: 'memory' is a key of [container]",
        "9: server.environment.MLFLOW_HOST: MLFLOW_HOST is set by mlflowd itself. Hint: use server.listen",
        '10: server.environment."A B": not the name of an environment variable. Hint: letters, digits, underscores',
        "11: helth: unknown section. Hint: did you mean [health]?",
        "14: health.timeout: must be shorter than health.start_deadline. Hint: lower it or raise health.start_deadline",
        "15: health.interval: 'parsec' is not a unit of time (us, ms, s, min, h, d, w).",
        (
            '17: backend_store.journal_mode: expected one of "wal", "delete", "keep", got "wall". '
            'Hint: did you mean "wal"?'
        ),
        '19: image.packages[1]: "-r" is not a Python package. Hint: such as "psycopg2-binary"',
        "19: image.packages[2]: expected text in quotes, got 3.",
        'MLFLOWD_LOG__ACCESS: log.access: expected true or false, got "on". Hint: write true or false, without quotes',
        "MLFLOWD_LOG__LEVLE: [log] has no key 'levle'. Hint: did you mean MLFLOWD_LOG__LEVEL?",
    ]
    assert problems(file, MISTAKES, MLFLOWD_LOG__ACCESS="on", MLFLOWD_LOG__LEVLE="info") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server = 5", "1: server: expected a section, got 5. Hint: write [server] and its keys below"),
        ("[[server]]\nlisten = 1", "1: server: expected a section, got a list."),
        ("[server]\n[sever]", "2: sever: unknown section. Hint: did you mean [server]?"),
        ("[zzz]", "1: zzz: unknown section. Hint: sections: engine, server, image"),
        ("[server]\nqqqqqq = 1", "2: server.qqqqqq: unknown key. Hint: keys of [server]: listen"),
        ("[server]\nlisten = 127.0.0.1:5000", "2: not valid TOML: "),
        ("[server]\nlisten = 'a'\nlisten = 'b'", "3: not valid TOML: "),
        ("[log]\nlevel = 2024-01-01", "got 2024-01-01"),
        ("[log]\nlevel = {a = 1}", "got a table"),
        ("[log]\nlevel = 0x" + "f" * 6000, "got a very large number"),
        ("[log]\nlevel = '" + "f" * 6000 + "'", "log.level: expected one of"),
        ('[server]\n"a\\nb\\u001b[2J" = 1', '2: server."a\\nb\\u001b[2J": unknown key'),
        ("[server]\n" + "a" * 6000 + " = 1", "a…: unknown key"),
    ],
)
def test_a_mistake_is_told_on_one_short_line(file: Path, text: str, said: str) -> None:
    (line,) = problems(file, text)
    assert said in line
    assert len(line) < 400


def test_a_broken_file_does_not_hide_a_wrong_variable_but_nothing_is_guessed_between_keys(file: Path) -> None:
    found = problems(file, "[health]\nstart_deadline = 1h", MLFLOWD_HEALTH__TIMEOUT="4min", MLFLOWD_LOG__LEVEL="x")
    assert len(found) == 2
    assert found[0].startswith("2: not valid TOML")
    assert found[1].startswith("MLFLOWD_LOG__LEVEL: log.level:")


def test_a_contradiction_is_told_where_somebody_set_a_key(file: Path) -> None:
    (line,) = problems(file, "[container]\n\nstop_grace = 5\n")
    assert line.startswith("3: server.graceful_timeout: must be shorter than container.stop_grace.")


def test_hundreds_of_mistakes_do_not_flood_the_journal(file: Path) -> None:
    found = problems(file, "[server]\n" + "\n".join(f"x{n} = 1" for n in range(200)))
    assert len(found) == 51
    assert found[-1] == "… and 150 more."


@pytest.mark.parametrize(
    "text",
    [
        '[backend_store]\nuri = "postgresql://mlflow:hunter2@db:abc/mlflow"',
        '[backend_store]\nuri = "postgresql://mlflow:hunter2@localhost/mlflow"',
        '[backend_store]\nuri = "postgresql://mlflow:hunter2@db"',
        '[backend_store]\nuri = "postgresql://mlflow:hunter2@/mlflow"',
        '[backend_store]\nuri = "postgresql://mlflow:a/hunter2@db/mlflow"',
        '[backend_store]\nuri = "postgresql://mlflow:a?hunter2@db/mlflow"',
        '[backend_store]\nuri = "postgresql://mlflow:a@[hunter2/mlflow"',
        '[backend_store]\nuri = "postgresql://mlflow:a@hunter2:x/mlflow"',
        '[backend_store]\nuri = "postgresql+hunter2://mlflow@db/mlflow"',
        '[backend_store]\nuri = "postgre://mlflow:hunter2@db/mlflow"',
        '[backend_store]\nuri = "mlflow:hunter2@db://mlflow"',
        '[backend_store]\nuri = "/mlflow:hunter2@db/mlflow"',
        '[backend_store]\nuri = ["postgresql://mlflow:hunter2@db/mlflow"]',
        '[backend_store]\nuri = "postgresql://mlflow:hunter2@db/mlflow\\n"',
        '[backend_store]\nuri = "postgresql://mlflow:hunter2@db/mlflow"\npassword = "hunter2"',
        '[artifact_store]\nuri = "s3://key:hunter2@bucket/x"',
        '[artifact_store]\nuri = "sftp://me:hunter2@nas:abc/x"',
        '[artifact_store]\nuri = "sftp://me:a/hunter2@nas/x"',
        '[artifact_store]\nuri = "hunter2@x://y"',
        '[artifact_store]\nuri = "s3://models"\nendpoint = "https://me:hunter2@minio:9000"',
        '[artifact_store]\nuri = "s3://models"\nsecret_key = "credental:hunter2"\naccess_key = "env:hunter2 "',
        '[login]\nadmin_password = "hunter2\\u0000"',
        '[login]\nadmin_password = ["hunter2"]',
        '[server]\nsecrets = {A = 5, B = "/etc/hunter2", "C D" = "hunter2"}',
        '[server.environment]\n"AWS SECRET" = "hunter2"\nB = {C = "hunter2"}',
        '[server]\nenvironment = ["hunter2"]',
        '[server]\nlisten = "http://me:hunter2@localhost:5000"',
        '[server]\nextra_arguments = "--password=hunter2"',
        '[server]\nlisten = "x\nAWS_SECRET = "hunter2"',
        '[server]\npassword = "hunter2"',
        '[hunter]\nhunter = "hunter2"',
    ],
)
def test_no_mistake_repeats_a_secret(file: Path, text: str) -> None:
    assert "hunter2" not in "\n".join(problems(file, text))


def test_a_variable_with_a_secret_is_not_repeated_either(file: Path) -> None:
    found = problems(file, "", MLFLOWD_SERVER__ENVIRONMENT="A=hunter2", MLFLOWD_BACKEND_STORE__URI="pg://a:hunter2@b")
    assert "hunter2" not in "\n".join(found)
    assert len(found) == 2


def test_a_variable_with_bytes_that_are_no_text_is_refused_on_a_line_that_can_be_printed(file: Path) -> None:
    (line,) = problems(file, "", MLFLOWD_CONTAINER__NAME=os.fsdecode(b"caf\xe9"))
    assert line.startswith("MLFLOWD_CONTAINER__NAME: container.name: ")
    line.encode()


def test_a_file_that_may_not_be_read_is_status_77_with_the_command(tmp_path: Path) -> None:
    file = tmp_path / "mlflowd.toml"
    file.write_text("")
    file.chmod(0)
    if os.geteuid() == 0:
        pytest.skip("root reads every file; test_an_unreadable_file_as_nobody covers this")
    with pytest.raises(ConfigurationError, match="may not read it") as caught:
        load(file, {})
    assert caught.value.exit_status == ExitStatus.PERMISSION


AS_NOBODY = """
import os, sys
from pathlib import Path
from mlflowd.config import load
from mlflowd.errors import ConfigurationError
os.setuid(65534)
try:
    load(Path(sys.argv[1]), {})
except ConfigurationError as error:
    print(int(error.exit_status), error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_an_unreadable_file_as_nobody(tmp_path: Path) -> None:
    file = tmp_path / "my settings.toml"
    file.write_text("")
    file.chmod(0o600)
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"77 {file}: uid 65534 may not read it. Hint: sudo chgrp mlflowd '{file}'")


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"\xff\xfe", "1: not UTF-8"),
        (b"#" * 300_000, "larger than 256 KiB"),
        (b"x = " + b"[" * 9999, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(file: Path, contents: bytes, said: str) -> None:
    file.write_bytes(contents)
    with pytest.raises(ConfigurationError, match=said):
        load(file, {})


def test_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a directory, not a file"):
        load(tmp_path, {})


def test_a_path_through_a_file_is_named(file: Path) -> None:
    file.write_text("")
    with pytest.raises(ConfigurationError, match="cannot be read: Not a directory"):
        load(file / "x", {})
