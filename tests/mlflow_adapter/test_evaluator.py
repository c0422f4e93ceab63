"""The plugin of `mlflow.models.evaluate`: found by name, beside MLflow's own, on models and on static predictions."""

from __future__ import annotations

import importlib.metadata
import tomllib
import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models.evaluation.evaluator_registry import ModelEvaluatorRegistry

from memberscope import Predictions, run_audit
from memberscope.errors import UserError
from memberscope.mlflow_adapter.evaluator import MembershipEvaluator

ROOT = Path(__file__).resolve().parents[2]
ASK = {"attacks": "threshold_loss", "slices": "entire", "controls": "none"}


pytestmark = pytest.mark.usefixtures("registered_evaluator")


def evaluate(*arguments: Any, run: str | None = None, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, of pandas and of missing signatures
        with mlflow.start_run(
            run_id=run, experiment_id=None if run else mlflow.get_experiment_by_name("memberscope").experiment_id
        ):
            return mlflow.models.evaluate(*arguments, model_type="classifier", **options)


def both(laboratory: Any) -> tuple[pd.DataFrame, np.ndarray]:
    frame = pd.concat([laboratory.inside, laboratory.outside], ignore_index=True)
    order = np.random.default_rng(0).permutation(len(frame))
    return frame.iloc[order].reset_index(drop=True), (np.arange(800) < 400)[order]


def test_the_declared_entry_point_is_the_evaluator() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["mlflow.model_evaluator"]
    point = importlib.metadata.EntryPoint(name="memberscope", value=declared["memberscope"], group="mlflow.model_evaluator")
    registry = ModelEvaluatorRegistry()
    registry.register(point.name, point.load())
    assert isinstance(registry.get_evaluator("memberscope"), MembershipEvaluator)


def test_a_model_is_audited_beside_its_accuracy(laboratory: Any) -> None:
    frame, member = both(laboratory)
    result = evaluate(
        laboratory.forest(), frame, targets="label", evaluators=["default", "memberscope"],
        evaluator_config={"default": {"log_explainer": False, "log_model_explainability": False}, "memberscope": {"member": member, **ASK}},
    )  # fmt: skip
    assert "accuracy_score" in result.metrics
    assert result.metrics["auc/threshold_loss"] > 0.7
    run = mlflow.last_active_run()
    rows = result.artifacts["memberscope/attacks.csv"].content
    exact = rows[(rows["attack"] == "threshold_loss") & (rows["slice"] == "entire") & (rows["metric"] == "auc")].iloc[0]
    for end, column in (("", "value"), ("_ci_low", "ci_low"), ("_ci_high", "ci_high")):
        name = f"auc{end}/threshold_loss"
        assert result.metrics[name] == pytest.approx(exact[column], rel=1e-12), "thresholds are checked against every digit"
        assert run.data.metrics[name] == round(result.metrics[name], 3) != result.metrics[name], (
            "the run shows what the interval supports"
        )
    assert result.metrics["auc/headline"] == result.metrics["auc/threshold_loss"] or "auc/headline" in run.data.metrics
    assert run.data.tags["memberscope.data.form"] == "probs", "predict_proba, not MLflow's labels"
    assert "mlflow.note.content" not in run.data.tags, "the run's description is its owner's"
    assert "output was read as **probs**" in result.artifacts["memberscope/summary.md"].content
    assert "threshold_loss" in set(result.artifacts["memberscope/attacks.csv"].content["attack"])
    again = evaluate(
        laboratory.forest(), frame, targets="label", evaluators="memberscope", run=run.info.run_id,
        evaluator_config={"member": ~member, **ASK},
    )  # fmt: skip
    assert again.metrics["auc/threshold_loss"] == pytest.approx(1 - result.metrics["auc/threshold_loss"])


def test_static_predictions_give_what_the_audit_gives(laboratory: Any) -> None:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 3, 300), np.arange(300) % 2 == 0
    logits = rng.normal(size=(300, 3))
    logits[np.arange(300), labels] += 1 + member
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pd.DataFrame({"label": labels, "said": list(probs)})
    result = evaluate(
        data=frame, targets="label", predictions="said", evaluators=["memberscope"],
        evaluator_config={"memberscope": {"member": member, "record_ids": np.arange(300), **ASK}},
    )  # fmt: skip
    expected = run_audit(
        Predictions(probs=probs, labels=labels, member=member, record_ids=np.arange(300)), attacks="threshold_loss"
    )
    assert result.metrics["auc/threshold_loss"] == expected.result("threshold_loss").figures["auc"].value


def test_without_membership_it_keeps_out_of_the_way() -> None:
    assert not MembershipEvaluator.can_evaluate(model_type="classifier", evaluator_config={})
    assert not MembershipEvaluator.can_evaluate(model_type="regressor", evaluator_config={"member": [True]})
    assert MembershipEvaluator.can_evaluate(model_type="classifier", evaluator_config={"member": [True]})


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"membr": 1}, "'membr'.*nearest: member"),
        ({"attacks": "tfp"}, "member is missing"),
        ({"member": np.ones(7, bool)}, "800 booleans"),
        ({"member": np.ones(800, bool)}, "True throughout"),
        ({"member": np.arange(800) < 400, "attacks": "mpl"}, "'mpl'"),
        ({"member": np.arange(800) < 400, "output": "softmax"}, "output=softmax"),
        ({"member": np.arange(800) < 400, "primary": "lira_online"}, "primary=lira_online: not among"),
    ],
)
def test_bad_configurations_get_one_line_and_log_nothing(laboratory: Any, config: dict[str, Any], part: str) -> None:
    frame, _ = both(laboratory)
    frame["said"] = frame["label"]
    with pytest.raises(UserError, match=part):
        evaluate(data=frame, targets="label", predictions="said", evaluators="memberscope", evaluator_config=config)
    assert not mlflow.last_active_run().data.metrics


def test_records_on_both_sides_are_refused_unless_allowed(laboratory: Any) -> None:
    frame = pd.concat([laboratory.inside, laboratory.inside.iloc[:30]], ignore_index=True).assign(said="stay")
    member = np.arange(430) < 400
    options = {"data": frame, "targets": "label", "predictions": "said", "evaluators": "memberscope"}
    ask = {**ASK, "attacks": "trained_lr", "member": member}
    with pytest.raises(UserError, match="30 of 400 members are also non-members"):
        evaluate(**options, evaluator_config=ask)
    result = evaluate(**options, evaluator_config={**ask, "allow_overlap": "yes"})
    assert "pull every metric toward chance" in result.artifacts["memberscope/summary.md"].content


def _auc(laboratory: Any, frame: pd.DataFrame, uri: str, **config: Any) -> float:
    result = evaluate(uri, frame, targets="label", evaluators="memberscope", evaluator_config={**ASK, **config})
    return float(result.metrics["auc/threshold_loss"])


def test_masks_and_ids_follow_the_index_of_the_data(laboratory: Any) -> None:
    uri = laboratory.forest()
    frame, member = both(laboratory)
    frame.index = [f"r{number}" for number in range(800)]
    right = _auc(laboratory, frame, uri, member=member)
    order = np.random.default_rng(1).permutation(800)
    mask = pd.Series(pd.array(member, dtype="boolean"), index=frame.index).iloc[order]
    ids = pd.Series([f"patient {number}" for number in range(800)], index=frame.index).iloc[order]
    assert _auc(laboratory, frame, uri, member=mask, record_ids=ids) == right > 0.7
    assert _auc(laboratory, frame, uri, member=mask.to_numpy()) < 0.6, "an array is in the order of the data"
    for wrong in (mask.reset_index(drop=True), mask.rename(index={"r0": "r800"})):
        with pytest.raises(UserError, match=r"evaluator_config: member has the index .* and data r0, r1"):
            _auc(laboratory, frame, uri, member=wrong)


def test_a_frame_of_the_users_own_is_sliced_and_its_ids_are_no_part_of_a_record(laboratory: Any) -> None:
    uri = laboratory.forest()
    frame = pd.concat([laboratory.inside, laboratory.outside, laboratory.inside.iloc[:30]], ignore_index=True)
    frame = frame.assign(id=range(830), region=pd.Categorical(np.where(np.arange(830) % 2, "north", "south")))
    member = np.arange(830) < 400
    ask = {**ASK, "slices": "column:region", "member": member}
    with pytest.raises(UserError, match="30 of 400 members are also non-members"):
        evaluate(uri, frame, targets="label", evaluators="memberscope", evaluator_config=ask)
    result = evaluate(uri, frame, targets="label", evaluators="memberscope", evaluator_config={**ask, "allow_overlap": "yes"})
    table = result.artifacts["memberscope/attacks.csv"].content
    assert table[table["slice"] == "region:north"]["n_member"].iloc[0] == 200
    assert "does not take them: id, region" in result.artifacts["memberscope/summary.md"].content
    said = frame.assign(said="stay")
    static = {"targets": "label", "predictions": "said", "evaluators": "memberscope"}
    with pytest.raises(UserError, match="30 of 400 members are also non-members"):
        evaluate(data=said.drop(columns="region"), **static, evaluator_config={**ask, "slices": "entire"})
    with pytest.raises(UserError, match="slices: column:reg: no column of the evaluated data; nearest: region"):
        evaluate(data=said, **static, evaluator_config={**ask, "slices": "column:reg"})


def test_a_model_that_sorts_its_answers_is_read_by_their_index(laboratory: Any, columns: list[str]) -> None:
    import mlflow.pyfunc
    from sklearn.ensemble import RandomForestClassifier

    class Sorting(mlflow.pyfunc.PythonModel):
        def __init__(self, forest: Any) -> None:
            self.forest = forest

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow would take hints for a signature
            scores = pd.DataFrame(self.forest.predict_proba(model_input), columns=["churn", "stay"], index=model_input.index)
            return scores.sort_values("stay")

    frame, member = both(laboratory)
    numbers = (frame["label"] == "stay").astype(int)
    forest = RandomForestClassifier(20, random_state=0).fit(frame.loc[member, columns], numbers[member])
    uri = laboratory.log(mlflow.pyfunc, None, python_model=Sorting(forest))
    expected = run_audit(
        Predictions(probs=forest.predict_proba(frame[columns]), labels=numbers.to_numpy(), member=member),
        attacks="threshold_loss",
    )
    found = _auc(laboratory, frame[columns].assign(label=numbers), uri, member=member)
    assert found == expected.result("threshold_loss").figures["auc"].value > 0.7


def test_frames_of_pandas_own_types(laboratory: Any, columns: list[str]) -> None:
    import mlflow.sklearn
    from sklearn.tree import DecisionTreeClassifier

    frame, member = both(laboratory)
    plain = frame[columns].round(1)
    typed = plain.copy()
    for name, kind in zip(columns, ("Int64", "Float64", "boolean", "category", "UInt8"), strict=False):
        whole = (plain[name] > 0).astype(float)
        plain[name] = whole if kind == "category" else whole.mask(np.arange(800) % 9 == 0)
        typed[name] = plain[name].astype(int).astype("category") if kind == "category" else plain[name].astype(kind)
    model = DecisionTreeClassifier(max_depth=7, random_state=0).fit(plain[member], frame.loc[member, "label"])
    uri = laboratory.log(mlflow.sklearn, model, serialization_format="cloudpickle")
    labels = frame["label"].map({"churn": 0, "stay": 1})
    expected = run_audit(
        Predictions(probs=model.predict_proba(plain), labels=labels.to_numpy(), member=member), attacks="threshold_loss"
    )
    found = _auc(laboratory, typed.assign(label=frame["label"].astype("string")), uri, member=pd.array(member, dtype="boolean"))
    assert found == expected.result("threshold_loss").figures["auc"].value > 0.55


def static(labels: Any, said: Any, **options: Any) -> Any:
    frame = pd.DataFrame({"f": np.arange(len(labels)), "label": labels, "said": said})
    member = np.arange(len(labels)) % 2 == 0
    return evaluate(
        data=frame, targets="label", predictions="said", evaluators="memberscope", evaluator_config={"member": member, **ASK, **options}
    )  # fmt: skip


@pytest.mark.parametrize("codes", [[22298006, 900000000000207008], [-5, 3], ["00501", "501"]])
def test_labels_that_are_codes_are_audited(laboratory: Any, codes: list[Any]) -> None:
    truth = np.arange(200) // 2 % 2
    wrong = np.arange(200) % 4 == 1  # half of the non-members
    result = static(
        np.array(codes)[truth], np.array(codes)[np.where(wrong, 1 - truth, truth)], attacks="label_only_gap", slices="class"
    )
    assert result.metrics["auc/label_only_gap"] == pytest.approx(0.75)
    slices = set(result.artifacts["memberscope/attacks.csv"].content["slice"])
    assert {f"class_{code}" for code in codes} <= slices


def test_scales_are_read_or_refused_as_the_audit_does(laboratory: Any) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) // 2 % 3
    probs = rng.dirichlet(np.ones(3), size=200)
    expected = static(labels, list(probs)).metrics["auc/threshold_loss"]
    percent = static(labels, list(100 * probs))
    assert percent.metrics["auc/threshold_loss"] == pytest.approx(expected)
    assert "percentages, divided by 100" in percent.artifacts["memberscope/summary.md"].content
    table = static(labels, list(np.column_stack([probs.argmax(axis=1), probs])))
    assert table.metrics["auc/threshold_loss"] == pytest.approx(expected)
    with pytest.raises(UserError, match="normalize the rows, or give the sigmoids' logits"):
        static(labels, list(rng.uniform(size=(200, 3))))
    with pytest.raises(UserError, match="output=logits: the rows are non-negative and sum to one"):
        static(labels, list(probs), output="logits")


def test_an_evaluation_leaves_nothing_but_its_report(laboratory: Any) -> None:
    """Autologging would make runs of the attack models, or log their params to the run that is evaluated."""
    import mlflow.sklearn

    client = mlflow.MlflowClient()
    experiment = mlflow.get_experiment_by_name("memberscope").experiment_id
    mlflow.sklearn.autolog(silent=True, log_models=False, log_datasets=False)
    try:
        before = len(client.search_runs([experiment]))
        static(np.arange(200) % 3, np.arange(200) // 2 % 3, attacks="trained_rf,trained_lr")
    finally:
        mlflow.sklearn.autolog(disable=True)
    assert len(client.search_runs([experiment])) == before + 1
    assert not mlflow.last_active_run().data.params
