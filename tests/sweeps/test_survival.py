"""A sweep of real processes: one of two workers killed mid-trial, then the whole sweep, then begun again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlflow
import psutil
import pytest

from memberscope import cli
from memberscope.sweeps import storage as storages
from memberscope.sweeps.trials import TrialQueue, trial_key

ROOT = Path(__file__).resolve().parents[2]
WIDTHS, SEEDS = (4, 8, 16, 32), 3
GRID = sorted((f"dense-fixed-depth-{width}", seed) for width in WIDTHS for seed in range(SEEDS))
WORDS = {
    "grid": "width", "levels": ",".join(map(str, WIDTHS)), "depth": 1, "members": 60, "nonmembers": 60, "validation": 20,
    "epochs": 2, "batch_size": 20, "seeds": SEEDS, "workers": 2, "heartbeat": 1, "log_models": "no", "folder": "studies", "study": "s",
}  # fmt: skip
pytestmark = [pytest.mark.e2e, pytest.mark.thorough]


def _options(**changes: str) -> list[str]:
    return [f"--{name}={value}" for name, value in {**WORDS, **changes}.items()]


def _start(store: Path, **changes: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db", "PYTHONPATH": str(ROOT / "src"), "TF_CPP_MIN_LOG_LEVEL": "3",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "memberscope.cli", "sweep", *_options(**changes)], cwd=store, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _workers(sweep: subprocess.Popen[str]) -> list[psutil.Process]:
    return [child for child in psutil.Process(sweep.pid).children() if any("sweep_worker" in word for word in child.cmdline())]


def _wait(sweep: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 400
    while not ready():
        assert sweep.poll() is None, sweep.communicate()[1][-3000:]
        assert time.monotonic() < deadline, "the sweep makes no progress"
        time.sleep(0.1)


def test_killed_workers_and_a_killed_sweep_lose_nothing_and_repeat_nothing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = _start(store)
    database = store / "studies" / storages.DATABASE
    _wait(sweep, database.is_file)
    _wait(sweep, lambda: len(_workers(sweep)) == 2)
    queue: TrialQueue | None = None

    def states() -> Counter[str]:
        nonlocal queue
        if queue is None:
            opened = storages.open_storage(f"sqlite:///{database}", heartbeat=1)
            queue = TrialQueue(study=storages.load_study(opened, "s"), storage=opened)
        return Counter(trial.state.name for trial in queue.trials())

    try:
        _wait(sweep, lambda: states()["COMPLETE"] >= 1 and states()["RUNNING"] >= 1)
        os.kill(_workers(sweep)[0].pid, signal.SIGKILL)
        before = states()["COMPLETE"]
        _wait(sweep, lambda: states()["COMPLETE"] > before and states()["RUNNING"] >= 1)
    finally:
        family = [*psutil.Process(sweep.pid).children(recursive=True), psutil.Process(sweep.pid)]
        for process in reversed(family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        sweep.communicate()
    assert queue is not None
    kept = {trial_key(trial): trial.number for trial in queue.trials("COMPLETE")}
    assert 0 < len(kept) < len(GRID)

    capsys.readouterr()
    assert cli.main(["sweep", *_options(workers="1")]) == 0
    out = capsys.readouterr().out
    done = queue.trials("COMPLETE")
    assert sorted(trial_key(trial) for trial in done) == GRID
    assert {key: number for key, number in ((trial_key(t), t.number) for t in done) if key in kept} == kept
    assert states()["FAIL"] >= 1, "something was killed mid-trial"
    assert not queue.trials("RUNNING", "WAITING")

    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    parents = {run.info.run_id: run for run in runs if "mlflow.parentRunId" not in run.data.tags}
    assert sorted(run.info.status for run in parents.values()) == ["FINISHED", "KILLED"]
    last = next(run for run in parents.values() if run.info.status == "FINISHED")
    claims = [run for run in runs if run.info.run_id not in parents and run.info.status == "FINISHED"]
    assert sorted((run.data.tags["memberscope.setting"], int(run.data.tags["memberscope.seed"])) for run in claims) == GRID
    assert {run.data.tags["mlflow.parentRunId"] for run in claims} == {last.info.run_id}
    rest = {run.info.status for run in runs if run.info.run_id not in parents} - {"FINISHED"}
    assert rest <= {"KILLED"}

    assert cli.main(["sweep", *_options()]) == 0
    same = capsys.readouterr().out.strip()
    assert same.split("store:")[0] == out.strip().split("store:")[0], "complete: a no-op that prints the answer"
    assert len(queue.trials()) == len(queue.study.get_trials())
    assert len(client.search_runs([last.info.experiment_id])) == len(runs) + 1

    assert cli.main(["sweep", *_options(epochs="3")]) == 2
    err = capsys.readouterr().err
    assert "study=s: the storage has an Optuna study of that name with another space" in err
    assert "epochs is 2 there and 3 here" in err
