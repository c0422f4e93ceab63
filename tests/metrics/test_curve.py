"""The curve and what is read off it exactly: naive references, closed forms, and properties."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memberscope import metrics


@st.composite
def attacks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A few records a side, ties common."""
    n_member, n_nonmember = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    n = n_member + n_nonmember
    scores = draw(st.lists(st.integers(-3, 3) | st.floats(-5, 5, width=32), min_size=n, max_size=n))
    member = draw(st.permutations([True] * n_member + [False] * n_nonmember))
    return np.array(scores, dtype=float), np.array(member)


def naive_auc(scores: np.ndarray, member: np.ndarray) -> float:
    over, under = scores[member][:, None], scores[~member][None]
    return float(((over > under) + 0.5 * (over == under)).mean())


def naive_rates(scores: np.ndarray, member: np.ndarray) -> list[tuple[float, float, float]]:
    cuts = [np.inf, *sorted(set(scores.tolist()), reverse=True)]
    return [(cut, float((scores[~member] >= cut).mean()), float((scores[member] >= cut).mean())) for cut in cuts]


@settings(derandomize=True, deadline=None)
@given(attacks())
def test_the_curve_is_the_rates_at_each_distinct_score(attack: tuple[np.ndarray, np.ndarray]) -> None:
    roc = metrics.roc_curve(*attack)
    expected = np.array(naive_rates(*attack))
    np.testing.assert_array_equal(np.c_[roc.thresholds, roc.fpr, roc.tpr], expected)
    assert (roc.n_member, roc.n_nonmember) == (attack[1].sum(), (~attack[1]).sum())
    assert roc.thresholds[0] == np.inf
    assert (roc.fpr[-1], roc.tpr[-1]) == (1.0, 1.0)


@settings(derandomize=True, deadline=None)
@given(attacks())
def test_point_figures_against_naive_references(attack: tuple[np.ndarray, np.ndarray]) -> None:
    scores, member = attack
    rates = naive_rates(scores, member)
    found = metrics.figures(scores, member, rng=np.random.default_rng(0), fpr_targets=(0.1, 0.3, 1.0))
    assert found["auc"].value == pytest.approx(naive_auc(scores, member), abs=1e-12)
    assert found["advantage"].value == pytest.approx(max(tpr - fpr for _, fpr, tpr in rates), abs=1e-12)
    assert found["advantage_tfp"].value == pytest.approx(max(abs(tpr - fpr) for _, fpr, tpr in rates), abs=1e-12)
    for target, name in ((0.1, "0_1"), (0.3, "0_3"), (1.0, "1")):
        best = max(tpr for _, fpr, tpr in rates if fpr <= target + 1e-12)
        assert found[f"tpr_at_fpr_{name}"].value == best


@settings(derandomize=True, deadline=None)
@given(attacks(), st.randoms(use_true_random=False))
def test_permuting_records_changes_nothing(attack: tuple[np.ndarray, np.ndarray], random: object) -> None:
    scores, member = attack
    order = np.random.default_rng(random.getrandbits(32)).permutation(scores.size)  # type: ignore[attr-defined]
    # epsilon_lower_bound breaks ties at random and is left out here: test_epsilon.py has it.
    one, two = (
        metrics.figures(s, m, rng=np.random.default_rng(1), null_draws=20)
        for s, m in ((scores, member), (scores[order], member[order]))
    )
    assert {name: repr(figure) for name, figure in one.items()} == {name: repr(figure) for name, figure in two.items()}


@settings(derandomize=True, deadline=None)
@given(attacks())
def test_swapping_members_and_nonmembers_gives_one_minus_auc(attack: tuple[np.ndarray, np.ndarray]) -> None:
    scores, member = attack
    one, two = metrics.auc(scores, member), metrics.auc(scores, ~member)
    assert one.ci_low is not None
    assert two.ci_high is not None
    assert one.value == pytest.approx(1 - two.value, abs=1e-12)
    assert one.ci_low == pytest.approx(1 - two.ci_high, abs=1e-9)
    assert metrics.advantage_tfp(scores, member).value == metrics.advantage_tfp(scores, ~member).value


@settings(derandomize=True, deadline=None)
@given(attacks())
def test_an_increasing_transform_changes_no_figure(attack: tuple[np.ndarray, np.ndarray]) -> None:
    scores, member = attack
    codes = np.unique(scores, return_inverse=True)[1].astype(float)
    one, two = (metrics.figures(s, member, rng=np.random.default_rng(2), null_draws=5) for s in (codes, codes**3 / 7 - 40))
    for name, figure in one.items():
        assert repr((figure.value, figure.ci_low, figure.ci_high)) == repr(
            (two[name].value, two[name].ci_low, two[name].ci_high)
        )


@settings(derandomize=True, deadline=None)
@given(attacks())
def test_every_figure_lies_in_its_interval_and_its_range(attack: tuple[np.ndarray, np.ndarray]) -> None:
    scores, member = attack
    for name, figure in metrics.figures(scores, member, rng=np.random.default_rng(3), coin_flips=True).items():
        if figure.status == "skipped":
            assert np.isnan(figure.value)
            assert figure.reason
            assert min(member.sum(), (~member).sum()) == 1 or "no record" in figure.reason or "coin" in figure.reason
            continue
        low = -1.0 if name == "advantage_heldout" else 0.0
        high = np.inf if name.startswith(("epsilon", "fp_budget")) else 1.0
        assert low <= figure.value <= high, name
        if figure.ci_low is not None:
            assert low <= figure.ci_low <= figure.value, name
        if figure.ci_high is not None:
            assert figure.value <= figure.ci_high <= high, name


def test_constant_scores_show_nothing() -> None:
    found = metrics.figures(np.full(60, 3.5), np.arange(60) < 20, rng=np.random.default_rng(0))
    assert found["auc"].value == 0.5
    assert found["auc"].ci_low == pytest.approx(0.352, abs=1e-3)  # Newcombe 2006: wide, as 20 and 40 records warrant
    assert found["advantage"].value == found["advantage_tfp"].value == found["advantage_heldout"].value == 0.0
    assert found["tpr_at_fpr_0_1"].value == 0.0
    assert found["balanced_accuracy"].value == 0.5
    assert found["epsilon_heuristic"].value == 0.0


def test_perfect_scores_with_an_interval_that_is_not_a_point() -> None:
    member = np.arange(60) < 30
    found = metrics.figures(member * 2.0 - 1.0, member, rng=np.random.default_rng(0))
    assert found["auc"].value == found["advantage"].value == found["tpr_at_fpr_0_01"].value == 1.0
    assert found["partial_auc_fpr_0_01"].value == found["ppv"].value == 1.0
    for name in ("auc", "advantage_heldout", "ppv", "balanced_accuracy", "partial_auc_fpr_0_01"):
        low = found[name].ci_low
        assert low is not None
        assert 0.3 < low < 0.999, name
    # Of 30 non-members, none may lie above the true threshold at an FPR of 0.1 (probability 0.04): nothing is known then.
    assert found["tpr_at_fpr_0_1"].ci_low == 0.0
    assert found["tpr_at_fpr_0_1"].status == "low_power"


def test_one_record_a_side_is_enough_for_what_can_be_given() -> None:
    found = metrics.figures(np.array([2.0, 1.0]), np.array([True, False]), rng=np.random.default_rng(0))
    assert found["auc"].value == 1.0
    assert (found["auc"].ci_low or 0.0) < 0.25
    assert found["advantage_heldout"].status == found["ppv"].status == found["epsilon_heuristic"].status == "skipped"


def test_gaussian_closed_forms(gaussian) -> None:  # type: ignore[no-untyped-def]
    # 200,000 records a side: standard errors of 0.001 for the AUC, 0.002 to 0.004 for the rest; bounds at four or more of them.
    n = 200_000
    for distance in (0.0, 0.5, 1.5):
        scores, member = gaussian(distance, n, n, np.random.default_rng(int(distance * 10)))
        found = metrics.figures(scores, member, rng=np.random.default_rng(1))
        assert found["auc"].value == pytest.approx(stats.norm.cdf(distance / np.sqrt(2)), abs=0.004)
        best = 2 * stats.norm.cdf(distance / 2) - 1
        assert found["advantage"].value == pytest.approx(best, abs=0.008)
        assert found["advantage_heldout"].value == pytest.approx(best, abs=0.008)
        assert found["balanced_accuracy"].value == pytest.approx((1 + best) / 2, abs=0.004)
        assert found["ppv"].value == pytest.approx(stats.norm.cdf(distance / 2), abs=0.02 if distance else 0.5)
        for target, name in ((0.1, "0_1"), (0.01, "0_01"), (0.001, "0_001")):
            expected = stats.norm.sf(stats.norm.isf(target) - distance)
            assert found[f"tpr_at_fpr_{name}"].value == pytest.approx(expected, rel=0.15, abs=0.0005)
            assert found[f"fp_budget_{name}"].value == round(target * n)


@pytest.mark.parametrize(
    ("n", "fpr", "budget"),
    [(30, 0.1, 3), (1000, 0.001, 1), (70, 0.1, 7), (290, 0.1, 29), (999, 0.001, 0.999), (10_000, 1e-3, 10)],
)
def test_the_budget_is_not_lost_to_rounding(n: int, fpr: float, budget: float) -> None:
    assert metrics.fp_budget(n, fpr) == budget
    allowed = int(budget)
    # Non-members n, ..., 1, and one member between each: the member above non-member k + 1 is the last one counted.
    scores = np.r_[np.arange(n) + 1.0, np.arange(n) + 1.5]
    found = metrics.tpr_at_fpr(scores, np.arange(2 * n) >= n, fpr=fpr, rng=np.random.default_rng(0))
    assert found.value == pytest.approx((allowed + 1) / n)
    assert found.status == ("low_power" if budget < 10 else "ok")


def test_rate_names() -> None:
    assert [metrics.rate_name(rate) for rate in (0.1, 0.01, 0.001, 1e-5)] == ["0_1", "0_01", "0_001", "0_00001"]


@pytest.mark.parametrize(
    ("scores", "member", "says"),
    [
        ([1.0, 2.0], [True, True], "2 members and 0 non-members"),
        ([1.0, 2.0], [False, False], "0 members"),
        ([1.0, np.nan, np.inf], [True, False, True], "2 of 3 are nan or infinite, the first at 1"),
        ([1.0, 2.0], [1, 0], "must be boolean"),
        ([1.0, 2.0, 3.0], [True, False], "must both be"),
        ([[1.0, 2.0]], [[True, False]], "must both be"),
        ([], np.zeros(0, dtype=bool), "0 members"),
    ],
)
def test_bad_input_is_named(scores: list[float], member: list[bool], says: str) -> None:
    for call in (metrics.auc, metrics.roc_curve, metrics.advantage):
        with pytest.raises(ValueError, match=says):
            call(scores, member)
    with pytest.raises(ValueError, match=says):
        metrics.figures(scores, member, rng=np.random.default_rng(0))


def test_an_estimate_cannot_contradict_itself() -> None:
    with pytest.raises(ValueError, match="finite"):
        metrics.Estimate(value=float("nan"))
    with pytest.raises(ValueError, match="a reason"):
        metrics.Estimate(value=float("nan"), status="skipped")
    with pytest.raises(ValueError, match="allowed: ok, low_power, skipped"):
        metrics.Estimate(value=1.0, status="fine")


def test_partial_auc_against_scikit_learn(gaussian) -> None:  # type: ignore[no-untyped-def]
    from sklearn.metrics import roc_auc_score

    for seed, (n_member, n_nonmember, decimals) in enumerate([(300, 777, None), (50, 60, 1), (1000, 1000, 0), (5, 3, None)]):
        scores, member = gaussian(1.0, n_member, n_nonmember, np.random.default_rng(seed), decimals=decimals)
        for max_fpr in (0.01, 0.1, 0.5, 1.0):
            found = metrics.partial_auc(scores, member, max_fpr=max_fpr, rng=np.random.default_rng(0), draws=50)
            # scikit-learn ignores max_fpr = 1 and returns the whole area, which is the same number.
            assert found.value == pytest.approx(roc_auc_score(member, scores, max_fpr=max_fpr), abs=1e-9)
        raw = metrics.partial_auc(scores, member, max_fpr=1.0, standardized=False, rng=np.random.default_rng(0), draws=50)
        assert raw.value == pytest.approx(naive_auc(scores, member), abs=1e-9)


def test_roc_band_is_the_interval_at_each_point(gaussian) -> None:  # type: ignore[no-untyped-def]
    scores, member = gaussian(1.0, 2000, 2000, np.random.default_rng(0))
    grid = np.array([0.001, 0.01, 0.1, 0.5])
    low, high = metrics.roc_band(scores, member, fpr=grid, rng=np.random.default_rng(1))
    truth = stats.norm.sf(stats.norm.isf(grid) - 1.0)
    assert ((low < truth) & (truth < high)).all()
    assert ((high - low)[1:] < 0.15).all()


def test_more_records_make_no_more_calls(gaussian) -> None:  # type: ignore[no-untyped-def]
    """No Python code runs per record, which is what keeps the figures of 60,000 records to milliseconds."""

    def calls(n: int) -> int:
        scores, member = gaussian(0.3, 5 * n, n, np.random.default_rng(0))
        made = [0]

        def count(frame: object, event: str, argument: object) -> None:
            made[0] += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            metrics.figures(scores, member, rng=np.random.default_rng(0))
        finally:
            sys.setprofile(before)
        return made[0]

    calls(100)  # imports what is imported once
    few, many = calls(100), calls(10_000)
    assert few > 100
    assert many < few + 1000  # 2,000 and 2,200 when written; 59,400 records more


def test_the_same_generator_gives_the_same_figures(gaussian) -> None:  # type: ignore[no-untyped-def]
    scores, member = gaussian(0.3, 400, 300, np.random.default_rng(0))
    kept = scores.copy(), member.copy()
    one, two, other = (metrics.figures(scores, member, rng=np.random.default_rng(seed), coin_flips=True) for seed in (0, 0, 1))
    assert one == two
    assert one["tpr_at_fpr_0_1"] != other["tpr_at_fpr_0_1"]
    np.testing.assert_array_equal(scores, kept[0])
    np.testing.assert_array_equal(member, kept[1])
