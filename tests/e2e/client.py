"""What a data scientist's program does with a tracking server: a program of its own, run where MLflow is installed.

    client.py write               write everything once; stdout's last line: a document of what was written
    client.py read <document      read the same back, by its names alone; last line: a document of what was found
    client.py stream              log a metric step by step until stdin ends; stdout: each step once it is
                                  acknowledged, then the steps that the server has

The two documents have the same keys and are equal when nothing was lost, but for "seconds": how long the 50 MB took
on their way. The server's address comes from
MLFLOW_TRACKING_URI; retries are MLflow's own defaults, minutes long. Effects: those on the server, and what it
downloads, in a directory that is gone at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import mlflow  # type: ignore[import-not-found]  # in the environment of requirements/client.txt alone

BLOB = "data/blob.bin"
BLOB_BYTES = 50_000_000
ALIAS = "champion"
METRICS = ("loss", "accuracy", "rmse")
STEPS = 20
PIECE = 1 << 20

Document = dict[str, Any]


# --- writing -------------------------------------------------------------------------------------


def write() -> Document:
    """Write under names that nobody has used, and return what was meant to be written."""
    name = f"client-{uuid.uuid4().hex[:8]}"
    params = {"alpha": "0.5", "solver": "svd", "note": "ünïcode, and = signs"}
    experiment = mlflow.set_experiment(name).experiment_id
    mlflow.set_experiment_tag("team", "forecasts")
    with mlflow.start_run(run_name="first", tags={"stage": "trial"}) as run:
        mlflow.log_params(params)
        metrics = {key: [write_metric(key, step) for step in range(STEPS)] for key in METRICS}
        checksum, seconds = write_blob()
        model, predictions = write_model(name)
    return {
        "experiment": {"id": experiment, "name": name, "tags": {"team": "forecasts"}},
        "run": {"id": run.info.run_id, "name": "first", "stage": "trial", "status": "FINISHED"},
        "params": params,
        "metrics": metrics,
        "artifact": {"sha256": checksum, "bytes": BLOB_BYTES, "listed": {BLOB: BLOB_BYTES}},
        "model": model,
        "predictions": predictions,
        "seconds": {"up": seconds},
        "locations": {
            "run": f"mlflow-artifacts:/{experiment}/{run.info.run_id}/artifacts",
            "model": f"mlflow-artifacts:/{experiment}/models/{model['source'].removeprefix('models:/')}/artifacts",
        },
    }


def write_metric(key: str, step: int) -> list[float]:
    value = len(key) / (step + 1)
    mlflow.log_metric(key, value, step=step)
    return [step, value]


def write_blob() -> tuple[str, float]:
    """Send the artifact; return its checksum and the seconds that it took."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / Path(BLOB).name
        path.write_bytes(os.urandom(BLOB_BYTES))
        began = time.monotonic()
        mlflow.log_artifact(str(path), str(Path(BLOB).parent))
        seconds = time.monotonic() - began
        return sha256(path), seconds


def write_model(name: str) -> tuple[Document, list[float]]:
    """Train a model, log and register it; return its registration and what it predicts before it leaves."""
    import sklearn  # type: ignore[import-not-found]  # noqa: PLC0415 - seconds that a `stream` need not spend
    from sklearn.linear_model import Ridge  # type: ignore[import-not-found]  # noqa: PLC0415 - as above

    data, target = samples()
    model = Ridge(alpha=0.5).fit(data, target)
    # Named, since MLflow would load the model in another process to find out.
    needs = [f"scikit-learn=={sklearn.__version__}"]
    logged = mlflow.sklearn.log_model(model, name="ridge", registered_model_name=name, pip_requirements=needs)
    mlflow.MlflowClient().set_registered_model_alias(name, ALIAS, logged.registered_model_version)
    version = {"name": name, "version": str(logged.registered_model_version), "status": "READY"}
    return {**version, "source": f"models:/{logged.model_id}"}, model.predict(data).tolist()


def samples() -> tuple[Any, Any]:
    from sklearn.datasets import load_diabetes  # type: ignore[import-not-found]  # noqa: PLC0415 - as above

    data, target = load_diabetes(return_X_y=True)
    return data[:100], target[:100]


# --- reading -------------------------------------------------------------------------------------


def read(written: Document) -> Document:
    """Look for what `written` names and return what the server has."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(written["experiment"]["name"])
    (run,) = client.search_runs([experiment.experiment_id], f"run_name = '{written['run']['name']}'")
    info = run.info
    model = read_model(client, written["model"]["name"])
    artifact, seconds = read_blob(info.run_id)
    return {
        "experiment": {"id": experiment.experiment_id, "name": experiment.name, "tags": own(experiment.tags)},
        "run": {"id": info.run_id, "name": info.run_name, "stage": run.data.tags["stage"], "status": info.status},
        "params": run.data.params,
        "metrics": {key: history(client, info.run_id, key) for key in run.data.metrics},
        "artifact": artifact,
        **model,
        "seconds": {"down": seconds},
        "locations": {"run": info.artifact_uri, "model": location(client, model["model"]["source"])},
    }


def location(client: Any, source: str) -> str:
    return str(client.get_logged_model(source.removeprefix("models:/")).artifact_location)


def own(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if not key.startswith("mlflow.")}


def history(client: Any, run: str, key: str) -> list[list[float]]:
    found = client.get_metric_history(run, key)
    return sorted([metric.step, metric.value] for metric in found)


def read_blob(run: str) -> tuple[Document, float]:
    """Fetch the artifact; return what it is, and the seconds that it took."""
    listed = mlflow.artifacts.list_artifacts(run_id=run, artifact_path=str(Path(BLOB).parent))
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        path = Path(mlflow.artifacts.download_artifacts(run_id=run, artifact_path=BLOB, dst_path=directory))
        seconds = time.monotonic() - began
        files = {file.path: file.file_size for file in listed}
        return {"sha256": sha256(path), "bytes": path.stat().st_size, "listed": files}, seconds


def read_model(client: Any, name: str) -> Document:
    found = client.get_model_version_by_alias(name, ALIAS)
    version = {"name": found.name, "version": str(found.version), "status": found.status, "source": found.source}
    model = mlflow.pyfunc.load_model(f"models:/{name}@{ALIAS}")
    return {"model": version, "predictions": model.predict(samples()[0]).tolist()}


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


# --- writing on and on ---------------------------------------------------------------------------


def stream() -> None:
    """Print each step as soon as the server acknowledged it; in the end, on one line, all steps that it has."""
    client = mlflow.MlflowClient()
    run = client.create_run("0").info.run_id
    step = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        client.log_metric(run, "beat", float(step), step=step)
        print(step, flush=True)
        step += 1
    print(json.dumps([step for step, _ in history(client, run, "beat")]))


def main(verb: str) -> None:
    if verb == "stream":
        stream()
    else:
        print(json.dumps(write() if verb == "write" else read(json.load(sys.stdin))))


if __name__ == "__main__":
    main(sys.argv[1])
