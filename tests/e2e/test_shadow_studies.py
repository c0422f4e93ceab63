"""Shadow studies as people start them: `mlflow run`, and mistakes with their exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from memberscope import cli

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.e2e

TINY = {
    "members": "100", "population": "80", "shadows": "2", "targets": "2", "epochs": "3", "width": "16", "depth": "1", "queries": "1",
    "perturbed": "4", "distill_epochs": "2", "attacks": "shadow,threshold", "slices": "entire",
}  # fmt: skip


def _environment(store: Path) -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db", "PYTHONPATH": str(ROOT / "src")}


def _script(store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memberscope.cli", *words]
    return subprocess.run(command, cwd=store, env=_environment(store), capture_output=True, text=True, check=False)


def test_shadow_through_mlflow_run(store: Path) -> None:
    command = [str(BIN / "mlflow"), "run", str(ROOT), "-e", "shadow", "--env-manager", "local", "--experiment-name", "e2e"]
    for name, value in {**TINY, "store": str(store / "models")}.items():
        command += ["-P", f"{name}={value}"]
    done = subprocess.run(command, cwd=store, env=_environment(store), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert set(children) == {"shadows", "target-0"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {"auc_mean/lira_online", "auc/threshold_loss", "auc_ci_low/threshold_loss"} <= set(parent.data.metrics)
    files = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"plan.npz", "by_shadows.csv", "orderings.csv", "auc_by_shadows.png", "summary.md"} <= files
    assert "mean over 2 targets" in done.stdout
    assert len(list((store / "models").rglob("*.npz"))) >= 4


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["shadow", "--shadows=3"], "memberscope: shadows=3: odd; design=half trains complementary pairs; allowed: 2 or 4"),
        (["mitigate", "--noise_multiplier=1"], "memberscope: target_epsilon=1.0, noise_multiplier=1.0: both given"),
        (["synthesize", "--release=label_only"], "memberscope: release=label_only: the climb needs confidences"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(
    store: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith(line)
    assert not (store / "models").exists()


def test_an_unreachable_scheduler_is_told_within_seconds(store: Path) -> None:
    start = time.monotonic()
    done = _script(store, "shadow", "--scheduler=tcp://127.0.0.1:9", *(f"--{name}={value}" for name, value in TINY.items()))
    assert done.returncode == 2, done.stderr[-2000:]
    assert "memberscope: scheduler=tcp://127.0.0.1:9" in done.stderr
    assert time.monotonic() - start < 60, "ten seconds, and what TensorFlow and MLflow take to start on a busy machine"
