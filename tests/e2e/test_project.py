"""The project as people start it: real `mlflow run` processes, a real store, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from memberscope import cli

pytestmark = pytest.mark.e2e

TINY = {"members": "150", "nonmembers": "150", "validation": "60", "epochs": "2", "attacks": "threshold"}


@pytest.mark.thorough
def test_case_study_through_mlflow_run(store: Path, project: Any) -> None:
    (store / "mlflow.db").unlink()  # as in a folder where nothing ever ran
    done = project.mlflow_run("main", {**TINY, "seeds": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    (parent,), children = project.runs()
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "case-study-digits"
    assert sorted(child.info.run_name for child in children) == [
        "conv-d3-c10-s0", "dense-d3-c10-s0", "dense-d3-c4-s0", "dense-d6-c10-s0",
    ]  # fmt: skip
    client = project.client
    for child in children:
        assert child.info.status == "FINISHED"
        assert child.info.experiment_id == parent.info.experiment_id
        assert {"auc/threshold_loss", "advantage/threshold_entropy", "tpr_at_fpr_0_01/threshold_loss"} <= set(
            child.data.metrics
        )
        assert child.data.metrics["auc_ci_low/threshold_loss"] < child.data.metrics["auc/threshold_loss"]
        assert not any(bad in name for name in child.data.metrics for bad in "%=@")
        files = {item.path: item.file_size for item in client.list_artifacts(child.info.run_id)}
        assert files["roc.png"] > 10_000
        assert files["roc.csv"] > 100  # steps of at least 50 records
    assert parent.data.params["epochs"] == "2", "mlflow run's own parameters, not logged again"
    assert "memberscope.verdict.depth" in parent.data.tags
    assert "auc_difference/depth" in parent.data.metrics
    assert str(store / "mlflow.db") in done.stdout
    assert "?workflowType=machine_learning" in done.stdout
    assert "dense-d6-c10-s0" in done.stdout


@pytest.mark.thorough
def test_bad_parameter_through_mlflow_run_fails_the_run_with_one_line(project: Any) -> None:
    done = project.mlflow_run("train", {"epochs": "many"})
    assert done.returncode == 1, "mlflow run returns 1 for any exit code of ours"
    lines = [line for line in done.stderr.splitlines() if line.startswith("memberscope:")]
    assert lines == ["memberscope: epochs=many: not a whole number; allowed: a whole number, 1 to 100000"]
    (run,), _ = project.runs()
    assert (run.info.status, run.data.tags["memberscope.exit_code"]) == ("FAILED", "2")
    assert "epochs=many" in run.data.tags["memberscope.error"]


@pytest.mark.thorough
@pytest.mark.parametrize("through", ["mlflow", "script"])
def test_ctrl_c_kills_the_run_and_leaves_nothing_in_the_way(store: Path, project: Any, through: str) -> None:
    values = {"epochs": "100000", "attacks": "threshold", "model": "dense"}
    if through == "mlflow":
        command = project.command("train", values)
    else:
        command = [sys.executable, "-m", "memberscope.cli", "train", *(f"--{name}={value}" for name, value in values.items())]
    log = store / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=store, env=project.environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while "steps [" not in log.read_text() and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        code = process.wait(timeout=60)
    deadline = time.monotonic() + 60  # mlflow run writes FAILED over it, and is put right once it is gone
    while (run := project.runs()[0][0]).info.status != "KILLED" and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(2)
    run = project.runs()[0][0]
    assert run.info.status == "KILLED", log.read_text()[-2000:]
    assert run.data.tags["memberscope.exit_code"] == "130"
    assert "train/loss" in run.data.metrics, "what was finished stays"
    if through == "script":
        assert code == 130
        assert "Traceback" not in log.read_text()
        assert log.read_text().splitlines()[-1].startswith("memberscope: stopped by SIGINT")
        again = project.call("train", "--epochs=1", "--attacks=threshold", "--model=dense")
        assert again.returncode == 0, again.stderr


@pytest.mark.thorough
def test_a_terminated_mlflow_run_ends_its_script_and_the_run(store: Path, project: Any) -> None:
    """A scheduler, or a person with `kill`, ends `mlflow run` alone; the script is not told and notices by itself."""
    values = {"epochs": "100000", "attacks": "threshold", "model": "dense"}
    log = store / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            project.command("train", values), cwd=store, env=project.environment, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while "steps [" not in log.read_text() and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        deadline = time.monotonic() + 120
        while "memberscope: stopped by the end of mlflow run" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.2)
        while (run := project.runs()[0][0]).info.status == "RUNNING" and time.monotonic() < deadline:
            time.sleep(0.5)
        assert run.info.status == "KILLED", log.read_text()[-2000:]
        assert run.data.tags["memberscope.exit_code"] == "130"
        assert "train/loss" in run.data.metrics, "what was finished stays"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


BAD = [
    (["train", "--dataset=cifer10"], ["dataset=cifer10", "nearest: ", "cifar10"]),
    (["train", "--dataset=cifar10", "--data_dir=nowhere"], ["dataset=cifar10", "nowhere", "TFDS_DATA_DIR"]),
    (["train", "--classes=11"], ["classes=11", "2 to 10"]),
    (["train", "--classes=1"], ["classes=1", "2 to 10"]),
    (["train", "--depth=4"], ["depth=4", "1 to 3"]),
    (["train", "--batch_size=0"], ["batch_size=0", "1 to"]),
    (["train", "--learning_rate=x"], ["learning_rate=x", "not a number"]),
    (["train", "--members=5000"], ["members=5000", "at most 897"]),
    (["train", "--attacks=mpl"], ["attacks: 'mpl'", "nearest: mlp"]),
    (["main", "--few_classes=10"], ["few_classes=10", "2 to 9"]),
    (["main", "--epoch=3"], ["--epoch=3", "nearest: --epochs"]),
    (["train", "--slices=clas"], ["slices: 'clas'", "nearest: class"]),
    (["train", "--dataset=cifar10:9.9.9"], ["dataset=cifar10:9.9.9", "no such version"]),
    (["train", "--dataset=tfds:"], ["dataset=", "not the name of a data set"]),
    (["attack", "--predictions=none.npz", "--prior=1"], ["prior=1", "below 1"]),
    (["main", "--deep=2"], ["deep=2", "above depth=3"]),
    (["mian"], ["mian", "nearest: main"]),
]


@pytest.mark.parametrize(("words", "parts"), BAD, ids=lambda value: " ".join(value)[:40])
def test_mistakes_get_one_line_and_exit_code_two(
    store: Path, project: Any, capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]
) -> None:
    code = cli.main(words)
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.count("\n") == 1, error
    assert error.startswith("memberscope: ")
    assert all(part in error for part in parts), error
    if (store / "mlflow.db").exists():
        assert project.runs() == ([], []), "a mistake leaves no run under a name that another will have"


def test_a_mistake_in_a_process_of_its_own(project: Any) -> None:
    start = time.monotonic()
    done = project.script("train", "--dataset=cifar10", "--data_dir=nowhere")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "nowhere" in done.stderr
    # imports of TensorFlow and TFDS included: 10 s on a quiet machine, which a shared one is not
    assert time.monotonic() - start < 40


def test_verbose_shows_where(project: Any) -> None:
    done = project.call("train", "--classes=11", "--verbose")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_dead_tracking_server_and_unwritable_store(store: Path, project: Any) -> None:
    for uri, part in (("http://127.0.0.1:9", "does not answer"), (f"sqlite:///{store}/none/mlflow.db", "cannot be written")):
        start = time.monotonic()
        for words in (["-m", "memberscope.cli", "train"], ["-m", "memberscope.mlflow_adapter.store"]):
            environment = {**project.environment, "MLFLOW_TRACKING_URI": uri}
            done = subprocess.run(
                [sys.executable, *words], env=environment, cwd=store, capture_output=True, text=True, check=False
            )
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert part in done.stderr
        assert time.monotonic() - start < 25
