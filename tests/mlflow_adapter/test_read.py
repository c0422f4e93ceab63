"""Runs read back as they were logged, and the entry point `report` over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from memberscope import cli
from memberscope.audit.headline import Headline
from memberscope.errors import UserError
from memberscope.metrics import rounding
from memberscope.mlflow_adapter import read
from memberscope.mlflow_adapter.read import read_run
from memberscope.report import evidence


def _predictions(path: Path, *, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, member = np.arange(400) % 3, np.arange(400) < 200
    logits = rng.normal(size=(400, 3))
    logits[np.arange(400), labels] += 1 + member
    np.savez(path, logits=logits, labels=labels, member=member, record_ids=np.arange(400))


def _audit(laboratory: Any, seed: int) -> str:
    _predictions(laboratory.folder / f"said{seed}.npz", seed=seed)
    words = [f"--predictions=said{seed}.npz", "--attacks=threshold", "--slices=class"]
    assert cli.main(["attack", *words]) == 0
    return (
        mlflow.MlflowClient()
        .search_runs([_experiment()], order_by=["attributes.start_time DESC"], max_results=1)[0]
        .info.run_id
    )


def _rounded(value: Any) -> Any:
    """Plain values with numbers of twelve digits: a CSV file's reader may differ in the last."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _experiment() -> str:
    return str(mlflow.get_experiment_by_name("memberscope").experiment_id)


def test_runs_come_back_and_become_one_page(laboratory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = _audit(laboratory, 0), _audit(laboratory, 1)
    client = mlflow.MlflowClient()
    kept = read_run(client, first, experiment_id=_experiment())
    assert {"attacks.csv", "roc.csv", "roc_band.csv", "most_exposed.csv"} <= set(kept.tables)
    assert kept.scores is not None
    assert set(kept.scores.ranks) == {"threshold_loss", "threshold_entropy"}
    headline = Headline.from_json(kept.texts["headline.json"])
    assert headline.attack == kept.tags["memberscope.headline"]
    auc = headline.auc
    shown = rounding.logged("auc", "headline", auc.value, auc.ci_low, auc.ci_high)["auc/headline"]
    assert kept.metrics["auc/headline"][-1][1] == shown, "a run shows the digits that the interval supports"
    assert kept.metrics["auc/threshold_loss"][-1][1] == client.get_run(first).data.metrics["auc/threshold_loss"]
    assert kept.tags["memberscope.command"] == "memberscope attack --predictions=said0.npz --attacks=threshold --slices=class"
    assert json.loads(kept.tags["memberscope.versions"])["numpy"] == np.__version__
    client.update_run(second, name="the second")

    capsys.readouterr()
    assert cli.main(["report", f"--runs={first}, the second", "--page=both.html"]) == 0
    said = capsys.readouterr().out
    assert "both.html" in said
    page = (laboratory.folder / "both.html").read_text()
    assert "the same 400 records with the same members" in page
    assert "memberscope attack --predictions=said0.npz" in page
    run = client.search_runs([_experiment()], order_by=["attributes.start_time DESC"], max_results=1)[0]
    assert run.data.tags["memberscope.reported"] == f"{first},{second}"
    logged = Path(client.download_artifacts(run.info.run_id, "report.html"))
    assert logged.read_text() == page

    own = json.loads(Path(client.download_artifacts(first, "evidence.json")).read_text())
    again = evidence.written([kept], study="attack")
    assert own["runs"][0]["id"] == first
    for document in (own, again):
        del document["runs"][0]["started"]  # the two count from different moments
    assert _rounded(own) == _rounded(again), "what the study logged while it ran is what is read back"
    assert cli.main(["report", f"--runs={first}", "--formats=json,junit,markdown", "--folder=handed"]) == 0
    assert {path.name for path in (laboratory.folder / "handed").iterdir()} == {
        "evidence.json",
        "gate.junit.xml",
        "model_card.md",
    }
    reported = json.loads((laboratory.folder / "handed" / "evidence.json").read_text())
    assert _rounded(reported["runs"][0]["results"]) == _rounded(own["runs"][0]["results"])

    for words, part in (
        (["--runs="], "runs=: missing"),
        (["--runs=nobody"], "no run of that name"),
        ([f"--runs={'0' * 32}"], "no run of that id"),
        ([f"--runs={run.info.run_id}"], "none contains an audit"),
        ([f"--runs={first}", "--page=nowhere/x.html"], "page=nowhere/x.html: cannot be written"),
        ([f"--runs={first}", "--page=x.pdf"], "page=x.pdf: allowed"),
    ):
        assert cli.main(["report", *words]) == 2
        assert part in capsys.readouterr().err
    client.update_run(first, name="the second")
    vain = client.create_run(_experiment(), run_name="once only").info.run_id
    client.set_terminated(vain, "FAILED")
    good = client.create_run(_experiment(), run_name="once only").info.run_id
    client.set_terminated(good)
    assert read_run(client, "once only", experiment_id=_experiment()).id == good, "one that failed does not stand in its way"
    with pytest.raises(UserError, match="2 runs have that name; allowed: the id of one"):
        read_run(client, "the second", experiment_id=_experiment())


@pytest.mark.parametrize("code", [3, 4])
def test_an_audit_that_ended_at_its_gate_is_not_passed_over_for_an_older_one_that_passed(store: Path, code: int) -> None:
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("gates", artifact_location=(store / "runs").as_uri())

    def ended(status: str, code: int) -> str:
        run_id = client.create_run(experiment, run_name="attack-model", tags={"memberscope.exit_code": str(code)}).info.run_id
        client.set_terminated(run_id, status)
        return str(run_id)

    ended("FAILED", 2)
    tripped = ended("FAILED", code)
    ended("KILLED", 130)
    assert read_run(client, "attack-model", experiment_id=experiment).id == tripped, "the one that has results"
    passed = ended("FINISHED", 0)
    with pytest.raises(UserError, match="2 runs have that name; allowed: the id of one") as refused:
        read_run(client, "attack-model", experiment_id=experiment)
    assert tripped in str(refused.value)
    assert passed in str(refused.value)


def test_what_was_trained_is_read_by_epoch_and_children_with_their_parent(laboratory: Any) -> None:
    client = mlflow.MlflowClient()
    parent = client.create_run(_experiment(), run_name="a study").info.run_id
    child = client.create_run(_experiment(), run_name="a model", tags={"mlflow.parentRunId": parent}).info.run_id
    for epoch in (1, 0, 2):
        client.log_metric(child, "train/accuracy", epoch / 2, step=epoch)
    client.log_text(
        child, "attack,family,slice,metric,value,ci_low,ci_high,n_member,n_nonmember,status,reason\n", "attacks.csv"
    )
    client.log_text(child, "", "roc.csv")
    kept = read_run(client, "a study", experiment_id=_experiment())
    assert [run.name for run in kept.children] == ["a model"]
    assert kept.children[0].metrics["train/accuracy"] == ((0, 0.0), (1, 0.5), (2, 1.0))
    assert set(kept.children[0].tables) == {"attacks.csv"}


def test_the_word_for_a_server_fits_the_store(tmp_path: Path) -> None:
    store = tmp_path / "my runs" / "mlflow.db"
    store.parent.mkdir()
    store.touch()
    told = cli._server(str(store))
    assert told == f"mlflow ui --backend-store-uri 'sqlite:///{store}'"
    (store.parent / "Makefile").touch()
    assert cli._server(str(store)) == told, "a Makefile of anyone's"
    (store.parent / "MLproject").touch()
    assert cli._server(str(store)) == "make ui"
    assert "on that store" in cli._server("postgresql://127.0.0.1/memberscope")


def test_a_kept_table_says_what_it_said(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "rule": ["NA", "null", "x"],
            "attack": "a",
            "slice": "7",
            "value": [0.1, np.nan, 2.0],
            "verdict": "pass",
            "more": ["NA", "b", "c"],
        }
    )
    frame.to_csv(tmp_path / "gate.csv", index=False)
    pd.testing.assert_frame_equal(read._table(tmp_path / "gate.csv", "gate.csv", "run x: gate.csv"), frame)


def test_runs_of_any_name_are_found_and_a_run_may_be_its_own_parent(store: Path) -> None:
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("names", artifact_location=(store / "runs").as_uri())
    names = ["it's", 'say "x"', 'it\'s "x"', "back\\slash", "100% of $x$", "a; DROP TABLE runs"]
    ids = {name: client.create_run(experiment, run_name=name).info.run_id for name in names}
    for name, run_id in ids.items():
        assert read_run(client, name, experiment_id=experiment).id == run_id, name
    with pytest.raises(UserError, match="no run of that name"):
        read_run(client, "neither ' nor \"", experiment_id=experiment)
    own = ids["it's"]
    client.set_tag(own, "mlflow.parentRunId", own)
    client.set_tag(ids["back\\slash"], "mlflow.parentRunId", own)
    assert [child.name for child in read_run(client, own, experiment_id=experiment).children] == ["back\\slash"]


def test_artifacts_of_another_program_do_not_take_the_place_of_ours(store: Path) -> None:
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("guests", artifact_location=(store / "runs").as_uri())
    run_id = client.create_run(experiment, run_name="theirs").info.run_id
    client.log_text(run_id, "[1, 2]", "config.json")
    with pytest.raises(UserError, match=r"run theirs: config.json is not a JSON object"):
        read_run(client, run_id, experiment_id=experiment)
    client.log_text(run_id, '{"attack.seed": 3}', "memberscope/study.json")
    assert set(read_run(client, run_id, experiment_id=experiment).texts) == {"study.json"}
