"""The control in which membership is permuted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from memberscope import metrics
from memberscope.metrics import null


def test_draws_are_aucs_of_memberships_permuted_within_class() -> None:
    # Small enough to list every permutation: class 0 has one member of three, class 1 two of three.
    scores = np.array([0.0, 1.0, 1.0, 2.0, 3.0, 5.0])
    labels = np.array([0, 0, 0, 1, 1, 1])
    member = np.array([False, True, False, True, False, True])
    every = []
    for one, out in itertools.product(range(3), range(3)):
        permuted = np.array([i == one for i in range(3)] + [i != out for i in range(3)])
        every.append(metrics.auc(scores, permuted).value)
    control = metrics.null_control(scores, member, labels, rng=np.random.default_rng(0), draws=9000)
    values, counts = np.unique(control.draws.round(9), return_counts=True)
    expected, weights = np.unique(np.round(every, 9), return_counts=True)
    np.testing.assert_array_equal(values, expected)
    # Chi-squared at 0.001.
    assert stats.chisquare(counts, weights / 9 * 9000).pvalue > 0.001
    assert control.auc == metrics.auc(scores, member).value
    assert control.mean_auc == pytest.approx(np.mean(every), abs=0.02)
    assert control.p_value == (1 + (control.draws >= control.auc).sum()) / 9001


@pytest.mark.parametrize("classes", [1, 3, 60])
def test_draws_are_the_same_whether_made_side_by_side_or_one_by_one(
    gaussian,
    classes: int,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    scores, member = gaussian(0.5, 60, 80, np.random.default_rng(4))
    labels, found = np.arange(140) % classes, []
    for side_by_side, at_once in ((4_000_000, 50), (0, 100_000), (0, 50)):
        monkeypatch.setattr(null, "_SIDE_BY_SIDE", side_by_side)
        monkeypatch.setattr(null, "_AT_ONCE", at_once)
        rng = np.random.default_rng(5)
        found.append([*metrics.null_control(scores.round(1), member, labels, rng=rng, draws=70).draws, rng.random()])
    assert found[0] == found[1] == found[2]


def test_records_are_drawn_as_floyd_draws_them() -> None:
    ranks, rng, again = np.arange(9) ** 2 / 2, np.random.default_rng(3), np.random.default_rng(3)
    sums = null._drawn_side_by_side(ranks, 4, 50, rng)
    for total in sums:
        drawn: set[int] = set()
        for last in range(5, 9):
            number = int(again.integers(0, last, endpoint=True))
            drawn.add(last if number in drawn else number)
        assert total == ranks[sorted(drawn)].sum()


def test_mean_is_one_half_whatever_the_signal(gaussian) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    for n_member, n_nonmember in ((1000, 300), (300, 1000)):
        scores, member = gaussian(1.0, n_member, n_nonmember, rng)
        control = metrics.null_control(scores, member, rng=rng, draws=400)
        error = np.sqrt((n_member + n_nonmember + 1) / (12 * n_member * n_nonmember))  # Mann & Whitney 1947
        assert abs(control.mean_auc - 0.5) < 4 * error / np.sqrt(400)
        assert control.draws.std() == pytest.approx(error, rel=0.15)
        assert control.p_value == 1 / 401
        assert control.draws.shape == (400,)


def test_p_values_are_uniform_on_no_signal(gaussian) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    p = []
    for _ in range(300):
        scores, member = gaussian(0.0, 60, 40, rng)
        p.append(metrics.null_control(scores, member, rng.integers(0, 3, 100), rng=rng, draws=150).p_value)
    # Kolmogorov-Smirnov at 0.001; steps of 1/151 are small beside its critical value of 0.11.
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_classes_of_different_makeup_show_in_the_mean() -> None:
    # Class 1 has more members and higher scores: within class there is no signal, and the control must not say 0.5.
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 500)
    member = rng.random(1000) < np.where(labels == 1, 0.8, 0.2)
    scores = rng.normal(size=1000) + labels
    control = metrics.null_control(scores, member, labels, rng=rng)
    assert 0.6 < control.mean_auc < 0.75
    assert 0.005 < control.p_value < 0.995
    assert metrics.null_control(scores, member, rng=rng).p_value == 1 / 201


def test_a_class_of_members_alone_and_bad_input() -> None:
    scores, member = np.arange(6.0), np.array([True, True, True, False, True, False])
    control = metrics.null_control(scores, member, np.array([0, 0, 0, 1, 1, 1]), rng=np.random.default_rng(0), draws=50)
    assert set(control.draws.round(6)) <= {0.0 + x for x in np.round([(0 + 0 + 0 + 0) / 8, 1 / 8, 2 / 8], 6)}
    with pytest.raises(ValueError, match="labels"):
        metrics.null_control(scores, member, np.zeros(5), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="draws=0"):
        metrics.null_control(scores, member, rng=np.random.default_rng(0), draws=0)
