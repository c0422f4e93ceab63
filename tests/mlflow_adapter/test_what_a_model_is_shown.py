"""Records reach a model as its signature, or its fitting, asks for them: columns, types and axes; what cannot be had is one line."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from served import FILES, WHOLE, serve

from memberscope import cli
from memberscope.errors import UserError


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


def test_mlflows_own_reason_is_told_and_not_its_table(laboratory: Any, columns: list[str]) -> None:
    from memberscope.mlflow_adapter.models import load_model

    model = load_model(serve(laboratory, columns, "softmax", "int32"))
    with pytest.raises(UserError, match="Can not safely convert int64 to int32") as caught:
        model.predict(pd.read_csv("whole.csv")[columns])
    assert len(str(caught.value)) < 300


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
