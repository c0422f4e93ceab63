"""Thresholds fixed on shadows; the transfer figure and the coverage of its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, norm, ttest_rel

from memberscope.synthesis.transfer import decide_by_shadows, transfer


def gaussian(n: int, d: float, rng: np.random.Generator, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    member = np.arange(2 * n) < n
    return rng.normal(size=2 * n) + d * member + shift, member


def test_calibrated_shadows_give_the_closed_form() -> None:
    """Scores N(0, 1) and N(d, 1): the best threshold is d/2, balanced accuracy Phi(d/2), FPR at a promise the promise itself."""
    rng, d, n = np.random.default_rng(0), 1.5, 40_000
    found = decide_by_shadows(*gaussian(n, d, rng), *gaussian(n, d, rng))
    assert abs(found.threshold - d / 2) < 0.1
    assert abs(found.balanced_accuracy.value - norm.cdf(d / 2)) < 5 * math.sqrt(0.25 / (2 * n))
    assert found.balanced_accuracy.ci_low < found.balanced_accuracy.value < found.balanced_accuracy.ci_high
    for promise in found.promises:
        assert promise.on_shadows <= promise.promised
        assert abs(promise.fpr - promise.promised) < 5 * math.sqrt(2 * promise.promised / n)
        assert abs(promise.tpr - norm.sf(norm.isf(promise.promised) - d)) < 0.03
    assert set(found.to_dict()) >= {"balanced_accuracy", "fpr", "fpr_at_promise_0_1", "tpr_at_promise_0_01"}


def test_shadows_that_are_off_break_the_promise_though_the_auc_is_the_same() -> None:
    rng, d, n = np.random.default_rng(1), 1.5, 20_000
    off = decide_by_shadows(*gaussian(n, d, rng, shift=-2.0), *gaussian(n, d, rng))
    assert abs(off.promises[0].fpr - norm.sf(norm.isf(0.1) - 2.0)) < 0.02
    expected = (norm.sf(d / 2 - 2.0 - d) + norm.cdf(d / 2 - 2.0)) / 2
    assert abs(off.balanced_accuracy.value - expected) < 0.02


def test_promises_are_kept_on_the_shadows_ties_and_all() -> None:
    scores, member = np.array([3.0] * 2 + [2.0] * 6 + [1.0] * 12), np.array([True] * 10 + [False] * 10)
    found = decide_by_shadows(scores, member, scores, member, promises=(0.1, 0.5))
    assert [one.on_shadows for one in found.promises] == [0.0, 0.0]
    assert found.threshold == 2.0
    assert found.balanced_accuracy.value == pytest.approx(0.9)
    everyone = decide_by_shadows(np.zeros(20), member, scores, member)
    assert everyone.threshold == math.inf
    assert everyone.balanced_accuracy.value == 0.5
    third = decide_by_shadows(np.arange(60.0), np.arange(60) >= 30, np.arange(60.0), np.arange(60) >= 30, promises=(0.1,))
    assert third.promises[0].on_shadows == pytest.approx(0.1)  # 0.1 * 30 is a little over 3


def test_transfer_is_the_ratio_of_mean_gains() -> None:
    junk = np.array([0.60, 0.62, 0.61, 0.59, 0.63])
    real, synthetic = junk + np.array([0.20, 0.21, 0.19, 0.2, 0.2]), junk + np.array([0.1, 0.11, 0.09, 0.1, 0.1])
    found = transfer(synthetic, junk, real)
    assert found.status == "ok"
    assert found.value == pytest.approx(0.5)
    assert found.ci_low < 0.5 < found.ci_high
    assert found.gain.value == pytest.approx(0.1)
    assert transfer(junk + 1.0, real * 0 + 1.0, real).status in ("ok", "undefined")
    assert transfer(junk, junk, real).value == 0.0
    same = transfer(real, junk, real)
    assert (same.value, same.ci_low, same.ci_high) == pytest.approx((1.0, 1.0, 1.0))


def test_the_interval_holds_the_ratios_that_a_paired_t_test_does_not_reject() -> None:
    rng = np.random.default_rng(3)
    junk, synthetic, real = rng.normal(0.6, 0.02, 7), rng.normal(0.7, 0.02, 7), rng.normal(0.8, 0.02, 7)
    found = transfer(synthetic, junk, real)
    for end in (found.ci_low, found.ci_high):
        assert ttest_rel(synthetic - junk, end * (real - junk)).pvalue == pytest.approx(0.05, abs=1e-9)


def test_transfer_without_a_scale_is_undefined_and_with_few_fleets_not_assessed() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(0.6, 0.02, (3, 5))
    found = transfer(*noise)
    assert (found.status, found.value, found.ci_low) == ("undefined", None, None)
    assert "real data is not shown to be better than junk" in found.reason
    few = transfer([0.7] * 4, [0.6, 0.61, 0.6, 0.6], [0.8] * 4)
    assert few.status == "not assessed"
    assert "4 fleets" in few.reason
    assert transfer([0.7], [0.6], [0.8]).status == "not assessed"
    worse = transfer(noise[0] - 0.3, noise[1], noise[2] - 0.3)
    assert worse.status == "undefined"  # real data shown to be worse than junk gives no scale either
    with pytest.raises(ValueError, match="must be"):
        transfer([1.0], [1.0, 2.0], [1.0])


@pytest.mark.parametrize("ratio", [0.0, 0.6])
def test_the_interval_covers(ratio: float) -> None:
    rng, trials, scale = np.random.default_rng(5), 1500, 4.0
    covered = defined = 0
    for _ in range(trials):
        fleet = rng.normal(size=5)
        junk, real = fleet + rng.normal(size=5), fleet + scale + rng.normal(size=5)
        found = transfer(fleet + ratio * scale + rng.normal(size=5), junk, real)
        if found.status == "ok":
            defined += 1
            covered += found.ci_low <= ratio <= found.ci_high
    assert defined > 0.95 * trials
    low, high = binom.ppf([5e-4, 1 - 5e-4], defined, 0.95)
    assert low <= covered <= high
