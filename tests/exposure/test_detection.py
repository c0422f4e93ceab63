"""Detection over targets: the closed form of Gaussians, naive references, false rates, and the coverage of intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from memberscope.errors import UserError
from memberscope.exposure.detection import Detection, detect_own, detect_pooled, passes
from memberscope.metrics.curve import rank
from memberscope.metrics.low_fpr import tpr_value


def _fleet(pairs: int, records: int, distance: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.random((pairs, records)) < 0.5
    member = np.stack([first, ~first], axis=1).reshape(2 * pairs, records)
    return rng.normal(size=member.shape) + distance * member, member


def _covered(found: Detection, true: float) -> float:
    return float(((found.low <= true + 1e-9) & (true - 1e-9 <= found.high)).mean())


@pytest.mark.parametrize("fpr", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("distance", [0.0, 1.0, 3.0])
def test_own_rate_of_unit_gaussians_is_within_its_interval(fpr: float, distance: float) -> None:
    """Phi(d - z(1 - FPR)). 2,000 records: the standard error of a coverage of .95 is .005; it is conservative where the rate is small."""
    true = float(ndtr(distance - ndtri(1 - fpr)))
    for pairs in (8, 32, 128):
        scores, member = _fleet(pairs, 2000, distance, pairs)
        found = detect_own(scores, member, attack="a", fpr=fpr)
        assert _covered(found, true) >= 0.94
    assert found.threshold == ("rank" if fpr == 0.1 else "normal")
    assert (found.high - found.low).mean() < 0.4
    assert found.value.mean() == pytest.approx(true, abs=0.06 if fpr < 0.1 else 0.03)


@pytest.mark.parametrize("pairs", [4, 16])
def test_own_false_rate_is_the_stated_one_at_any_number_of_models(pairs: int) -> None:
    scores, member = _fleet(pairs, 4000, 2.0, 1)
    for fpr in (0.2, 0.05, 0.01):
        found = detect_own(scores, member, attack="a", fpr=fpr)
        assert found.threshold == "normal"
        assert found.false_rate == pytest.approx(fpr, rel=0.12)


def test_thresholds_that_rank_have_the_stated_rate_for_any_distribution_and_cover() -> None:
    scores, member = _fleet(40, 3000, 3.0, 9)
    true = float(ndtr(3.0 - ndtri(0.9)))
    found = detect_own(scores, member, attack="a", fpr=0.1, threshold="rank")
    assert 0.94 <= _covered(found, true) <= 0.999
    skewed = np.exp(np.exp(0.5 * scores))  # the same order, far from normal
    again = detect_own(skewed, member, attack="a", fpr=0.1, threshold="rank")
    np.testing.assert_array_equal(found.found, again.found)
    assert again.false_rate == pytest.approx(0.1, abs=0.004)
    assert detect_own(skewed, member, attack="a", fpr=0.001).false_rate > 0.01  # where scores are not normal, this shows it


def test_pooled_thresholds_accuse_some_records_more_often_than_stated() -> None:
    """A tenth of the records is easy, with or without them in training: their pooled false rate is far above 1%, their own is not."""
    scores, member = _fleet(32, 2000, 0.0, 2)
    easy = np.arange(2000) % 10 == 0
    scores[:, easy] += 3.0
    pooled = detect_pooled(scores, member, attack="a", fpr=0.01)
    own = detect_own(scores, member, attack="a", fpr=0.01)
    assert pooled.false_rate == pytest.approx(0.0095, abs=0.001)
    rate = pooled.accused / pooled.targets_out
    assert rate[easy].mean() == pytest.approx(0.095, abs=0.02)
    assert rate[~easy].mean() < 0.001
    # 32 targets without each record: of the 200 easy ones, 1 - .905^32 - 32 * .095 * .905^31 are accused twice
    assert pooled.accused_twice == pytest.approx(164, abs=20)
    expected = 2000 * (1 - 0.9905**32 - 32 * 0.0095 * 0.9905**31)
    assert pooled.accused_twice_by_chance == pytest.approx(expected, rel=0.2)
    assert own.accused_twice < 60
    own_rate = own.accused / own.targets_out
    assert own_rate[easy].mean() == pytest.approx(0.01, abs=0.005)
    assert own.found[easy].sum() / own.targets_in[easy].sum() == pytest.approx(0.01, abs=0.005)


def test_pooled_rates_are_those_of_tpr_at_fpr() -> None:
    rng = np.random.default_rng(3)
    member = rng.random((6, 300)) < 0.5
    scores = np.round(rng.normal(size=(6, 300)) + member, 1)  # with ties
    for fpr in (0.1, 0.01, 0.001):
        passed = passes(scores, member, fpr=fpr)
        for row, of_target, inside in zip(passed, scores, member, strict=True):
            assert row[inside].mean() == pytest.approx(tpr_value(rank(of_target, inside), fpr))
            assert row[~inside].mean() <= fpr
        found = detect_pooled(scores, member, attack="a", fpr=fpr)
        np.testing.assert_array_equal(found.found, (passed & member).sum(axis=0))
        np.testing.assert_array_equal(found.accused, (passed & ~member).sum(axis=0))


def test_pooled_intervals_cover_the_rate_of_each_record() -> None:
    """Records 0 to 4 apart under 40 targets; the pooled threshold of 3,000 records hardly varies."""
    rng = np.random.default_rng(4)
    distance = np.linspace(0, 4, 3000)
    member = rng.random((40, 3000)) < 0.5
    found = detect_pooled(rng.normal(size=member.shape) + distance * member, member, attack="a", fpr=0.01)
    true = ndtr(distance - ndtri(0.99))
    covered = float(((found.low <= true) & (true <= found.high)).mean())
    assert 0.94 <= covered <= 0.995


def test_intervals_cover_though_targets_share_their_shadows() -> None:
    """LiRA under nine targets with sixteen shadows each: the rate of a record is that over 40 fleets."""
    from memberscope.attacks.lira import lira_scores

    rng = np.random.default_rng(10)
    distance = np.linspace(0, 4, 150)
    found = []
    for _ in range(40):
        first = rng.random((9, 150)) < 0.5
        member = np.stack([first, ~first], axis=1).reshape(18, 150)
        phi = rng.normal(size=member.shape) + distance * member
        scores = []
        for target in range(0, 18, 2):
            shadows = [model for model in range(18) if model // 2 != target // 2]
            scores.append(
                lira_scores(
                    phi[target][:, None],
                    phi[shadows][:, :, None],
                    member[shadows],
                    online=True,
                    variance="global",
                    smoothing=0.0,
                )
            )
        found.append(detect_pooled(np.array(scores), member[::2], attack="a", fpr=0.05))
    true = np.nanmean([one.value for one in found], axis=0)
    covered = np.nanmean([(one.low <= true) & (true <= one.high) for one in found])
    assert 0.95 <= covered <= 0.995


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("fpr", [0.05, 0.25])
def test_own_thresholds_are_those_of_a_loop(fpr: float, paired: bool) -> None:
    scores, member = _fleet(12, 25, 1.5, 5)
    if not paired:
        member = np.random.default_rng(6).random((24, 25)) < 0.5
    found = detect_own(scores, member, attack="a", fpr=fpr, threshold="rank" if fpr == 0.25 else "auto")
    for i in range(25):
        hits = accused = 0
        for k in range(24):
            outs = [scores[j, i] for j in range(24) if not member[j, i] and j not in ((k, k ^ 1) if paired else (k,))]
            m = len(outs)
            if fpr == 0.25:
                passed = (1 + sum(out >= scores[k, i] for out in outs)) / (m + 1) <= fpr
            else:
                limit = np.mean(outs) + student.ppf(1 - fpr, m - 1) * np.sqrt(1 + 1 / m) * np.std(outs, ddof=1)
                passed = scores[k, i] > limit
            hits += passed and member[k, i]
            accused += passed and not member[k, i]
        assert (found.found[i], found.accused[i]) == (hits, accused)


def test_too_few_targets_are_a_row_with_a_reason() -> None:
    scores, member = _fleet(8, 5, 1.0, 6)
    member[:, 0], member[:, 1] = False, True
    member[:, 2] = np.arange(16) < 14
    found = detect_own(scores, member, attack="a", fpr=0.01)
    assert found.reason.tolist() == [
        "a threshold of its own needs 1 IN and 3 OUT models (the record has 0 and 16)",
        "a threshold of its own needs 1 IN and 3 OUT models (the record has 16 and 0)",
        "a threshold of its own needs 1 IN and 3 OUT models (the record has 14 and 2)",
        "",
        "",
    ]
    assert np.isnan(found.value).tolist() == [True, True, True, False, False]
    assert np.isfinite(found.false_rate)
    ranked = detect_own(scores, member, attack="a", fpr=0.01, threshold="rank")
    assert ranked.reason[4] == "a threshold of its own needs 1 IN and 100 OUT models (the record has 8 and 8)"
    pooled = detect_pooled(scores, member, attack="a", fpr=0.1)
    assert pooled.reason.tolist() == ["no target was trained on the record", "", "", "", ""]
    assert np.isnan(pooled.value).tolist() == np.isnan(pooled.low).tolist() == [True, False, False, False, False]


def test_constant_scores_find_nobody() -> None:
    member = _fleet(6, 10, 0.0, 7)[1]
    scores = np.zeros(member.shape)
    for found in (
        detect_pooled(scores, member, attack="a", fpr=0.1),
        *(detect_own(scores, member, attack="a", fpr=0.2, threshold=how) for how in ("rank", "normal")),
    ):
        assert found.found.sum() == found.accused.sum() == 0


@pytest.mark.parametrize("fpr", [0.0, 1.0, float("nan")])
def test_rates_out_of_range_are_refused(fpr: float) -> None:
    scores, member = _fleet(3, 5, 0.0, 8)
    for function in (detect_pooled, detect_own):
        with pytest.raises(UserError, match=r"fpr: .*; allowed: above 0 and below 1"):
            function(scores, member, attack="a", fpr=fpr)
