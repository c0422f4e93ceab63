"""What a spool holds: operations on runs, as plain values, and how each is carried out in a store, once, however often it is tried.

A request may have taken effect although its answer never came. So whoever tries an operation again says so, and what cannot be repeated
without a trace (a new run, a point of a metric, an input, a logged model) is then looked for first. Each operation names its run by
``run``: the run's id, or a key of ours if an operation creates it; the run then has the key as a tag.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope.mlflow_adapter.spool import FILES, Operation

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_KEY = "memberscope.run_key"
TABLES = "mlflow.loggedArtifacts"  # MLflow's own: which of a run's artifacts are tables
MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An operation that is about to be carried out.

    Attributes:
        client: of the store.
        operation: what is to be done.
        run_id: the run; empty if the operation creates it.
        ids: the ids of runs by their keys.
        folder: the spool.
        again: whether it may have been carried out already.
    """

    client: MlflowClient
    operation: Operation
    run_id: str
    ids: Mapping[str, str]
    folder: Path
    again: bool

    def file(self) -> Path:
        """The first file of the operation."""
        return self.folder / FILES / str(self.operation["n"]) / str(self.operation["files"][0])


def find_run(client: MlflowClient, experiment_id: str, key: str) -> str | None:
    """The id of the run that has a key as its tag, deleted or not."""
    from mlflow.entities import ViewType

    found = client.search_runs([experiment_id], f"tags.`{RUN_KEY}` = '{key}'", run_view_type=ViewType.ALL, max_results=1)
    return str(found[0].info.run_id) if found else None


def carry_out(attempt: Attempt) -> str | None:
    """Carry an operation out; returns the id of the run if it creates one."""
    return _KINDS[attempt.operation["kind"]](attempt)


def _create(attempt: Attempt) -> str:
    operation, client = attempt.operation, attempt.client
    if attempt.again and (found := find_run(client, operation["experiment"], operation["run"])):
        return found
    tags = {**operation["tags"], RUN_KEY: operation["run"]}
    if parent := operation.get("parent"):
        tags["mlflow.parentRunId"] = attempt.ids.get(parent, parent)
    made = client.create_run(operation["experiment"], start_time=operation["time"], tags=tags, run_name=operation["name"])
    return str(made.info.run_id)


def _params(attempt: Attempt) -> None:
    from mlflow.entities import Param

    params = [Param(name, value) for name, value in attempt.operation["values"].items()]
    attempt.client.log_batch(attempt.run_id, params=params)


def _tags(attempt: Attempt) -> None:
    from mlflow.entities import RunTag

    attempt.client.log_batch(attempt.run_id, tags=[RunTag(name, value) for name, value in attempt.operation["values"].items()])


def _metrics(attempt: Attempt) -> None:
    from mlflow.entities import Metric

    operation = attempt.operation
    points = [Metric(name, value, operation["time"], operation["step"]) for name, value in operation["values"].items()]
    if attempt.again:
        there = attempt.client.get_run(attempt.run_id).data.metrics
        points = [point for point in points if point.key not in there or not _has_point(attempt, point)]
    if points:
        attempt.client.log_batch(attempt.run_id, metrics=points)


def _has_point(attempt: Attempt, point: Any) -> bool:
    history = attempt.client.get_metric_history(attempt.run_id, point.key)
    return any((one.step, one.timestamp, one.value) == (point.step, point.timestamp, point.value) for one in history)


def _rename(attempt: Attempt) -> None:
    attempt.client.update_run(attempt.run_id, name=attempt.operation["name"])


def _file(attempt: Attempt) -> None:
    attempt.client.log_artifact(attempt.run_id, str(attempt.file()), attempt.operation["folder"] or None)


def _table(attempt: Attempt) -> None:
    """A file that is listed among the run's tables, as `MlflowClient.log_table` lists it; that would append to a table that is there."""
    _file(attempt)
    folder, name = attempt.operation["folder"], attempt.file().name
    listed = json.loads(attempt.client.get_run(attempt.run_id).data.tags.get(TABLES, "[]"))
    entry = {"path": f"{folder}/{name}" if folder else name, "type": "table"}
    if entry not in listed:
        attempt.client.set_tag(attempt.run_id, TABLES, json.dumps([*listed, entry]))


def _data(attempt: Attempt) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    values, context = attempt.operation["dataset"], attempt.operation["context"]
    if attempt.again:
        inputs = attempt.client.get_run(attempt.run_id).inputs
        if any(
            (one.dataset.name, one.dataset.digest) == (values["name"], values["digest"])
            for one in (inputs.dataset_inputs if inputs else ())
        ):
            return
    entity = Dataset(**values, source_type="code", schema=None)
    attempt.client.log_inputs(attempt.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])])


def _model(attempt: Attempt) -> None:
    """What `mlflow.models.Model.log` does with a model, for one that is saved in a folder, step by step, so that each is done once."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
    from mlflow.models import Model

    client, operation = attempt.client, attempt.operation
    logged, key = None, operation["key"]
    if attempt.again:
        same = client.search_logged_models([operation["experiment"]], filter_string=f"tags.`{RUN_KEY}` = '{key}'")
        logged = same[0] if same else None
    if logged is None:
        tags = {RUN_KEY: key}
        logged = client.create_logged_model(operation["experiment"], name=MODEL, source_run_id=attempt.run_id, tags=tags)
    if logged.status == LoggedModelStatus.READY:
        return
    run = client.get_run(attempt.run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    if all(output.model_id != logged.model_id for output in outputs):
        client.log_outputs(attempt.run_id, models=[LoggedModelOutput(logged.model_id, step=0)])
    taken = {metric.key for metric in logged.metrics or []}
    points = [
        Metric(one.key, one.value, one.timestamp, one.step, run_id=attempt.run_id, model_id=logged.model_id)
        for name in run.data.metrics
        if name not in taken
        for one in client.get_metric_history(attempt.run_id, name)
        if one.step == 0 and one.model_id is None
    ]
    client.log_batch(attempt.run_id, metrics=points)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / MODEL
        shutil.copytree(attempt.file(), folder)
        about = Model.load(str(folder))
        about.artifact_path, about.run_id = logged.artifact_location, attempt.run_id
        about.model_uuid = about.model_id = logged.model_id
        about.save(str(folder / "MLmodel"))
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)


def _end(attempt: Attempt) -> None:
    attempt.client.set_terminated(attempt.run_id, attempt.operation["status"], end_time=attempt.operation["time"])


def _settle(attempt: Attempt) -> None:
    """End the run of another process; one that is not there any more is left alone."""
    from mlflow.exceptions import MlflowException

    operation, client = attempt.operation, attempt.client
    other = operation.get("other_id") or find_run(client, operation["experiment"], operation["other_key"])
    if other is None:
        return
    try:
        run = client.get_run(other)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return
        raise
    if run.info.status != operation["status"]:
        client.set_terminated(other, operation["status"])
    if operation["adopt"] and run.data.tags.get("mlflow.parentRunId") != attempt.run_id:
        client.set_tag(other, "mlflow.parentRunId", attempt.run_id)


_KINDS: Mapping[str, Callable[[Attempt], str | None]] = {
    "create": _create, "params": _params, "tags": _tags, "metrics": _metrics, "rename": _rename, "file": _file, "table": _table,
    "data": _data, "model": _model, "end": _end, "settle": _settle,
}  # fmt: skip
