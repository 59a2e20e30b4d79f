"""The sentences for what MLflow 3.17.2 really answered with its stores away (docs/stores.md)."""

from __future__ import annotations

import pytest

from mlflowd.config import Settings
from mlflowd.model import Layer, Trouble
from mlflowd.server import outages
from mlflowd.server.probe import Answer, Kind

POSTGRES = "postgresql://mlflow@db1/tracking"
MYSQL = "mysql://mlflow@db1:3307/tracking"
_PG = "(psycopg2.OperationalError) "
_CONNECTION = _PG + 'connection to server at "172.17.0.1", port 28003 failed: '
_MY = "(pymysql.err.OperationalError) "


def database(uri: str, said: str, kind: Kind = Kind.ERROR) -> Trouble:
    settings = Settings.model_validate({"backend_store": {"uri": uri}})
    sentence = f"the database request failed: status 503: {said} (Background on this error at: https://sqlalche.me/e/x)"
    return outages.database(settings, Answer(kind, said if kind is not Kind.ERROR else sentence, 0.1))


def artifacts(store: dict[str, str], sentence: str, log: tuple[str, ...] = (), kind: Kind = Kind.ERROR) -> Trouble:
    settings = Settings.model_validate({"artifact_store": store})
    return outages.artifacts(settings, Answer(kind, sentence, 0.1), log)


@pytest.mark.parametrize(
    ("uri", "said", "message"),
    [
        (
            POSTGRES,
            _CONNECTION + "Connection refused Is the server running on that host",
            "nothing listens at db1:5432",
        ),
        (POSTGRES, _CONNECTION + "timeout expired", "db1:5432 does not answer the server"),
        (
            POSTGRES,
            _PG + "could not receive data from server: Connection timed out",
            "db1:5432 does not answer the server",
        ),
        (
            POSTGRES,
            _CONNECTION + 'FATAL: password authentication failed for user "mlflow"',
            "db1:5432 refuses the server's credentials",
        ),
        (
            POSTGRES,
            _CONNECTION + 'FATAL: role "mlflow" is not permitted to log in',
            "db1:5432 refuses the server's credentials",
        ),
        (
            POSTGRES,
            _CONNECTION + 'FATAL: too many connections for role "mlflow"',
            "db1:5432 takes no further connections for now",
        ),
        (POSTGRES, _CONNECTION + 'FATAL: database "tracking" does not exist', "db1:5432 has no 'tracking'"),
        (POSTGRES, _CONNECTION + "FATAL: the database system is starting up", "db1:5432 is starting or shutting down"),
        (
            POSTGRES,
            _CONNECTION + "FATAL: the database system is shutting down",
            "db1:5432 is starting or shutting down",
        ),
        (
            POSTGRES,
            _PG + "terminating connection due to administrator command",
            "db1:5432 is starting or shutting down",
        ),
        (POSTGRES, _PG + "SSL connection has been closed unexpectedly", "db1:5432 closes the server's connections"),
        (POSTGRES, _PG + "SSL SYSCALL error: EOF detected", "db1:5432 closes the server's connections"),
        (POSTGRES, _PG + "SSL SYSCALL error: Connection timed out", "db1:5432 does not answer the server"),
        (POSTGRES, _PG + "server closed the connection unexpectedly", "db1:5432 closes the server's connections"),
        (
            POSTGRES,
            _PG + 'could not translate host name "db1" to address: Name or service not known',
            "no such host: db1",
        ),
        (
            MYSQL,
            _MY + "(2003, \"Can't connect to MySQL server on '172.17.0.1' (timed out)\")",
            "db1:3307 does not answer the server",
        ),
        (
            MYSQL,
            _MY + "(2003, \"Can't connect to MySQL server on '172.17.0.1' ([Errno 111] Connection refused)\")",
            "nothing listens at db1:3307",
        ),
        (
            MYSQL,
            _MY + "(1045, \"Access denied for user 'mlflow'@'172.17.0.2' (using password: YES)\")",
            "db1:3307 refuses the server's credentials",
        ),
        (MYSQL, _MY + "(4151, 'Access denied, this account is locked')", "db1:3307 refuses the server's credentials"),
        (
            MYSQL,
            _MY + "(1044, \"Access denied for user 'mlflow'@'%' to database 'mlflow'\")",
            "db1:3307 does not allow the server what it has to do",
        ),
        (
            MYSQL,
            _MY + "(2013, 'Lost connection to MySQL server during query')",
            "db1:3307 closes the server's connections",
        ),
    ],
)
def test_database_that_is_away_is_said_in_the_persons_terms(uri: str, said: str, message: str) -> None:
    trouble = database(uri, said)
    assert trouble.message == f"the database: {message}"
    assert (trouble.layer, trouble.critical, trouble.restart_cures) == (Layer.DATABASE, True, False)
    assert trouble.remedy
    assert "mlflowd restart" not in trouble.remedy


def test_database_that_answers_nothing_is_away_and_not_busy() -> None:
    trouble = database(POSTGRES, "the database is busy: no answer within 25 s", Kind.TIMEOUT)
    assert trouble.message == "the database at db1:5432 does not answer the server: nothing came within 25 s"
    assert "firewall" in trouble.remedy


def test_connections_that_are_all_in_use_are_named() -> None:
    trouble = database(POSTGRES, "QueuePool limit of size 10 overflow 32 reached, connection timed out, timeout 30.00")
    assert trouble.message == "all of the server's connections to the database are in use"


def test_socket_of_this_machine_is_called_by_its_dialect() -> None:
    trouble = database("postgresql://mlflow@/tracking?host=/run/postgresql", _PG + "server closed the connection")
    assert trouble.message == "the database: postgresql closes the server's connections"


def test_words_that_are_not_known_are_passed_on_without_secrets() -> None:
    trouble = database(POSTGRES, "odd: postgresql://mlflow:hunter22@db1/tracking went away")
    assert "odd" in trouble.message
    assert "hunter22" not in trouble.message


def test_sqlite_stays_busy_or_locked() -> None:
    busy = "the database is busy: no answer within 25 s"
    assert database("sqlite:////srv/mlflow/x.db", busy, Kind.TIMEOUT).message == busy


S3 = {"uri": "s3://models/x", "endpoint": "https://minio.example:9000"}
SFTP = {"uri": "sftp://u@files.example/x", "password": "file:/x", "known_hosts": "/x"}
_REFUSED = "botocore.exceptions.EndpointConnectionError: Could not connect to the endpoint URL: x"


@pytest.mark.parametrize(
    ("store", "log", "message"),
    [
        (S3, ("urllib3 [Errno 111] Connection refused", _REFUSED), "nothing listens at https://minio.example:9000"),
        (
            S3,
            ("botocore.exceptions.ConnectTimeoutError: Connect timeout on endpoint URL",),
            "https://minio.example:9000 does not answer the server",
        ),
        (
            S3,
            ("botocore.exceptions.ClientError: An error occurred (NoSuchBucket) when calling",),
            "https://minio.example:9000 has no 'models'",
        ),
        (
            S3,
            ("botocore.exceptions.ClientError: An error occurred (InvalidAccessKeyId) when",),
            "https://minio.example:9000 refuses the server's credentials",
        ),
        (
            {"uri": "s3://models"},
            ("ClientError: An error occurred (AccessDenied) when calling",),
            "s3://models does not allow the server what it has to do",
        ),
        (SFTP, ("socket.gaierror: [Errno -2] Name or service not known",), "no such host: files.example"),
    ],
)
def test_artifact_store_that_is_away_is_explained_by_the_servers_log(
    store: dict[str, str], log: tuple[str, ...], message: str
) -> None:
    trouble = artifacts(store, "the artifact store takes nothing: status 500: Internal Server Error", log)
    assert trouble.message == f"the artifact store: {message}"
    assert (trouble.layer, trouble.critical, trouble.restart_cures) == (Layer.ARTIFACTS, True, False)


def test_artifact_store_that_answers_nothing_is_named() -> None:
    trouble = artifacts(S3, "127.0.0.1:5000 does not answer within 25 s", kind=Kind.TIMEOUT)
    assert trouble.message == (
        "the artifact store at https://minio.example:9000 does not answer the server: nothing came within 25 s"
    )


def test_artifact_store_without_a_known_reason_points_to_the_servers_log() -> None:
    trouble = artifacts(S3, "the artifact store does not list: status 500: Internal Server Error", ("a line",))
    assert trouble.message.startswith("the artifact store at https://minio.example:9000: ")
    assert "journalctl -t mlflow" in trouble.remedy


def test_local_store_keeps_its_own_sentence() -> None:
    assert artifacts({"uri": "/srv/ml/a"}, "the artifact store takes nothing: status 500").message == (
        "the artifact store takes nothing: status 500"
    )
