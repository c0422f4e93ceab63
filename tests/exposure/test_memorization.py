"""Memorization: Feldman and Zhang's estimate, against leave-one-out, all subsets, and a naive reference; and its interval's coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import ndtri

from memberscope.errors import UserError
from memberscope.exposure.base import complementary_pairs, twins
from memberscope.exposure.memorization import memorization, newcombe
from memberscope.metrics.intervals import newcombe_difference


def _nearest(x: np.ndarray, y: np.ndarray, member: np.ndarray) -> np.ndarray:
    """(models, n) whether a 1-nearest-neighbour model on each model's members classifies every record correctly."""
    right = np.empty(member.shape, dtype=bool)
    for row, inside in zip(right, member, strict=True):
        known = np.flatnonzero(inside)
        distance = np.abs(x[:, None] - x[None, known])
        row[:] = y[known[distance.argmin(axis=1)]] == y
    return right


def _points(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.integers(0, 2, n)


def test_memorization_of_nearest_neighbours_is_that_of_leaving_one_out() -> None:
    x, y = _points(60, 0)
    member = ~np.eye(60, dtype=bool)  # model i leaves record i out
    found = memorization(_nearest(x, y, member), member)
    left_out = np.array([y[np.delete(np.arange(60), i)[np.abs(np.delete(x, i) - x[i]).argmin()]] == y[i] for i in range(60)])
    np.testing.assert_array_equal(found.value, 1.0 - left_out)
    assert 5 < found.value.sum() < 55
    assert (found.reason == "").all()


def test_memorization_over_all_halves_is_its_expectation() -> None:
    x, y = _points(8, 3)
    halves = [half for half in itertools.combinations(range(8), 4) if 0 in half]
    member = np.zeros((2 * len(halves), 8), dtype=bool)
    for pair, half in enumerate(halves):
        member[2 * pair, list(half)] = True
        member[2 * pair + 1] = ~member[2 * pair]
    expected = np.empty(8)
    for i in range(8):
        # OUT: four of the other seven; the k-th nearest decides if it is drawn and the k - 1 nearer ones are not
        order = [j for j in np.abs(x - x[i]).argsort() if j != i]
        chances = [len(list(itertools.combinations(range(7 - k - 1), 3))) / 35 for k in range(7)]
        expected[i] = 1.0 - sum(chance for chance, j in zip(chances, order, strict=True) if y[j] == y[i])
    np.testing.assert_allclose(memorization(_nearest(x, y, member), member).value, expected, atol=1e-12)


def _naive(correct: np.ndarray, member: np.ndarray, pairs: np.ndarray, i: int) -> tuple[float, float, float]:
    z = float(ndtri(0.975))
    ins = [bool(correct[k, i]) for k in range(len(member)) if member[k, i]]
    outs = [bool(correct[k, i]) for k in range(len(member)) if not member[k, i]]
    value = sum(ins) / len(ins) - sum(outs) / len(outs)
    if not len(pairs):
        return (value, *newcombe_difference(sum(ins), len(ins), sum(outs), len(outs), z))
    table = np.zeros((2, 2), dtype=int)
    for a, b in pairs:
        inside, outside = (a, b) if member[a, i] else (b, a)
        table[int(correct[inside, i]), int(correct[outside, i])] += 1
    p = len(pairs)
    over = table[1, 1] * table[0, 0] - table[1, 0] * table[0, 1]
    over = max(over - p / 2, 0) if over > 0 else over
    scale = np.sqrt(float(sum(ins) * (p - sum(ins)) * sum(outs) * (p - sum(outs))))
    phi = over / scale if scale else 0.0
    from scipy.stats import binomtest

    one, two = (binomtest(sum(side), p).proportion_ci(method="wilson") for side in (ins, outs))
    p1, p0 = sum(ins) / p, sum(outs) / p
    a, b, c, d = p1 - one.low, two.high - p0, one.high - p1, p0 - two.low
    return value, value - np.sqrt(a * a - 2 * phi * a * b + b * b), value + np.sqrt(c * c - 2 * phi * c * d + d * d)


@pytest.mark.parametrize("paired", [True, False])
def test_values_and_intervals_are_those_of_a_loop(paired: bool) -> None:
    rng = np.random.default_rng(1)
    first = rng.random((9, 40)) < 0.5
    member = np.stack([first, ~first], axis=1).reshape(18, 40) if paired else rng.random((18, 40)) < 0.5
    correct = rng.random((18, 40)) < np.where(member, 0.8, 0.5) * rng.random(40) ** 0.3
    pairs = complementary_pairs(member)
    assert len(pairs) == (9 if paired else 0)
    found = memorization(correct, member)
    expected = np.array([_naive(correct, member, pairs, i) for i in range(40)])
    np.testing.assert_allclose(np.stack([found.value, found.low, found.high], axis=1), expected, atol=1e-12)


def test_pairs_are_found_in_any_order_and_only_if_all_models_are_in_one() -> None:
    first = np.random.default_rng(0).random((5, 30)) < 0.5
    member = np.concatenate([first, ~first[::-1]])
    pairs = complementary_pairs(member)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 9), (1, 8), (2, 7), (3, 6), (4, 5)]
    assert complementary_pairs(member[:9]).shape == (0, 2)
    assert twins(member[:9]).tolist() == [-1, 8, 7, 6, 5, 4, 3, 2, 1]


def test_what_pairs_share_does_not_break_the_interval() -> None:
    """Answers of a pair correlate at -.5 (a neighbour that one has, the other lacks): the interval for independent models fails, ours does
    not. 4,000 records: the standard error of a coverage of .95 is .0034."""
    rng = np.random.default_rng(7)
    for p_in, p_out in ((0.5, 0.5), (0.9, 0.3), (0.6, 0.3)):
        shared, own = rng.normal(size=(16, 4000)), rng.normal(size=(16, 4000))
        ins = shared < ndtri(p_in)
        outs = -0.5 * shared + np.sqrt(0.75) * own < ndtri(p_out)
        first = rng.random((16, 4000)) < 0.5
        member = np.stack([first, ~first], axis=1).reshape(32, 4000)
        correct = np.stack([np.where(first, ins, outs), np.where(first, outs, ins)], axis=1).reshape(32, 4000)
        paired = memorization(correct, member)
        apart = memorization(correct, member, pairs=np.empty((0, 2), dtype=np.intp))
        true = p_in - p_out
        covered = [float(((m.low <= true) & (true <= m.high)).mean()) for m in (paired, apart)]
        assert 0.925 <= covered[0] <= 0.965
        assert covered[1] < covered[0] - 0.008


def test_independent_models_are_covered_too() -> None:
    rng = np.random.default_rng(8)
    member = rng.random((32, 4000)) < 0.5
    correct = rng.random((32, 4000)) < np.where(member, 0.8, 0.5)
    found = memorization(correct, member)
    assert 0.935 <= ((found.low <= 0.3) & (found.high >= 0.3)).mean() <= 0.975


def test_array_of_intervals_equals_the_scalar_one() -> None:
    counts = np.array([(x1, 7, x0, 5) for x1 in range(8) for x0 in range(6)])
    low, high = newcombe(*counts.T, np.zeros(len(counts)), 1.96)
    for row, one, other in zip(counts.tolist(), low, high, strict=True):
        assert (one, other) == pytest.approx(np.clip(newcombe_difference(*row, 1.96), -1, 1))


def test_a_record_without_a_side_has_a_reason_and_the_others_a_value() -> None:
    member = np.random.default_rng(0).random((6, 4)) < 0.5
    member[:, 1], member[:, 2] = True, False
    found = memorization(np.ones((6, 4), dtype=bool), member)
    assert found.reason[1] == "memorization needs at least 1 IN and 1 OUT models (the record has 6 and 0)"
    assert found.reason[2].endswith("the record has 0 and 6)")
    assert np.isnan(found.value).tolist() == [False, True, True, False]
    assert np.isnan(found.low).tolist() == np.isnan(found.high).tolist() == [False, True, True, False]


def test_arrays_that_do_not_fit_are_refused() -> None:
    member = np.ones((4, 3), dtype=bool)
    with pytest.raises(UserError, match=r"correct: shape \(3, 3\); member has \(4, 3\)"):
        memorization(np.ones((3, 3), dtype=bool), member)
    with pytest.raises(UserError, match="member: int64"):
        memorization(member, member.astype(np.int64))
