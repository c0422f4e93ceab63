"""Folds: a partition, balanced, whole groups, and training parts that never hold what they score."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope.attacks import crossfit, registry
from memberscope.attacks import folds as fold_plan
from memberscope.attacks.base import AttackScores
from memberscope.attacks.crossfit import FOLDS, cross_fit, shortage
from memberscope.attacks.features import Features
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions

SHAPES = {"n_in": st.integers(8, 60), "n_out": st.integers(8, 60), "folds": st.integers(2, 5), "seed": st.integers(0, 10**6)}


@settings(deadline=None, max_examples=50)
@given(**SHAPES, classes=st.one_of(st.none(), st.integers(1, 12)))
def test_folds_part_the_records_and_balance_both_sides_and_each_class(
    n_in: int, n_out: int, folds: int, seed: int, classes: int | None
) -> None:
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n_in + n_out) < n_in)
    labels = None if classes is None else rng.integers(0, classes, len(member)) * 10**9  # codes, not positions
    order = fold_plan.canonical_order(rng.normal(size=(len(member), 2)), member, labels, None)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(member)))
    fold_of = fold_plan.assign(order, member, labels, None, folds, rng)
    of_one = np.zeros(len(member), dtype=int) if labels is None else labels
    for side in (True, False):
        assert np.ptp(np.bincount(fold_of[member == side], minlength=folds)) <= 1
        for label in np.unique(of_one):
            # Evenly dealt; the last round of the non-members starts elsewhere and may add one to a fold.
            assert np.ptp(np.bincount(fold_of[(member == side) & (of_one == label)], minlength=folds)) <= (1 if side else 2)
    assert np.ptp(np.bincount(fold_of, minlength=folds)) <= 1
    for fold in range(folds):
        part = fold_plan.training_part(order, fold_of, fold, member, labels, rng, most=10**6)
        index = part.index
        assert len(np.unique(index)) == len(index)
        assert (fold_of[index] != fold).all()
        ins, outs = member & (fold_of != fold), ~member & (fold_of != fold)
        if part.within_class:
            for label in np.unique(of_one):  # the smaller side of each class whole, the larger subsampled
                here = of_one == label
                counts = [int((side & here)[index].sum()) for side in (member, ~member)]
                assert counts == [min((ins & here).sum(), (outs & here).sum())] * 2
        else:
            assert member[index].sum() == (~member[index]).sum() == min(ins.sum(), outs.sum())
        assert part.within_class or labels is None or len(np.unique(labels)) > 1


@pytest.mark.parametrize(
    ("n_in", "n_out", "classes"), [(100, 100, 100), (60, 60, 7), (500, 100, 10), (12, 12, 12), (1000, 50, 25)]
)
def test_after_a_stratified_split_no_pair_of_one_class_is_lost(n_in: int, n_out: int, classes: int) -> None:
    """Members and non-members of a class are dealt to the same folds: at least 0.9 of the smaller side's records are trained on."""
    member = np.repeat([True, False], [n_in, n_out])
    labels = np.concatenate([np.arange(n_in) % classes, np.arange(n_out) % classes])
    rng = np.random.default_rng(0)
    order = fold_plan.canonical_order(rng.normal(size=(len(member), 1)), member, labels, None)
    fold_of = fold_plan.assign(order, member, labels, None, 4, rng)
    for fold in range(4):
        part = fold_plan.training_part(order, fold_of, fold, member, labels, rng, most=10**6)
        assert part.within_class
        assert len(part.index) // 2 >= 0.9 * min((member & (fold_of != fold)).sum(), (~member & (fold_of != fold)).sum())


def test_at_most_so_many_pairs_are_kept_and_they_stay_pairs() -> None:
    rng = np.random.default_rng(0)
    member, labels = rng.random(4000) < 0.6, rng.integers(0, 9, 4000)
    order = fold_plan.canonical_order(rng.normal(size=(4000, 1)), member, labels, None)
    fold_of = fold_plan.assign(order, member, labels, None, 4, rng)
    index = fold_plan.training_part(order, fold_of, 0, member, labels, rng, most=300).index
    assert len(index) == 600
    np.testing.assert_array_equal(*(np.bincount(labels[index[member[index] == side]], minlength=9) for side in (True, False)))


def test_sides_without_a_common_class_are_balanced_as_wholes_and_it_is_said() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(200) < 120
    labels = np.where(member, np.arange(200) % 3, 3 + np.arange(200) % 3)
    predictions = Predictions(logits=rng.normal(size=(200, 6)), labels=labels, member=member)
    result = registry.get("trained_lr").score(Evidence(target=predictions), seed=0)
    assert isinstance(result, AttackScores)
    assert "each model trained on at least 60 members and as many non-members" in result.notes[0]
    assert result.notes[1].startswith("members and non-members have hardly any class in common")
    unknown = registry.get("trained_lr").score(Evidence(target=Predictions(loss_nats=rng.random(200), member=member)), seed=0)
    assert isinstance(unknown, AttackScores)
    assert unknown.notes[1].startswith("labels are unknown")


@settings(deadline=None, max_examples=50)
@given(**SHAPES)
def test_records_with_one_id_share_a_fold(n_in: int, n_out: int, folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n_in + n_out) < n_in)
    ids, labels = rng.integers(0, len(member) // 3, len(member)), rng.integers(0, 4, len(member))
    order = fold_plan.canonical_order(rng.normal(size=(len(member), 2)), member, labels, ids)
    fold_of = fold_plan.assign(order, member, labels, ids, folds, rng)
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


def test_filters_of_warnings_are_as_before_whatever_a_model_did_to_them() -> None:
    """scikit-learn's forests reset them while they fit, which threads do not survive."""
    member = np.arange(40) < 20
    features = Features(values=np.arange(40.0)[:, None], names=("position",), labels=None, by_class=())

    def learner(x: np.ndarray, side: np.ndarray, seed: int):  # type: ignore[no-untyped-def]
        warnings.resetwarnings()
        return lambda rows: np.zeros(len(rows))

    before = list(warnings.filters)
    cross_fit(Predictions(loss_nats=np.ones(40), member=member), features, learner, name="spy", seed=0, folds=FOLDS, workers=2)
    assert warnings.filters == before != []


def test_a_shortage_says_how_many_there_are_and_counts_ids() -> None:
    member = np.arange(40) < 7
    short = shortage(Predictions(loss_nats=np.ones(40), member=member), 4)
    assert short == "needs 8 members and 8 non-members to be cross-fitted in 4 folds; there are 7 and 33"
    member = np.arange(40) < 20
    assert shortage(Predictions(loss_nats=np.ones(40), member=member), 4) is None
    grouped = Predictions(loss_nats=np.ones(40), member=member, record_ids=np.arange(40) // 10)
    assert shortage(grouped, 4) == "needs 8 members and 8 non-members to be cross-fitted in 4 folds; there are 2 and 2"


@pytest.mark.parametrize("ids", [None, "unique", "shared", "text"])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("width", [1, 2, 6])
def test_the_canonical_order_is_that_of_all_keys(ids: str | None, labelled: bool, width: int) -> None:
    rng = np.random.default_rng(0)
    content = rng.integers(0, 3, (400, width)).astype(float)
    content[rng.random((400, width)) < 0.1] = np.nan
    content[rng.random((400, width)) < 0.1] = -0.0
    member, labels = rng.random(400) < 0.5, rng.integers(0, 4, 400) if labelled else None
    given = {
        None: None, "unique": rng.permutation(400), "shared": rng.integers(0, 30, 400),
        "text": np.array([f"r{k}" for k in rng.integers(0, 200, 400)]),
    }[ids]  # fmt: skip
    keys = [member, *content.T[::-1], *([] if labels is None else [labels]), *([] if given is None else [given])]
    np.testing.assert_array_equal(fold_plan.canonical_order(content, member, labels, given), np.lexsort(keys))


def test_records_that_are_equal_in_everything_keep_their_order() -> None:
    order = fold_plan.canonical_order(np.zeros((50, 4)), np.ones(50, dtype=np.bool_), np.zeros(50, dtype=int), None)
    np.testing.assert_array_equal(order, np.arange(50))
    none = fold_plan.canonical_order(np.zeros((0, 4)), np.zeros(0, dtype=np.bool_), None, None)
    assert none.shape == (0,)


def test_folds_of_few_records_are_fitted_one_after_another_to_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    member = np.arange(120) < 60
    target = Predictions(loss_nats=rng.exponential(size=120), labels=np.arange(120) % 2, member=member)
    features = Features(values=rng.normal(size=(120, 2)), names=("a", "b"), labels=None, by_class=())
    seen: set[int] = set()
    both = threading.Barrier(2)

    def learner(x: np.ndarray, inside: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        seen.add(threading.get_ident())
        if crossfit.LEAST_FOR_THREADS == 0:
            both.wait(10)
        weights = np.linalg.lstsq(x, inside - 0.5, rcond=None)[0]
        return lambda rows: rows @ weights + seed * 1e-12

    def scores() -> np.ndarray:
        return cross_fit(target, features, learner, name="spy", seed=0, folds=FOLDS, workers=2).scores

    alone = scores()
    assert seen == {threading.get_ident()}
    monkeypatch.setattr(crossfit, "LEAST_FOR_THREADS", 0)
    seen.clear()
    np.testing.assert_array_equal(scores(), alone)
    assert len(seen) == 2
