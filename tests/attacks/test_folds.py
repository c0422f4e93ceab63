"""Folds: a partition, balanced, whole groups, and training parts that never hold what they score."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope.attacks import folds as fold_plan
from memberscope.attacks.crossfit import FOLDS, cross_fit, shortage
from memberscope.attacks.features import Features
from memberscope.predictions import Predictions

SHAPES = {"n_in": st.integers(8, 60), "n_out": st.integers(8, 60), "folds": st.integers(2, 5), "seed": st.integers(0, 10**6)}


@settings(deadline=None, max_examples=50)
@given(**SHAPES)
def test_folds_part_the_records_and_balance_both_sides(n_in: int, n_out: int, folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n_in + n_out) < n_in)
    order = fold_plan.canonical_order(rng.normal(size=(len(member), 2)), member, None, None)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(member)))
    fold_of = fold_plan.assign(order, member, None, folds, rng)
    for side in (True, False):
        sizes = np.bincount(fold_of[member == side], minlength=folds)
        assert sizes.max() - sizes.min() <= 1
    assert np.ptp(np.bincount(fold_of, minlength=folds)) <= 1
    for fold in range(folds):
        part = fold_plan.training_part(order, fold_of, fold, member, rng, most=10**6)
        assert len(np.unique(part)) == len(part)
        assert (fold_of[part] != fold).all()
        others = min((member & (fold_of != fold)).sum(), (~member & (fold_of != fold)).sum())
        assert member[part].sum() == (~member[part]).sum() == others  # the smaller side whole, the larger subsampled


@settings(deadline=None, max_examples=50)
@given(**SHAPES)
def test_records_with_one_id_share_a_fold(n_in: int, n_out: int, folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n_in + n_out) < n_in)
    ids = rng.integers(0, len(member) // 3, len(member))
    order = fold_plan.canonical_order(rng.normal(size=(len(member), 2)), member, None, ids)
    fold_of = fold_plan.assign(order, member, ids, folds, rng)
    assert all(len(np.unique(fold_of[ids == i])) == 1 for i in np.unique(ids))


def test_every_record_is_scored_once_by_a_model_that_never_saw_it() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(90) < 60
    predictions = Predictions(loss_nats=rng.normal(size=90), member=member, record_ids=np.arange(90) // 2)
    value = np.arange(90.0)
    features = Features(values=value[:, None], names=("position",), labels=None, by_class=())
    seen: list[np.ndarray] = []
    scored: list[np.ndarray] = []

    def learner(x: np.ndarray, side: np.ndarray, seed: int):  # type: ignore[no-untyped-def]
        seen.append(x[:, 0])
        assert side.mean() == 0.5

        def model(rows: np.ndarray) -> np.ndarray:
            scored.append(rows[:, 0])
            return np.full(len(rows), float(len(seen)))

        return model

    result = cross_fit(predictions, features, learner, name="spy", seed=0, folds=FOLDS, workers=1)
    assert len(seen) == FOLDS
    assert sum(len(rows) for rows in scored) == 90
    assert all(not np.isin(rows, part).any() for rows, part in zip(scored, seen, strict=True))
    np.testing.assert_array_equal(np.unique(result.scores), np.arange(1.0, FOLDS + 1))
    for pair in range(45):
        assert result.folds[2 * pair] == result.folds[2 * pair + 1]


def test_a_shortage_says_how_many_there_are_and_counts_ids() -> None:
    member = np.arange(40) < 7
    short = shortage(Predictions(loss_nats=np.ones(40), member=member), 4)
    assert short == "needs 8 members and 8 non-members to be cross-fitted in 4 folds; there are 7 and 33"
    member = np.arange(40) < 20
    assert shortage(Predictions(loss_nats=np.ones(40), member=member), 4) is None
    grouped = Predictions(loss_nats=np.ones(40), member=member, record_ids=np.arange(40) // 10)
    assert shortage(grouped, 4) == "needs 8 members and 8 non-members to be cross-fitted in 4 folds; there are 2 and 2"
