"""What s3.py asks of moto's server with boto3: a program of its own, run where both are installed.

    s3_account.py make <document      make an account and the bucket, then switch the check of signatures on
    s3_account.py keys <document      list the bucket; stdout: {"keys": […]}

Certificates are not checked: it speaks to the server that its caller has just started.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3  # type: ignore[import-not-found]  # in the environment of requirements/services.txt alone
import requests

ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
USER = "mlflow"


def client(document: dict[str, str], service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=document["endpoint"], region_name=document["region"], verify=False,
        aws_access_key_id=document.get("access_key", "none"), aws_secret_access_key=document.get("secret_key", "none"),
    )  # fmt: skip


def make(document: dict[str, str]) -> dict[str, str]:
    iam = client(document, "iam")
    iam.create_user(UserName=USER)
    iam.put_user_policy(UserName=USER, PolicyName="all", PolicyDocument=json.dumps(ALL))
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    where = {"LocationConstraint": document["region"]}
    client(document, "s3").create_bucket(Bucket=document["bucket"], CreateBucketConfiguration=where)
    requests.post(f"{document['endpoint']}/moto-api/reset-auth", data="0", verify=False, timeout=30).raise_for_status()
    return {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}


def keys(document: dict[str, str]) -> dict[str, list[str]]:
    pages = client(document, "s3").get_paginator("list_objects_v2").paginate(Bucket=document["bucket"])
    return {"keys": [entry["Key"] for page in pages for entry in page.get("Contents", [])]}


if __name__ == "__main__":
    print(json.dumps({"make": make, "keys": keys}[sys.argv[1]](json.load(sys.stdin))))
