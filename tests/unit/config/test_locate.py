from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlflowd.config.locate import MOST_BYTES, NotTomlError, read

EXAMPLE = '''\
# a comment
top = 1

[server]      # line 4
listen = "x"
environment.A = "1"
extra_arguments = [
    "--one",
    """
listen = "not a key"
""",
]
"quoted key" = 2

[server.tls]
key = "k"
[[many]]
x = 1
[log]
level = {a = 1, b = {c = 2}}
'''


def test_each_key_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(EXAMPLE)
    lines = read(file).lines
    assert lines == {
        ("top",): 2,
        ("server",): 4,
        ("server", "listen"): 5,
        ("server", "environment"): 6,
        ("server", "environment", "A"): 6,
        ("server", "extra_arguments"): 7,
        ("server", "quoted key"): 13,
        ("server", "tls"): 15,
        ("server", "tls", "key"): 16,
        ("many",): 17,
        ("many", "x"): 18,
        ("log",): 19,
        ("log", "level"): 20,
        ("log", "level", "a"): 20,
        ("log", "level", "b"): 20,
        ("log", "level", "b", "c"): 20,
    }


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b"", b"\r\n"])
def test_line_ends_and_a_byte_order_mark_of_windows_are_no_mistake(tmp_path: Path, prefix: bytes) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(prefix + b'[log]\r\nlevel = "debug"\r\n')
    assert read(file).values == {"log": {"level": "debug"}}
    assert read(file).lines["log", "level"] == 2 + prefix.count(b"\n")


@pytest.mark.parametrize(
    ("contents", "line", "reason"),
    [
        (b'[server]\nlisten = "x\n', 2, "not valid TOML"),
        (b"[server]\nlisten = 127.0.0.1:5000\n", 2, "not valid TOML"),
        (b"[server]\n\nlisten\n", 3, "not valid TOML"),
        (b"[server]\nx = [1,\n", 2, "not valid TOML"),
        (b"[a]\n[a]\n", 2, "not valid TOML"),
        (b"\n\nx = '\xff'\n", 3, "not UTF-8"),
        (b"x = " + b"[" * 5000, 0, "nested too deeply"),
        (b"x = " + b"9" * 5000, 0, "too many digits"),
        (b"#" * (MOST_BYTES + 1), 0, "larger than 256 KiB"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_line(
    tmp_path: Path, contents: bytes, line: int, reason: str
) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(contents)
    with pytest.raises(NotTomlError, match=reason) as caught:
        read(file)
    assert caught.value.line == line


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(NotTomlError, match="not a regular file"):
        read(pipe)


def test_a_directory_is_refused_and_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotTomlError, match="a directory"):
        read(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_statement_of_thousands_of_lines_costs_its_lines_only(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("x = [\n" + "1,\n" * 20_000 + "]\ny = 1\n")
    document = read(file)
    assert document.values["y"] == 1
    assert ("y",) not in document.lines
