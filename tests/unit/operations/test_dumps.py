"""How the tools are led to a database: what of the URI they are told, and where. Against real servers: contract."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mlflowd.config import uris
from mlflowd.errors import RefusedError
from mlflowd.host import dump_tools
from mlflowd.host.dump_tools import Session, ToolError
from mlflowd.operations import dump_mysql, dump_postgres, dumps

if TYPE_CHECKING:
    from pathlib import Path

    from mlflowd.host.paths import Identity

MACHINE = ("172.17.0.1", "127.0.0.1")


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_tools, "this_machine", lambda: MACHINE)


def service(uri: str) -> dict[str, str]:
    first, *lines = dump_postgres.service(uris.database(uri)).splitlines()
    assert first == "[mlflowd]"
    return dict(line.split("=", 1) for line in lines)


def options(uri: str, password: str = "") -> list[str]:
    return dump_mysql.options(uris.database(uri), password).splitlines()


def test_postgres_gets_host_port_user_name_and_limits() -> None:
    told = service("postgresql://ml@db.example:6000/flow")
    assert (told["host"], told["port"], told["user"], told["dbname"]) == ("db.example", "6000", "ml", "flow")
    assert told["connect_timeout"] == "10"


def test_postgres_gets_no_password_in_its_file() -> None:
    uri = "postgresql+psycopg2://ml:word@db.example/flow?password=word"
    assert "word" not in dump_postgres.service(uris.database(uri)).replace("password", "")
    assert dump_postgres.environment("word")["PGPASSWORD"] == "word"
    assert "PGPASSWORD" not in dump_postgres.environment("")


@pytest.mark.parametrize(
    "option",
    [
        "sslmode=verify-full",
        "sslrootcert=/etc/mlflowd/ca.pem",
        "sslkey=/etc/mlflowd/a%20key",
        "options=-csearch_path%3Dml",
        "target_session_attrs=read-write",
        "connect_timeout=3",
    ],
)
def test_postgres_gets_the_options_that_libpq_knows(option: str) -> None:
    name, _, value = option.partition("=")
    assert service(f"postgresql://ml@h/n?{option}")[name] == value.replace("%20", " ").replace("%3D", "=")


def test_postgres_is_not_told_what_is_sqlalchemys_own() -> None:
    assert "plugin" not in service("postgresql://ml@h/n?plugin=x")


@pytest.mark.parametrize(
    ("query", "hosts", "ports"),
    [
        ("host=/run/postgresql", "/run/postgresql", None),
        ("host=/run/postgresql&port=5433", "/run/postgresql", "5433"),
        ("host=a:1&host=b:2", "a,b", "1,2"),
        ("host=a,b&port=1,2", "a,b", "1,2"),
        ("host=a,b&port=7", "a,b", "7,7"),
    ],
)
def test_postgres_is_led_to_sockets_and_several_hosts(query: str, hosts: str, ports: str | None) -> None:
    told = service(f"postgresql://ml@/n?{query}")
    assert (told["host"], told.get("port")) == (hosts, ports)


def test_this_machine_is_tried_by_its_bridge_and_its_loopback_under_the_name_of_its_certificate() -> None:
    told = service("postgresql://ml@host.docker.internal:6000/n?sslmode=verify-full")
    assert told["host"] == "host.docker.internal,host.docker.internal"
    assert told["hostaddr"] == "172.17.0.1,127.0.0.1"
    assert told["port"] == "6000,6000"


def test_mysql_gets_host_port_user_and_a_password_of_any_letters() -> None:
    told = options("mysql://ml@db.example:33/flow", 'a"b\\c#d é')
    assert told[0] == "[client]"
    assert 'user="ml"' in told
    assert 'password="a\\"b\\\\c#d é"' in told
    assert {'protocol="TCP"', 'host="db.example"', 'port="33"', "loose-ssl-verify-server-cert=0"} <= {*told}


def test_mysql_is_led_to_a_socket() -> None:
    told = options("mysql://ml@/n?unix_socket=/run/mysqld/mysqld.sock")
    assert {'protocol="SOCKET"', 'socket="/run/mysqld/mysqld.sock"'} <= {*told}
    assert not [line for line in told if line.startswith(("host", "port"))]


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        (
            "ssl_ca=/a/ca.pem",
            {'ssl-ca="/a/ca.pem"', "loose-ssl-verify-server-cert=1", "loose-ssl-mode=VERIFY_IDENTITY"},
        ),
        ("ssl_ca=/a&ssl_check_hostname=false", {"loose-ssl-verify-server-cert=0", "loose-ssl-mode=VERIFY_CA"}),
        ("ssl_cert=/c&ssl_key=/k", {'ssl-cert="/c"', 'ssl-key="/k"', "loose-ssl-verify-server-cert=0"}),
        ("ssl_verify_identity=true", {"loose-ssl-verify-server-cert=1"}),
    ],
)
def test_mysql_checks_certificates_as_the_servers_driver_does(query: str, lines: set[str]) -> None:
    assert lines <= {*options(f"mysql://ml@db.example/n?{query}")}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "postgresql+psycopg2://u:p%40@h:1/old?sslmode=require",
            "postgresql+psycopg2://u:p%40@h:1/new?sslmode=require",
        ),
        ("postgresql://u@/old?host=/run/postgresql", "postgresql://u@/new?host=/run/postgresql"),
        ("postgresql://u@h?dbname=old&x=1", "postgresql://u@h/new?x=1"),
        ("mysql+pymysql://u@h/old", "mysql+pymysql://u@h/new"),
    ],
)
def test_another_database_of_the_same_server_is_named_by_its_name_alone(uri: str, expected: str) -> None:
    assert dumps.renamed(uri, "new") == expected


def test_a_tool_gets_nothing_of_this_processs_environment(who: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    said = Session(who, 10, {"PGSERVICEFILE": "{private}"}, "text of the file").ask(
        "sh", "-c", 'env; cat "$PGSERVICEFILE"; stat -L -c %a:%u "$PGSERVICEFILE"'
    )
    assert "elsewhere" not in said
    assert f"text of the file600:{who.uid}" in said


def test_what_a_tool_reads_is_not_closed_before_all_before_it_succeeded(who: Identity, tmp_path: Path) -> None:
    session, out = Session(who, 10), tmp_path / "out"
    sink = ["sh", "-c", f"cat > {out}"]
    session.feed([["printf", "%s", "a\nb\n"], ["sed", "s/b/c/"]], sink, "head\n", "COMMIT\n")
    assert out.read_text() == "head\na\nc\nCOMMIT\n"
    with pytest.raises(ToolError, match="broken"):
        session.feed([["sh", "-c", "echo some; echo broken >&2; exit 3"]], sink, "", "COMMIT\n")
    assert "COMMIT" not in out.read_text()


def test_a_sink_that_fails_is_named_and_not_those_that_write_to_it(who: Identity) -> None:
    with pytest.raises(ToolError, match="sh ended with 3: the reason"):
        Session(who, 10).feed([["yes"], ["cat"]], ["sh", "-c", "echo the reason >&2; exit 3"], "", "")


def test_tools_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    program = (
        "import os, threading; from mlflowd.host.dump_tools import Session; from mlflowd.host.paths import Identity;"
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), 9)).start();"
        "who = Identity(os.getuid(), os.getgid(), 'x');"
        f"Session(who, 60).ask('sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 60')"
    )
    subprocess.run([sys.executable, "-c", program], check=False, timeout=20)
    pid = int((tmp_path / "pid").read_text())
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True).stdout
    assert state.strip() in {"", "Z"}


def test_a_missing_tool_is_refused_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_tools, "_PLACES", ())
    with pytest.raises(RefusedError, match="no-such-tool is not installed") as raised:
        dump_tools.found("no-such-tool", "some-package")
    assert raised.value.hint == "sudo apt-get install some-package"
