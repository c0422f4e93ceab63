"""The `bayes` variance: a naive reference, its two limits, what it gains where variances differ, and values that leave little to fit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from scipy.stats import t as student_t

from memberscope.attacks import moments, student
from memberscope.attacks.lira import lira_scores
from memberscope.metrics.area import auc_value
from memberscope.metrics.curve import rank

ONLINE = pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])


def _paired(n: int, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """(2 * pairs, n) membership of complementary pairs."""
    first = rng.random((pairs, n)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(2 * pairs, n)


def _auc(scores: np.ndarray, member: np.ndarray) -> float:
    return auc_value(rank(scores, member))


def _step(mean: float, weight: float, scale: float, freedom: float, value: float) -> tuple[float, float, float, float]:
    """A normal-inverse-gamma distribution after one more value."""
    shrunk = weight / (weight + 1)
    total = freedom * scale + shrunk * (value - mean) ** 2
    return (weight * mean + value) / (weight + 1), weight + 1, total / (freedom + 1), freedom + 1


def test_it_is_the_update_value_by_value_and_scipys_students_t() -> None:
    rng = np.random.default_rng(0)
    phi, used = rng.normal(3.0, 2.0, (9, 30, 2)), rng.random((9, 30)) < 0.4
    used[:, 0] = False
    x = rng.normal(3.0, 4.0, (30, 2))
    prior = student.Prior(center=rng.normal(3.0, 1.0, (30, 2)), weight=rng.uniform(0.1, 4.0, (30, 1)), scale=1.7, freedom=3.4)
    found = student.predictive(moments.side(phi, used), prior)
    for i in range(30):
        for q in range(2):
            state = (prior.center[i, q], prior.weight[i, 0], prior.scale, prior.freedom)
            for value in phi[used[:, i], i, q]:
                state = _step(*state, value)
            mean, weight, scale, freedom = state
            spread = np.sqrt(scale * (1 + 1 / weight))
            expected = student_t.logpdf(x[i, q], freedom, mean, spread)
            assert found.log_density(x)[i, q] == pytest.approx(expected, rel=1e-12, abs=1e-12)
            away = (x[i, q] - mean) / spread
            expected = -np.sign(away) * norm.ppf(student_t.cdf(-abs(away), freedom))
            assert found.z(x)[i, q] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("freedom", [0.7, 2.0, 8.0, 40.0, 1e4, 1e9])
def test_the_normal_deviate_is_exact_and_rises_where_the_tail_underflows(freedom: float) -> None:
    t = np.array([-8.0, -1.0, -0.1, 0.0, 0.1, 1.0, 8.0])
    given = np.full(len(t), freedom)
    expected = -np.sign(t) * norm.ppf(student_t.cdf(-np.abs(t), freedom))
    np.testing.assert_allclose(student.normal_deviate(t, given), expected, rtol=1e-12, atol=1e-12)
    far = np.geomspace(20.0, 1e5, 5000)
    assert (np.diff(student.normal_deviate(far, np.full(5000, freedom))) > 0).all()


@pytest.mark.parametrize("freedom", [300.0, 1e4, 1e7])
def test_a_tail_that_underflows_is_the_integral_of_the_density(freedom: float) -> None:
    """log of the integral from t on, relative to the density at t, by quadrature; at this t no probability is above 1e-308."""
    t = 1500.0

    def relative(u: float) -> float:
        return float(np.exp(student_t.logpdf(t + u, freedom) - student_t.logpdf(t, freedom)))

    unit = (freedom + t**2) / (freedom + 1) / t  # of the density's fall
    expected = student_t.logpdf(t, freedom) + np.log(quad(relative, 0.0, 40 * unit)[0] + quad(relative, 40 * unit, np.inf)[0])
    z = student.normal_deviate(np.array([t]), np.array([freedom]))
    assert student_t.sf(t, freedom) == 0.0
    assert norm.logsf(z[0]) == pytest.approx(expected, rel=1e-9)


def _with_prior(
    target: np.ndarray, shadows: np.ndarray, member: np.ndarray, *, weight: float, scales: tuple[float, float], freedom: float
) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood ratios and z under given priors of both sides."""
    found = [
        student.predictive(
            moments.side(shadows, used),
            student.Prior(center=np.zeros(target.shape[1]), weight=weight, scale=scale, freedom=freedom),
        )
        for used, scale in zip((member, ~member), scales, strict=True)
    ]
    return (found[0].log_density(target) - found[1].log_density(target)).mean(axis=1), found[1].z(target).mean(axis=1)


@pytest.mark.parametrize("queries", [1, 3])
def test_a_prior_of_great_weight_gives_the_global_variance(queries: int) -> None:
    """With n models on a side the predictive variance is (1 + 1 / n) times the global one, for all records alike."""
    rng = np.random.default_rng(1)
    n = 4
    level, member = rng.normal(0.0, 3.0, (200, queries)), _paired(200, n, rng)
    shadows = level + member[:, :, None] + rng.normal(size=(2 * n, 200, queries)) * np.where(member, 0.5, 1.5)[:, :, None]
    target = level + rng.normal(size=(200, queries))
    scales = tuple(moments.side(shadows, used).pooled() for used in (member, ~member))
    ratio, z = _with_prior(target, shadows, member, weight=0.0, scales=scales, freedom=1e10)
    expected = lira_scores(target, shadows, member, online=True, variance="global")
    logs = 0.5 * np.log(scales[1] / scales[0])
    np.testing.assert_allclose((ratio - logs) * (1 + 1 / n) + logs, expected, rtol=1e-6, atol=1e-6)
    expected = lira_scores(target, shadows, member, online=False, variance="global")
    np.testing.assert_allclose(z * np.sqrt(1 + 1 / n), expected, rtol=1e-6, atol=1e-6)


def test_many_models_give_each_record_its_own_variance() -> None:
    """10^9 models a side, by their moments: the Gaussians of each record, to 1e-6."""
    rng = np.random.default_rng(2)
    count = np.full((50, 1), 10**9)
    ins, outs = (
        moments.Side(count=count, mean=rng.normal(size=(50, 2)), squares=count * rng.uniform(0.2, 9.0, (50, 2)))
        for _ in range(2)
    )
    target = rng.normal(size=(50, 2)) * 2
    priors = student.priors(ins, outs)
    assert priors[0].freedom < 1000
    given_in, given_out = (student.predictive(*one) for one in zip((ins, outs), priors, strict=True))
    ratio = given_in.log_density(target) - given_out.log_density(target)
    sd_in, sd_out = (np.sqrt(side.squares / side.count) for side in (ins, outs))
    expected = norm.logpdf(target, ins.mean, sd_in) - norm.logpdf(target, outs.mean, sd_out)
    np.testing.assert_allclose(ratio, expected, rtol=1e-6, atol=1e-6)
    alone = student.predictive(outs, student.prior_alone(outs))
    np.testing.assert_allclose(alone.z(target), (target - outs.mean) / sd_out, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("models", [2, 4, 31])
@pytest.mark.parametrize("freedom", [1.3, 4.0, 12.0])
def test_the_fit_recovers_the_prior_that_the_variances_were_drawn_from(models: int, freedom: float) -> None:
    """Inverse-gamma variances for 20,000 records; the likelihood is read at 128 quantiles, so bands are wider than for all records."""
    rng = np.random.default_rng([models, int(10 * freedom)])
    variance = 0.6 * freedom / rng.chisquare(freedom, (20_000, 1))
    squares = variance * rng.chisquare(models - 1, (20_000, 1))
    found = student.fit_variances(moments.Side(count=np.full((20_000, 1), models), mean=0 * squares, squares=squares))
    assert found is not None
    assert 0.85 < found.scale / 0.6 < 1.18
    assert 0.7 < found.freedom / freedom < 1.45
    assert found.within == pytest.approx(squares.mean() / (models - 1), rel=1e-9)


def test_equal_variances_are_seen_to_be_equal() -> None:
    rng = np.random.default_rng(3)
    squares = rng.chisquare(7, (20_000, 1))
    found = student.fit_variances(moments.Side(count=np.full((20_000, 1), 8), mean=0 * squares, squares=squares))
    assert found is not None
    assert found.freedom > 100
    assert found.scale == pytest.approx(1.0, abs=0.05)


def _fleet(
    n: int, models: int, rng: np.random.Generator, *, unequal: bool, lift: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Target, shadows, their membership, the target's; each record's deviation is 1, or 0.3 or 3; levels have twice that."""
    sd = np.where(rng.random(n) < 0.5, 0.3, 3.0) if unequal else np.ones(n)
    level, member, own = 2.0 * sd * rng.normal(size=n), _paired(n, models // 2, rng), rng.random(n) < 0.5
    shadows = level + lift * member + sd * rng.normal(size=member.shape)
    return (level + lift * own + sd * rng.normal(size=n))[:, None], shadows[:, :, None], member, own


@ONLINE
@pytest.mark.parametrize("models", [8, 16, 64])
def test_where_variances_differ_it_beats_both_and_where_not_it_loses_nothing(online: bool, models: int) -> None:
    """AUC on the same 20,000 records (differences have a standard error near .001): above both others, or within .002 of the global one."""
    rng = np.random.default_rng([models, online])
    for unequal in (True, False):
        target, shadows, member, own = _fleet(20_000, models, rng, unequal=unequal)
        found = {
            v: _auc(lira_scores(target, shadows, member, online=online, variance=v), own)
            for v in ("bayes", "global", "per_record")
        }
        if unequal:
            assert found["bayes"] > found["global"] + 0.03
            assert found["bayes"] > found["per_record"] + (0.001 if models < 64 else -0.001)
        else:
            assert found["bayes"] > found["global"] - 0.002


def test_one_pair_uses_both_sides_of_a_record() -> None:
    """One model a side; levels of deviation 2, which the sides share up to a shift of deviation 0.8: near the test that knows these."""
    rng = np.random.default_rng(6)
    n = 20_000
    member, own = _paired(n, 1, rng), rng.random(n) < 0.5
    out = rng.normal(0.0, 2.0, n)
    mean = np.stack([out, out + 1.5 + rng.normal(0.0, 0.8, n)])  # OUT, IN
    shadows = np.where(member, mean[1], mean[0]) + rng.normal(size=(2, n))
    target = np.where(own, mean[1], mean[0]) + rng.normal(size=n)
    values = np.stack([np.where(member, 0.0, shadows).sum(axis=0), np.where(member, shadows, 0.0).sum(axis=0) - 1.5])
    between = np.array([[4.0, 4.0], [4.0, 4.64]])
    gain = between @ np.linalg.inv(between + np.eye(2))
    center, left = gain @ values, np.diag(between - gain @ between)
    best = norm.logpdf(target, center[1] + 1.5, np.sqrt(1 + left[1])) - norm.logpdf(target, center[0], np.sqrt(1 + left[0]))
    given = target[:, None], shadows[:, :, None], member
    found = _auc(lira_scores(*given, online=True, variance="bayes"), own)
    assert _auc(best, own) - 0.01 < found < _auc(best, own) + 0.003
    for other in ("global", "levels"):
        assert found > _auc(lira_scores(*given, online=True, variance=other), own) + 0.02


@ONLINE
@pytest.mark.parametrize("models", [1, 2, 3, 8])
def test_values_that_leave_little_to_fit_are_scored(online: bool, models: int) -> None:
    """Ties, saturated logits, records without spread, and one model on a side: finite, and in the right direction."""
    rng = np.random.default_rng([models, online])
    n = 400
    member, own = rng.random((models, n)) < 0.5, rng.random(n) < 0.5
    member[0, :100], member[0, 100:200] = True, False
    forest = np.array([-69.0, -1.1, 0.0, 1.1, 69.0])[rng.integers(0, 4, (models, n)) + member]  # of shares of four trees
    flat = np.where(member, 1.0, -1.0)
    alike = np.zeros((models, n))
    for shadows, x in ((forest, np.where(own, 30.0, -2.0)), (flat, np.where(own, 1.0, -1.0)), (alike, np.zeros(n))):
        scores = lira_scores(x[:, None], shadows[:, :, None], member, online=online, variance="bayes")
        assert np.isfinite(scores).all()
        if shadows is alike:
            assert np.ptp(scores[member.sum(axis=0) == member.sum(axis=0)[0]]) == pytest.approx(0.0, abs=1e-12)
        else:
            assert _auc(scores, own) > 0.8


@ONLINE
@pytest.mark.parametrize("n", [90, 700])
def test_neither_the_unit_nor_the_order_of_the_records_matters(online: bool, n: int) -> None:
    rng = np.random.default_rng(9)
    target, shadows, member, _ = _fleet(n, 6, rng, unequal=True)
    member = rng.random(member.shape) < 0.5
    before = lira_scores(target, shadows, member, online=online, variance="bayes")
    for unit in (1e-5, 1e5):
        again = lira_scores(unit * target, unit * shadows, member, online=online, variance="bayes")
        np.testing.assert_allclose(again, before, rtol=1e-7, atol=1e-7)
    order = rng.permutation(n)
    turned = lira_scores(target[order], shadows[:, order], member[:, order], online=online, variance="bayes")
    np.testing.assert_array_equal(turned, before[order])
