from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc as area

from memberscope import metrics, plots, signals
from memberscope.config import AuditConfig, DataConfig, ModelConfig, TrainConfig
from memberscope.config.training import TrainStudyConfig
from memberscope.datasets import load_dataset
from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged_each, round_estimate
from memberscope.plans.target import Prepared, target_of
from memberscope.studies import model_audit, model_page, setup, train
from memberscope.tracking import MemoryTracker

SMALL = DataConfig(members=120, nonmembers=110, validation=50)
QUICK = TrainConfig(epochs=4, batch_size=32)


def _prepare(data: DataConfig, seed: int = 0) -> Prepared:
    return target_of(load_dataset("digits"), data).prepare(seed)


def _train_and_audit(
    prepared: Prepared, model: ModelConfig, train: TrainConfig, audit: AuditConfig, tracker: MemoryTracker, stop: StopFlag,
    setting: str,
) -> model_audit.AuditedModel:  # fmt: skip
    request = setup.audit_request(audit, classes=prepared.data.classes)
    trainer = setup.trainer_for(model, train)
    return model_audit.train_and_audit(prepared, trainer, request, tracker, stop, setting=setting, requested=audit)


def _train(seed: int = 0, data: DataConfig = SMALL, **audit: object) -> tuple[model_audit.AuditedModel, MemoryTracker]:
    tracker = MemoryTracker()
    settings = AuditConfig(attacks="threshold", **audit)
    model = ModelConfig(model="dense", depth=1)
    trained = _train_and_audit(_prepare(data, seed), model, QUICK, settings, tracker, StopFlag(), "dense-d1-c10")
    return trained, tracker


@pytest.fixture(scope="module")
def run() -> tuple[model_audit.AuditedModel, MemoryTracker]:
    return _train()


def test_untrained_epoch_is_at_chance(run: tuple[model_audit.AuditedModel, MemoryTracker]) -> None:
    first = run[0].history.iloc[0]
    assert first["epoch"] == 0
    assert 0.0 <= first["train_accuracy"] < 0.3, "near one in ten classes"
    # 120 against 110 records: the standard error of an AUC is 0.038; beyond 3.3 of them once in a thousand
    assert abs(first["auc"] - 0.5) < 3.3 * 0.038


def test_audits_fall_where_they_should_and_always_at_the_end() -> None:
    trained, tracker = _train(audit_every=3)
    audited = trained.history.loc[trained.history["auc"].notna(), "epoch"].tolist()
    assert audited == [0, 3, 4]
    assert sorted(tracker.logged_metrics["auc/threshold_loss"]) == [0, 3, 4]
    assert sorted(tracker.logged_metrics["train/accuracy"]) == [0, 1, 2, 3, 4]


def test_logged_figures_are_those_of_the_report_and_of_the_predictions(
    run: tuple[model_audit.AuditedModel, MemoryTracker],
) -> None:
    trained, tracker = run
    target = trained.predictions
    scores = -signals.loss_nats(target)
    exact = metrics.auc(scores, target.member)
    assert trained.report.headlines()["auc/threshold_loss"] == pytest.approx(exact.value, abs=1e-6)
    assert trained.history["auc"].iloc[-1] == pytest.approx(exact.value, abs=1e-6), "the table has every digit"
    for name, value in trained.report.headlines(rounded=True).items():
        assert tracker.latest(name) == value
    assert tracker.latest("auc/threshold_loss") == round_estimate(exact)[0] != exact.value
    correct = signals.correctness(target)
    assert trained.history["train_accuracy"].iloc[-1] == pytest.approx(correct[target.member].mean())
    assert tracker.latest("train/accuracy") == float(f"{correct[target.member].mean():.4g}")
    frame = tracker.artifacts["attacks.csv"]
    row = frame[(frame["attack"] == "threshold_entropy") & (frame["slice"] == "entire") & (frame["metric"] == "advantage")]
    assert tracker.latest("advantage/threshold_entropy") == logged_each({"": row["value"].item()})[""], (
        "no interval: four digits"
    )


def test_what_a_run_holds(run: tuple[model_audit.AuditedModel, MemoryTracker]) -> None:
    trained, tracker = run
    assert {"config.json", "model_summary.txt", "data_sample.png", "roc.png", "roc.csv", "attacks.csv", "attacks.json"} <= set(
        tracker.artifacts
    )
    assert [data.context for data in tracker.inputs] == ["member", "nonmember", "validation"]
    assert len({data.digest for data in tracker.inputs}) == 3
    assert tracker.models == [((32, 32, 1), 10)]
    assert tracker.logged_params["model.depth"] == 1
    assert tracker.logged_params["data.label_noise"] == 0.2
    points = tracker.artifacts["roc.csv"]
    whole = trained.report.roc("threshold_loss")
    kept = points[points["attack"] == "threshold_loss"]
    every = plots.roc_points({"threshold_loss": whole})
    assert area(every["fpr"], every["tpr"]) == pytest.approx(area(whole.fpr, whole.tpr), abs=1e-9)
    assert area(kept["fpr"], kept["tpr"]) == pytest.approx(area(whole.fpr, whole.tpr), abs=0.03)  # steps of at least 50 records
    assert np.isin(kept[["fpr", "tpr"]].to_numpy(), every[["fpr", "tpr"]].to_numpy()).all()


def test_same_seed_same_metrics_other_seed_others(run: tuple[model_audit.AuditedModel, MemoryTracker]) -> None:
    assert _train()[1].logged_metrics == run[1].logged_metrics
    assert _train(seed=1)[1].logged_metrics != run[1].logged_metrics


def test_nonmembers_can_validate_and_the_run_says_so() -> None:
    trained, tracker = _train(data=DataConfig(members=120, nonmembers=110, validation="nonmembers"))
    outside = ~trained.predictions.member
    accuracy = signals.correctness(trained.predictions)[outside].mean()
    assert trained.history["val_accuracy"].iloc[-1] == pytest.approx(accuracy)
    assert tracker.latest("val/accuracy") == float(f"{accuracy:.4g}")
    assert tracker.logged_params["data.validation"] == "nonmembers"
    prepared = _prepare(DataConfig(validation="nonmembers"))
    assert "monitored on the audited non-members" in model_page.description(
        prepared, setup.trainer_for(ModelConfig(), QUICK), MemoryTracker()
    )


def test_memorization_of_noisy_labels_is_seen() -> None:
    prepared = _prepare(DataConfig(members=200, nonmembers=200, validation=50))
    config = TrainConfig(epochs=60, batch_size=20)
    trained = _train_and_audit(
        prepared, ModelConfig(model="dense", depth=1, width=128), config, AuditConfig(attacks="threshold", audit_every=30),
        MemoryTracker(), StopFlag(), "overfit",
    )  # fmt: skip
    assert 0.62 < trained.report.result("threshold_loss").figures["auc"].value < 0.9
    assert trained.summary["gap"] > 0.1
    assert 0 < trained.summary["overfit_onset_epoch"] <= 60


def test_interrupted_training_raises_and_keeps_what_was_logged() -> None:
    tracker, stop = MemoryTracker(), StopFlag()
    original = tracker.metrics

    def stop_at_two(values: dict[str, float], *, step: int = 0) -> None:
        original(values, step=step)
        if step == 2:
            stop.set()

    tracker.metrics = stop_at_two  # type: ignore[method-assign, assignment]
    prepared = _prepare(SMALL)
    with pytest.raises(Interrupted):
        _train_and_audit(prepared, ModelConfig(model="dense"), QUICK, AuditConfig(attacks="threshold"), tracker, stop, "x")
    assert sorted(tracker.logged_metrics["train/loss"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("gaps", "onset"),
    [([0.0, 0.0, 0.0], None), ([0.1, 0.1, 0.1], 0), ([0.0, 0.1, 0.1], 1), ([0.0, 0.1, 0.0, 0.1], 3), ([0.1, 0.1, 0.01], None)],
)
def test_overfit_onset_is_from_when_the_gap_stays(gaps: list[float], onset: int | None) -> None:
    history = pd.DataFrame({"epoch": range(len(gaps)), "train_accuracy": [0.5 + gap for gap in gaps], "val_accuracy": 0.5})
    assert model_audit.overfit_onset(history, 0.02) == onset


def test_setting_names_what_differs() -> None:
    def setting(model: ModelConfig, classes: int) -> str:
        return model_audit.model_setting(setup.trainer_for(model, QUICK), classes)

    assert setting(ModelConfig(), 10) == "conv-d3-c10"
    assert setting(ModelConfig(model="dense", width=32, activation="tanh"), 4) == "dense-d3-c4-w32-tanh"
    assert setting(ModelConfig(model="mlp", widths="64,32", filters=8), 4) == "mlp-d3-c4-f8-w64x32"


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"members": "2000"}, "members=2000"),
        ({"batch_size": "601"}, "batch_size=601: more than the 600 members"),
        ({"depth": "4"}, "depth=4: a conv model on 32x32x1 inputs can have depth 1 to 3"),
        ({"classes": "11"}, "classes=11"),
        ({"classes": "1"}, "classes=1"),
        ({"dataset": "digts"}, "dataset=digts"),
    ],
)
def test_what_would_fail_later_fails_before_training(values: dict[str, str], part: str) -> None:
    tracker = MemoryTracker()
    with pytest.raises(UserError, match=part):
        train.run(TrainStudyConfig.from_mapping(values), tracker, StopFlag())
    assert not tracker.logged_metrics
