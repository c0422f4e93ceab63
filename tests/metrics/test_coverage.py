"""Each interval holds the truth about as often as it says. Data are Gaussian, so that the truth is known in closed form.

Bounds are those of the fixture `within`: each fails in fewer than one of a thousand runs if the true coverage is in the range
stated, 0.95 to 0.985 unless the test says otherwise.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from memberscope import metrics
from memberscope.metrics.curve import rank
from memberscope.metrics.decision import advantage_heldout_of, decide_held_out, ppv_of
from memberscope.metrics.intervals import clopper_pearson_high, clopper_pearson_low


def holds(estimate: metrics.Estimate, truth: float) -> bool:
    assert estimate.ci_low is not None
    assert estimate.ci_high is not None
    return estimate.ci_low <= truth <= estimate.ci_high


def plain_delong_holds(scores: np.ndarray, member: np.ndarray, truth: float) -> bool:
    wins = (scores[member][:, None] > scores[~member][None]).astype(float)
    error = np.sqrt(sum(side.var(ddof=1) / side.size for side in (wins.mean(axis=0), wins.mean(axis=1))))
    return bool(abs(wins.mean() - truth) <= 1.96 * error)


@pytest.mark.parametrize("truth", [0.5, 0.7, 0.9, 0.95, 0.97, 0.98, 0.99])
def test_auc_at_twenty_records_a_side(truth: float, gaussian, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(int(truth * 1000))
    trials, ours, plain = 1000, 0, 0
    for _ in range(trials):
        scores, member = gaussian(stats.norm.ppf(truth) * np.sqrt(2), 20, 20, rng)
        ours += holds(metrics.auc(scores, member), truth)
        plain += plain_delong_holds(scores, member, truth)
    within(ours, trials, at_least=0.95, at_most=0.985)
    if truth >= 0.97:
        assert plain / trials < 0.83  # what the logit scale is for


@pytest.mark.parametrize(("n_member", "n_nonmember"), [(5, 50), (2000, 300)])
def test_auc_at_other_sizes(n_member: int, n_nonmember: int, gaussian, within) -> None:  # type: ignore[no-untyped-def]
    # With five records a side Welch's t errs on the wide side, up to 0.998.
    rng = np.random.default_rng(n_member)
    for truth in (0.55, 0.9):
        hits = sum(
            holds(metrics.auc(*gaussian(stats.norm.ppf(truth) * np.sqrt(2), n_member, n_nonmember, rng)), truth)
            for _ in range(600)
        )
        within(hits, 600, at_least=0.95, at_most=0.998 if n_member < 20 else 0.965)


@pytest.mark.parametrize(
    ("fpr", "distance", "n_member", "n_nonmember"),
    [
        (0.01, 0.0, 2000, 2000),
        (0.01, 1.0, 2000, 2000),
        (0.01, 2.0, 5000, 1000),
        (0.01, 0.3, 50, 1000),
        (0.001, 1.0, 8000, 12_000),
        (0.001, 2.0, 8000, 12_000),
        (0.1, 0.5, 300, 300),
    ],
)
def test_tpr_at_low_fpr(fpr: float, distance: float, n_member: int, n_nonmember: int, gaussian, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(int(1000 * fpr + 10 * distance))
    truth = float(stats.norm.sf(stats.norm.isf(fpr) - distance))
    trials = 300
    ours = alone = 0
    for _ in range(trials):
        scores, member = gaussian(distance, n_member, n_nonmember, rng)
        found = metrics.tpr_at_fpr(scores, member, fpr=fpr, rng=rng, draws=1000)
        assert found.status == "ok"
        ours += holds(found, truth)
        above = round(found.value * n_member)
        alone += clopper_pearson_low(above, n_member, 0.025) <= truth <= clopper_pearson_high(above, n_member, 0.025)
    within(ours, trials, at_least=0.95, at_most=0.985)
    if distance >= 1.0:
        assert alone / trials < 0.7  # Clopper-Pearson with the threshold taken as known


@pytest.mark.parametrize(
    ("fpr", "distance", "n_member", "n_nonmember"), [(0.001, 1.0, 1000, 1000), (0.001, 2.0, 1000, 5000), (0.1, 1.0, 40, 50)]
)
def test_tpr_with_a_small_budget_errs_on_the_wide_side(fpr, distance, n_member, n_nonmember, gaussian, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(n_member)
    truth = float(stats.norm.sf(stats.norm.isf(fpr) - distance))
    found = [metrics.tpr_at_fpr(*gaussian(distance, n_member, n_nonmember, rng), fpr=fpr, rng=rng) for _ in range(500)]
    assert {one.status for one in found} == {"low_power"}
    within(sum(holds(one, truth) for one in found), 500, at_least=0.95)
    assert np.mean([one.ci_low for one in found]) < truth < np.mean([one.ci_high for one in found]) < 1.0


def test_tpr_of_scores_with_ties(within) -> None:  # type: ignore[no-untyped-def]
    # Five values: the true curve is a staircase with corners at FPR 0.02, 0.10, 0.30, 0.60, and 0.05 allows the first alone.
    rng = np.random.default_rng(5)
    hits, trials = 0, 600
    for _ in range(trials):
        scores = np.r_[rng.choice(5, 800, p=[0.2, 0.2, 0.25, 0.2, 0.15]), rng.choice(5, 800, p=[0.4, 0.3, 0.2, 0.08, 0.02])]
        hits += holds(metrics.tpr_at_fpr(scores, np.arange(1600) < 800, fpr=0.05, rng=rng, draws=1000), 0.15)
    within(hits, trials, at_least=0.95)


@pytest.mark.parametrize(
    ("distance", "n_member", "n_nonmember", "max_fpr"),
    [(0.0, 1000, 1000, 0.01), (0.5, 3000, 3000, 0.01), (2.0, 1000, 1000, 0.01), (0.5, 50, 1000, 0.01), (3.5, 200, 200, 0.1)],
)
def test_partial_auc(distance, n_member, n_nonmember, max_fpr, gaussian, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(int(distance * 10) + n_member)
    area = integrate.quad(lambda t: stats.norm.sf(stats.norm.isf(t) - distance), 0, max_fpr, epsabs=1e-12)[0]
    truth = (1 + (area - max_fpr**2 / 2) / (max_fpr - max_fpr**2 / 2)) / 2
    trials = 350
    hits = sum(
        holds(metrics.partial_auc(*gaussian(distance, n_member, n_nonmember, rng), max_fpr=max_fpr, rng=rng, draws=600), truth)
        for _ in range(trials)
    )
    within(hits, trials, at_least=0.95, at_most=0.985)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distance", "n"),
    [
        (0.0, 30), (3.0, 100),
        *(pytest.param(*case, marks=pytest.mark.thorough) for case in ((0.0, 500), (0.1, 500), (0.3, 1000), (1.0, 100))),
    ],
)  # fmt: skip
def test_held_out_advantage_and_ppv(distance: float, n: int, gaussian, within) -> None:  # type: ignore[no-untyped-def]
    # Estimand: the mean true advantage (for PPV: of the mean true rates) of the two thresholds that were chosen.
    rng = np.random.default_rng(int(distance * 10) + n)
    trials, hits, ppv_hits, alarms, value = 1000, 0, 0, 0, []
    for _ in range(trials):
        ranking = rank(*gaussian(distance, n, n, rng))
        decision = decide_held_out(ranking, ranking.halves(rng))
        assert decision is not None
        tpr = np.mean(stats.norm.sf(np.array(decision.thresholds) - distance))
        fpr = np.mean(stats.norm.sf(np.array(decision.thresholds)))
        found, precision = advantage_heldout_of(decision), ppv_of(decision)
        hits += holds(found, tpr - fpr)
        ppv_hits += precision.status == "skipped" or holds(precision, tpr / (tpr + fpr))
        alarms += (found.ci_low or 0.0) > 0
        value.append(found.value - (tpr - fpr))
    within(hits, trials, at_least=0.95, at_most=0.985)
    within(ppv_hits, trials, at_least=0.95, at_most=0.99)
    if distance == 0:
        within(alarms, trials, at_most=0.03)
    assert abs(np.mean(value)) < 4 * np.std(value) / np.sqrt(trials)  # unbiased, unlike the maximum over thresholds


def test_the_maximum_over_thresholds_is_biased_and_the_held_out_one_is_not(gaussian) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    data = [gaussian(0.0, 30, 30, rng) for _ in range(400)]
    # Its limit is the mean supremum of a Brownian bridge, sqrt(2 pi)/4 * sqrt(2/30) = 0.162; 0.15 in steps of 1/30.
    assert 0.135 < np.mean([metrics.advantage(*one).value for one in data]) < 0.165
    assert abs(np.mean([metrics.advantage_heldout(*one, rng=rng).value for one in data])) < 0.03


def test_stated_threshold_figures(gaussian, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(7)
    tpr, fpr, prior = stats.norm.sf(0.5), stats.norm.sf(1.5), 0.1
    accuracy, precision = (1 + tpr - fpr) / 2, prior * tpr / (prior * tpr + (1 - prior) * fpr)
    hits = ppv_hits = 0
    for _ in range(1500):
        scores, member = gaussian(1.0, 60, 90, rng)
        hits += holds(metrics.balanced_accuracy(scores, member, threshold=1.5), accuracy)
        ppv_hits += holds(metrics.ppv(scores, member, threshold=1.5, prior=prior), precision)
    within(hits, 1500, at_least=0.945, at_most=0.97)
    within(ppv_hits, 1500, at_least=0.945, at_most=0.97)
