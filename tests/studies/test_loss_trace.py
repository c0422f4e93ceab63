"""The loss traces that studies collect: what they hold, what they change (nothing), and what a run reveals of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_artifacts import best_guess, everything

from memberscope import LossTrace, run_audit, signals
from memberscope.attacks.loss_trace import lt_iqr
from memberscope.audit import artifacts
from memberscope.config import AttackStudyConfig
from memberscope.config.training import SweepStudyConfig, TrainStudyConfig
from memberscope.datasets import load_dataset
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import round_estimate
from memberscope.plans.target import Prepared, target_of
from memberscope.secret import VARIABLE
from memberscope.studies import attack, model_audit, setup, train
from memberscope.studies.sweep import study as sweep
from memberscope.studies.sweep import trial as sweep_trial
from memberscope.sweeps.cells import Cell, Part
from memberscope.tracking import MemoryTracker
from memberscope.training.recipe import Recipe

from .conftest import Own

EPOCHS = 5
SMALL = {"model": "dense", "depth": 1, "members": 120, "nonmembers": 110, "validation": 50, "epochs": EPOCHS, "batch_size": 32}
TRACED = '''
import numpy as np


class Fitted:
    """Probabilities that say little, and losses by epoch that a user's own loop kept."""

    def __init__(self, job):
        self.job = job

    def predict_proba(self, x):
        return np.full((len(x), self.job.classes), 1 / self.job.classes)

    def losses_by_epoch(self, x, y):
        return x[:, :1] ** 2 + np.arange(4) + 10 * np.asarray(y)[:, None]


def train(job):
    return Fitted(job)
'''


def _train(**options: Any) -> tuple[model_audit.AuditedModel, MemoryTracker, Prepared]:
    config = TrainStudyConfig.from_mapping({"attacks": "threshold", **SMALL, **options})
    data, trainer = setup.load_data(config), setup.trainer_for(config, config)
    prepared, tracker = target_of(data, config).prepare(0), MemoryTracker()
    request = setup.audit_request(config, classes=data.classes)
    found = model_audit.train_and_audit(prepared, trainer, request, tracker, StopFlag(), setting="s", requested=config)
    return found, tracker, prepared


def _kept(tracker: MemoryTracker, folder: Path) -> LossTrace:
    (folder / artifacts.LOSS_TRACE).write_bytes(tracker.artifacts[artifacts.LOSS_TRACE])
    return LossTrace.open(folder / artifacts.LOSS_TRACE)


@pytest.fixture(scope="module")
def traced() -> tuple[model_audit.AuditedModel, MemoryTracker, Prepared]:
    return _train()


def test_a_trace_holds_the_losses_of_both_sides_after_each_epoch(traced: Any, tmp_path: Path) -> None:
    found, tracker, prepared = traced
    trace, plan = _kept(tracker, tmp_path), prepared.plan
    assert (trace.steps, trace.every, trace.epochs) == ((2, 4, 5), 2, 5)
    np.testing.assert_array_equal(trace.record_ids, plan.audited)
    np.testing.assert_array_equal(trace.member, plan.member)
    np.testing.assert_array_equal(trace.labels, prepared.data.y[plan.audited])
    losses = trace.by_record()
    history = found.history[found.history["epoch"].isin(trace.steps)]
    np.testing.assert_allclose(losses[plan.member].mean(axis=0), history["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(losses[:, -1], signals.loss_nats(found.predictions), rtol=1e-4, atol=1e-6)
    # both sides, record by record: from a second training with the same seed
    config = TrainStudyConfig.from_mapping(SMALL)
    model = setup.trainer_for(config, config).begin(
        model_audit.TrainingJob(data=prepared.data, indices=plan.members, seed=prepared.seed)
    )
    again: list[np.ndarray] = []

    def after_epoch(epoch: int) -> None:
        logits = model.outputs(plan.audited).astype(np.float64)
        top = logits.max(axis=1)
        right = logits[np.arange(len(logits)), prepared.data.y[plan.audited]]
        again.append(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - right)

    model.fit(after_epoch=after_epoch, between_steps=lambda done: None)
    np.testing.assert_allclose(losses, np.array(again)[[2, 4, 5]].T, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("every", "steps"), [(1, (1, 2, 3, 4, 5)), (3, (3, 5)), (9, (5,))])
def test_a_trace_has_the_epochs_with_an_audit_and_the_last(every: int, steps: tuple[int, ...], tmp_path: Path) -> None:
    _, tracker, _ = _train(audit_every=every)
    trace = _kept(tracker, tmp_path)
    assert trace.steps == steps
    assert trace.by_record().shape == (230, len(steps))


def test_collecting_a_trace_changes_no_figure(traced: Any) -> None:
    _, tracker, _ = traced
    _, without, _ = _train(loss_trace="no")
    assert without.logged_metrics == tracker.logged_metrics
    assert artifacts.LOSS_TRACE not in without.artifacts
    assert set(tracker.artifacts) - set(without.artifacts) == {artifacts.LOSS_TRACE}
    for name in (artifacts.HISTORY, artifacts.ATTACKS):
        assert tracker.artifacts[name].equals(without.artifacts[name])


def test_nothing_of_single_records_leaves_no_trace() -> None:
    _, tracker, _ = _train(private_artifacts="yes")
    assert artifacts.LOSS_TRACE not in tracker.artifacts


def test_the_kept_trace_is_the_evidence_of_the_trace_attacks_here_and_in_attack(tmp_path: Path) -> None:
    found, tracker, _ = _train(attacks="trace,threshold_loss", primary="trace_lt_iqr")
    losses = _kept(tracker, tmp_path).by_record()
    np.testing.assert_array_equal(found.report.whole_scores["trace_lt_iqr"], lt_iqr(losses))
    again = MemoryTracker()
    options = {"trace": str(tmp_path / artifacts.LOSS_TRACE), "attacks": "trace", "controls": "none"}
    attack.run(AttackStudyConfig(**options), again, StopFlag())
    for name in ("trace_final", "trace_mean", "trace_lt_iqr"):
        assert again.latest(f"auc/{name}") == tracker.latest(f"auc/{name}")
    expected = run_audit(Evidence(target=found.predictions, loss_trace=losses), attacks="trace_mean").result("trace_mean")
    assert tracker.latest("auc/trace_mean") == round_estimate(expected.figures["auc"])[0]


def test_without_a_trace_its_attacks_are_skipped_and_say_why() -> None:
    found, _, _ = _train(attacks="trace_mean,threshold_loss", loss_trace="no")
    reasons = {row.attack: row.reason for row in found.report.results}
    assert reasons["trace_mean"] == "needs loss_trace (loss_trace=no, so losses were not collected)"
    for options in ({"attacks": "trace"}, {"attacks": "all", "primary": "trace_mean"}):
        with pytest.raises(UserError, match=r"all need shadow models or a loss trace|needs loss_trace"):
            _train(loss_trace="no", **options)


def _own(folder: Path, **options: Any) -> MemoryTracker:
    rng = np.random.default_rng(0)
    np.savez(folder / "rows.npz", x=rng.normal(size=(300, 3)), y=rng.integers(0, 2, 300))
    (folder / "mine.py").write_text(TRACED)
    tracker = MemoryTracker()
    values = {
        "trainer": f"{folder}/mine.py:train", "dataset": str(folder / "rows.npz"), "members": 120, "nonmembers": 120, "validation": 60,
        "attacks": "trace,threshold_loss", "label_noise": 0, **options,
    }  # fmt: skip
    train.run(TrainStudyConfig.from_mapping(values), tracker, StopFlag())
    return tracker


def test_a_model_of_one_s_own_that_keeps_its_losses_feeds_the_trace(tmp_path: Path) -> None:
    tracker = _own(tmp_path)
    trace = _kept(tracker, tmp_path)
    data = load_dataset(str(tmp_path / "rows.npz"), as_is=True)
    expected = data.x[trace.record_ids, :1] ** 2 + np.arange(4) + 10 * data.y[trace.record_ids][:, None]
    np.testing.assert_array_equal(trace.by_record(), expected.astype(np.float32))
    assert trace.member is not None
    assert trace.member.sum() == 120
    assert tracker.latest("auc/trace_mean") == tracker.latest("auc/trace_final")  # they differ by a constant


def test_a_model_of_one_s_own_without_losses_says_so(own: Own) -> None:
    tracker = MemoryTracker()
    options = {
        "trainer": own.spec,
        "dataset": own.data,
        "attacks": "threshold,trace_mean",
        "members": 120,
        "nonmembers": 120,
        "validation": 60,
    }
    train.run(TrainStudyConfig.from_mapping(options), tracker, StopFlag())
    rows = {row["attack"]: row for row in tracker.artifacts["attacks.csv"].to_dict("records")}
    assert rows["trace_mean"]["reason"] == "needs loss_trace (the trainer's models offer no losses_by_epoch)"
    assert artifacts.LOSS_TRACE not in tracker.artifacts


def test_a_kept_trace_names_no_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the run has the file; only the key opens it."""
    tracker = _own(tmp_path)
    trace = _kept(tracker, tmp_path)
    order = np.argsort(trace.record_ids)
    run = {artifacts.LOSS_TRACE: everything(tracker)[artifacts.LOSS_TRACE]}
    assert trace.member is not None
    found, how = best_guess(run, {"position": trace.record_ids[order]}, trace.member[order])
    assert found < 0.17, how
    monkeypatch.setenv(VARIABLE, "another key of this user")
    with pytest.raises(UserError, match="written with another key"):
        LossTrace.open(tmp_path / artifacts.LOSS_TRACE)


def _sweep(folder: Path, **options: Any) -> MemoryTracker:
    tracker = MemoryTracker()
    values = {
        "grid": "classes", "controls": "natural", "levels": "4,10", "members": 80, "nonmembers": 80, "validation": 30, "epochs": 3,
        "batch_size": 20, "depth": 1, "width": 8, "seeds": 1, "workers": 1, "log_models": "no", "folder": str(folder / "sweeps"),
        "attacks": "threshold_loss,trace_mean", **options,
    }  # fmt: skip
    sweep.run(SweepStudyConfig.from_mapping(values), tracker, StopFlag())
    return tracker.children[0]


@pytest.mark.thorough  # `make test` keeps the traces of single trainings
def test_a_sweep_keeps_the_traces_of_its_trials_if_asked(tmp_path: Path) -> None:
    without, traced = _sweep(tmp_path / "a"), _sweep(tmp_path / "b", loss_trace="yes")
    assert artifacts.LOSS_TRACE not in without.artifacts
    trace = _kept(traced, tmp_path)
    assert trace.steps == (1, 2, 3)
    assert trace.member is not None
    assert (len(trace.member), trace.member.sum()) == (64, 32)  # of 160 records, those of four of ten classes
    losses = trace.by_record()
    assert losses[trace.member, -1].mean() == pytest.approx(traced.latest("train/loss"), rel=5e-4), "four digits are shown"
    assert losses[trace.member].mean(axis=0)[0] > losses[trace.member].mean(axis=0)[2] > 0
    assert np.isfinite(traced.latest("auc/trace_mean"))
    rows = {row["attack"]: row for row in without.artifacts["attacks.csv"].to_dict("records")}
    assert "losses were not collected" in rows["trace_mean"]["reason"]
    same = {name for name in without.logged_metrics if not name.startswith("seconds/")}
    for name in same:
        assert traced.latest(name) == pytest.approx(without.latest(name), abs=1e-6), name


def test_seeds_that_could_be_trained_together_are_traced_one_by_one() -> None:
    data = load_dataset("digits")
    part = Part(classes=3, members=80, nonmembers=60, validation=30, audited_members=80, audited_nonmembers=60)
    cell = Cell(recipe=Recipe(model="dense", depth=1, width=8, epochs=2, batch_size=20), part=part)
    assert sweep_trial.together(cell)
    found = list(
        sweep_trial.run_cell(
            data, setup.trainer_of(Recipe()), cell, [4, 5], request=sweep_trial.trial_request("threshold_loss"), tuning=True,
            stop=StopFlag(), traced=True,
        )
    )  # fmt: skip
    for one in found:
        assert one.losses is not None
        assert one.losses.shape == (140, 2)
        at_end = -one.report.whole_scores["threshold_loss"]  # of the half that tuning did not use
        _, final = sweep_trial.halves(one.selection)
        np.testing.assert_allclose(one.losses[final, -1], at_end, rtol=1e-4, atol=1e-6)
    for private in (False, True):
        tracker = MemoryTracker()
        sweep_trial.log_outcome(found[0], cell, "c-s4", tracker, attacks="threshold_loss", log_model=False, private=private)
        assert (artifacts.LOSS_TRACE in tracker.artifacts) is not private


AUGMENTING = '''
from tensorflow import keras


def noisy(*, input_shape, classes, seed):
    """Each record is moved far away while the model is trained."""
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(), keras.layers.GaussianNoise(50.0), keras.layers.Dropout(0.5),
        keras.layers.Dense(classes),
    ])
'''


def test_with_augmentation_the_losses_are_those_of_a_clean_pass(tmp_path: Path) -> None:
    """In the training's own passes the loss is some hundred nats."""
    (tmp_path / "mine.py").write_text(AUGMENTING)
    options = {"trainer": f"keras:{tmp_path}/mine.py:noisy", "members": 60, "nonmembers": 50, "validation": 30, "epochs": 2}
    config = TrainStudyConfig.from_mapping({"attacks": "threshold", "batch_size": 30, **options})
    data, trainer = setup.load_data(config), setup.trainer_for(config, config)
    prepared, tracker = target_of(data, config).prepare(0), MemoryTracker()
    request = setup.audit_request(config, classes=data.classes)
    found = model_audit.train_and_audit(prepared, trainer, request, tracker, StopFlag(), setting="s", requested=config)
    losses = _kept(tracker, tmp_path).by_record()
    np.testing.assert_allclose(losses[:, -1], signals.loss_nats(found.predictions), rtol=1e-4, atol=1e-6)
    assert losses.max() < 20
