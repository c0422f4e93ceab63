"""The folder that keeps what could not be sent: one process at a time, damaged files, no password."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_store import URI, FakeStore, failing_from, opened

from memberscope.clock import Clock
from memberscope.errors import UserError
from memberscope.mlflow_adapter import spool
from memberscope.mlflow_adapter.outbox import Outbox
from memberscope.mlflow_adapter.spool import Spool
from memberscope.mlflow_adapter.tracker import MlflowTracker, PendingTracker
from memberscope.outages import Lookout
from memberscope.tracking import DataInput


def test_a_spool_is_delivered_by_one_process_alone() -> None:
    box = opened(FakeStore(), seconds=0.0)
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
    store.fails = failing_from(0, "before", times=np.inf)
    address = f"postgresql://me:{secret}@host/d"
    kept = Spool.create(address, study="train")
    box = Outbox(store, spool=kept, lookout=Lookout(address, seconds=0.0))  # type: ignore[arg-type]  # a stand-in
    tracker = PendingTracker(outbox=box, experiment_id="1", name=f"of {address}", first_tags={"a": address}, clock=Clock())
    tracker.params({"p": address})
    tracker.tags({"t": address})
    tracker.describe(address)
    tracker.text(f"see {address}", "a.txt")
    tracker.table(pd.DataFrame({"x": [address]}), "a.csv")
    tracker.data(DataInput(name="d", context="member", digest="a", source=address, shape=(1,), classes=2))
    with tracker.child(address, tags={"t": address}, description=address):
        pass
    files = [path for path in box.spool.folder.rglob("*") if path.is_file()]
    assert {spool.ABOUT, spool.OPERATIONS, "a.txt", "a.csv"} <= {path.name for path in files}
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert sum(b"***" in path.read_bytes() for path in files) == 4
    if os.name == "posix":
        assert box.spool.folder.stat().st_mode & 0o077 == 0


def test_what_workers_left_is_delivered_with_their_parents(capsys: pytest.CaptureFixture[str]) -> None:
    from memberscope.mlflow_adapter.session import _finish

    store = FakeStore()
    box = opened(store)
    tracker = PendingTracker(outbox=box, experiment_id="1", name="parent", first_tags={}, clock=Clock())
    parent = tracker.run_id
    within = Spool.create(URI, study="worker", within=box.spool.folder)
    worker = Outbox(store, spool=within, lookout=Lookout("s", seconds=0.0))  # type: ignore[arg-type]  # a stand-in
    store.fails = failing_from(len(store.requests), "before", times=np.inf)
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
