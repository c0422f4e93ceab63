"""A store in memory that forgives nothing (whatever is sent twice is there twice), requests that fail, and a study that logs to it."""

from __future__ import annotations

import copy
import itertools
import json
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import requests
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from memberscope.clock import Clock
from memberscope.mlflow_adapter import operations, resend
from memberscope.mlflow_adapter.outbox import Outbox
from memberscope.mlflow_adapter.spool import Spool
from memberscope.mlflow_adapter.tracker import MlflowTracker, PendingTracker
from memberscope.outages import Lookout
from memberscope.tracking import DataInput

URI = "http://127.0.0.1:1"
Thing = types.SimpleNamespace


class Killed(BaseException):
    """The process ends here, without another word."""


class FakeStore:
    """MLflow's client over lists, with as few answers as the outbox needs; `fails` is asked before and after each request."""

    tracking_uri = URI

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.models: list[Any] = []
        self.requests: list[str] = []
        self.fails: Callable[[int, str], None] = lambda number, when: None

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name.startswith("_") or not callable(found) or name == "fails":
            return found

        def request(*words: Any, **named: Any) -> Any:
            number = len(self.requests)
            self.requests.append(name)
            self.fails(number, "before")
            answer, refusal = None, None
            try:
                answer = found(*words, **named)
            except MlflowException as error:
                refusal = error
            self.fails(number, "after")  # an answer is lost whatever it says
            if refusal is not None:
                raise refusal
            return answer

        return request

    def _view(self, run: dict[str, Any]) -> Any:
        latest = {key: value for key, _, _, value in run["metrics"]}
        inputs = Thing(dataset_inputs=[Thing(dataset=Thing(name=name, digest=digest)) for name, digest, _ in run["inputs"]])
        return Thing(
            info=Thing(run_id=run["id"], status=run["status"], lifecycle_stage="active"),
            data=Thing(tags=dict(run["tags"]), params=dict(run["params"]), metrics=latest),
            inputs=inputs,
            outputs=Thing(model_outputs=[Thing(model_id=one) for one in run["outputs"]]),
        )

    def search_runs(self, experiments: list[str], text: str, **_: Any) -> list[Any]:
        name, value = text.removeprefix("tags.`").removesuffix("'").split("` = '")
        return [self._view(run) for run in self.runs.values() if run["tags"].get(name) == value]

    def search_experiments(self, max_results: int) -> list[Any]:
        return []

    def create_run(self, experiment: str, *, start_time: int, tags: dict[str, str], run_name: str) -> Any:
        number = f"{len(self.runs):032x}"
        self.runs[number] = {
            "id": number, "name": run_name, "tags": dict(tags), "params": {}, "metrics": [], "files": {}, "inputs": [], "outputs": [],
            "status": "RUNNING", "ends": 0,
        }  # fmt: skip
        return self._view(self.runs[number])

    def get_run(self, number: str) -> Any:
        if number not in self.runs:
            raise MlflowException("none", error_code=RESOURCE_DOES_NOT_EXIST)
        return self._view(self.runs[number])

    def log_batch(self, number: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        run = self.runs[number]
        run["metrics"] += [(one.key, one.step, one.timestamp, one.value) for one in metrics if not one.model_id]
        run["tags"].update({one.key: one.value for one in tags})
        run["params"].update({one.key: one.value for one in params})
        for model in self.models:
            model.metrics += [Thing(key=one.key, value=one.value) for one in metrics if one.model_id == model.model_id]

    def get_metric_history(self, number: str, name: str) -> list[Any]:
        return [
            Thing(key=key, step=step, timestamp=time, value=value, model_id=None)
            for key, step, time, value in self.runs[number]["metrics"]
            if key == name
        ]

    def update_run(self, number: str, name: str) -> None:
        self.runs[number]["name"] = name

    def set_tag(self, number: str, name: str, value: str) -> None:
        self.runs[number]["tags"][name] = value

    def set_terminated(self, number: str, status: str, end_time: int = 0) -> None:
        self.runs[number]["status"] = status

    def log_artifact(self, number: str, local: str, folder: str | None) -> None:
        self.runs[number]["files"][f"{folder or ''}/{Path(local).name}"] = Path(local).read_bytes()

    def log_inputs(self, number: str, inputs: list[Any]) -> None:
        self.runs[number]["inputs"] += [(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in inputs]

    def log_outputs(self, number: str, models: list[Any]) -> None:
        self.runs[number]["outputs"] += [one.model_id for one in models]

    def search_logged_models(self, experiments: list[str], filter_string: str) -> list[Any]:
        return [copy.copy(model) for model in self.models if model.tags[operations.RUN_KEY] in filter_string]

    def create_logged_model(self, experiment: str, *, name: str, source_run_id: str, tags: dict[str, str]) -> Any:
        made = Thing(
            model_id=f"m-{len(self.models)}", tags=tags, metrics=[], status=LoggedModelStatus.PENDING, artifact_location="there"
        )
        self.models.append(made)
        return copy.copy(made)

    def log_model_artifacts(self, model: str, folder: str) -> None:
        lines = (Path(folder) / "MLmodel").read_text().splitlines()
        self._of(model).files = sorted(path.name for path in Path(folder).iterdir())
        self._of(model).about = [line for line in lines if line.startswith(("model_id", "artifact_path"))]

    def finalize_logged_model(self, model: str, status: Any) -> None:
        self._of(model).status = status

    def _of(self, model: str) -> Any:
        return next(one for one in self.models if one.model_id == model)

    def _contents(self) -> Any:
        """All that is there, but for times, ids and keys, which differ from one start to the next."""
        runs = list(self.runs.values())
        number = {run["id"]: place for place, run in enumerate(runs)}
        found = []
        for run in runs:
            tags = {key: value for key, value in run["tags"].items() if key != operations.RUN_KEY}
            tags |= {"mlflow.parentRunId": str(number[tags["mlflow.parentRunId"]])} if "mlflow.parentRunId" in tags else {}
            metrics = sorted((key, step, value) for key, step, _, value in run["metrics"])
            found.append({**run, "tags": tags, "metrics": metrics})
        models = [(one.model_id, [m.key for m in one.metrics], one.status, one.files, one.about) for one in self.models]
        return found, models


def save_plain(model: Any, folder: Path, *, input_shape: tuple[int, ...], classes: int) -> None:
    """A model of no framework in MLflow's format."""
    from mlflow.models import Model

    folder.mkdir()
    (folder / "weights").write_text(str(model))
    Model().save(str(folder / "MLmodel"))


def opened(store: Any, *, seconds: float = 60.0) -> Outbox:
    return Outbox(store, spool=Spool.create(URI, study="train"), lookout=Lookout("the store", seconds=seconds))


def log_study(box: Outbox) -> MlflowTracker:
    """Logs everything that can be logged, and ends."""
    tracker = PendingTracker(outbox=box, experiment_id="1", name="first", first_tags={"a": "b"}, clock=Clock())
    tracker.params({"p": 1})
    tracker.rename("second")
    tracker.metrics({"m": 1.0, "n": 2.0}, step=0)
    tracker.metrics({"m": 1.0}, step=1)
    tracker.metrics({"m": 0.5}, step=0)
    with tracker.child("child", tags={"c": "d"}, description="about") as child:
        child.metrics({"m": 3.0})
        child.text("words", "notes/words.txt")
        child.table(pd.DataFrame({"x": [1]}), "table.json")
        child.table(pd.DataFrame({"x": [1]}), "table.csv")
        for context in ("member", "nonmember"):
            child.data(DataInput(name="d", context=context, digest=context * 6, source="here", shape=(2, 3), classes=2))
        child.model("weights", framework="plain", input_shape=(3,), classes=2)
        child.tags({"memberscope.late": "yes"})
    tracker.settle(json.dumps({"uri": URI, "run_id": "f" * 32, "experiment_id": "1"}), "KILLED")
    tracker.tags({"memberscope.exit_code": "0"})
    tracker.end("FINISHED")
    return tracker


def deliver(store: FakeStore, left: Spool) -> resend.Sent:
    """Send what a spool holds."""
    return resend.deliver(store, left, seconds=0.0)  # type: ignore[arg-type]  # a stand-in for MLflow's client


def connection_refused() -> Exception:
    """As MLflow raises it: the cause is only the context."""
    try:
        try:
            raise requests.exceptions.ConnectionError("refused")
        except requests.exceptions.ConnectionError:
            raise MlflowException("API request failed")  # noqa: B904
    except MlflowException as error:
        return error


def failing_from(
    first: int, when: str, *, times: float, error: Callable[[], BaseException] = connection_refused
) -> Callable[[int, str], None]:
    """From the request `first` on, which fails `when` it took effect or before, so many fail; those after it never take effect."""

    def fails(number: int, moment: str) -> None:
        if (number == first and moment == when) or (first < number < first + times and moment == "before"):
            raise error()

    return fails


def moments(undisturbed: FakeStore) -> Iterator[tuple[int, str]]:
    return itertools.product(range(len(undisturbed.requests)), ("before", "after"))
