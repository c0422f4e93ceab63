"""Accusations at a low false positive rate: closed forms, the sample's own precision, coverage by simulation."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import beta, norm

from memberscope import metrics
from memberscope.metrics import accusations
from memberscope.metrics.accusations import Accusations
from memberscope.metrics.curve import rank
from memberscope.metrics.decision import Decision


def counted(tp: int, n1: int, fp: int, n0: int) -> Accusations:
    return Accusations(true_pos=tp, false_pos=fp, n_member=n1, n_nonmember=n0)


def test_precision_is_bayes_rule_and_its_ends_are_those_of_the_ratio() -> None:
    made, prior = counted(120, 600, 6, 600), 0.01
    found = accusations.precision(made, fpr=0.01, prior=prior)
    assert found.value == pytest.approx(prior * 0.2 / (prior * 0.2 + 0.99 * 0.01), rel=1e-12)
    low, high = accusations.fpr_over_tpr_interval(made, 0.05)
    assert found.ci_low == pytest.approx(prior / (prior + (1 - prior) * high), rel=1e-12)
    assert found.ci_high == pytest.approx(prior / (prior + (1 - prior) * low), rel=1e-12)
    lift = accusations.lift(made, fpr=0.01)
    assert (lift.value, lift.ci_low, lift.ci_high) == pytest.approx((20.0, 1 / high, 1 / low), rel=1e-12)


@given(
    scores=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=40, max_size=120).filter(
        lambda rows: 10 <= sum(member for _, member in rows) <= len(rows) - 10
    )
)
def test_at_the_samples_share_of_members_it_is_the_samples_own_precision(scores: list[tuple[int, bool]]) -> None:
    values, member = np.array([value for value, _ in scores], dtype=float), np.array([side for _, side in scores])
    allowed = int(np.floor(0.1 * (~member).sum() + 1e-9))
    # the naive way: every threshold among the scores, and the lowest that accuses few enough
    best = max(
        ((int((values >= cut)[member].sum()), int((values >= cut)[~member].sum())) for cut in [*np.unique(values), np.inf]),
        key=lambda pair: (pair[1] <= allowed, sum(pair) if pair[1] <= allowed else 0),
    )
    made = accusations.accuse(rank(values, member), 0.1)
    assert made is not None
    assert (made.true_pos, made.false_pos) == best
    found = metrics.ppv_at_fpr(values, member, fpr=0.1, prior=member.mean())
    if sum(best) == 0:
        assert found.status == "skipped"
    else:
        assert found.value == pytest.approx(best[0] / sum(best), rel=1e-12)
        assert found.ci_low <= found.value <= found.ci_high


@pytest.mark.parametrize(
    "made", [(20, 100, 3, 300), (0, 100, 3, 300), (100, 100, 30, 300), (20, 100, 0, 300), (3, 10, 300, 300)]
)
def test_the_melded_ends_are_the_quantiles_of_a_ratio_of_betas(made: tuple[int, int, int, int]) -> None:
    tp, n1, fp, n0 = made
    low, high = accusations.fpr_over_tpr_interval(counted(*made), 0.05)
    rng = np.random.default_rng(0)

    def draw(a: int, b: int) -> np.ndarray:
        return np.zeros(400_000) if a == 0 else np.ones(400_000) if b == 0 else rng.beta(a, b, 400_000)

    with np.errstate(divide="ignore"):
        lowest = np.quantile(draw(fp, n0 - fp + 1) / draw(tp + 1, n1 - tp), 0.025)
        highest = np.quantile(draw(fp + 1, n0 - fp) / draw(tp, n1 - tp + 1), 0.975) if tp else np.inf
    assert low == pytest.approx(lowest, rel=0.02)
    assert high == pytest.approx(highest, rel=0.02)


@pytest.mark.parametrize(
    "made", [(30, 1000, 10, 1000), (2, 1000, 1, 1000), (5, 100, 1, 100), (3, 10, 300, 300_000), (9, 10, 10_000, 100_000)]
)
@pytest.mark.parametrize("miss", [0.05, 1e-3, 1e-5])
def test_the_melded_ends_are_exact_far_out_where_a_gate_with_many_rows_reads_them(
    made: tuple[int, int, int, int], miss: float
) -> None:
    """Against adaptive integration over the other rate: P[X / Y <= r] is the mean of P[Y >= X / r] over X."""
    tp, n1, fp, n0 = made
    low, high = accusations.fpr_over_tpr_interval(counted(*made), miss)

    def beyond(ratio: float, x: tuple[int, int], y: tuple[int, int], *, above: bool) -> float:
        """P[X / Y above, or below, the ratio]."""
        tail = beta(*y).cdf if above else beta(*y).sf
        odds, step = np.linspace(-40, 40, 4001, retstep=True)
        rest = expit(-odds)  # the upper tail's probability, which keeps its digits where it is small
        values = np.where(odds < 0, beta(*x).ppf(expit(odds)), beta(*x).isf(rest))
        return float(np.sum(tail(np.minimum(values / ratio, 1.0)) * expit(odds) * rest) * step)

    assert beyond(low, (fp, n0 - fp + 1), (tp + 1, n1 - tp), above=False) == pytest.approx(miss / 2, rel=1e-3)
    assert beyond(high, (fp + 1, n0 - fp), (tp, n1 - tp + 1), above=True) == pytest.approx(miss / 2, rel=1e-3)


def test_a_lift_without_an_upper_end_is_its_lower_one() -> None:
    """A fifth of the members and no non-member: at zero false positives the ratio is unbounded, and that is no reason to say nothing."""
    scores, member = np.repeat([2.0, 1.0, 0.0], [40, 160, 200]), np.arange(400) < 200
    found = metrics.lift_at_fpr(scores, member, fpr=0.1)
    assert (found.status, found.value, found.ci_high) == ("ok", found.ci_low, None)
    assert found.value == pytest.approx(1 / accusations.fpr_over_tpr_interval(counted(200, 200, 0, 200), 0.05)[1])
    assert 30 < found.value < 60  # about 1 / (1 - 0.025 ** (1 / 200))
    assert "lower bound" in found.reason
    nobody = metrics.lift_at_fpr(np.repeat([1.0, 0.0], [300, 100]), np.arange(400) % 2 == 0, fpr=0.1)
    assert (nobody.status, nobody.reason) == ("skipped", "nobody is accused at an FPR of 0.1")
    decided = accusations.lift_of(Decision(thresholds=(1.0,), true_pos=40, false_pos=0, n_member=200, n_nonmember=200))
    assert (decided.value, decided.ci_high) == (decided.ci_low, None)
    assert 8 < decided.value < 40


def test_the_threshold_of_k_among_n_has_the_rate_of_an_order_statistic() -> None:
    """The true FPR just above the (k + 1)-th highest of n is Beta(k + 1, n - k), and the counts' interval covers it."""
    rng, n, k = np.random.default_rng(1), 500, 5
    true = norm.sf(np.sort(rng.normal(size=(2000, n)), axis=1)[:, ::-1][:, k])
    assert np.quantile(true, [0.1, 0.5, 0.9]) == pytest.approx(beta.ppf([0.1, 0.5, 0.9], k + 1, n - k), rel=0.08)
    found = accusations.wrongly_accused(counted(0, 10, k, n), fpr=0.01, subjects=1000, prior=0.01)
    covered = np.mean((99_000 * true >= found.ci_low) & (99_000 * true <= found.ci_high))
    assert 0.95 <= covered <= 0.985


@cache
def _ends(tp: int, n1: int, fp: int, n0: int) -> tuple[float, float]:
    return accusations.fpr_over_tpr_interval(counted(tp, n1, fp, n0), 0.05)


@pytest.mark.parametrize(("shift", "n", "fpr"), [(0.0, 600, 0.1), (1.0, 600, 0.01), (2.0, 2000, 0.001), (2.0, 600, 0.1)])
def test_coverage_of_the_precision(shift: float, n: int, fpr: float) -> None:
    """At least 95%, with the threshold set on the very non-members that are counted."""
    rng, runs, n1 = np.random.default_rng(2), 2000, 600
    k = int(np.floor(fpr * n + 1e-9))
    cut = np.sort(rng.normal(size=(runs, n)), axis=1)[:, ::-1][:, k]
    tpr, rate = norm.sf(cut - shift), norm.sf(cut)
    accused = rng.binomial(n1, tpr)
    ends = np.array([_ends(int(tp), n1, k, n) for tp in accused])
    covered = np.mean((ends[:, 0] <= rate / tpr) & (rate / tpr <= ends[:, 1]))
    assert 0.937 <= covered <= 0.995  # below .95 - 3 standard errors once in a thousand runs


def test_expected_counts_are_those_of_a_simulation() -> None:
    rng = np.random.default_rng(3)
    made, subjects, prior = counted(90, 600, 6, 600), 20_000, 0.02
    found = accusations.found(made, fpr=0.01, subjects=subjects)
    wrong = accusations.wrongly_accused(made, fpr=0.01, subjects=subjects, prior=prior)
    candidates = rng.random(200 * 50_000) < prior
    accused = np.where(candidates, rng.random(candidates.size) < 0.15, rng.random(candidates.size) < 0.01)
    scale = subjects / candidates.sum()
    assert found.value == pytest.approx((accused & candidates).sum() * scale, rel=0.02)
    assert wrong.value == pytest.approx((accused & ~candidates).sum() * scale, rel=0.02)
    assert found.ci_low < found.value < found.ci_high
    assert wrong.ci_low < wrong.value < wrong.ci_high


def test_too_few_nonmembers_state_nothing_and_few_are_weak_evidence() -> None:
    rng = np.random.default_rng(4)
    scores, member = rng.normal(size=1200), np.arange(1200) < 600
    none = metrics.ppv_at_fpr(scores, member, fpr=0.001, prior=0.1)
    assert (none.status, none.reason) == (
        "skipped",
        "an FPR of 0.001 needs at least 1,000 non-members to be told from 0; there are 600",
    )
    assert metrics.lift_at_fpr(scores, member, fpr=0.01).status == "low_power"
    assert metrics.lift_at_fpr(scores, member, fpr=0.1).status == "ok"
    with pytest.raises(ValueError, match="prior=1"):
        metrics.ppv_at_fpr(scores, member, fpr=0.1, prior=1.0)
