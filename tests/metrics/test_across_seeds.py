"""Verdicts over seeds, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memberscope import metrics


def test_t_interval_against_scipy() -> None:
    differences = np.random.default_rng(0).normal(0.02, 0.03, 7)
    expected = stats.ttest_1samp(differences, 0.0)
    found = metrics.paired_seeds(differences)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (found.n_seeds, found.mean, found.sd) == (
        7,
        pytest.approx(differences.mean()),
        pytest.approx(differences.std(ddof=1)),
    )


def test_equivalence_is_the_ninety_percent_interval_inside_the_margin() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        differences = rng.normal(0.0, 0.02, 6)
        interval = stats.ttest_1samp(differences, 0.0).confidence_interval(0.90)
        inside = interval.low > -0.02 and interval.high < 0.02
        assert (metrics.equivalence(differences, margin=0.02) < 0.05) == inside


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_against_the_step_down_procedure(p: list[float]) -> None:
    adjusted = metrics.holm(p)
    for alpha in (0.01, 0.05, 0.3):
        rejected = np.zeros(len(p), dtype=bool)
        for step, index in enumerate(np.argsort(p, kind="stable")):
            if p[index] * (len(p) - step) > alpha:
                break
            rejected[index] = True
        np.testing.assert_array_equal(adjusted <= alpha, rejected)


def test_holm_on_a_worked_example_and_bad_input() -> None:
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([]).size == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.holm([0.5, 1.5])


def test_each_verdict() -> None:
    spread = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert metrics.verdict(0.05 + 0.005 * spread, margin=0.02).verdict == "increases"
    assert metrics.verdict(-0.05 + 0.005 * spread, margin=0.02).verdict == "decreases"
    assert metrics.verdict(0.001 + 0.005 * spread, margin=0.02).verdict == "no difference"
    assert metrics.verdict(0.01 + 0.05 * spread, margin=0.02).verdict == "inconclusive"
    one = metrics.verdict([0.3], margin=0.02)
    assert one.verdict == "not assessed"
    assert "one seed" in one.reason
    assert one.difference.ci_low is one.difference.p_value is one.p_equivalence is None
    assert one.seeds_to_decide.status == "skipped"
    four = metrics.verdict(0.05 + 0.001 * spread[:4], margin=0.02)
    assert four.verdict == "inconclusive"
    assert "at least 5" in four.reason
    small = metrics.verdict(0.005 + 0.001 * spread, margin=0.02)
    assert small.verdict == "increases"
    assert small.within_margin
    same = metrics.verdict(np.zeros(5), margin=0.02)
    assert same.verdict == "no difference"
    assert "all differences are equal" in same.reason


def test_verdicts_adjust_for_how_many_there_are() -> None:
    spread = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    borderline = 0.01 + 0.0045 * spread  # p = 0.04 by itself
    alone = metrics.verdicts({"depth": borderline}, margin=0.001)["depth"]
    assert alone.verdict == "increases"
    many = metrics.verdicts({"depth": borderline, "width": 0.0 + spread, "single": [0.1]}, margin=0.001)
    assert many["depth"].verdict == "inconclusive"
    assert many["depth"].p_adjusted == pytest.approx(2 * (alone.p_adjusted or 0.0))
    assert many["single"].verdict == "not assessed"


@pytest.mark.parametrize("n_seeds", [5, 10])
def test_false_alarms_on_no_difference(n_seeds: int, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(n_seeds)
    found = [metrics.verdict(rng.normal(0.0, 0.02, n_seeds), margin=0.02) for _ in range(1500)]
    words = [one.verdict for one in found]
    within(sum(word in ("increases", "decreases") for word in words), 1500, at_least=0.05, at_most=0.05)
    held = [one.difference.ci_low is not None and one.difference.ci_low <= 0 <= (one.difference.ci_high or 0) for one in found]
    within(sum(held), 1500, at_least=0.95, at_most=0.95)
    assert words.count("no difference") > 225


def test_false_claims_of_no_difference_at_the_margin(within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    found = [metrics.verdict(rng.normal(0.02, 0.008, 6), margin=0.02) for _ in range(1500)]
    within(sum(one.within_margin for one in found), 1500, at_least=0.04, at_most=0.05)
    within(sum(one.verdict in ("no difference", "decreases") for one in found), 1500, at_most=0.05)


def test_false_alarms_over_a_family_of_comparisons(within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        found = metrics.verdicts({str(k): rng.normal(0.0, 0.02, 5) for k in range(4)}, margin=0.02)
        wrong += any(one.verdict in ("increases", "decreases") for one in found.values())
    within(wrong, 400, at_least=0.03, at_most=0.05)


def test_seeds_to_decide_is_about_what_it_takes() -> None:
    # Mean 0.03, sd 0.03: the paired t test has power 0.8 with 10 seeds (tables: effect size 1).
    base = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 0.0])
    differences = 0.03 + 0.03 * base / base.std(ddof=1)
    found = metrics.seeds_to_decide(differences, margin=0.001)
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert 9 <= found.value <= 12
    assert 5 <= found.ci_low < found.value < found.ci_high < 60
    rng = np.random.default_rng(0)
    decided = [
        metrics.verdict(rng.normal(0.03, 0.03, int(found.value)), margin=0.001).verdict == "increases" for _ in range(600)
    ]
    assert 0.72 < np.mean(decided) < 0.9
    # Near 0 it is the equivalence test that decides.
    near = metrics.seeds_to_decide(0.03 * base / base.std(ddof=1), margin=0.02)
    decided = [metrics.verdict(rng.normal(0, 0.03, int(near.value)), margin=0.02).within_margin for _ in range(600)]
    assert 0.72 < np.mean(decided) < 0.88
    assert metrics.seeds_to_decide(0.02 + 0.03 * base, margin=0.02).value >= 5
    assert metrics.seeds_to_decide(1e-9 + base, margin=1e-6).status == "skipped"


@pytest.mark.parametrize("differences", [[], [np.nan, 1.0], [[1.0]]])
def test_bad_differences_are_named(differences: list[float]) -> None:
    with pytest.raises(ValueError, match="n_seeds"):
        metrics.paired_seeds(differences)


def test_a_margin_must_be_positive() -> None:
    with pytest.raises(ValueError, match="margin=0"):
        metrics.verdict([0.1, 0.2], margin=0)
