"""Shadow studies as people start them: `mlflow run`, and mistakes with their exit codes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from memberscope import cli

pytestmark = pytest.mark.e2e

TINY = {
    "members": "100", "population": "80", "shadows": "2", "targets": "2", "epochs": "3", "width": "16", "depth": "1", "queries": "1",
    "perturbed": "4", "distill_epochs": "2", "attacks": "shadow,threshold", "slices": "entire",
}  # fmt: skip


@pytest.mark.thorough
def test_shadow_through_mlflow_run(store: Path, project: Any) -> None:
    done = project.mlflow_run("shadow", {**TINY, "store": str(store / "models")})
    assert done.returncode == 0, done.stderr[-3000:]
    (parent,), runs = project.runs()
    children = {run.info.run_name: run for run in runs}
    assert set(children) == {"shadows", "target-0"}
    assert {run.info.status for run in (parent, *runs)} == {"FINISHED"}
    assert {"auc_mean/lira_online", "auc/threshold_loss", "auc_ci_low/threshold_loss"} <= set(parent.data.metrics)
    files = {item.path for item in project.client.list_artifacts(parent.info.run_id)}
    assert {"by_shadows.csv", "orderings.csv", "auc_by_shadows.png", "summary.md"} <= files
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


def test_an_unreachable_scheduler_is_told_within_seconds(project: Any) -> None:
    start = time.monotonic()
    done = project.call("shadow", "--scheduler=tcp://127.0.0.1:9", *(f"--{name}={value}" for name, value in TINY.items()))
    assert done.returncode == 2, done.stderr[-2000:]
    assert "memberscope: scheduler=tcp://127.0.0.1:9" in done.stderr
    assert time.monotonic() - start < 40, "ten seconds, and what TensorFlow and MLflow take to be imported on a busy machine"
