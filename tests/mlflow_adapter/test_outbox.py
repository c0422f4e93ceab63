"""Outages at every single request, before and after it took effect: what the store has in the end is what it has without one, once.

The store here is in memory and forgives nothing: whatever is sent twice is there twice.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import socket
import sqlite3
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from memberscope import outages
from memberscope.clock import Clock
from memberscope.errors import Interrupted, UserError
from memberscope.mlflow_adapter import faults, log_model, operations, outbox, resend, spool
from memberscope.mlflow_adapter.outbox import Outbox
from memberscope.mlflow_adapter.spool import Spool
from memberscope.mlflow_adapter.tracker import MlflowTracker, PendingTracker
from memberscope.outages import Lookout, Unreachable
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


def _save(model: Any, folder: Path, *, input_shape: tuple[int, ...], classes: int) -> None:
    """A model of no framework in MLflow's format."""
    from mlflow.models import Model

    folder.mkdir()
    (folder / "weights").write_text(str(model))
    Model().save(str(folder / "MLmodel"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No pause anywhere, and a spool of the test's own."""
    monkeypatch.setattr(outages, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(outbox, "SECOND_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(outbox, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv(spool.VARIABLE, str(tmp_path / "spool"))
    monkeypatch.setitem(log_model.FRAMEWORKS, "plain", _save)  # type: ignore[arg-type]
    opened: list[Spool] = []
    initialize = Spool.__init__

    def remembered(self: Spool, **values: Any) -> None:
        initialize(self, **values)
        opened.append(self)

    monkeypatch.setattr(Spool, "__init__", remembered)
    yield
    for one in opened:
        one.close(remove=False)


def _opened(store: Any, *, seconds: float = 60.0) -> Outbox:
    return Outbox(store, spool=Spool.create(URI, study="train"), lookout=Lookout("the store", seconds=seconds))


def _study(box: Outbox) -> MlflowTracker:
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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> FakeStore:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(spool.VARIABLE, str(tmp_path_factory.mktemp("spool")))
        patch.setitem(log_model.FRAMEWORKS, "plain", _save)  # type: ignore[arg-type]
        store = FakeStore()
        box = _opened(store)
        _study(box)
        box.finish()
    return store


def _wrapped() -> Exception:
    """As MLflow raises it: the cause is only the context."""
    try:
        try:
            raise requests.exceptions.ConnectionError("refused")
        except requests.exceptions.ConnectionError:
            raise MlflowException("API request failed")  # noqa: B904
    except MlflowException as error:
        return error


def _failing(
    first: int, when: str, *, times: float, error: Callable[[], BaseException] = _wrapped
) -> Callable[[int, str], None]:
    """From the request `first` on, which fails `when` it took effect or before, so many fail; those after it never take effect."""

    def fails(number: int, moment: str) -> None:
        if (number == first and moment == when) or (first < number < first + times and moment == "before"):
            raise error()

    return fails


def _moments(undisturbed: FakeStore) -> Iterator[tuple[int, str]]:
    return itertools.product(range(len(undisturbed.requests)), ("before", "after"))


def test_the_undisturbed_study_has_everything(undisturbed: FakeStore) -> None:
    (parent, child), (model,) = undisturbed._contents()
    assert (parent["name"], parent["status"], parent["tags"]) == (
        "second",
        "FINISHED",
        {"a": "b", "memberscope.exit_code": "0"},
    )
    assert parent["metrics"] == [("m", 0, 0.5), ("m", 0, 1.0), ("m", 1, 1.0), ("n", 0, 2.0)]
    assert child["tags"]["mlflow.parentRunId"] == "0"
    assert json.loads(child["tags"]["mlflow.loggedArtifacts"]) == [{"path": "table.json", "type": "table"}]
    assert set(child["files"]) == {"notes/words.txt", "/table.json", "/table.csv"}
    assert [context for _, _, context in child["inputs"]] == ["member", "nonmember"]
    assert (child["outputs"], model[1], model[2]) == (["m-0"], ["m"], LoggedModelStatus.READY)
    assert model[3:] == (["MLmodel", "weights"], ["artifact_path: there", "model_id: m-0"])


@pytest.mark.parametrize("times", [1, 2, 5])
def test_an_outage_that_passes_leaves_no_trace(undisturbed: FakeStore, times: int, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is over at the second look is not even told; longer ones are told in two lines."""
    for first, when in _moments(undisturbed):
        store = FakeStore()
        store.fails = _failing(first, when, times=times)
        box = _opened(store)
        _study(box)
        box.finish()
        said = capsys.readouterr().err.splitlines()
        assert store._contents() == undisturbed._contents(), (first, when)
        assert len(said) == (0 if times == 1 else 2), (first, when, said)
        if times > 1:
            assert "does not answer (refused)" in said[0]
            assert "answers again, after 0 s" in said[1]
        assert spool.spools_in(spool.root()) == []


def test_two_processes_in_each_others_way_lose_nothing(undisturbed: FakeStore) -> None:
    """MLflow refuses one of two that create the same data set at once, which is likely when both had to wait."""

    def refusal() -> Exception:
        return RestException({"error_code": "BAD_REQUEST", "message": "IntegrityError"})

    for outage_first, first in itertools.product((False, True), range(len(undisturbed.requests))):
        store, sequence = FakeStore(), [_wrapped, _wrapped, refusal] if outage_first else [refusal]

        def fails(number: int, moment: str, first: int = first, sequence: list[Any] = sequence) -> None:
            if number >= first and moment == "before" and sequence:
                raise sequence.pop(0)()

        store.fails = fails
        box = _opened(store)
        _study(box)
        box.finish()
        assert store._contents() == undisturbed._contents(), (outage_first, first)


def test_a_store_that_never_comes_back_gets_everything_later(undisturbed: FakeStore) -> None:
    for first, when in _moments(undisturbed):
        store = FakeStore()
        store.fails = _failing(first, when, times=np.inf)
        box = _opened(store, seconds=0.0)
        _study(box)
        with pytest.raises(Unreachable, match=r"has not answered for 0 s \(refused\); what was logged is kept in .*resend"):
            box.finish()
        (folder,) = spool.spools_in(spool.root())
        store.fails = lambda number, moment: None
        left = Spool.take(folder)
        assert left is not None
        sent = resend.deliver(store, left, seconds=0.0)  # type: ignore[arg-type]
        assert store._contents() == undisturbed._contents(), (first, when)
        assert (sent.refused, spool.spools_in(spool.root())) == ((), [])


def test_a_stop_while_the_store_is_waited_for_keeps_everything(
    undisturbed: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        raise Interrupted("stopped by SIGINT")

    store = FakeStore()
    store.fails = _failing(5, "after", times=np.inf)
    box = _opened(store)
    _study(box)
    box.lookout.check = stop
    with pytest.raises(Interrupted):
        box.finish()
    (folder,) = spool.spools_in(spool.root())
    assert (
        f"memberscope: note: the store has not answered for 0 s (refused); what was logged is kept in {folder}"
        in capsys.readouterr().err
    )
    store.fails = lambda number, moment: None
    left = Spool.take(folder)
    assert left is not None
    resend.deliver(store, left, seconds=0.0)  # type: ignore[arg-type]
    assert store._contents() == undisturbed._contents()


def test_a_resend_that_is_cut_off_is_taken_up(undisturbed: FakeStore) -> None:
    def left_with(store: FakeStore) -> Path:
        store.fails = _failing(0, "before", times=np.inf)
        box = _opened(store, seconds=0.0)
        _study(box)
        with pytest.raises(Unreachable):
            box.finish()
        store.fails = lambda number, moment: None
        (folder,) = spool.spools_in(spool.root())
        return folder

    whole = FakeStore()
    left = Spool.take(left_with(whole))
    begun = len(whole.requests)
    assert left is not None
    resend.deliver(whole, left, seconds=0.0)  # type: ignore[arg-type]
    for error, (number, when) in itertools.product(
        (Killed, _wrapped), itertools.product(range(len(whole.requests) - begun), ("before", "after"))
    ):
        store = FakeStore()
        folder = left_with(store)
        store.fails = _failing(len(store.requests) + number, when, times=np.inf, error=error)
        first, second = Spool.take(folder), None
        assert first is not None
        with pytest.raises((Killed, Unreachable)):
            resend.deliver(store, first, seconds=0.0)  # type: ignore[arg-type]
        store.fails = lambda number, moment: None
        second = Spool.take(folder)
        assert second is not None
        resend.deliver(store, second, seconds=0.0)  # type: ignore[arg-type]
        assert store._contents() == undisturbed._contents(), (error, number, when)


def test_what_a_killed_process_left_is_there_once_and_its_runs_end(
    undisturbed: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected_parent, _ = undisturbed._contents()[0]

    def dead(*_: Any, **__: Any) -> Any:
        raise Killed

    for first, when in _moments(undisturbed):
        store = FakeStore()
        with monkeypatch.context() as patch:

            def kill(patch: pytest.MonkeyPatch = patch) -> BaseException:
                patch.setattr(Spool, "add", dead)  # no handler of an error has another word
                return Killed()

            store.fails = _failing(first, when, times=np.inf, error=kill)
            box = _opened(store)
            with pytest.raises(Killed):
                _study(box)
        assert box.spool is not None
        box.spool.close(remove=False)  # as the end of a process does
        store.fails = lambda number, moment: None
        left = Spool.take(box.spool.folder)
        assert left is not None
        resend.deliver(store, left, seconds=0.0)  # type: ignore[arg-type]
        runs, models = store._contents()
        assert {run["status"] for run in runs} <= {"FINISHED", "KILLED"}, "none stays RUNNING"
        assert len(runs) == len({run["name"] for run in runs}) <= 2
        assert len(models) <= 1
        for run in runs:
            assert len(run["metrics"]) == len(set(run["metrics"]))
            assert len(run["inputs"]) == len(set(run["inputs"]))
            assert len(run["outputs"]) == len(set(run["outputs"]))
        if runs[0]["status"] == "FINISHED":
            assert runs[0] == expected_parent


def test_questions_wait_for_the_store_and_for_no_one_elses_error() -> None:
    store = FakeStore()
    box = _opened(store)
    run = MlflowTracker(
        outbox=box, key=store.create_run("1", start_time=0, tags={}, run_name="r").info.run_id, experiment_id="1"
    )
    start = len(store.requests)
    store.fails = _failing(start, "before", times=4)
    assert box.ask(lambda client: client.get_run(run.key)).info.run_id == run.key
    asked = 0

    def model_that_needs_a_server(client: Any) -> None:
        nonlocal asked
        asked += 1
        raise requests.exceptions.ConnectionError("another server")

    with pytest.raises(requests.exceptions.ConnectionError, match="another server"):
        box.ask(model_that_needs_a_server)
    assert asked == 2, "the store may have come back in between"
    store.fails = _failing(len(store.requests), "before", times=np.inf)
    box.lookout.seconds = 0.0
    with pytest.raises(Unreachable, match=r"nothing is left to be sent; allowed, once it answers: start the same study again"):
        box.ask(lambda client: client.get_run(run.key))


def test_a_model_whose_download_was_cut_off_is_loaded_when_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow says then that the path is wrong, and nothing of an outage."""

    class WithExperiments(FakeStore):
        def get_experiment(self, experiment_id: str) -> str:
            return experiment_id

    loads: list[str] = []

    def load_model(uri: str, *, prefer_labels: bool) -> str:
        loads.append(uri)
        if uri == "runs:/absent/model" or len(loads) == 1:
            raise UserError(f"model_uri={uri}: does not load")
        return "the model"

    monkeypatch.setattr("memberscope.mlflow_adapter.models.load_model", load_model)
    store = WithExperiments()
    run = MlflowTracker(outbox=_opened(store), key="r", experiment_id="1")
    store.fails = _failing(len(store.requests), "before", times=3)
    assert run.load_model("runs:/x/model") == "the model"
    assert loads == ["runs:/x/model"] * len(loads)
    before, store.fails = len(loads), lambda number, when: None
    with pytest.raises(UserError, match="absent"):
        run.load_model("runs:/absent/model")
    assert len(loads) == before + 1


def test_a_server_that_cannot_serve_is_final_at_the_first_look_alone() -> None:
    """One that is starting again may answer with an error at first."""

    def failing() -> Exception:
        return RestException({"error_code": "INTERNAL_ERROR", "message": "no"})

    store = FakeStore()
    store.fails = _failing(0, "before", times=np.inf, error=failing)
    with pytest.raises(RestException):
        _opened(store).ask(lambda client: client.get_run("x"), first=True)
    store = FakeStore()
    number = store.create_run("1", start_time=0, tags={}, run_name="r").info.run_id
    looks = [
        _wrapped,
        _wrapped,
        failing,
        failing,
        _wrapped,
        None,
    ]  # each question is followed by a look whether the store answers at all

    def fails(number: int, moment: str) -> None:
        if moment == "before" and looks and (error := looks.pop(0)):
            raise error()

    store.fails = fails
    assert _opened(store).ask(lambda client: client.get_run(number), first=True).info.run_id == number
    assert looks == []


def test_what_the_store_refuses_is_the_studys_error_and_not_sent_again() -> None:
    store = FakeStore()
    box = _opened(store)
    tracker = PendingTracker(outbox=box, experiment_id="1", name="r", first_tags={}, clock=Clock())
    assert tracker.run_id == f"{0:032x}"
    store.fails = _failing(
        len(store.requests), "before", times=2, error=lambda: RestException({"error_code": "INVALID_PARAMETER_VALUE"})
    )
    with pytest.raises(RestException):
        tracker.params({"p": 1})
    tracker.end("FAILED")
    box.finish()
    assert (store.runs[tracker.run_id]["params"], store.runs[tracker.run_id]["status"]) == ({}, "FAILED")


def test_a_spool_whose_runs_were_deleted_is_over_and_one_that_may_not_write_is_kept() -> None:
    def left() -> Spool:
        store = FakeStore()
        store.fails = _failing(0, "before", times=np.inf)
        box = _opened(store, seconds=0.0)
        _study(box)
        with pytest.raises(Unreachable):
            box.finish()
        (folder,) = spool.spools_in(spool.root())
        taken = Spool.take(folder)
        assert taken is not None
        return taken

    def refusing(code: str) -> Callable[[int, str], None]:
        return _failing(0, "before", times=np.inf, error=lambda: RestException({"error_code": code, "message": "no"}))

    store = FakeStore()
    store.fails = refusing("INVALID_PARAMETER_VALUE")
    one = left()
    many = len(one.pending)
    sent = resend.deliver(store, one, seconds=0.0)  # type: ignore[arg-type]
    assert (sent.operations, len(sent.refused), spool.spools_in(spool.root())) == (1, many - 1, []), (
        "a run of another process that is gone is no loss"
    )
    assert f"{many - 1} were refused, the first because: INVALID_PARAMETER_VALUE: no" in str(sent)
    store.fails = refusing("PERMISSION_DENIED")
    other = left()
    with pytest.raises(UserError, match=r"the store refuses what is kept there \(PERMISSION_DENIED: no\)"):
        resend.deliver(store, other, seconds=0.0)  # type: ignore[arg-type]
    again = Spool.take(other.folder)
    assert again is not None
    assert len(again.pending) == many


# ------------------------------------------------------------------------------------------------------------------------ the spool


def test_a_spool_is_delivered_by_one_process_alone() -> None:
    box = _opened(FakeStore(), seconds=0.0)
    assert box.spool is not None
    assert Spool.take(box.spool.folder) is None, "its owner is there"
    box.spool.add({"kind": "tags", "run": "f" * 32, "values": {}})
    box.spool.close(remove=False)
    first = Spool.take(box.spool.folder)
    assert first is not None
    assert Spool.take(box.spool.folder) is None
    first.close(remove=True)
    with pytest.raises(UserError, match="holds nothing that memberscope left to be sent"):
        Spool.take(box.spool.folder)


def test_a_half_written_last_line_counts_as_not_there() -> None:
    made = Spool.create(URI, study="train")
    made.add({"kind": "tags", "run": "f" * 32, "values": {}})
    made.close(remove=False)
    with (made.folder / spool.OPERATIONS).open("a") as file:
        file.write('{"n": 2, "kind": "ta')
    taken = Spool.take(made.folder)
    assert taken is not None
    assert list(taken.pending) == [1]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (spool.ABOUT, "{", "holds nothing that memberscope left"),
        (spool.ABOUT, "[" * 100_000, "holds nothing that memberscope left"),
        (spool.ABOUT, '{"format": 9, "store": "s", "process": "1:1"}', "has format 9; allowed: 1"),
        (spool.OPERATIONS, "no JSON\n", "damaged"),
        (spool.OPERATIONS, "3\n", "damaged"),
        (spool.OPERATIONS, '{"n": 1}\n', "damaged"),
        (spool.DELIVERED, "[]\n", "damaged"),
    ],
    ids=range(7),
)
def test_a_damaged_spool_is_one_line(name: str, text: str, said: str) -> None:
    made = Spool.create(URI, study="train")
    made.add({"kind": "tags", "run": "f" * 32, "values": {}})
    made.close(remove=False)
    (made.folder / name).write_text(text)
    with pytest.raises(UserError, match=said) as error:
        Spool.take(made.folder)
    assert str(error.value).count("\n") == 0
    assert str(made.folder) in str(error.value)


def test_a_spool_that_cannot_be_written_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(spool.VARIABLE, str(tmp_path / "file" / "spool"))
    with pytest.raises(UserError, match=r"spool .*file/spool: cannot be written \(Not a directory\).*MEMBERSCOPE_SPOOL"):
        Spool.create(URI, study="train")


def test_a_spool_has_no_password_and_is_its_users_alone() -> None:
    secret = "zq7planted"
    store = FakeStore()
    store.fails = _failing(0, "before", times=np.inf)
    address = f"postgresql://me:{secret}@host/d"
    box = Outbox(store, spool=Spool.create(address, study="train"), lookout=Lookout(address, seconds=0.0))  # type: ignore[arg-type]
    tracker = PendingTracker(outbox=box, experiment_id="1", name=f"of {address}", first_tags={"a": address}, clock=Clock())
    tracker.params({"p": address})
    tracker.tags({"t": address})
    tracker.describe(address)
    tracker.text(f"see {address}", "a.txt")
    tracker.table(pd.DataFrame({"x": [address]}), "a.csv")
    tracker.data(DataInput(name="d", context="member", digest="a", source=address, shape=(1,), classes=2))
    with tracker.child(address, tags={"t": address}, description=address):
        pass
    assert box.spool is not None
    files = [path for path in box.spool.folder.rglob("*") if path.is_file()]
    assert {spool.ABOUT, spool.OPERATIONS, "a.txt", "a.csv"} <= {path.name for path in files}
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert sum(b"***" in path.read_bytes() for path in files) == 4
    if os.name == "posix":
        assert box.spool.folder.stat().st_mode & 0o077 == 0


def test_what_workers_left_is_delivered_with_their_parents(capsys: pytest.CaptureFixture[str]) -> None:
    from memberscope.mlflow_adapter.session import _finish

    store = FakeStore()
    box = _opened(store)
    tracker = PendingTracker(outbox=box, experiment_id="1", name="parent", first_tags={}, clock=Clock())
    parent = tracker.run_id
    assert box.spool is not None
    worker = Outbox(store, spool=Spool.create(URI, study="worker", within=box.spool.folder), lookout=Lookout("s", seconds=0.0))  # type: ignore[arg-type]
    assert worker.spool is not None
    store.fails = _failing(len(store.requests), "before", times=np.inf)
    with MlflowTracker(outbox=worker, key=parent, experiment_id="1").child("trial") as child:
        child.metrics({"m": 1.0})
        address = child.address
    assert json.loads(address)["run_key"] == child.key, "its run has no id yet"
    worker.spool.close(remove=False)
    tracker.settle(address, "KILLED")
    store.fails = lambda number, moment: None
    box.gather = lambda: _gathered(box)
    tracker.end("FINISHED")
    _finish(box)
    runs, _ = store._contents()
    assert [(run["name"], run["status"]) for run in runs] == [("parent", "FINISHED"), ("trial", "KILLED")], (
        "settled after it was there"
    )
    assert runs[1]["metrics"] == [("m", 0, 1.0)]
    assert spool.spools_in(spool.root()) == []


def _gathered(box: Outbox) -> None:
    from memberscope.mlflow_adapter.session import _gather

    _gather(box, seconds=0.0)


# ----------------------------------------------------------------------------------------------------------------- errors and limits


def _sqlite(statement: str, *, locked: bool) -> Exception:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        holder, other = sqlite3.connect(path, isolation_level=None), sqlite3.connect(path, timeout=0.0)
        try:
            if locked:
                holder.execute("BEGIN EXCLUSIVE")
            other.execute(statement)
        except sqlite3.Error as error:
            return error
        finally:
            holder.close()
            other.close()
    raise AssertionError("it did not fail")


def _of_request(**how: Any) -> Exception:
    """What MLflow's own client raises."""
    from mlflow.utils.rest_utils import http_request

    try:
        http_request(max_retries=0, endpoint="/api", method="GET", timeout=0.2, **how)
    except MlflowException as error:
        return error
    raise AssertionError("it did not fail")


def test_which_errors_are_outages() -> None:
    from mlflow.utils.rest_utils import MlflowHostCreds

    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
    passing = {
        "refused": _of_request(host_creds=MlflowHostCreds("http://127.0.0.1:1")),
        "silent": _of_request(host_creds=MlflowHostCreds(f"http://127.0.0.1:{silent.getsockname()[1]}")),
        "500": RestException({"error_code": "INTERNAL_ERROR", "message": "no"}),
        "503": RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no"}),
        "429": RestException({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "no"}),
        "locked": _sqlite("SELECT * FROM sqlite_master", locked=True),
        "reset": ConnectionResetError(),
    }
    silent.close()
    lasting = {
        "no such table": _sqlite("SELECT * FROM nothing", locked=False),
        "404": RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}),
        "400": RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "database is locked"}),
        "403": RestException({"error_code": "PERMISSION_DENIED", "message": "no"}),
        "a mistake": ValueError("connection refused"),
        "a full disk": OSError(28, "No space left on device"),
    }
    assert [name for name, error in passing.items() if not faults.is_outage(error)] == []
    assert [name for name, error in lasting.items() if faults.is_outage(error)] == []
    assert faults.is_answer(passing["500"])
    assert not faults.is_answer(passing["refused"])


@pytest.mark.parametrize(("given", "seconds"), [("", 300.0), ("0", 0.0), ("24.5", 24.5)])
def test_the_limit_is_seconds(monkeypatch: pytest.MonkeyPatch, given: str, seconds: float) -> None:
    monkeypatch.setenv(outages.VARIABLE, given)
    assert outages.limit() == seconds


@pytest.mark.parametrize("given", ["-1", "nan", "inf", "five", "1e999"])
def test_no_other_limit(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(outages.VARIABLE, given)
    with pytest.raises(UserError, match=f"MEMBERSCOPE_OUTAGE_LIMIT={given}: allowed: a number of seconds, 0 or more"):
        outages.limit()


def test_operations_from_several_threads_are_all_there() -> None:
    store = FakeStore()
    box = _opened(store)
    tracker = PendingTracker(outbox=box, experiment_id="1", name="r", first_tags={}, clock=Clock())
    tracker.tags({})
    threads = [
        threading.Thread(target=lambda k=k: [tracker.metrics({f"m{k}": float(step)}, step=step) for step in range(20)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    box.finish()
    assert len(store._contents()[0][0]["metrics"]) == 80
