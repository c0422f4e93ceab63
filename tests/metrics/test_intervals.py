"""The intervals against independent computations of the same definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from memberscope.metrics.intervals import (
    clopper_pearson_high,
    clopper_pearson_low,
    newcombe_auc,
    newcombe_difference,
    ratio_interval,
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


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(0, 30), st.integers(0, 40))
def test_ratio_interval_inverts_the_score_test(x1: int, x0: int) -> None:
    n1, n0 = 30, 40
    if x1 == x0 == 0:
        assert ratio_interval(0, n1, 0, n0, Z) == (0.0, np.inf)
        return

    def statistic(ratio: float) -> float:
        # The likelihood maximized by search, not by Koopman's quadratic.
        def loss(p0: float) -> float:
            p1 = min(ratio * p0, 1.0)
            return float(-stats.binom.logpmf(x1, n1, p1) - stats.binom.logpmf(x0, n0, p0))

        top = min(1.0, 1.0 / ratio)
        p0 = optimize.minimize_scalar(loss, bounds=(1e-12, top * (1 - 1e-12)), method="bounded", options={"xatol": 1e-13}).x
        p1 = ratio * p0
        variance = p1 * (1 - p1) / n1 + ratio**2 * p0 * (1 - p0) / n0
        return float((x1 / n1 - ratio * x0 / n0) ** 2 / variance)

    low, high = ratio_interval(x1, n1, x0, n0, Z)
    for end, beyond in ((low, 0.9), (high, 1.1)):
        if 0 < end < np.inf:
            assert statistic(end) == pytest.approx(Z**2, rel=1e-3)
            assert statistic(end * beyond) > Z**2 > statistic(end / beyond)
    assert (low == 0) == (x1 == 0)
    assert np.isinf(high) == (x0 == 0)


@pytest.mark.parametrize(("value", "n_member", "n_nonmember"), [(1.0, 20, 20), (0.0, 7, 300), (0.5, 20, 40), (0.9, 1, 5)])
def test_newcombe_auc_holds_what_its_inequality_admits(value: float, n_member: int, n_nonmember: int) -> None:
    t = np.linspace(0, 1, 1_000_001)
    m = (n_member + n_nonmember) / 2 - 1
    variance = t * (1 - t) * (1 + m * (1 - t) / (2 - t) + m * t / (1 + t)) / (n_member * n_nonmember)
    admitted = t[(value - t) ** 2 <= Z**2 * variance + 1e-15]
    low, high = newcombe_auc(value, n_member, n_nonmember, Z)
    assert low == pytest.approx(admitted[0], abs=3e-6)
    assert high == pytest.approx(admitted[-1], abs=3e-6)
