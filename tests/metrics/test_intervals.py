"""The intervals against independent computations of the same definitions."""

from __future__ import annotations

import bisect
import functools

import numpy as np
import pytest
from scipy import stats

from memberscope.metrics.intervals import (
    clopper_pearson_high,
    clopper_pearson_low,
    melded_ratio,
    newcombe_auc,
    newcombe_difference,
    widened_miss,
    wilson,
    wilson_end,
)

Z = stats.norm.ppf(0.975)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (120, 4000)])
def test_binomial_intervals_against_scipy(successes: int, trials: int) -> None:
    exact = stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    score = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert clopper_pearson_low(successes, trials, 0.025) == pytest.approx(exact.low)
    assert clopper_pearson_high(successes, trials, 0.025) == pytest.approx(exact.high)
    assert wilson(successes, trials, Z) == pytest.approx((score.low, score.high), abs=1e-12)


def test_wilsons_ends_of_several_counts_against_scipy() -> None:
    """The two ends that `epsilon_heuristic` chooses a threshold by, of a whole curve at once."""
    counts = np.arange(0, 61, 4)
    scores = [stats.binomtest(int(count), 60).proportion_ci(0.95, method="wilson") for count in counts]
    np.testing.assert_allclose(wilson_end(counts, 60, -Z), [score.low for score in scores], rtol=0, atol=1e-12)
    np.testing.assert_allclose(wilson_end(counts, 60, Z), [score.high for score in scores], rtol=0, atol=1e-12)


def test_newcombe_difference_on_his_own_examples() -> None:
    # Newcombe 1998, Table II, method 10.
    assert newcombe_difference(56, 70, 48, 80, Z) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe_difference(9, 10, 3, 10, Z) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert newcombe_difference(10, 10, 0, 10, Z) == pytest.approx((0.6075, 1.0), abs=5e-5)


@pytest.mark.parametrize(("p0", "p1"), [(0.01, 0.0005), (0.05, 0.005), (0.3, 0.1)])
@pytest.mark.parametrize("miss", [0.05, 0.002])
def test_each_end_of_a_ratio_errs_seldom_where_counts_are_few(p0: float, p1: float, miss: float) -> None:
    """By summing over all counts; of the .025 and .001 that are allowed, Koopman's score interval used .050 and .011 in the first case."""
    n = 200 if p0 > 0.05 else 1000
    first, second = (np.arange(int(stats.binom.ppf(1e-6, n, p)), int(stats.binom.ppf(1 - 1e-6, n, p)) + 1) for p in (p1, p0))
    counts = second[:: max(1, len(second) // 15)].tolist()
    below = above = 0.0
    for x1 in first.tolist():
        ends = functools.cache(lambda place, x1=x1: melded_ratio(x1, n, counts[place], n, miss))
        # both ends rise with x1 and fall with x0, so that each is beyond the truth on one side of a count, which halving finds
        low_right = bisect.bisect_left(range(len(counts)), True, key=lambda place, ends=ends: ends(place)[0] <= p1 / p0)
        high_wrong = bisect.bisect_left(range(len(counts)), True, key=lambda place, ends=ends: ends(place)[1] < p1 / p0)
        weight = stats.binom.pmf(x1, n, p1)
        below += weight * (stats.binom.cdf(counts[low_right - 1], n, p0) if low_right > 0 else 0.0)
        above += weight * (stats.binom.sf(counts[high_wrong] - 1, n, p0) if high_wrong < len(counts) else 0.0)
    assert below <= 0.51 * miss
    assert above <= 0.51 * miss
    assert below + above >= 0.1 * miss


def test_a_widened_miss_is_that_of_the_wider_normal_interval() -> None:
    assert widened_miss(0.95, 1.0) == pytest.approx(0.05)
    assert widened_miss(0.95, 2.0) == pytest.approx(2 * stats.norm.sf(2 * Z))


@pytest.mark.parametrize(("value", "n_member", "n_nonmember"), [(1.0, 20, 20), (0.0, 7, 300), (0.5, 20, 40), (0.9, 1, 5)])
def test_newcombe_auc_holds_what_its_inequality_admits(value: float, n_member: int, n_nonmember: int) -> None:
    t = np.linspace(0, 1, 1_000_001)
    m = (n_member + n_nonmember) / 2 - 1
    variance = t * (1 - t) * (1 + m * (1 - t) / (2 - t) + m * t / (1 + t)) / (n_member * n_nonmember)
    admitted = t[(value - t) ** 2 <= Z**2 * variance + 1e-15]
    low, high = newcombe_auc(value, n_member, n_nonmember, Z)
    assert low == pytest.approx(admitted[0], abs=3e-6)
    assert high == pytest.approx(admitted[-1], abs=3e-6)
