"""Two fixed models on the same records."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from memberscope import metrics


def paired(distances: tuple[float, float], n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two models, correlated 0.7 over records, and membership; n members and n non-members."""
    member = np.arange(2 * n) < n
    common = rng.normal(size=2 * n) * np.sqrt(0.7)
    a, b = (common + rng.normal(size=2 * n) * np.sqrt(0.3) + d * member for d in distances)
    return a, b, member


def true_tpr(distance: float, fpr: float) -> float:
    return float(stats.norm.sf(stats.norm.isf(fpr) - distance))


def test_delong_against_the_quadratic_form() -> None:
    rng = np.random.default_rng(0)
    a, b, member = paired((0.4, 0.8), 40, rng)
    a, b = a.round(1), b.round(1)
    components = []
    for s in (a, b):
        over, under = s[member][:, None], s[~member][None]
        psi = (over > under) + 0.5 * (over == under)
        components.append((psi.mean(axis=1), psi.mean(axis=0)))
    s10, s01 = (np.cov([components[0][side], components[1][side]]) for side in (0, 1))
    contrast = np.array([1.0, -1.0])
    parts = contrast @ s10 @ contrast / 40, contrast @ s01 @ contrast / 40
    difference = components[0][0].mean() - components[1][0].mean()
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 39 + parts[1] ** 2 / 39)
    found = metrics.compare_auc(a, b, member)
    assert found.difference == pytest.approx(difference)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(difference) / np.sqrt(sum(parts)), freedom))
    assert found.ci_high - found.ci_low == pytest.approx(2 * stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts)))
    assert "two fixed models" in found.note


def test_swapping_the_models_and_permuting_the_records() -> None:
    a, b, member = paired((0.4, 0.8), 300, np.random.default_rng(1))
    order = np.random.default_rng(2).permutation(600)
    one, two = metrics.compare_auc(a, b, member), metrics.compare_auc(b, a, member)
    assert (one.difference, one.ci_low) == pytest.approx((-two.difference, -two.ci_high))
    for compare in (metrics.compare_advantage, metrics.compare_tpr):
        options = {"fpr": 0.1} if compare is metrics.compare_tpr else {}
        straight, shuffled = (
            compare(*data, rng=np.random.default_rng(3), **options)  # type: ignore[arg-type]
            for data in ((a, b, member), (a[order], b[order], member[order]))
        )
        assert straight == shuffled


def test_a_model_against_itself() -> None:
    a, _, member = paired((0.4, 0.8), 300, np.random.default_rng(1))
    same = metrics.compare_auc(a, a, member)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert -0.2 < same.ci_low < 0 < same.ci_high < 0.2
    advantage = metrics.compare_advantage(a, a, member, rng=np.random.default_rng(0))
    tpr = metrics.compare_tpr(a, a, member, fpr=0.1, rng=np.random.default_rng(0))
    for found in (advantage, tpr):
        assert found.difference == 0.0
        assert found.p_value > 0.5
        assert -0.03 < found.ci_low < 0 < found.ci_high < 0.03


@pytest.mark.parametrize("distances", [(0.5, 0.5), (0.3, 0.8), (2.0, 2.5)])
def test_auc_difference_coverage_and_false_alarms(distances: tuple[float, float], within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(int(10 * sum(distances)))
    truth = float(np.subtract(*stats.norm.cdf(np.array(distances) / np.sqrt(2))))
    found = [metrics.compare_auc(*paired(distances, 60, rng)) for _ in range(1500)]
    within(sum(one.ci_low <= truth <= one.ci_high for one in found), 1500, at_least=0.95, at_most=0.965)
    if truth == 0:
        within(sum(one.p_value <= 0.05 for one in found), 1500, at_least=0.035, at_most=0.05)
    else:
        assert np.mean([one.p_value <= 0.05 for one in found]) > 0.3


@pytest.mark.parametrize(
    ("distances", "fpr", "n"), [((1.0, 1.0), 0.01, 1500), ((1.0, 1.6), 0.01, 1500), ((0.5, 0.5), 0.1, 300)]
)
def test_tpr_difference_coverage_and_false_alarms(distances, fpr, n, within) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(n + int(10 * sum(distances)))
    truth = true_tpr(distances[0], fpr) - true_tpr(distances[1], fpr)
    found = [metrics.compare_tpr(*paired(distances, n, rng), fpr=fpr, rng=rng, draws=600) for _ in range(300)]
    within(sum(one.ci_low <= truth <= one.ci_high for one in found), 300, at_least=0.95, at_most=0.99)
    if truth == 0:
        within(sum(one.p_value <= 0.05 for one in found), 300, at_most=0.05)
    else:
        assert np.mean([one.p_value <= 0.05 for one in found]) > 0.5


@pytest.mark.parametrize("distances", [(0.6, 0.6), (0.3, 1.0)])
def test_advantage_difference_coverage_and_false_alarms(distances: tuple[float, float], within) -> None:  # type: ignore[no-untyped-def]
    # Held-out thresholds settle near the best ones, where the true advantage is flat: the best advantages are the truth here.
    rng = np.random.default_rng(int(10 * sum(distances)) + 1)
    truth = float(np.subtract(*(2 * stats.norm.cdf(np.array(distances) / 2) - 1)))
    found = [metrics.compare_advantage(*paired(distances, 1000, rng), rng=rng, draws=600) for _ in range(400)]
    within(sum(one.ci_low <= truth <= one.ci_high for one in found), 400, at_least=0.95, at_most=0.985)
    if truth == 0:
        within(sum(one.p_value <= 0.05 for one in found), 400, at_most=0.05)
    else:
        assert np.mean([one.p_value <= 0.05 for one in found]) > 0.9


def test_tpr_difference_agrees_with_resampling_arrays() -> None:
    # The plain paired bootstrap, array by array, where budgets are large and both should agree.
    rng = np.random.default_rng(4)
    a, b, member = paired((0.5, 1.0), 1000, rng)
    naive = []
    for _ in range(600):
        rows = np.r_[rng.choice(np.flatnonzero(member), 1000), rng.choice(np.flatnonzero(~member), 1000)]
        tprs = []
        for s in (a[rows], b[rows]):
            cut = np.sort(s[1000:])[::-1][100]
            tprs.append((s[:1000] > cut).mean())
        naive.append(tprs[0] - tprs[1])
    found = metrics.compare_tpr(a, b, member, fpr=0.1, rng=rng)
    assert (found.ci_low, found.ci_high) == pytest.approx(np.quantile(naive, [0.025, 0.975]), abs=0.015)


def test_few_records() -> None:
    found = metrics.compare_advantage([2.0, 1.0], [1.0, 2.0], np.array([True, False]), rng=np.random.default_rng(0))
    assert found.status == "skipped"
    assert "two members" in found.reason
    low = metrics.compare_tpr(np.arange(40.0), -np.arange(40.0), np.arange(40) % 2 == 0, fpr=0.01, rng=np.random.default_rng(0))
    assert low.status == "low_power"
    assert metrics.compare_auc([2.0, 1.0], [1.0, 2.0], np.array([True, False])).ci_low < 0.9
    with pytest.raises(ValueError, match="must both be"):
        metrics.compare_auc([1.0, 2.0], [1.0, 2.0, 3.0], np.array([True, False]))


def _answers(share_a: float, share_b: float, both: float, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Correct answers of two models that are right on the same records more often than chance would have it."""
    cell = rng.choice(4, size=n, p=[both, share_a - both, share_b - both, 1 - share_a - share_b + both])
    return np.isin(cell, (0, 1)), np.isin(cell, (0, 2))


@pytest.mark.parametrize(("share_a", "share_b", "both"), [(0.8, 0.7, 0.65), (0.9, 0.9, 0.88), (0.98, 0.97, 0.965)])
def test_intervals_of_accuracy_differences_cover(share_a: float, share_b: float, both: float) -> None:
    rng = np.random.default_rng(0)
    found = [metrics.compare_accuracy(*_answers(share_a, share_b, both, 300, rng)) for _ in range(2000)]
    covered = np.mean([one.ci_low <= share_a - share_b <= one.ci_high for one in found])
    assert 0.935 < covered < 0.985
    assert np.mean([one.difference for one in found]) == pytest.approx(share_a - share_b, abs=0.003)
    if share_a == share_b:
        assert np.mean([one.p_value < 0.05 for one in found]) < 0.065


def test_pairing_narrows_the_interval_of_accuracies_and_turns_around() -> None:
    rng = np.random.default_rng(1)
    a, b = _answers(0.8, 0.75, 0.74, 600, rng)
    alike = metrics.compare_accuracy(a, b)
    apart = metrics.compare_accuracy(a, rng.permutation(b))
    assert alike.ci_high - alike.ci_low < 0.6 * (apart.ci_high - apart.ci_low)
    back = metrics.compare_accuracy(b, a)
    assert (back.difference, back.ci_low, back.ci_high) == pytest.approx((-alike.difference, -alike.ci_high, -alike.ci_low))
    same = metrics.compare_accuracy(a, a)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert 0 < same.ci_high < 0.01


def test_copies_in_groups_leave_the_interval_of_accuracies_as_it_is() -> None:
    rng = np.random.default_rng(2)
    a, b = _answers(0.8, 0.7, 0.65, 300, rng)
    groups = np.arange(300)
    once = metrics.compare_accuracy(a, b, groups=groups)
    thrice = metrics.compare_accuracy(np.tile(a, 3), np.tile(b, 3), groups=np.tile(groups, 3))
    assert (thrice.ci_low, thrice.ci_high) == pytest.approx((once.ci_low, once.ci_high))
    plain = metrics.compare_accuracy(a, b)
    assert (once.ci_low, once.ci_high) == pytest.approx((plain.ci_low, plain.ci_high), abs=0.004)
    one = metrics.compare_accuracy(a, b, groups=np.zeros(300))
    assert (one.ci_low, one.ci_high) == (-1.0, 1.0)
    with pytest.raises(ValueError, match="one per record"):
        metrics.compare_accuracy(a, b[1:])
