"""What data scientists leave on a tracking server over the months, and everything that a server holds: a program.

    deployed_client.py fill [PATH]      write experiments, runs, artifacts, models, a trace; PATH: where the server's
                                        artifacts lie, for an experiment that was given its location by hand
    deployed_client.py tell             print all of it as one document, every artifact by its checksum
    deployed_client.py more EXPERIMENT… log a run with an artifact and a model into each experiment and read them back

The last line of stdout is the document. It runs where MLflow is installed, be that in the server's own container,
where artifact locations that are paths mean the server's files. The server's address comes from MLFLOW_TRACKING_URI.
Effects: those on the server, and what it downloads, in a directory that is gone at the end.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow  # type: ignore[import-not-found]  # in the environment of requirements/client.txt, and in the image

EVERY = ["ACTIVE_ONLY", "DELETED_ONLY"]
MODEL = """
import mlflow

class Doubler(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        with open(context.artifacts["factor"]) as file:
            factor = int(file.read())
        return [factor * one for one in model_input]

mlflow.models.set_model(Doubler())
"""
"""A model as code: what is pickled by the image's Python is not for the client's."""

Document = dict[str, Any]
client = mlflow.MlflowClient()


# --- writing -------------------------------------------------------------------------------------


def fill(work: Path, *place: str) -> Document:
    """Write a bit of everything that keeps an artifact's location."""
    mlflow.set_experiment("forecasts")
    for number in range(3):
        log_run(work, f"night {number}", number)
    with mlflow.start_run(run_name="parent"), mlflow.start_run(run_name="child", nested=True):
        mlflow.log_text("nested\n", "deep/er/nested.txt")
    client.delete_run(log_run(work, "thrown away", 7))
    mlflow.set_experiment("churn")
    register(work)
    with mlflow.start_span("asked") as span:
        span.set_inputs({"question": "who leaves?"})
    mlflow.flush_trace_async_logging()
    if place:
        mlflow.set_experiment(experiment_id=client.create_experiment("by hand", f"{place[0]}/by-hand"))
        log_run(work, "by hand", 9)
    mlflow.set_experiment("Default")
    log_run(work, "in the default", 4)
    client.delete_experiment(client.create_experiment("forgotten"))
    return {}


def log_run(work: Path, name: str, number: int) -> str:
    """Log a run with params, metrics, a tag and artifacts; return its id."""
    (work / "blob.bin").write_bytes(bytes(range(256)) * 1000 + name.encode())
    with mlflow.start_run(run_name=name, tags={"note": f"ünïcode {number}"}) as run:
        mlflow.log_params({"alpha": number / 10, "solver": "svd"})
        for step in range(20):
            mlflow.log_metrics({"loss": number / (step + 1), "accuracy": step / 20}, step=step)
        mlflow.log_artifact(str(work / "blob.bin"), "data")
        mlflow.log_text(f"{name}\n", "notes with a blank.txt")
    return str(run.info.run_id)


def register(work: Path) -> None:
    """Register a logged model, and one of before there were logged models: files among a run's artifacts."""
    with mlflow.start_run(run_name="training") as run:
        log_model(work, 2, registered_model_name="doubler")
        (work / "factor").write_text("3")
        mlflow.pyfunc.save_model(
            str(work / "old"), python_model=str(work / "model.py"), artifacts={"factor": str(work / "factor")},
            pip_requirements=["mlflow"],
        )  # fmt: skip
        mlflow.log_artifacts(str(work / "old"), "old")
        client.create_model_version("doubler", f"{run.info.artifact_uri}/old", run.info.run_id)


def log_model(work: Path, factor: int, **options: str) -> Any:
    (work / "model.py").write_text(MODEL)
    (work / "factor").write_text(str(factor))
    return mlflow.pyfunc.log_model(
        name="doubler", python_model=str(work / "model.py"), artifacts={"factor": str(work / "factor")},
        pip_requirements=["mlflow"], **options,
    )  # fmt: skip


def more(work: Path, *experiments: str) -> Document:
    """Write into experiments and return what comes back: all True."""
    return {name: again(work, name) for name in experiments}


def again(work: Path, experiment: str) -> Document:
    mlflow.set_experiment(experiment)
    with mlflow.start_run() as run:
        mlflow.log_text("from afar", "from/afar.txt")
        model = log_model(work, 5)
    return {
        "artifact": artifacts(work, run_id=run.info.run_id) == {"from/afar.txt": sha256(b"from afar")},
        "model": mlflow.pyfunc.load_model(model.model_uri).predict([1, 2]) == [5, 10],
        "location": run.info.artifact_uri,
    }


# --- reading -------------------------------------------------------------------------------------


def tell(work: Path) -> Document:
    """Return all that the server holds, whatever the locations are called."""
    experiments = [one for view in EVERY for one in client.search_experiments(view_type=kind(view))]
    ids = [one.experiment_id for one in experiments]
    runs = [run for view in EVERY for run in client.search_runs(ids, run_view_type=kind(view))]
    models = client.search_logged_models(ids)
    versions = client.search_model_versions()
    traces = mlflow.search_traces(locations=ids, return_type="list")
    # The first of all: a model that is loaded from a path gets a further file there.
    predicted = {f"{one.name}/{one.version}": predictions(one) for one in versions}
    return {
        "experiments": {one.experiment_id: [one.name, one.lifecycle_stage] for one in experiments},
        "runs": {run.info.run_id: tell_run(work, run) for run in runs},
        "models": {one.model_id: artifacts(work, artifact_uri=f"models:/{one.model_id}") for one in models},
        "versions": predicted,
        "traces": {trace.info.trace_id: asked(trace) for trace in traces},
        "locations": {
            "experiments": sorted(one.artifact_location for one in experiments),
            "runs": sorted(run.info.artifact_uri for run in runs),
            "models": sorted(one.artifact_location for one in models),
            "versions": sorted(client.get_model_version_download_uri(one.name, one.version) for one in versions),
        },
    }


def kind(view: str) -> Any:
    return getattr(mlflow.entities.ViewType, view)


def tell_run(work: Path, run: Any) -> Document:
    keys = sorted(run.data.metrics)
    history = {key: client.get_metric_history(run.info.run_id, key) for key in keys}
    return {
        "name": run.info.run_name,
        "is": [run.info.status, run.info.lifecycle_stage, run.info.start_time, run.info.end_time],
        "params": run.data.params,
        "tags": {key: text for key, text in run.data.tags.items() if key != "mlflow.log-model.history"},
        "metrics": {key: sorted([one.step, one.value, one.timestamp] for one in history[key]) for key in keys},
        "artifacts": artifacts(work, run_id=run.info.run_id),
    }


def artifacts(work: Path, **where: str) -> dict[str, str]:
    """Return the checksum of each file there, as it arrives here."""
    if not mlflow.artifacts.list_artifacts(**where):
        return {}
    with tempfile.TemporaryDirectory(dir=work) as directory:
        uri = {"artifact_uri": f"runs:/{where['run_id']}/"} if "run_id" in where else where
        top = Path(mlflow.artifacts.download_artifacts(**uri, dst_path=directory))
        files = [path for path in sorted(top.rglob("*")) if path.is_file()]
        return {str(path.relative_to(top)): sha256(path.read_bytes()) for path in files}


def predictions(version: Any) -> list[int]:
    return list(mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}").predict([1, 2, 3]))


def asked(trace: Any) -> list[Any]:
    """Return what the spans were asked, which is kept in an artifact of the trace."""
    return [span.inputs for span in mlflow.get_trace(trace.info.trace_id).data.spans]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(verb: str, *words: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        done = {"fill": fill, "tell": tell, "more": more}[verb](Path(directory), *words)
    sys.stdout.write(json.dumps(done, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
