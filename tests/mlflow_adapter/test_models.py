"""The entry point `audit` with real models of three frameworks, in a real store; and what does not fit."""

from __future__ import annotations

import importlib.util
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from served import FILES, WHOLE, serve

from memberscope import cli
from memberscope.errors import UserError


def last_run(laboratory: Any) -> mlflow.entities.Run:
    client = mlflow.MlflowClient(laboratory.uri)
    experiments = [client.get_experiment_by_name("memberscope").experiment_id]
    return client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)[0]


def runs(laboratory: Any) -> set[str]:
    """The ids of all runs in the project's experiment; none where there is no experiment yet."""
    client = mlflow.MlflowClient(laboratory.uri)
    experiment = client.get_experiment_by_name("memberscope")
    return set() if experiment is None else {run.info.run_id for run in client.search_runs([experiment.experiment_id])}


def test_a_registered_scikit_learn_model_is_asked_for_probabilities(
    laboratory: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory.forest(registered_model_name="churn")
    assert cli.main(["audit", "--model_uri=models:/churn/1", *FILES]) == 0
    said = capsys.readouterr().out
    run = last_run(laboratory)
    assert "The model was queried through `predict_proba` (sklearn); its output was read as **probs**" in said
    assert "Accuracy: 0.99" in said
    assert run.info.run_name == "audit-churn-1"
    assert run.data.params["model.output"] == "probs"
    assert run.data.params["model.method"] == "predict_proba"
    assert run.data.params["data.class_names"] == "churn,stay"
    assert run.data.metrics["auc_ci_low/threshold_loss"] > 0.6
    digests = {item.tags[0].value: item.dataset for item in run.inputs.dataset_inputs}
    assert set(digests) == {"member", "nonmember"}
    assert digests["member"].digest != digests["nonmember"].digest
    client = mlflow.MlflowClient(laboratory.uri)
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"controls.json", "attacks.csv", "summary.md"} <= files
    assert not {"scores.npz", "most_exposed.csv", "most_exposed.png"} & files, "nothing of single records, unless asked for"


def test_labels_only_when_they_are_asked_for_and_said_so(laboratory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    uri = laboratory.forest()
    words = [
        *FILES[:2],
        "--attacks=trained_lr",
        "--controls=none",
        f"--model_uri={uri}",
        "--output=labels",
        "--predict_batch=77",
    ]
    assert cli.main(["audit", *words]) == 0
    assert "output was read as **labels only**" in capsys.readouterr().out
    assert last_run(laboratory).data.params["model.output"] == "predicted"


def test_a_tensorflow_model_of_images(laboratory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow.tensorflow
    import tensorflow as tf
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (120, 4, 4, 1), dtype=np.uint8), rng.integers(0, 3, 120)
    np.savez("in.npz", x=x[:60], y=y[:60])
    np.savez("out.npz", x=x[60:], y=y[60:])
    weights = tf.keras.initializers.GlorotUniform(seed=0)
    layers = [tf.keras.layers.Flatten(input_shape=(4, 4, 1)), tf.keras.layers.Dense(3, kernel_initializer=weights)]
    model = tf.keras.Sequential(layers)
    signature = ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 4, 4, 1))]))
    uri = laboratory.log(mlflow.tensorflow, model, signature=signature)
    assert cli.main(["audit", f"--model_uri={uri}", "--members=in.npz", "--nonmembers=out.npz", *FILES[2:]]) == 0
    said = capsys.readouterr().out
    assert "(tensorflow); its output was read as **logits**: 3 columns" in said
    assert "uint8 cast to float32, values unchanged" in said
    logits = x.reshape(120, 16).astype(np.float32) @ model.layers[1].get_weights()[0]
    accuracy = float((logits[:60].argmax(axis=1) == y[:60]).mean())
    assert f"Accuracy: {accuracy:.3f} on members" in said
    assert cli.main(["audit", f"--model_uri={uri}", *FILES]) == 2
    assert "records of shape (8,); the model's signature asks for (4, 4, 1)" in capsys.readouterr().err


def test_a_pytorch_model(laboratory: Any, columns: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch, which the project does not depend on: pip install torch")
    import mlflow.pytorch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    for name, side in (("in", laboratory.inside), ("out", laboratory.outside)):
        y = (side["label"] == "stay").to_numpy().astype(np.int64)
        np.savez(f"{name}_torch.npz", x=side[columns].to_numpy(np.float32), y=y)
    signature = ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 8))]))
    uri = laboratory.log(mlflow.pytorch, torch.nn.Linear(8, 2), signature=signature, serialization_format="pickle")
    assert cli.main(["audit", f"--model_uri={uri}", "--members=in_torch.npz", "--nonmembers=out_torch.npz", *FILES[2:]]) == 0
    assert "(pytorch); its output was read as **logits**: 2 columns" in capsys.readouterr().out


def test_thirty_copies_of_each_row_are_one_record_to_an_audit_and_its_gate(
    laboratory: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = laboratory.forest()
    for name, side in (("some", laboratory.inside), ("others", laboratory.outside)):
        side.iloc[:40].to_csv(f"{name}.csv", index=False)
        pd.concat([side.iloc[:40]] * 30).to_csv(f"{name}_30.csv", index=False)

    def ask(suffix: str, *options: str) -> tuple[int, str, Any]:
        words = [f"--model_uri={uri}", f"--members=some{suffix}.csv", f"--nonmembers=others{suffix}.csv", *FILES[2:]]
        rule = "--fail_if=threshold_loss.entire.auc > 0.77"
        code = cli.main(["audit", *words, "--attacks=threshold_loss", rule, *options])
        return code, "".join(capsys.readouterr()), last_run(laboratory)

    (one, text, first), (many, said, second) = ask(""), ask("_30")
    assert one == many == 4
    shared = [name for name in first.data.metrics if "threshold_loss" in name]
    assert {"auc_ci_low/threshold_loss", "advantage_heldout_ci_high/threshold_loss"} <= set(shared)
    assert {name: second.data.metrics[name] for name in shared} == {name: first.data.metrics[name] for name in shared}
    assert "Copies:" not in text
    assert "Copies: 2,320 of 2,400 records are exact copies of another on their side; each record counts once" in said
    assert (first.data.params["data.copies"], second.data.params["data.copies"]) == ("0", "2320")
    naive, said, _ = ask("_30", "--duplicates=keep")
    assert naive == 3, "counted thirty times, the same records trip the gate"
    assert "duplicates=keep counts every copy" in said
    before = last_run(laboratory).info.run_id
    refused, said, run = ask("_30", "--duplicates=refuse")
    assert (refused, run.info.run_id) == (2, before), "nothing was computed, so there is no run of it"
    assert "duplicates=refuse: 1,160 of 1,200 members and 1,160 of 1,200 nonmembers are exact copies of another" in said


def test_what_does_not_fit_gets_one_line_and_exit_code_two(
    laboratory: Any, columns: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    uri = laboratory.forest()
    laboratory.inside.rename(columns={"f3": "g3"}).to_csv("renamed.csv", index=False)
    laboratory.outside.rename(columns={"f3": "g3"}).to_csv("renamed_out.csv", index=False)
    laboratory.inside.assign(f3="a").to_csv("text.csv", index=False)
    laboratory.outside.assign(f3="a").to_csv("text_out.csv", index=False)
    shared = pd.concat([laboratory.outside, laboratory.inside.iloc[5:8]])
    shared.to_csv("shared.csv", index=False)
    inside = ["--members=members.csv"]
    cases = {
        "does not resolve": ["--model_uri=models:/nobody/1", *FILES[:2]],
        "does not resolve (": ["--model_uri=runs:/0123456789abcdef0123456789abcdef/model", *FILES[:2]],
        "model_uri=: missing": FILES[:2],
        "not an address of a model": ["--model_uri=http://127.0.0.1:9/x", *FILES[:2]],
        "lacks 1 of the 8 columns of the model's signature: f3; nearest: g3": [f"--model_uri={uri}", "--members=renamed.csv",
                                                                              "--nonmembers=renamed_out.csv"],
        "column f3 holds text; the model's signature asks for double": [f"--model_uri={uri}", "--members=text.csv",
                                                                        "--nonmembers=text_out.csv"],
        "3 of 400 members are also non-members (row, counted from 0, of members and of nonmembers: 5 is 400, 6 is 401, 7 is 402)": [
            f"--model_uri={uri}", *inside, "--nonmembers=shared.csv"],
        "nonmembers=none.csv: cannot be read (No such file or directory)": [f"--model_uri={uri}", *inside, "--nonmembers=none.csv"],
        "label=lable: no column of members.csv": [f"--model_uri={uri}", *FILES[:2], "--label=lable"],
        "output=logits: the rows are non-negative and sum to one": [f"--model_uri={uri}", *FILES[:2], "--output=logits"],
        "attacks: 'mpl'": [f"--model_uri={uri}", *FILES[:2], "--attacks=mpl"],
    }  # fmt: skip
    before = runs(laboratory)
    for part, words in cases.items():
        assert cli.main(["audit", *words]) == 2, part
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("memberscope: ")]
        assert len(lines) == 1
        assert part in lines[0]
        assert runs(laboratory) == before, "nothing half done, and no run of a mistake"
    assert cli.main(["audit", f"--model_uri={uri}", *inside, "--nonmembers=shared.csv", "--allow_overlap=yes", *FILES[2:]]) == 0
    assert "pull every metric toward chance" in capsys.readouterr().out


def test_a_table_of_an_answer_gives_what_its_probabilities_give(
    laboratory: Any, columns: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for form in ("softmax", "table", "percent", "backwards"):
        assert cli.main(["audit", f"--model_uri={serve(laboratory, columns, form)}", *WHOLE]) == 0
        said, run = capsys.readouterr().out, last_run(laboratory)
        assert "output was read as **probs**" in said
        assert ("left out: columns best, rank" in said) == (form == "table")
        assert ("percentages, divided by 100" in said) == (form == "percent")
        assert run.data.params["data.class_names"] == ("stay,churn" if form == "backwards" else "churn,stay")
        found[form] = run.data.metrics["auc/threshold_loss"]
    assert found["softmax"] > 0.7
    assert found == pytest.approx(dict.fromkeys(found, found["softmax"]))


@pytest.mark.parametrize("output", ["auto", "probs", "logits"])
def test_sigmoids_get_advice_that_works_whatever_was_asked_for(
    laboratory: Any, columns: list[str], capsys: pytest.CaptureFixture[str], output: str
) -> None:
    uri = serve(laboratory, columns, "sigmoids")
    assert cli.main(["audit", f"--model_uri={uri}", *WHOLE, f"--output={output}"]) == 2
    error = capsys.readouterr().err
    assert "normalize the rows" in error
    assert "sigmoids' logits" in error
    assert "output=logits if" not in error


def test_a_regression_is_no_classifier(laboratory: Any, columns: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow.sklearn
    from sklearn.linear_model import LinearRegression

    for name, side in (("in", laboratory.inside), ("out", laboratory.outside)):
        np.savez(f"{name}3.npz", x=side[columns].to_numpy(), y=np.arange(400) % 3)
    model = LinearRegression().fit(laboratory.inside[columns].to_numpy(), np.arange(400.0))
    uri = laboratory.log(mlflow.sklearn, model, serialization_format="cloudpickle")
    assert cli.main(["audit", f"--model_uri={uri}", "--members=in3.npz", "--nonmembers=out3.npz"]) == 2
    assert "neither labels nor scores" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("memberscope.gate") is None, reason="the gate is not there")
@pytest.mark.parametrize(
    ("rule", "undecided", "code"),
    [
        ("threshold_loss.entire.auc > 0.55", "report", 3),
        ("threshold_loss.entire.auc > 0.999", "report", 0),
        ("threshold_loss.entire.tpr_at_fpr_0_001 > 0.01", "report", 4),
        ("threshold_loss.entire.tpr_at_fpr_0_001 > 0.01", "pass", 0),
    ],
)
def test_the_gate_ends_the_run_after_all_is_kept(
    laboratory: Any, capsys: pytest.CaptureFixture[str], rule: str, undecided: str, code: int
) -> None:
    uri = laboratory.forest()
    assert cli.main(["audit", f"--model_uri={uri}", *FILES, f"--fail_if={rule}", f"--undecided={undecided}"]) == code
    run = last_run(laboratory)
    assert run.info.status == ("FINISHED" if code == 0 else "FAILED")
    assert run.data.tags["memberscope.exit_code"] == str(code)
    assert "auc/threshold_loss" in run.data.metrics
    shown = capsys.readouterr()
    assert "AUC" in shown.out or "auc" in shown.out
    if code:
        assert rule.split(" >")[0] in run.data.tags["memberscope.error"]
        assert rule.split(" >")[0] in shown.err


def test_missing_numbers_are_told_not_passed_over() -> None:
    from memberscope import Predictions
    from memberscope.studies.audit import missing_line

    x = np.arange(12.0).reshape(4, 3)
    member = np.arange(4) < 2
    whole = Predictions(probs=np.full((4, 2), 0.5), labels=np.zeros(4, int), member=member, inputs=x)
    assert missing_line(whole) == ""
    holes = x.copy()
    holes[1, :2] = holes[3, 0] = np.nan
    told = missing_line(Predictions(probs=np.full((4, 2), 0.5), labels=np.zeros(4, int), member=member, inputs=holes))
    assert told.startswith("Missing: 3 numbers, absent or infinite, in 2 records.")


def test_slices_by_a_column_of_the_users_table(
    laboratory: Any, columns: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from memberscope.mlflow_adapter import models

    uri = laboratory.forest()
    region = np.where(np.arange(400) < 150, "north", "south")
    laboratory.inside.assign(region=region, id=range(400)).to_csv("in_region.csv", index=False)
    laboratory.outside.assign(region=region, id=range(400)).to_csv("out_region.csv", index=False)
    words = ["audit", f"--model_uri={uri}", "--members=in_region.csv", "--nonmembers=out_region.csv", *FILES[2:]]
    assert cli.main([*words, "--slices=column:region"]) == 0
    capsys.readouterr()
    client = mlflow.MlflowClient(laboratory.uri)
    found = pd.read_csv(client.download_artifacts(last_run(laboratory).info.run_id, "attacks.csv"))
    found = found[found["metric"] == "auc"].set_index("slice")
    assert found.loc["region:north", ["n_member", "n_nonmember"]].tolist() == [150, 150]
    assert found.loc["region:south", ["n_member", "n_nonmember"]].tolist() == [250, 250]
    asked: list[str] = []
    monkeypatch.setattr(models.Model, "predict", lambda self, x: asked.append("asked"))
    cases = {
        "slices: column:regio: no column of in_region.csv; nearest: region": ["--slices=column:regio"],
        "slices: column:region: no column of nonmembers.parquet": ["--slices=column:region", "--nonmembers=nonmembers.parquet"],
        "slices: 'clas'; nearest: class": ["--slices=clas"],
        "slices: 'class_2'": ["--slices=class_2"],
        "predictions: 400 members and 400 non-members; allowed: at least 500": ["--min_records=500"],
    }
    if importlib.util.find_spec("tensorflow_privacy"):
        cases["slices=column:region: not with engine=tfp"] = ["--slices=column:region", "--engine=tfp"]
    for part, more in cases.items():
        assert cli.main([*words, *more]) == 2, part
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("memberscope: ")]
        assert len(lines) == 1
        assert part in lines[0]
    assert not asked, "refused before the model is asked"


def test_a_store_whose_client_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.models

    from memberscope.mlflow_adapter.models import load_model

    def absent(uri: str) -> None:
        raise ModuleNotFoundError("No module named 'boto9'", name="boto9")

    monkeypatch.setattr(mlflow.models, "get_model_info", absent)
    with pytest.raises(
        UserError, match=r"model_uri=s3://b/m: its store needs boto9, which is not installed here; allowed: models:/"
    ):
        load_model("s3://b/m")

    def odd(uri: str) -> None:
        raise RuntimeError("no credentials")

    monkeypatch.setattr(mlflow.models, "get_model_info", odd)
    with pytest.raises(UserError, match=r"model_uri=s3://b/m: does not resolve \(RuntimeError: no credentials\)"):
        load_model("s3://b/m")
