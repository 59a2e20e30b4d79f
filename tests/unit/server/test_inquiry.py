"""What drivers and libraries really said (psycopg2 2.9.13, psycopg 3.3.9, PyMySQL 1.2.4, pymssql 2.4.6, boto3 1.44,
azure-storage-blob 12.31, pysftp 0.2.9) when the inquiry tried PostgreSQL 15, MariaDB 10.11, moto, azurite, sshd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from mlflowd.errors import MlflowdError
from mlflowd.server import inquiry
from mlflowd.server.inquiry import Answer, Kind

AT = 'connection to server at "172.19.0.1", port 22001 failed:'
PG2, PG3 = "OperationalError: (psycopg2.OperationalError)", "OperationalError: (psycopg.OperationalError)"
MY = "OperationalError: (pymysql.err.OperationalError)"
DATABASES = [
    (Kind.LOGIN, f'{PG2} {AT} FATAL: password authentication failed for user "mlflow"'),
    (Kind.LOGIN, f'{PG3} connection failed: {AT} FATAL: password authentication failed for user "mlflow"'),
    (Kind.LOGIN, f'{PG2} {AT} FATAL: role "mlflow" does not exist'),
    (Kind.NO_LOGIN, f"{PG2} {AT} fe_sendauth: no password supplied"),
    (Kind.ABSENT, f'{PG2} {AT} FATAL: database "nonesuch" does not exist'),
    (Kind.REFUSED, f"{PG2} {AT} Connection refused Is the server running on that host and accepting TCP/IP conn"),
    (
        Kind.REFUSED,
        f'{PG2} connection to server on socket "/run/.s.PGSQL" failed: No such file or directory Is the server running',
    ),
    (Kind.NO_HOST, f'{PG2} could not translate host name "db1" to address: Name or service not known'),
    (Kind.NO_HOST, f"{PG3} failed to resolve host 'db1': [Errno -2] Name or service not known"),
    (Kind.NO_NAMES, f'{PG2} could not translate host name "db1" to address: Temporary failure in name resolution'),
    (Kind.TLS, f"{PG2} {AT} server does not support SSL, but SSL was required"),
    (Kind.SILENT, f"{PG2} {AT} timeout expired"),
    (Kind.SILENT, "OperationalError: (psycopg.errors.ConnectionTimeout) connection timeout expired"),
    (
        Kind.NOT_ADMITTED,
        f'{PG2} {AT} FATAL: no pg_hba.conf entry for host "172.19.0.2", user "m", database "m", no encryption',
    ),
    (Kind.BUSY, f"{PG2} {AT} FATAL: sorry, too many clients already"),
    (Kind.BUSY, f"{PG2} {AT} FATAL: the database system is starting up"),
    (Kind.DENIED, "ProgrammingError: (psycopg2.errors.InsufficientPrivilege) permission denied for schema public"),
    (Kind.LOGIN, f"{MY} (1045, \"Access denied for user 'mlflow'@'172.19.0.2' (using password: YES)\")"),
    (Kind.NO_LOGIN, f"{MY} (1045, \"Access denied for user 'mlflow'@'172.19.0.2' (using password: NO)\")"),
    (Kind.DENIED, f"{MY} (1044, \"Access denied for user 'mlflow'@'%' to database 'nonesuch'\")"),
    (Kind.ABSENT, f"{MY} (1049, \"Unknown database 'nonesuch'\")"),
    (Kind.TLS, f'{MY} (2026, "SSL is required but the server doesn\'t support it")'),
    (Kind.REFUSED, f"{MY} (2003, \"Can't connect to MySQL server on '172.19.0.1' ([Errno 111] Connection refused)\")"),
    (Kind.NO_HOST, f"{MY} (2003, \"Can't connect to MySQL server on 'db1' ([Errno -2] Name or service not known)\")"),
    (Kind.SILENT, f"{MY} (2013, 'Lost connection to MySQL server during query (timed out)')"),
    (Kind.DRIVER, "ModuleNotFoundError: No module named 'MySQLdb'"),
    (
        Kind.REFUSED,
        "ConnectionRefusedError: [Errno 111] Connection refused\nOperationalError: (20009, b'Unable to connect: TDS",
    ),
    (Kind.NO_HOST, "gaierror: [Errno -2] Name or service not known\nOperationalError: (pymssql.exceptions.Operation"),
    (
        Kind.SILENT,
        "OperationalError: (20002, b'DB-Lib error message 20003, severity 6:\\nTDS server connection timed out (172.19",
    ),
    (Kind.OTHER, f"{PG2} {AT} FATAL: Passwort-Authentifizierung für Benutzer »mlflow« fehlgeschlagen"),
]
S3 = "ClientError: An error occurred"
ARTIFACTS = [
    (Kind.LOGIN, f"{S3} (SignatureDoesNotMatch) when calling the ListObjectsV2 operation: The request signature we"),
    (Kind.LOGIN, f"{S3} (InvalidAccessKeyId) when calling the ListObjectsV2 operation: The AWS Access Key Id you"),
    (Kind.NO_LOGIN, "NoCredentialsError: Unable to locate credentials"),
    (Kind.ABSENT, "NoSuchBucket: An error occurred (NoSuchBucket) when calling the ListObjectsV2 operation"),
    (Kind.DENIED, f"{S3} (AccessDenied) when calling the PutObject operation: Access Denied"),
    (Kind.REGION, f"{S3} (PermanentRedirect) when calling the ListObjectsV2 operation: The bucket you are attempting"),
    (Kind.CLOCK, f"{S3} (RequestTimeTooSkewed) when calling the ListObjectsV2 operation: The difference between"),
    (Kind.REFUSED, "ConnectionRefusedError: [Errno 111] Connection refused"),
    (Kind.NO_HOST, "gaierror: [Errno -2] Name or service not known"),
    (Kind.SILENT, 'ReadTimeoutError: Read timeout on endpoint URL: "http://172.19.0.1:22002/models?list-type=2"'),
    (
        Kind.TLS,
        "SSLError: SSL validation failed for https://x:1 [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
    ),
    (
        Kind.LOGIN,
        "HttpResponseError: Server failed to authenticate the request. Make sure the ErrorCode:AuthorizationFailure",
    ),
    (Kind.LOGIN, "AzureSigningError: Incorrect padding\nError: Incorrect padding"),
    (Kind.ABSENT, "ResourceNotFoundError: The specified container does not exist. ErrorCode:ContainerNotFound"),
    (Kind.LOGIN, "AuthenticationException: Authentication failed."),
    (Kind.HOST_KEY, "SSHException: No hostkey for host 172.19.0.1 found."),
    (Kind.HOST_KEY_OTHER, "SSHException: Bad host key from server"),
    (Kind.NO_LOGIN, "CredentialException: No password or key specified."),
    (Kind.KEY, "SSHException: unpack requires a buffer of 4 bytes\nerror: unpack requires a buffer of 4 bytes"),
    (Kind.DENIED, "PermissionError: [Errno 13] Permission denied"),
    (Kind.CLOSED, "SSHException: Error reading SSH protocol banner[Errno 104] Connection lost"),
    (Kind.DRIVER, "ModuleNotFoundError: No module named 'boto3'"),
    (Kind.LOGIN, "error_perm: 530 Login incorrect."),
]


def said(store: str, error: str, **more: Any) -> str:
    return json.dumps({store: {"kind": "error", "said": error, "step": "login", "seconds": 0.5, **more}})


@pytest.mark.parametrize(("kind", "error"), DATABASES)
def test_a_database_s_error_has_its_kind(kind: Kind, error: str) -> None:
    answers = inquiry.parse(said("backend", error))
    assert answers.backend is not None
    assert answers.backend.kind is kind
    assert answers.artifacts is None


@pytest.mark.parametrize(("kind", "error"), ARTIFACTS)
def test_an_artifact_store_s_error_has_its_kind(kind: Kind, error: str) -> None:
    answers = inquiry.parse(said("artifacts", error))
    assert answers.artifacts is not None
    assert answers.artifacts.kind is kind


def test_the_driver_s_words_are_told_without_sqlalchemy_s() -> None:
    error = (
        f'{PG2} {AT} FATAL: database "x" does not exist (Background on this error at: https://sqlalche.me/e/21/e3q8)'
    )
    answer = inquiry.parse(said("backend", error)).backend
    assert answer is not None
    assert answer.said == f'{AT} FATAL: database "x" does not exist'
    missing = inquiry.parse(said("backend", "ModuleNotFoundError: No module named 'MySQLdb'")).backend
    assert missing is not None
    assert missing.module == "MySQLdb"


def test_a_uri_that_an_error_repeats_is_masked() -> None:
    error = "ArgumentError: Could not parse SQLAlchemy URL from string 'postgresql://m:geheim@db1/m'"
    answer = inquiry.parse(said("backend", error)).backend
    assert answer is not None
    assert "geheim" not in answer.said


def test_what_identifies_a_database_is_read_behind_other_lines() -> None:
    facts = {"version": "PostgreSQL 15.18", "revision": "dc11669786a5", "identity": "0@1700000000000"}
    told = {"kind": "ok", "said": "", "step": "look", "seconds": 0.3, "tables": 58, "ours": 2, **facts}
    answer = inquiry.parse("a warning of the image\n" + json.dumps({"backend": told})).backend
    assert answer == Answer(
        Kind.OK, "look", version="PostgreSQL 15.18", revision="dc11669786a5", identity="0@1700000000000",
        tables=58, ours=2, seconds=0.3,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "Traceback: geheim", "[]", '{"backend": {"kind": "geheim"}}', '{"backend": 7}'])
def test_what_is_no_answer_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(MlflowdError, match="did not say whether it reaches the stores") as caught:
        inquiry.parse(text)
    assert "geheim" not in str(caught.value)


def run(environment: dict[str, str]) -> str:
    """Run the script as an image does, in a Python that has neither SQLAlchemy nor MLflow."""
    argv = [sys.executable, "-I", *inquiry.question()[1:]]
    around = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(argv, env=around, capture_output=True, text=True, check=True, timeout=60).stdout


def test_an_image_without_the_libraries_says_so_in_one_line() -> None:
    told = run(
        {"MLFLOW_BACKEND_STORE_URI": "postgresql://m:geheim@127.0.0.1:1/m", "MLFLOW_ARTIFACTS_DESTINATION": "s3://b"}
    )
    assert told.count("\n") == 1
    answers = inquiry.parse(told)
    assert answers.backend is not None
    assert answers.artifacts is not None
    assert (answers.backend.kind, answers.backend.module) == (Kind.DRIVER, "sqlalchemy")
    assert (answers.artifacts.kind, answers.artifacts.module) == (Kind.DRIVER, "botocore")


def test_stores_of_this_machine_are_not_asked() -> None:
    uris = {"MLFLOW_BACKEND_STORE_URI": "sqlite:////x.db", "MLFLOW_ARTIFACTS_DESTINATION": "/mlflow/artifacts"}
    assert inquiry.parse(run(uris)) == inquiry.Answers()


def test_an_endpoint_that_is_away_is_told_before_any_library_is_loaded() -> None:
    password = {"MLFLOW_ARTIFACTS_DESTINATION": "sftp://m:geheim@127.0.0.1:1/x"}
    answer = inquiry.parse(run(password)).artifacts
    assert answer is not None
    assert (answer.kind, answer.step) == (Kind.REFUSED, "connect")
    azure = {"MLFLOW_ARTIFACTS_DESTINATION": "wasbs://c@a.blob.core.windows.net"}
    text = "AccountName=a;AccountKey=geheim;BlobEndpoint=http://127.0.0.1:1/a;"
    answer = inquiry.parse(run({**azure, "AZURE_STORAGE_CONNECTION_STRING": text})).artifacts
    assert answer is not None
    assert answer.kind is Kind.REFUSED
