"""MLflow's basic-auth as mlflowd sets it up, and the names that it takes, held against a real MLflow.

The image is the one of MLFLOWD_TEST_IMAGE with Flask-WTF added.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

from contract.test_server import UID, Server, free_port
from mlflowd.config import Settings
from mlflowd.host import secrets as host_secrets
from mlflowd.host.paths import Identity
from mlflowd.model import Address, Secrets
from mlflowd.server import accounts, active_runs, command, gate, login, names, probe
from mlflowd.server.accounts import Counter, Verdict
from mlflowd.server.call import Login
from mlflowd.server.probe import Kind
from mlflowd.server.wiring import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.conftest import ImageWith
    from mlflowd.engine.docker import DockerEngine
    from mlflowd.model import Image
    from mlflowd.server.abilities import Abilities

pytestmark = pytest.mark.engine

ADMIN = "a%b%%;c:d$e\"f#g'h \\i={j}[k]~"
"""Every character that a configuration file, a shell or a header might take for its own."""
PROBE = "the-probe-s-own-password"
KEY = "the-key-of-the-sessions"
SECRETS = Secrets({"login.admin_password": ADMIN, "login.probe_password": PROBE, "login.secret_key": KEY})
WHO = Identity(UID, UID, "mlflowd-test")
JSON = {"Content-Type": "application/json"}
SEARCH = ("POST", "/ajax-api/2.0/mlflow/experiments/search", {"max_results": 1})


@dataclass(frozen=True)
class Guarded:
    """A server with a login, and its users."""

    server: Server
    admin: Login
    probe: Login

    @property
    def address(self) -> Address:
        return self.server.address

    @property
    def place(self) -> Path:
        """The directory of its stores and its login."""
        return self.server.database.parent.parent

    @property
    def counter(self) -> Counter:
        return Counter(self.address, self.admin, 60)

    def ask(self, who: Login | None, method: str, path: str, message: object = None, **headers: str) -> int:
        """Return the status of one request."""
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=60)
        given = JSON | {name: value for name, value in headers.items() if value}
        if who is not None:
            given["Authorization"] = "Basic " + base64.b64encode(f"{who.user}:{who.password}".encode()).decode()
        connection.request(method, path, json.dumps(message) if message is not None else None, given)
        status = connection.getresponse().status
        connection.close()
        return status

    def make(self, user: str) -> Login:
        """Make a user as the admin and return it."""
        made = Login(user, f"password-of-{user}")
        message = {"username": made.user, "password": made.password}
        assert self.ask(self.admin, "POST", "/api/2.0/mlflow/users/create", message) == 200
        return made


@pytest.fixture(scope="module")
def image(image_with: ImageWith) -> Image:
    return image_with("Flask-WTF<2")


@dataclass(frozen=True)
class Host:
    """What the servers of these tests run on."""

    engine: DockerEngine
    image: Image
    able: Abilities
    network: str

    @contextmanager
    def server(self, secrets: Secrets, **sections: Any) -> Iterator[Server]:
        """Describe a server with a directory of its own; what the test starts is removed in the end."""
        # Not below pytest's own directory, which another user may not pass.
        place = Path(tempfile.mkdtemp(prefix="mlflowd-test-"))
        for directory in ("backend", "artifacts", "login"):
            (place / directory).mkdir(exist_ok=True)
            os.chown(place / directory, UID, UID)
        os.chown(place, UID, UID)
        settings = Settings(
            backend_store={"uri": f"sqlite:///{place}/backend/mlflow.db"},
            artifact_store={"uri": str(place / "artifacts")},
            container={"name": f"mlflowd-test-{uuid.uuid4().hex[:8]}", "network": self.network, "memory": "4G"},
            server={"listen": f"127.0.0.1:{free_port()}", "workers": 1, **sections.pop("server", {})},
            **sections,
        )
        machine = Machine(UID, UID, state=str(place), private=str(place / "private"))
        spec = command.container_spec(settings, self.image, self.able, machine, secrets)
        host_secrets.write(place / "private", spec.files, WHO)
        server = Server(self.engine, spec)
        try:
            yield server
        finally:
            if server.container_id:
                self.engine.stop(server.container_id, 0)
                self.engine.remove(server.container_id)
            shutil.rmtree(place)


@pytest.fixture(scope="module")
def host(engine: DockerEngine, image: Image, able: Abilities, network: str) -> Host:
    return Host(engine, image, able, network)


@pytest.fixture(scope="module")
def guarded(host: Host) -> Iterator[Guarded]:
    """A server with a login that answers, on which nobody but the admin was made yet."""
    settings = {
        "login": {"enabled": True, "admin_password": "credential:x", "default_permission": "NO_PERMISSIONS"},
        "server": {"allowed_hosts": ["mlflow.example.org"], "cors_origins": ["https://notebooks.example.org"]},
    }
    with host.server(SECRETS, **settings) as server:
        server.start()
        server.serve()
        yield Guarded(server, Login(login.ADMIN, ADMIN), Login(login.PROBE, PROBE))


# --- who gets in --------------------------------------------------------------------------------


def test_the_probes_are_rejected_until_their_user_is_made_and_well_afterwards(guarded: Guarded) -> None:
    address = guarded.address
    assert probe.health(address, 3).kind is Kind.OK
    assert probe.database(address, 60, "", guarded.probe).kind is Kind.REJECTED
    assert probe.artifacts(address, 60, "", guarded.probe).kind is Kind.REJECTED
    assert accounts.settle(guarded.counter, guarded.probe).verdict is Verdict.DONE
    assert probe.database(address, 60, "", guarded.probe).kind is Kind.OK
    assert probe.artifacts(address, 60, "", guarded.probe).kind is Kind.OK
    assert list(guarded.place.glob("artifacts/**/*.probe/*")) == []


def test_the_probes_user_may_do_nothing_else(guarded: Guarded) -> None:
    assert accounts.settle(guarded.counter, guarded.probe).verdict is Verdict.DONE
    artifacts = "/api/2.0/mlflow-artifacts/artifacts"
    for path in (f"{artifacts}/0/x", f"{artifacts}/1/x", f"{artifacts}/x"):
        assert guarded.ask(guarded.probe, "PUT", path, "x") == 403
    assert guarded.ask(guarded.probe, "GET", "/api/2.0/mlflow/experiments/get?experiment_id=0") == 403
    assert guarded.ask(guarded.probe, "POST", "/api/2.0/mlflow/users/create", {"username": "x"}) == 403


def test_the_gate_takes_the_probes_user_and_the_admin_and_nobody_else(guarded: Guarded) -> None:
    assert accounts.settle(guarded.counter, guarded.probe).verdict is Verdict.DONE
    for who in (guarded.probe, guarded.admin):
        answer = gate.try_out(guarded.address, 60, "", who)
        assert answer.kind is Kind.OK
        assert "the database is read and written; the artifact store keeps" in answer.sentence
    assert gate.try_out(guarded.address, 60, "", Login(login.PROBE, "wrong")).kind is Kind.REJECTED
    assert gate.try_out(guarded.address, 60).kind is Kind.DENIED


def test_the_admin_alone_sees_the_runs_that_are_active(guarded: Guarded) -> None:
    assert accounts.settle(guarded.counter, guarded.probe).verdict is Verdict.DONE
    run = {"experiment_id": "0", "run_name": "young", "start_time": int(time.time() * 1000)}
    assert guarded.ask(guarded.admin, "POST", "/api/2.0/mlflow/runs/create", run) == 200
    assert len(active_runs.active(guarded.address, 60, 300, "", guarded.admin)) == 1
    assert active_runs.active(guarded.address, 60, 300, "", guarded.probe) == ()
    assert active_runs.active(guarded.address, 60, 300) == ()


def test_a_password_of_the_probes_that_somebody_changed_is_set_again(guarded: Guarded) -> None:
    assert accounts.settle(guarded.counter, guarded.probe).verdict is Verdict.DONE
    wrong = Login(guarded.probe.user, "another-password")
    assert accounts.settle(guarded.counter, wrong).verdict is Verdict.DONE
    assert probe.database(guarded.address, 60, "", guarded.probe).kind is Kind.REJECTED
    assert accounts.settle(guarded.counter, guarded.probe).verdict is Verdict.DONE
    assert probe.database(guarded.address, 60, "", guarded.probe).kind is Kind.OK


def test_a_wrong_admin_password_is_told_and_changes_nothing(guarded: Guarded) -> None:
    stranger = replace(guarded.counter, admin=Login(login.ADMIN, "changed-in-the-credential"))
    assert accounts.recognised(guarded.counter).verdict is Verdict.DONE
    assert accounts.recognised(stranger).verdict is Verdict.WRONG_PASSWORD
    assert accounts.settle(stranger, guarded.probe).verdict is Verdict.WRONG_PASSWORD


def test_nobody_gets_in_without_a_password_or_with_a_wrong_one(guarded: Guarded) -> None:
    wrong = Login(login.ADMIN, "wrong-password")
    for method, path, message in (
        SEARCH,
        ("GET", "/", None),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/0/x", None),
        ("POST", "/v1/traces", {}),
        ("GET", "/ajax-api/3.0/jobs/x", None),
    ):
        assert guarded.ask(None, method, path, message) == 401
        assert guarded.ask(wrong, method, path, message) == 401
    assert guarded.ask(guarded.admin, *SEARCH) == 200
    assert guarded.ask(guarded.admin, "PUT", "/api/2.0/mlflow-artifacts/artifacts/0/x", "x") == 200
    assert guarded.ask(None, "GET", "/health") == 200


def test_a_user_may_do_what_the_admin_allows(guarded: Guarded) -> None:
    reader = guarded.make("reader")
    read = ("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0")
    tag = ("POST", "/api/2.0/mlflow/experiments/set-experiment-tag", {"experiment_id": "0", "key": "k", "value": "v"})
    assert guarded.ask(reader, *read) == 403
    grant = {"username": "reader", "resource_type": "experiment", "resource_id": "0", "permission": "READ"}
    assert guarded.ask(guarded.admin, "POST", "/api/3.0/mlflow/users/permissions/grant", grant) == 200
    assert guarded.ask(reader, *read) == 200
    assert guarded.ask(reader, *tag) == 403


def test_a_restart_keeps_the_users(guarded: Guarded) -> None:
    kept = guarded.make("kept")
    guarded.server.engine.stop(guarded.server.container_id, 20)
    guarded.server.engine.start(guarded.server.container_id)
    guarded.server.serve()
    assert guarded.ask(kept, *SEARCH) == 200
    assert (guarded.place / "login" / login.DATABASE).stat().st_uid == UID


def test_no_password_stands_where_others_look(guarded: Guarded, engine_socket: str) -> None:
    accounts.settle(guarded.counter, guarded.probe)
    api = docker.APIClient(f"unix://{engine_socket}", version="1.41")
    inspected = api.inspect_container(guarded.server.container_id)
    api.close()
    processes = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    log = "\n".join(line.text for line in guarded.server.log())
    shown = {
        "the command line": json.dumps([inspected["Path"], inspected["Args"], inspected["Config"]["Cmd"]]),
        "the labels": json.dumps(inspected["Config"]["Labels"]),
        "the processes": processes,
        "the log": log,
        "the reprs": repr([guarded, guarded.counter, guarded.server.spec, SECRETS]),
        "the environment": json.dumps([each for each in inspected["Config"]["Env"] if KEY not in each]),
    }
    assert "basic-auth" in shown["the command line"]
    assert "basic-auth" in shown["the processes"]
    for where, text in shown.items():
        for secret in (ADMIN, json.dumps(ADMIN)[1:-1], PROBE, KEY, "scrypt:"):
            assert secret not in text, where


_RESCUE = """
import sqlite3, sys
from werkzeug.security import generate_password_hash as scrambled
users = sqlite3.connect("/mlflow/login/basic_auth.db")
new = scrambled(sys.stdin.readline().rstrip("\\n"))
users.execute("UPDATE users SET password_hash = ? WHERE username = ?", (new, "admin"))
users.commit()
"""
"""As docs/login.md has it."""


def test_the_admin_s_password_is_changed_as_the_manual_says(host: Host, guarded: Guarded, engine_socket: str) -> None:
    settings = {"login": {"enabled": True, "admin_password": "credential:x"}}
    with host.server(SECRETS, **settings) as server:
        server.start()
        server.serve()
        fresh = replace(guarded, server=server)
        change = {"username": "admin", "current_password": ADMIN, "password": "the-second-password"}
        assert fresh.ask(fresh.admin, "PATCH", "/api/2.0/mlflow/users/update-password", change) == 200
        assert accounts.recognised(fresh.counter).verdict is Verdict.WRONG_PASSWORD
        changed = replace(fresh, admin=Login("admin", "the-second-password"))
        assert accounts.recognised(changed.counter).verdict is Verdict.DONE
        rescue = [
            "docker",
            "--host",
            f"unix://{engine_socket}",
            "exec",
            "-i",
            server.container_id,
            "python",
            "-c",
            _RESCUE,
        ]
        subprocess.run(rescue, input=f"{ADMIN}\n".encode(), check=True)
        assert accounts.recognised(fresh.counter).verdict is Verdict.DONE
        assert accounts.settle(fresh.counter, fresh.probe).verdict is Verdict.DONE


def test_a_password_beyond_ascii_uploads_nothing_which_is_why_it_is_refused(guarded: Guarded) -> None:
    made = Login("umlaut", "grüße-aus-köln")
    user = {"username": made.user, "password": made.password}
    assert guarded.ask(guarded.admin, "POST", "/api/2.0/mlflow/users/create", user) == 200
    assert guarded.ask(made, *SEARCH) == 200
    assert guarded.ask(made, "PUT", "/api/2.0/mlflow-artifacts/artifacts/0/x", "x") == 401


# --- by which name ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("mlflow.example.org", 200),
        ("mlflow.example.org:8443", 200),
        ("localhost:9", 200),
        ("127.0.0.1:5000", 200),
        ("[::1]:5000", 200),
        ("192.168.1.5:5000", 200),
        ("172.31.0.9", 200),
        ("evil.example", 403),
        ("mlflow.example.org.evil.example", 403),
    ],
)
def test_the_server_takes_the_names_that_were_given_beside_its_own(guarded: Guarded, name: str, status: int) -> None:
    assert guarded.ask(guarded.admin, *SEARCH, Host=name) == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://mlflow.example.org", 200),
        ("https://mlflow.example.org:8443", 200),
        ("https://notebooks.example.org", 200),
        ("http://localhost:8888", 200),
        ("", 200),
        ("https://evil.example", 403),
        ("https://mlflow.example.org.evil.example", 403),
    ],
)
def test_the_server_takes_its_own_pages_and_those_that_were_given(guarded: Guarded, origin: str, status: int) -> None:
    assert guarded.ask(guarded.admin, *SEARCH, Host="mlflow.example.org", Origin=origin) == status


_JUDGE = """
import json, sys
from mlflow.server.security_utils import get_default_allowed_hosts, is_allowed_host_header, should_block_cors_request
hosts, headers, origins, pages = json.loads(sys.argv[1])
print(json.dumps({
    "default": get_default_allowed_hosts(),
    "headers": [is_allowed_host_header(hosts, each) for each in headers],
    "pages": [not should_block_cors_request(each, "POST", origins) for each in pages],
}))
"""


@pytest.mark.parametrize("listen", ["0.0.0.0:5000", "203.0.113.7:5000", "[2001:db8::7]:5000"])
def test_mlflows_own_functions_judge_names_and_pages_as_ours_do(
    engine: DockerEngine, image: Image, listen: str
) -> None:
    server = {"listen": listen, "allowed_hosts": ["mlflow.example.org", "[2001:db8::1]"], "cors_origins": ["http://a"]}
    settings = Settings(server=server)
    hosts, origins = names.allowed_hosts(settings), names.allowed_origins(settings)
    headers = (listen, "mlflow.example.org:1", "[2001:db8::1]:5", "2:5", "localhost:7", "10.1.2.3", "evil.example", "")
    pages = (f"http://{listen}", "http://10.20.30.40:5000", "http://10.evil.example:5000", "https://mlflow.example.org")
    question = ("python", "-c", _JUDGE, json.dumps([hosts, headers, origins, pages]))
    judged = json.loads(engine.ask(image.id, question, 120).strip().rpartition("\n")[2])
    assert set(judged["default"]) < set(hosts)
    assert judged["headers"] == [names.matches(hosts, each) for each in headers]
    assert judged["headers"][1:] == [True, True, False, True, True, False, False]
    assert judged["pages"] == [names.matches(origins, each) for each in pages]
    assert judged["pages"][2:] == [False, True]
