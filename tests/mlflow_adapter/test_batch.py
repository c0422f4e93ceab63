"""What the evaluator logs to a run that belongs to another: nothing of an audit that fails, and all values in one request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memberscope.errors import UserError
from memberscope.mlflow_adapter import evaluator_audit
from memberscope.mlflow_adapter.batch import RunBatch
from memberscope.mlflow_adapter.tracker import MlflowTracker

TIME = 1_700_000_000_000


class Store:
    """A client that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.files: dict[str, bytes] = {}
        self.metrics: list[tuple[str, float, int]] = []
        self.tags: dict[str, str] = {}

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None) -> None:
        self.requests.append(f"a file of {run_id}")
        self.files["/".join([*([artifact_path] if artifact_path else []), Path(local_path).name])] = Path(
            local_path
        ).read_bytes()

    def log_batch(self, run_id: str, *, metrics: Any, tags: Any) -> None:
        self.requests.append(f"values of {run_id}")
        self.metrics += [(one.key, one.value, one.step) for one in metrics]
        self.tags |= {one.key: one.value for one in tags}


def fill(batch: RunBatch) -> None:
    for number, step in ((1.0, 0), (2.0, 1)):
        batch.send({"kind": "metrics", "run": "r", "values": {"auc": number}, "step": step, "time": TIME})
    batch.send({"kind": "tags", "run": "r", "values": {"a": "first", "b": "kept"}})
    batch.send({"kind": "tags", "run": "r", "values": {"a": "last"}})
    for folder, name in (("memberscope", "a.txt"), ("memberscope/scores", "b.txt"), ("", "c.txt")):
        with batch.sending({"kind": "file", "run": "r", "folder": folder}, name) as path:
            path.write_text(name)


def test_everything_is_sent_at_the_end_the_values_first() -> None:
    pytest.importorskip("mlflow")
    store = Store()
    batch = RunBatch(store, "r")  # type: ignore[arg-type]  # as much of a client as it needs
    with batch.finishing():
        fill(batch)
        assert not store.requests
    assert store.requests == ["values of r", *["a file of r"] * 3]
    assert store.files == {"memberscope/a.txt": b"a.txt", "memberscope/scores/b.txt": b"b.txt", "c.txt": b"c.txt"}
    assert store.metrics == [("auc", 1.0, 0), ("auc", 2.0, 1)]
    assert store.tags == {"a": "last", "b": "kept"}


@pytest.mark.parametrize("fails", ["the block", "a thread"])
def test_nothing_is_sent_after_a_failure(fails: str) -> None:
    pytest.importorskip("mlflow")
    store = Store()
    batch = RunBatch(store, "r")  # type: ignore[arg-type]

    def stop() -> None:
        raise OSError("no space left")

    def evaluate() -> None:
        with batch.finishing():
            fill(batch)
            if fails == "the block":
                stop()
            batch.write(stop)

    with pytest.raises(OSError, match="no space left"):
        evaluate()
    assert not store.requests


def test_what_no_guest_may_do_is_refused() -> None:
    batch = RunBatch(Store(), "r")  # type: ignore[arg-type]
    tracker = MlflowTracker(outbox=batch, key="r", experiment_id="0")
    with batch.finishing():
        for forbidden in (
            lambda: tracker.end("FINISHED"),
            lambda: tracker.rename("mine"),
            lambda: tracker.settle("{}", "FAILED"),
        ):
            with pytest.raises(NotImplementedError, match="in a run that belongs to another program"):
                forbidden()
        with pytest.raises(NotImplementedError, match="table"):
            tracker.table(pd.DataFrame(), "a.json")
        with pytest.raises(NotImplementedError, match="create"), tracker.child("mine"):
            pass


def test_nothing_is_logged_before_or_after_the_block() -> None:
    batch = RunBatch(Store(), "r")  # type: ignore[arg-type]
    tracker = MlflowTracker(outbox=batch, key="r", experiment_id="0")
    for _ in range(2):
        for early_or_late in (
            lambda: tracker.text("text", "a.md"),
            lambda: tracker.tags({"a": "b"}),
            lambda: batch.write(list),
        ):
            with pytest.raises(RuntimeError, match="in the block of `finishing`"):
                early_or_late()
        with batch.finishing():
            tracker.text("text", "a.md")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of MLflow's writing methods that the evaluation of static predictions calls for its audit, in their order."""
    mlflow = pytest.importorskip("mlflow")
    done: list[str] = []
    for name in ("log_batch", "log_artifact", "log_artifacts", "log_metric", "set_tag", "log_param", "log_text", "log_figure"):
        method = getattr(mlflow.MlflowClient, name)

        def counting(self: Any, *arguments: Any, method: Any = method, name: str = name, **options: Any) -> Any:
            done.append(name)
            return method(self, *arguments, **options)

        monkeypatch.setattr(mlflow.MlflowClient, name, counting)
    return done


def audited(run_id: str) -> Any:
    """The audit of 120 predictions, as the evaluator does it."""
    from mlflow.models.evaluation import EvaluationDataset

    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 3, 120), np.arange(120) % 2 == 0
    frame = pd.DataFrame({"label": labels, "said": list(rng.dirichlet(np.ones(3), 120))})
    data = EvaluationDataset(frame, targets="label", predictions="said")
    config = {"member": member, "record_ids": np.arange(120), "attacks": "threshold", "controls": "none"}
    return evaluator_audit.audit_dataset(data, run_id=run_id, config=config, model=None, predictions="said")


def test_an_evaluation_sends_its_values_in_one_request_whatever_its_attacks(laboratory: Any, requests: list[str]) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    run = client.create_run(mlflow.get_experiment_by_name("memberscope").experiment_id).info.run_id
    requests.clear()
    audited(run)
    assert requests[0] == "log_batch"
    assert set(requests[1:]) == {"log_artifact"}
    names = {info.path for info in client.list_artifacts(run, "memberscope")}
    assert {"memberscope/attacks.csv", "memberscope/roc.png", "memberscope/evidence.json", "memberscope/scores"} <= names
    assert client.get_run(run).data.metrics["seconds/attacks"] >= 0


def test_an_audit_that_fails_leaves_nothing_in_the_run(
    laboratory: Any, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError("disk full")

    client = mlflow.MlflowClient()
    run = client.create_run(mlflow.get_experiment_by_name("memberscope").experiment_id).info.run_id
    requests.clear()
    monkeypatch.setattr(evaluator_audit, "log_evidence", fail)  # the last thing that is logged
    with pytest.raises(OSError, match="disk full"):
        audited(run)
    assert not requests
    assert not client.list_artifacts(run)
    assert not client.get_run(run).data.metrics


def test_a_second_evaluation_replaces_the_files_of_the_first(laboratory: Any) -> None:
    """Whoever reads one meanwhile has all of it, the old or the new one."""
    import mlflow

    client = mlflow.MlflowClient()
    run = client.create_run(mlflow.get_experiment_by_name("memberscope").experiment_id)
    audited(run.info.run_id)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "memberscope" / "attacks.csv"
    with path.open() as reader:
        audited(run.info.run_id)
        assert path.stat().st_ino != os.fstat(reader.fileno()).st_ino
        assert reader.read() == path.read_text()


def test_a_deleted_run_is_refused_before_the_audit(laboratory: Any, requests: list[str]) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    run = client.create_run(mlflow.get_experiment_by_name("memberscope").experiment_id).info.run_id
    client.delete_run(run)
    requests.clear()
    with pytest.raises(UserError, match=rf"^run {run} is deleted; allowed: restore it"):
        audited(run)
    assert not requests
