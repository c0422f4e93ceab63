"""The entry point `audit` with real models of three frameworks, in a real store; and what does not fit."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from memberscope import cli
from memberscope.errors import UserError

FILES = ["--members=members.csv", "--nonmembers=nonmembers.parquet", "--attacks=threshold_loss", "--controls=none"]


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


def test_images_without_a_channel_axis_get_one_where_the_signature_asks_for_it() -> None:
    from mlflow.types import Schema, TensorSpec

    from memberscope.mlflow_adapter.models import Model

    def prepared(*shape: int) -> tuple[Any, str]:
        schema = Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))])
        model = Model(ask=None, schema=schema, classes=None, facts={})
        return model.prepare(np.zeros((3, 28, 28), np.float32), name="members=a.npz")

    x, done = prepared(28, 28, 1)
    assert (x.shape, done) == ((3, 28, 28, 1), "a channel axis added to images that had none")
    assert prepared(28, 28)[0].shape == (3, 28, 28)
    with pytest.raises(UserError, match=r"members=a.npz: records of shape \(28, 28\); .* asks for \(28, 28, 3\)"):
        prepared(28, 28, 3)


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


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow's own has no types
    """Answers with what it is made of: a table of the class and one probability per class, or one number per class."""

    def __init__(self, forest: Any, form: str) -> None:
        self.forest, self.form = forest, form

    def predict(self, context, model_input, params=None):  # no type hints: MLflow would make a signature of them
        probs = pd.DataFrame(self.forest.predict_proba(model_input), columns=[f"score_{name}" for name in self.forest.classes_])
        return {
            "table": probs.assign(best=probs.to_numpy().argmax(axis=1), rank=100 + np.arange(len(probs))),
            "percent": 100 * probs,
            "backwards": probs.iloc[:, ::-1],
            "sigmoids": probs * [1.0, 0.7],
            "softmax": probs,
        }[self.form]


def serve(laboratory: Any, columns: list[str], form: str, dtype: str = "float64") -> str:
    """A model of records times 100, rounded, whose signature's columns have that type."""
    from mlflow.models import infer_signature
    from sklearn.ensemble import RandomForestClassifier

    sides = {"whole.csv": laboratory.inside, "whole_out.csv": laboratory.outside}
    for path, side in sides.items():
        side.assign(**(100 * side[columns]).round().astype(int)).to_csv(path, index=False)
    x = pd.read_csv("whole.csv")[columns].astype(dtype)
    forest = RandomForestClassifier(20, random_state=0).fit(x, laboratory.inside["label"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, of integers that may be missing
        signature = infer_signature(x)
    uri: str = laboratory.log(mlflow.pyfunc, None, signature=signature, python_model=Served(forest, form))
    return uri


WHOLE = ["--members=whole.csv", "--nonmembers=whole_out.csv", *FILES[2:], "--slices=entire"]


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


def test_whole_numbers_are_cast_where_no_value_changes(
    laboratory: Any, columns: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    uri = serve(laboratory, columns, "softmax", "int32")
    assert cli.main(["audit", f"--model_uri={uri}", *WHOLE]) == 0
    assert "int64 cast to int32, values unchanged" in capsys.readouterr().out
    frame = pd.read_csv("whole.csv")
    for value, told in ((0.5, "0.5"), (2**31, "2147483648"), (None, "nan")):
        frame.assign(f2=frame["f2"].astype(object).where(frame.index != 7, value).astype(float)).to_csv("odd.csv", index=False)
        assert cli.main(["audit", f"--model_uri={uri}", "--members=odd.csv", *WHOLE[1:]]) == 2
        error = capsys.readouterr().err
        assert f"column f2 holds {told}" in error
        assert "in row 7; the model's signature asks for int32" in error


def test_numbers_are_cast_or_refused_and_never_changed_silently() -> None:
    from memberscope.mlflow_adapter.models import Model

    def ready(x: Any, dtype: str) -> tuple[Any, str]:
        from mlflow.types import Schema, TensorSpec

        schema = Schema([TensorSpec(np.dtype(dtype), (-1, *x.shape[1:]))])
        return Model(ask=None, schema=schema, classes=None, facts={}).prepare(x, name="members=x.npz")

    x = np.arange(12).reshape(3, 2, 2)
    whole, said = ready(x.astype(float), "uint8")
    assert (whole.dtype, said) == (np.uint8, "float64 cast to uint8, values unchanged")
    np.testing.assert_array_equal(whole, x)
    assert ready(x + 0.1, "float32")[1] == "float64 cast to float32, values rounded to float32"
    assert ready(x, "float32")[1] == "int64 cast to float32, values unchanged"
    assert ready(x % 2, "bool")[0].dtype == bool
    for values, dtype, told in (
        (x / 2, "int32", "0.5 in row 0"),
        (x - 1, "uint8", "-1 in row 0"),
        (x + 250, "uint8", "256 in row 1"),
        (x, "bool", "2 in row 0"),
        (x + np.nan, "int64", "nan in row 0"),
        (x + 2.0**63, "int64", r"e\+18 in row 0"),
    ):
        with pytest.raises(UserError, match=f"members=x.npz: records hold .*{told}; the model's signature asks for {dtype}"):
            ready(values, dtype)


def test_a_signature_that_mlflow_could_not_infer_asks_for_nothing(laboratory: Any, columns: list[str]) -> None:
    from mlflow.types import Schema
    from mlflow.types.schema import AnyType, ColSpec

    from memberscope.mlflow_adapter.models import Model

    model = Model(ask=None, schema=Schema([ColSpec(type=AnyType())]), classes=None, facts={})
    assert model.prepare(laboratory.inside, name="members")[0] is laboratory.inside


def test_mlflows_own_reason_is_told_and_not_its_table(laboratory: Any, columns: list[str]) -> None:
    from memberscope.mlflow_adapter.models import load_model

    model = load_model(serve(laboratory, columns, "softmax", "int32"))
    with pytest.raises(UserError, match="Can not safely convert int64 to int32") as caught:
        model.predict(pd.read_csv("whole.csv")[columns])
    assert len(str(caught.value)) < 300


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


def test_a_record_is_what_the_model_is_shown(laboratory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    uri = laboratory.forest()
    shared = pd.concat([laboratory.outside, laboratory.inside.iloc[:90]], ignore_index=True)
    laboratory.inside.to_csv("in_numbered.csv")  # with a row number, as to_csv writes it unless told otherwise
    shared.to_csv("out_numbered.csv")
    shared.assign(zip=range(490)).astype({"zip": object}).to_csv("out_zip.csv", index=False)
    odd = shared.assign(zip=["unknown", *range(489)])
    odd.to_csv("out_odd.csv", index=False)
    laboratory.inside.assign(zip=range(400)).to_csv("in_zip.csv", index=False)
    for inside, outside in (
        ("in_numbered", "out_numbered"),
        ("in_zip", "out_zip"),
        ("in_zip", "out_odd"),
        ("members", "out_odd"),
    ):
        words = ["audit", f"--model_uri={uri}", f"--members={inside}.csv", f"--nonmembers={outside}.csv", *FILES[2:]]
        assert cli.main(words) == 2
        assert "90 of 400 members are also non-members" in capsys.readouterr().err
    assert cli.main([*words, "--allow_overlap=yes"]) == 0
    assert "Records: columns left out, since the model does not take them: zip." in capsys.readouterr().out


def test_a_model_without_a_signature_is_shown_the_columns_that_it_was_fitted_on(
    laboratory: Any, columns: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow.sklearn
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier(max_depth=4).fit(laboratory.inside[columns], laboratory.inside["label"])
    uri = laboratory.log(mlflow.sklearn, model, serialization_format="cloudpickle")
    laboratory.inside[["label", *reversed(columns)]].to_csv("in_turned.csv")
    laboratory.outside.to_csv("out_turned.csv")
    words = ["audit", f"--model_uri={uri}", "--members=in_turned.csv", *FILES[2:]]
    assert cli.main([*words, "--nonmembers=out_turned.csv"]) == 0
    right = (model.predict(laboratory.inside[columns]) == laboratory.inside["label"]).mean()
    assert f"Accuracy: {right:.3f} on members" in capsys.readouterr().out
    laboratory.outside.drop(columns="f2").to_csv("out_short.csv")
    assert cli.main([*words, "--nonmembers=out_short.csv"]) == 2
    assert "lacks 1 of the 8 columns that the model was fitted on: f2" in capsys.readouterr().err


def test_words_reach_the_model_as_it_was_trained_on_them(laboratory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    from sklearn.tree import DecisionTreeClassifier

    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "zip": rng.choice(["00123", "04321", "10001"], 400), "country": rng.choice(["NA", "DE", "None"], 400),
            "size": rng.choice(["1.0", "2.50"], 400), "paid": rng.choice(["True", "False"], 400), "weight": rng.integers(0, 40, 400),
        }
    )  # fmt: skip
    y = pd.Series(
        np.where((table["zip"] == "00123") ^ (table["country"] == "NA") ^ (table["size"] == "1.0"), "NA", "yes"), name="label"
    )
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), DecisionTreeClassifier(max_depth=6)).fit(table, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, which would leave the signature empty
        signature = infer_signature(table)
    assert [spec.type.name for spec in signature.inputs] == ["string"] * 4 + ["long"]
    uri = laboratory.log(mlflow.sklearn, model, signature=signature, serialization_format="cloudpickle")
    whole = table.assign(label=y)
    whole[:200].to_csv("in_words.csv", index=False)
    whole[200:].to_csv("out_words.csv", index=False)
    whole[200:].to_parquet("out_words.parquet", index=False)
    right = model.predict(table) == y
    for outside in ("out_words.csv", "out_words.parquet"):
        words = ["audit", f"--model_uri={uri}", "--members=in_words.csv", f"--nonmembers={outside}", "--allow_overlap=yes"]
        assert cli.main([*words, *FILES[2:]]) == 0
        assert (
            f"Accuracy: {right[:200].mean():.3f} on members, {right[200:].mean():.3f} on non-members."
            in capsys.readouterr().out
        )


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


def test_a_signature_that_says_nothing_is_none(laboratory: Any, columns: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow.sklearn
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier(max_depth=4).fit(laboratory.inside[columns], laboratory.inside["label"])
    signature = ModelSignature(inputs=Schema([ColSpec(type=AnyType())]))  # MLflow's default where it cannot infer one
    uri = laboratory.log(mlflow.sklearn, model, signature=signature, serialization_format="cloudpickle")
    assert cli.main(["audit", f"--model_uri={uri}", *FILES]) == 0
    assert "queried through `predict_proba`" in capsys.readouterr().out


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
