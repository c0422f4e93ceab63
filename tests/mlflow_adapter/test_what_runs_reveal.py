"""What runs in a real store leave, read through MLflow by whoever has all the records: an audit, an evaluation, and a report on them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from own_artifacts import best_guess, unlisted

from memberscope import cli
from memberscope.audit import artifacts
from memberscope.datasets import records as sides
from memberscope.mlflow_adapter.read import read_run
from memberscope.tracking import MemoryTracker

N = 800
CHANCE = 0.1  # the largest deviation of an AUC from 1/2 over some dozen columns of 800 records without any signal: 4.8 standard errors
DATA = {"metrics", "params", "tags", "inputs"}
ASK = {"attacks": "threshold_loss,trained_lr", "slices": "entire"}


pytestmark = pytest.mark.usefixtures("registered_evaluator")


def left(run_id: str, folder: Path) -> dict[str, Any]:
    """All that a run holds: its files, and its metrics, params, tags and data sets as text."""
    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    local = Path(client.download_artifacts(run_id, "", str(folder)))
    found: dict[str, Any] = {}
    for path in sorted(local.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(local))] = path.read_bytes() if path.suffix in (".npz", ".png") else path.read_text()
    data = {"metrics": run.data.metrics, "params": run.data.params, "tags": run.data.tags, "inputs": run.inputs.to_dictionary()}
    return found | {name: json.dumps(values) for name, values in data.items()}


def _candidates(laboratory: Any) -> tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]:
    """All records in one order, who is a member, and the names by which whoever has the records looks them up."""
    order = np.random.default_rng(0).permutation(N)
    member = (np.arange(N) < N // 2)[order]
    frame = pd.concat([laboratory.inside, laboratory.outside], ignore_index=True).iloc[order].reset_index(drop=True)
    x, y = frame.drop(columns="label"), frame["label"].to_numpy().astype(str)
    parts = [sides.Records(x=x[side].reset_index(drop=True), y=y[side], name="data", path="data") for side in (member, ~member)]
    content = np.empty(N, dtype=np.int64)
    content[member], content[~member] = sides.record_ids(*parts)
    row = np.where(member, np.cumsum(member), np.cumsum(~member)) - 1  # of its own file
    return (
        frame,
        member,
        {"content": content, "position": np.arange(N), "value": frame["f0"].to_numpy().astype(str), "row": row},
    )


def _last(laboratory: Any) -> str:
    experiment = mlflow.get_experiment_by_name("memberscope").experiment_id
    (run,) = mlflow.MlflowClient(laboratory.uri).search_runs(
        [experiment], order_by=["attributes.start_time DESC"], max_results=1
    )
    return str(run.info.run_id)


# `make test` keeps artifacts private in tests/audit/test_own_artifacts.py
@pytest.mark.parametrize("private", [pytest.param("yes", marks=pytest.mark.thorough), "no"])
def test_an_audit_and_the_report_on_it(laboratory: Any, tmp_path: Path, private: str) -> None:
    words = [
        f"--model_uri={laboratory.forest()}",
        "--members=members.csv",
        "--nonmembers=nonmembers.parquet",
        "--controls=full",
    ]
    asked = [f"--{name}={value}" for name, value in ASK.items()]
    assert cli.main(["audit", *words, *asked, f"--private_artifacts={private}"]) == 0
    run_id = _last(laboratory)
    run = left(run_id, tmp_path)
    assert ({artifacts.SCORES, artifacts.MOST_EXPOSED} <= set(run)) == (private == "no")
    _, member, names = _candidates(laboratory)
    del names["row"]  # the files have rows of their own, which tell nothing of the side
    assert not unlisted(MemoryTracker(artifacts=dict.fromkeys(set(run) - DATA, "")))
    found, how = best_guess(run, names, member)
    assert found < CHANCE, how
    assert cli.main(["report", f"--runs={run_id}", f"--page={tmp_path}/page.html"]) == 0
    page = {"report.html": (tmp_path / "page.html").read_text()}
    assert len(page["report.html"]) > 5_000
    found, how = best_guess(page, names, member)
    assert found < CHANCE, how


def test_an_evaluation(laboratory: Any, tmp_path: Path) -> None:
    frame, member, names = _candidates(laboratory)
    model = laboratory.forest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name("memberscope").experiment_id) as active:
            mlflow.models.evaluate(
                model, frame, targets="label", model_type="classifier", evaluators=["default", "memberscope"],
                evaluator_config={
                    "default": {"log_explainer": False, "log_model_explainability": False}, "memberscope": {"member": member, **ASK},
                },
            )  # fmt: skip
    run = left(active.info.run_id, tmp_path)
    assert f"{artifacts.FOLDER}/{artifacts.SUMMARY}" in run
    found, how = best_guess(run, names, member)
    assert found < CHANCE, how


def test_a_run_of_another_key_is_read_without_its_scores_and_not_paired(
    laboratory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 3, 400), np.arange(400) < 200
    runs = []
    for seed in (0, 1):
        logits = np.random.default_rng(seed).normal(size=(400, 3))
        logits[np.arange(400), labels] += 1 + member
        np.savez("p.npz", logits=logits, labels=labels, member=member, record_ids=np.arange(400))
        assert cli.main(["attack", "--predictions=p.npz", "--attacks=threshold_loss", "--slices=entire"]) == 0
        runs.append(_last(laboratory))
    pages = []
    for name in ("ours", "theirs"):
        if name == "theirs":
            monkeypatch.setenv("MEMBERSCOPE_KEY", "the key of somebody else")
        assert cli.main(["report", f"--runs={','.join(runs)}", f"--page={tmp_path}/{name}.html"]) == 0
        pages.append((tmp_path / f"{name}.html").read_text())
    kept = read_run(mlflow.MlflowClient(), runs[0], experiment_id="0")
    assert (kept.scores, kept.sealed) == (None, True)
    assert "another key" not in pages[0]
    assert "another key" in pages[1]
