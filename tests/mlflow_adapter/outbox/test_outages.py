"""Outages at every single request, before and after it took effect: what the store has in the end is what it has without one, once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from fake_store import FakeStore, Killed, connection_refused, deliver, failing_from, log_study, moments, opened
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import RestException

from memberscope.clock import Clock
from memberscope.errors import Interrupted, UserError
from memberscope.mlflow_adapter import spool
from memberscope.mlflow_adapter.spool import Spool
from memberscope.mlflow_adapter.tracker import MlflowTracker, PendingTracker
from memberscope.outages import Unreachable


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
    for first, when in moments(undisturbed):
        store = FakeStore()
        store.fails = failing_from(first, when, times=times)
        box = opened(store)
        log_study(box)
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
        store, sequence = FakeStore(), [connection_refused, connection_refused, refusal] if outage_first else [refusal]

        def fails(number: int, moment: str, first: int = first, sequence: list[Any] = sequence) -> None:
            if number >= first and moment == "before" and sequence:
                raise sequence.pop(0)()

        store.fails = fails
        box = opened(store)
        log_study(box)
        box.finish()
        assert store._contents() == undisturbed._contents(), (outage_first, first)


def test_a_store_that_never_comes_back_gets_everything_later(undisturbed: FakeStore) -> None:
    for first, when in moments(undisturbed):
        store = FakeStore()
        store.fails = failing_from(first, when, times=np.inf)
        box = opened(store, seconds=0.0)
        log_study(box)
        with pytest.raises(Unreachable, match=r"has not answered for 0 s \(refused\); what was logged is kept in .*resend"):
            box.finish()
        (folder,) = spool.spools_in(spool.root())
        store.fails = lambda number, moment: None
        left = Spool.take(folder)
        assert left is not None
        sent = deliver(store, left)
        assert store._contents() == undisturbed._contents(), (first, when)
        assert (sent.refused, spool.spools_in(spool.root())) == ((), [])


def test_a_stop_while_the_store_is_waited_for_keeps_everything(
    undisturbed: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        raise Interrupted("stopped by SIGINT")

    store = FakeStore()
    store.fails = failing_from(5, "after", times=np.inf)
    box = opened(store)
    log_study(box)
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
    deliver(store, left)
    assert store._contents() == undisturbed._contents()


def test_a_resend_that_is_cut_off_is_taken_up(undisturbed: FakeStore) -> None:
    def left_with(store: FakeStore) -> Path:
        store.fails = failing_from(0, "before", times=np.inf)
        box = opened(store, seconds=0.0)
        log_study(box)
        with pytest.raises(Unreachable):
            box.finish()
        store.fails = lambda number, moment: None
        (folder,) = spool.spools_in(spool.root())
        return folder

    whole = FakeStore()
    left = Spool.take(left_with(whole))
    begun = len(whole.requests)
    assert left is not None
    deliver(whole, left)
    for error, (number, when) in itertools.product(
        (Killed, connection_refused), itertools.product(range(len(whole.requests) - begun), ("before", "after"))
    ):
        store = FakeStore()
        folder = left_with(store)
        store.fails = failing_from(len(store.requests) + number, when, times=np.inf, error=error)
        first, second = Spool.take(folder), None
        assert first is not None
        with pytest.raises((Killed, Unreachable)):
            deliver(store, first)
        store.fails = lambda number, moment: None
        second = Spool.take(folder)
        assert second is not None
        deliver(store, second)
        assert store._contents() == undisturbed._contents(), (error, number, when)


def test_what_a_killed_process_left_is_there_once_and_its_runs_end(
    undisturbed: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected_parent, _ = undisturbed._contents()[0]

    def dead(*_: Any, **__: Any) -> Any:
        raise Killed

    for first, when in moments(undisturbed):
        store = FakeStore()
        with monkeypatch.context() as patch:

            def kill(patch: pytest.MonkeyPatch = patch) -> BaseException:
                patch.setattr(Spool, "add", dead)  # no handler of an error has another word
                return Killed()

            store.fails = failing_from(first, when, times=np.inf, error=kill)
            box = opened(store)
            with pytest.raises(Killed):
                log_study(box)
        box.spool.close(remove=False)  # as the end of a process does
        store.fails = lambda number, moment: None
        left = Spool.take(box.spool.folder)
        assert left is not None
        deliver(store, left)
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
    box = opened(store)
    run = MlflowTracker(
        outbox=box, key=store.create_run("1", start_time=0, tags={}, run_name="r").info.run_id, experiment_id="1"
    )
    start = len(store.requests)
    store.fails = failing_from(start, "before", times=4)
    assert box.ask(lambda client: client.get_run(run.key)).info.run_id == run.key
    asked = 0

    def model_that_needs_a_server(client: Any) -> None:
        nonlocal asked
        asked += 1
        raise requests.exceptions.ConnectionError("another server")

    with pytest.raises(requests.exceptions.ConnectionError, match="another server"):
        box.ask(model_that_needs_a_server)
    assert asked == 2, "the store may have come back in between"
    store.fails = failing_from(len(store.requests), "before", times=np.inf)
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
    run = MlflowTracker(outbox=opened(store), key="r", experiment_id="1")
    store.fails = failing_from(len(store.requests), "before", times=3)
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
    store.fails = failing_from(0, "before", times=np.inf, error=failing)
    with pytest.raises(RestException):
        opened(store).ask(lambda client: client.get_run("x"), first=True)
    store = FakeStore()
    number = store.create_run("1", start_time=0, tags={}, run_name="r").info.run_id
    looks = [
        connection_refused,
        connection_refused,
        failing,
        failing,
        connection_refused,
        None,
    ]  # each question is followed by a look whether the store answers at all

    def fails(number: int, moment: str) -> None:
        if moment == "before" and looks and (error := looks.pop(0)):
            raise error()

    store.fails = fails
    assert opened(store).ask(lambda client: client.get_run(number), first=True).info.run_id == number
    assert looks == []


def test_what_the_store_refuses_is_the_studys_error_and_not_sent_again() -> None:
    store = FakeStore()
    box = opened(store)
    tracker = PendingTracker(outbox=box, experiment_id="1", name="r", first_tags={}, clock=Clock())
    assert tracker.run_id == f"{0:032x}"
    store.fails = failing_from(
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
        store.fails = failing_from(0, "before", times=np.inf)
        box = opened(store, seconds=0.0)
        log_study(box)
        with pytest.raises(Unreachable):
            box.finish()
        (folder,) = spool.spools_in(spool.root())
        taken = Spool.take(folder)
        assert taken is not None
        return taken

    def refusing(code: str) -> Callable[[int, str], None]:
        return failing_from(0, "before", times=np.inf, error=lambda: RestException({"error_code": code, "message": "no"}))

    store = FakeStore()
    store.fails = refusing("INVALID_PARAMETER_VALUE")
    one = left()
    many = len(one.pending)
    sent = deliver(store, one)
    assert (sent.operations, len(sent.refused), spool.spools_in(spool.root())) == (1, many - 1, []), (
        "a run of another process that is gone is no loss"
    )
    assert f"{many - 1} were refused, the first because: INVALID_PARAMETER_VALUE: no" in str(sent)
    store.fails = refusing("PERMISSION_DENIED")
    other = left()
    with pytest.raises(UserError, match=r"the store refuses what is kept there \(PERMISSION_DENIED: no\)"):
        deliver(store, other)
    again = Spool.take(other.folder)
    assert again is not None
    assert len(again.pending) == many
