"""The tracker and the session over a real MLflow store on SQLite."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from memberscope import plots
from memberscope.errors import Interrupted, UserError
from memberscope.mlflow_adapter import process
from memberscope.mlflow_adapter import session as sessions
from memberscope.mlflow_adapter import store as stores
from memberscope.mlflow_adapter.careful import careful
from memberscope.mlflow_adapter.session import open_session
from memberscope.tracking import DataInput


def _runs(parent: str | None = None) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]


@pytest.mark.parametrize("lines", [10, 100])
def test_a_description_that_is_too_long_for_mlflow_ends_after_a_line_and_says_so(store: Path, lines: int) -> None:
    text = "".join(f"| {number:3d} | {'x' * 90} |\n" for number in range(lines))
    with open_session("train", name="long") as session:
        session.tracker.describe(text)
    (run,) = _runs()
    kept = run.data.tags["mlflow.note.content"]
    if lines == 10:
        assert kept == text
        return
    body, _, last = kept.rstrip("\n").rpartition("\n\n")
    assert 7_800 < len(kept) <= 8_000
    assert text.startswith(body + "\n"), "whole lines of the table"
    assert "the files of the run have the rest" in last


def test_all_that_a_study_logs_is_there(store: Path) -> None:
    with (
        open_session("train", name="train-digits") as session,
        session.tracker.child("dense-d3-c10-s0", tags={"a": "b"}) as child,
    ):
        child.params({"model.depth": 3})
        child.metrics({f"auc/a{number}": number / 3000 for number in range(2500)}, step=4)
        child.metrics({"train/loss": 2.0}, step=0)
        child.metrics({"train/loss": 1.0}, step=1)
        child.table(pd.DataFrame({"attack": ["x"], "auc": [0.5]}), "attacks.csv")
        child.table(pd.DataFrame({"attack": ["x"], "auc": [0.5]}), "attacks.json")
        child.text("hello", "notes/hello.txt")
        figure, axes = plots.new_figure()
        axes[0, 0].plot([0, 1])
        child.figure(figure, "figures/line.png")
        for context, digest in (("member", "ab" * 32), ("nonmember", "cd" * 32)):
            child.data(DataInput(name="digits", context=context, digest=digest, source="here", shape=(5, 2), classes=2))
    (parent,) = _runs()
    (run,) = _runs(parent.info.run_id)
    assert (parent.info.status, parent.data.tags["memberscope.exit_code"], parent.info.run_name) == (
        "FINISHED",
        "0",
        "train-digits",
    )
    assert (run.info.status, run.info.run_name, run.data.tags["a"]) == ("FINISHED", "dense-d3-c10-s0", "b")
    assert run.data.params == {"model.depth": "3"}
    assert run.data.metrics["auc/a1500"] == pytest.approx(0.5)
    client = mlflow.MlflowClient()
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/loss")] == [(0, 2.0), (1, 1.0)]
    paths = {item.path for folder in ("", "notes", "figures") for item in client.list_artifacts(run.info.run_id, folder)}
    assert {"attacks.csv", "attacks.json", "notes/hello.txt", "figures/line.png"} <= paths
    table = json.loads(Path(client.download_artifacts(run.info.run_id, "attacks.json")).read_text())
    assert table == {"columns": ["attack", "auc"], "data": [["x", 0.5]]}
    inputs = {item.tags[0].value: item.dataset.digest for item in run.inputs.dataset_inputs}
    assert inputs == {"member": ("ab" * 32)[:36], "nonmember": ("cd" * 32)[:36]}


def test_nan_is_refused_before_logging(store: Path) -> None:
    with open_session("train", name="x") as session, pytest.raises(ValueError, match="auc/x is nan"):
        session.tracker.metrics({"auc/x": float("nan")})


def test_a_model_is_saved_with_its_signature_and_no_example(store: Path) -> None:
    from memberscope.models import build_model

    model = build_model("conv", depth=1, input_shape=(8, 8, 1), classes=3, seed=1)
    with open_session("train", name="x") as session:
        session.tracker.model(model, framework="keras", input_shape=(8, 8, 1), classes=3)
    loaded = mlflow.pyfunc.load_model(f"runs:/{session.tracker.run_id}/model")
    x = np.random.default_rng(0).random((5, 8, 8, 1), dtype=np.float32)
    np.testing.assert_allclose(loaded.predict(x), model(x).numpy(), atol=1e-5)
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 8, 8, 1)
    assert loaded.metadata.saved_input_example_info is None


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UserError("members=9: bad"), "FAILED", "2"),
        (Interrupted("stopped"), "KILLED", "130"),
        (RuntimeError("boom"), "FAILED", "1"),
    ],
)
def test_runs_end_by_how_the_study_ends(store: Path, error: Exception, status: str, code: str) -> None:
    def study() -> None:
        with open_session("train", name="x") as session, session.tracker.child("c"):
            raise error

    with pytest.raises(type(error)):
        study()
    (parent,) = _runs()
    (child,) = _runs(parent.info.run_id)
    assert (parent.info.status, child.info.status, parent.data.tags["memberscope.exit_code"]) == (status, status, code)
    assert ("memberscope.error" in parent.data.tags) == (status == "FAILED")


@pytest.mark.parametrize("method", ["create_run", "set_terminated"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_stop_just_after_a_run_was_made_or_before_it_was_ended_leaves_none_running(
    method: str, nth: int, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = getattr(mlflow.MlflowClient, method), []

    def stopped(client: object, *args: object, **options: object) -> object:
        calls.append(args)
        made = real(client, *args, **options) if method == "create_run" or len(calls) != nth else None
        if len(calls) == nth:
            raise KeyboardInterrupt
        return made

    def study() -> None:
        with open_session("train", name="x") as session:
            for name in "ab":
                with session.tracker.child(name):
                    pass

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, method, stopped)
        with pytest.raises(KeyboardInterrupt):
            study()
    (experiment,) = mlflow.MlflowClient().search_experiments(filter_string=f"name = '{sessions.EXPERIMENT}'")
    statuses = {run.info.status for run in mlflow.MlflowClient().search_runs([experiment.experiment_id])}
    assert "KILLED" in statuses
    assert statuses <= {"KILLED", "FINISHED"}


def test_each_write_to_the_store_is_one_that_a_stop_waits_for(store: Path) -> None:
    entered, inside, begun = [], [], []

    @contextmanager
    def writing() -> Iterator[None]:
        begun.append(True)
        inside.append(True)
        yield
        inside.pop()

    class Client:
        tracking_uri = "here"

        def __getattr__(self, name: str) -> object:
            return lambda *args: entered.append((name, args, bool(inside)))

    client = careful(Client(), writing)  # type: ignore[arg-type]  # it has the methods that count
    client.log_artifact("run", "file")
    client.search_runs(["1"])
    assert entered == [("log_artifact", ("run", "file"), True), ("search_runs", (["1"],), False)]
    assert client.tracking_uri == "here"
    with open_session("train", name="x", writing=writing) as session:
        before = len(begun)
        session.tracker.text("a", "a.txt")
        assert len(begun) == before + 2, "the run, and the artifact"


def test_the_run_of_mlflow_run_is_adopted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("somebodys")
    run_id = client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with open_session("train", name="train-digits") as session, session.tracker.child("c") as child:
        assert session.adopted
        assert session.tracker.is_there
        assert session.tracker.run_id == run_id
    assert client.get_run(child.run_id).info.experiment_id == experiment
    assert client.get_run(run_id).info.run_name == "train-digits"
    named = client.create_run(experiment, run_name="before the release").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", named)
    with open_session("train", name="train-digits"):
        pass
    assert client.get_run(named).info.run_name == "before the release", "what the user named stays"
    assert client.get_experiment_by_name(sessions.EXPERIMENT) is None


@pytest.mark.parametrize("error", [UserError("members=9: bad"), Interrupted("stopped")])
def test_what_ends_before_anything_is_logged_leaves_no_run(store: Path, error: Exception) -> None:
    def study() -> None:
        with open_session("train", name="x") as session:
            session.name("train-digits")
            assert repr(session.tracker) == "PendingTracker(name='train-digits', is_there=False)"
            raise error

    with pytest.raises(type(error)):
        study()
    assert _runs() == []


def test_an_unexpected_end_is_on_record_even_if_nothing_was_logged(store: Path) -> None:
    def study() -> None:
        with open_session("train", name="x", arguments=["--seed=1"]) as session:
            session.name("train-digits")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        study()
    (run,) = _runs()
    assert (run.info.status, run.info.run_name, run.data.tags["memberscope.command"]) == (
        "FAILED",
        "train-digits",
        "memberscope train --seed=1",
    )


def test_a_deleted_experiment_is_to_be_restored_or_another_to_be_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session("train", name="x") as session:
        session.tracker.tags({"a": "b"})
    client, gone = mlflow.MlflowClient(), session.tracker.experiment_id
    client.delete_experiment(gone)

    def said(**changes: str) -> str:
        with monkeypatch.context() as patch:
            for name, value in changes.items():
                patch.setenv(name, value)
            with pytest.raises(UserError) as caught, open_session("train", name="x"):
                pass
        assert "\n" not in str(caught.value)
        return str(caught.value)

    advice = f"is deleted; allowed: restore it (mlflow experiments restore --experiment-id {gone}), or name another"
    assert said().startswith(f"experiment memberscope: {advice}")
    assert said(MLFLOW_EXPERIMENT_NAME="memberscope").startswith(f"experiment memberscope: {advice}")
    assert said(MLFLOW_EXPERIMENT_ID=gone).startswith(f"MLFLOW_EXPERIMENT_ID={gone}: {advice}")
    assert said(MLFLOW_RUN_ID=session.tracker.run_id).startswith(f"MLFLOW_RUN_ID={session.tracker.run_id}: that run is deleted")
    assert said(MLFLOW_EXPERIMENT_ID="99").startswith("MLFLOW_EXPERIMENT_ID=99: no experiment in this store has that id")
    assert said(MLFLOW_EXPERIMENT_ID="mine").startswith("MLFLOW_EXPERIMENT_ID=mine: no experiment in this store has that id")
    assert said(MLFLOW_RUN_ID="0" * 32).startswith(f"MLFLOW_RUN_ID={'0' * 32}: no run in this store has that id")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
        with open_session("train", name="x") as other:
            other.tracker.tags({"a": "b"})
    client.restore_experiment(gone)
    with open_session("train", name="x") as again:
        assert again.tracker.experiment_id == gone


def test_runs_whose_process_is_gone_are_ended_and_others_are_not(store: Path) -> None:
    with open_session("train", name="first") as session:
        experiment = session.tracker.experiment_id
        client = mlflow.MlflowClient()
        here = {process.HOST_TAG: socket.gethostname()}
        gone = client.create_run(experiment, tags={**here, process.PROCESS_TAG: "1:5.00"}).info.run_id
        alive = client.create_run(experiment, tags={**here, process.PROCESS_TAG: process.this_process()}).info.run_id
        elsewhere = client.create_run(experiment, tags={process.HOST_TAG: "other", process.PROCESS_TAG: "1:5.00"}).info.run_id
        foreign = client.create_run(experiment).info.run_id
    with open_session("train", name="second"):
        pass
    statuses = [client.get_run(run).info.status for run in (gone, alive, elsewhere, foreign)]
    assert statuses == ["KILLED", "RUNNING", "RUNNING", "RUNNING"]


def test_stores_that_cannot_be_used_are_named_at_once(tmp_path: Path) -> None:
    text = tmp_path / "notes.db"
    text.write_text("this is no database at all")
    for uri, part in (
        (f"sqlite:///{tmp_path}/none/mlflow.db", "cannot be written"),
        (f"sqlite:///{tmp_path}", "cannot be written"),
        (f"sqlite:///{text}", "not an SQLite database"),
        ("http://127.0.0.1:9", "does not answer"),
    ):
        start = time.monotonic()
        with pytest.raises(UserError, match=part) as caught:
            stores.check_store(uri)
        assert time.monotonic() - start < 10
        assert "\n" not in str(caught.value)
        assert uri.removeprefix("sqlite:///") in str(caught.value)
