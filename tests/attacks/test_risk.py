"""Per-record risk: honest on noise where an in-sample histogram is not, calibrated, ranked, and its lift."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from memberscope.attacks.base import Skip
from memberscope.attacks.risk import PrivacyRisk, lift, most_exposed, privacy_risk
from memberscope.errors import UserError
from memberscope.predictions import Predictions


def _risk(predictions: Predictions, **options: int) -> PrivacyRisk:
    risk = privacy_risk(predictions, **({"seed": 0} | options))
    assert isinstance(risk, PrivacyRisk)
    return risk


def _in_sample(loss: np.ndarray, member: np.ndarray, bins: int = 15) -> np.ndarray:
    """tensorflow_privacy's risk score: each record is in the histograms that it is read off."""
    edges = np.logspace(np.log10(loss.min()), np.log10(loss.max()), bins + 1)
    at = np.clip(np.digitize(loss, edges), 1, bins) - 1
    ins = np.bincount(at[member], minlength=bins) / member.sum()
    outs = np.bincount(at[~member], minlength=bins) / (~member).sum()
    return (ins / np.maximum(ins + outs, 1e-10))[at]


def test_on_noise_the_risk_is_one_half_where_in_sample_it_is_not() -> None:
    """Mean of 60 draws within 99.9% of one half; the deviation of one is at most 1.6 times Mann-Whitney's 0.041."""
    ours, theirs = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        member = rng.permutation(np.arange(200) < 100)
        loss = rng.gamma(1.0, size=200)
        predictions = Predictions(loss_nats=loss, labels=rng.integers(0, 4, 200), member=member)
        ours.append(roc_auc_score(member, _risk(predictions, seed=seed).probability))
        theirs.append(roc_auc_score(member, _in_sample(loss, member)))
    assert abs(np.mean(ours) - 0.5) < 3.29 * 1.6 * 0.041 / np.sqrt(60)
    assert np.mean(theirs) > 0.57


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("stratified", [True, False])
def test_a_class_is_no_risk_however_members_were_drawn(stratified: bool, share: float) -> None:
    """Losses that tell the class alone: mean of 12 draws within 99.9% of one half, both ends.

    Counts that know how many members a class has among the others have 0.26 and 0.32 after a stratified split.
    """
    values = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels = np.arange(300) % 12
        place = np.concatenate([rng.permutation(25) for _ in range(12)]).reshape(12, 25).T.ravel() / 25
        member = place < share if stratified else rng.random(300) < share
        predictions = Predictions(loss_nats=rng.gamma(1.0, size=12)[labels], labels=labels, member=member)
        values.append(roc_auc_score(member, _risk(predictions, seed=seed).probability))
    deviation = np.sqrt(301 / (12 * 300**2 * share * (1 - share)))
    assert abs(np.mean(values) - 0.5) < 3.29 * deviation / np.sqrt(12)


def test_sides_without_a_common_class_are_told_apart_by_the_signal_alone() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    labels = np.where(member, 0, 1)
    loss = rng.gamma(2.0, size=400) * np.where(member, 0.4, 1.0)
    apart = _risk(Predictions(loss_nats=loss, labels=labels, member=member))
    without = roc_auc_score(member, _risk(Predictions(loss_nats=loss, labels=np.zeros(400, int), member=member)).probability)
    assert roc_auc_score(member, apart.probability) == pytest.approx(without, abs=0.03)
    assert without > 0.7


def test_the_probability_is_calibrated_at_equal_priors() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    member = rng.permutation(np.arange(n) < n // 2)
    gap = rng.normal(size=n) + member
    labels = rng.integers(0, 3, n)
    logits = np.zeros((n, 3))
    logits[np.arange(n), labels] = gap
    risk = _risk(Predictions(logits=logits, labels=labels, member=member))
    assert risk.signal == "modified_entropy"
    for low in np.arange(0.1, 0.9, 0.1):
        here = (risk.probability >= low) & (risk.probability < low + 0.1)
        if here.sum() > 200:
            assert member[here].mean() == pytest.approx(risk.probability[here].mean(), abs=3.29 * 0.5 / np.sqrt(here.sum()))


def test_the_ranking_and_its_table() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(100) < 50
    loss = np.where(member, 0.1, 2.0) + rng.random(100) * 0.05
    predictions = Predictions(loss_nats=loss, labels=np.zeros(100, int), member=member, record_ids=np.arange(100) + 1000)
    risk = _risk(predictions)
    np.testing.assert_array_equal(np.sort(risk.rank), np.arange(100))
    assert member[risk.order[:43]].all()  # the middle one of 15 bins holds both sides
    assert not member[risk.order[-43:]].any()
    ordered = risk.probability[risk.order]
    assert (np.diff(ordered) <= 0).all()
    rows = most_exposed(risk, predictions, top=3)
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert all(row["member"] and row["record_id"] == row["position"] + 1000 for row in rows)
    assert rows[0]["loss_nats"] == pytest.approx(loss[rows[0]["position"]])
    assert len(most_exposed(risk, predictions, top=80)) == 50
    assert len(most_exposed(risk, predictions, top=80, members_only=False)) == 80


def test_lift_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    member = rng.permutation(np.arange(300) < 100)
    predictions = Predictions(loss_nats=rng.gamma(2.0, size=300) * np.where(member, 0.5, 1.0), member=member)
    risk = _risk(predictions)
    top = lift(risk, predictions, k=30)
    hits = int(member[risk.order[:30]].sum())
    exact = binomtest(hits, 30).proportion_ci(0.95, method="exact")
    assert (top.members, top.precision, top.prior) == (hits, hits / 30, 1 / 3)
    assert (top.precision_low, top.precision_high) == pytest.approx((exact.low, exact.high))
    assert (top.lift, top.lift_low) == pytest.approx((hits / 10, exact.low * 3))
    whole = lift(risk, predictions, k=300)
    assert whole.lift == pytest.approx(1.0)
    with pytest.raises(UserError, match="k: 301; allowed: 1 to 300"):
        lift(risk, predictions, k=301)


def test_too_few_records_are_a_skip_and_bad_options_an_error() -> None:
    few = Predictions(loss_nats=np.arange(10.0), member=np.arange(10) < 5)
    result = privacy_risk(few, seed=0)
    assert isinstance(result, Skip)
    assert "there are 5 and 5" in result.reason
    with pytest.raises(UserError, match="folds and bins: 1 and 15"):
        privacy_risk(few, seed=0, folds=1)
