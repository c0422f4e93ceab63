"""The gate as a release pipeline meets it: real models, real processes, exit codes, and what `mlflow run` makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from memberscope.predictions import Predictions

pytestmark = pytest.mark.e2e
RULE = "threshold_loss.entire.auc > 0.6"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An overfitted forest, records that it was trained on and records that it never saw; forty of them; and others for both sides."""
    folder = tmp_path_factory.mktemp("gate")
    rng = np.random.default_rng(0)

    def records(n: int) -> dict[str, np.ndarray]:
        x = rng.normal(size=(n, 8))
        return {"x": x, "y": (x[:, 0] + rng.normal(size=n) > 0).astype(np.int64)}

    trained = records(1_000)
    model = RandomForestClassifier(30, random_state=0).fit(trained["x"], trained["y"])
    mlflow.sklearn.save_model(model, folder / "forest", pip_requirements=["scikit-learn"], serialization_format="cloudpickle")
    np.savez(folder / "trained.npz", **trained)
    np.savez(folder / "twenty.npz", **{name: values[:20] for name, values in records(20).items()})
    for name in ("fresh", "others"):
        np.savez(folder / f"{name}.npz", **records(1_000))
    np.savez(folder / "more.npz", **records(20))
    return folder


def _options(files: Path, members: str, nonmembers: str) -> dict[str, str]:
    return {
        "model_uri": str(files / "forest"), "members": str(files / f"{members}.npz"), "nonmembers": str(files / f"{nonmembers}.npz"),
        "attacks": "threshold_loss", "controls": "none", "fail_if": RULE,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("through", "members", "nonmembers", "code", "outcome", "words"),
    [
        pytest.param("script", "trained", "fresh", 3, "trip", "above the limit", marks=pytest.mark.thorough),
        ("call", "others", "fresh", 0, "pass", "Gate: passed"),
        ("call", "twenty", "more", 4, "undecided", "records"),
    ],
    ids=["overfitted, a real process", "trained on other data", "forty records"],
)
def test_exit_codes(
    files: Path, project: Any, through: str, members: str, nonmembers: str, code: int, outcome: str, words: str
) -> None:
    options = _options(files, members, nonmembers)
    done = getattr(project, through)("audit", *(f"--{name}={value}" for name, value in options.items()))
    assert done.returncode == code, done.stderr[-2000:]
    (run,), _ = project.runs()
    assert run.info.status == ("FINISHED" if code == 0 else "FAILED")
    assert run.data.tags["memberscope.exit_code"] == str(code)
    assert run.data.tags["memberscope.gate"] == outcome
    assert words in done.stdout + done.stderr
    assert "auc/threshold_loss" in run.data.metrics, "the figures are kept whatever the gate says"


@pytest.mark.thorough
def test_mlflow_run_returns_1_and_the_run_says_why(files: Path, project: Any) -> None:
    done = project.mlflow_run("audit", _options(files, "trained", "fresh"))
    assert done.returncode == 1
    (run,), _ = project.runs()
    assert (run.info.status, run.data.tags["memberscope.exit_code"]) == ("FAILED", "3")
    assert "threshold_loss.entire.auc" in run.data.tags["memberscope.error"]
    assert run.data.metrics["auc_ci_low/threshold_loss"] > 0.6


def test_predictions_from_a_file_pass_the_same_gate(files: Path, project: Any) -> None:
    """`attack`: no model at hand, only what it said."""
    rng = np.random.default_rng(1)
    member = np.arange(400) < 200
    probs = np.where(member, 0.99, rng.uniform(0.5, 0.9, 400))
    target = Predictions(probs=np.column_stack([probs, 1 - probs]), labels=np.zeros(400, np.int64), member=member)
    target.save(project.folder / "said.npz")
    words = ["attack", f"--predictions={project.folder / 'said.npz'}", "--attacks=threshold_loss", "--controls=none"]
    assert project.call(*words, f"--fail_if={RULE}").returncode == 3
    (run,), _ = project.runs()
    assert (run.info.status, run.data.tags["memberscope.gate"]) == ("FAILED", "trip")
    wrong = project.call(*words, "--fail_if=lira.entire.auc > 0.6")
    assert wrong.returncode == 2
    assert [line for line in wrong.stderr.splitlines() if line.startswith("memberscope:")], "one line, before any attack runs"
