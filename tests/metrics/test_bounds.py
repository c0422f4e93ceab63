"""Lower bounds on epsilon for coin-flip membership: published figures, naive references, and how often they exceed a known truth."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from scipy import stats

from memberscope import metrics
from memberscope.metrics import epsilon as epsilon_module
from memberscope.metrics.bounds import ASSUMPTIONS, BoundMethod
from memberscope.metrics.fdp import is_rejected
from memberscope.metrics.gaussian_dp import gaussian_mu_bounds
from memberscope.metrics.thresholds import all_cuts, cuts_of_shares, split

METHODS: tuple[BoundMethod, ...] = get_args(BoundMethod)


def normal_quantiles(mu: float, n: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """`n` members and `n` non-members at the quantiles (i + .5) / n of N(mu, 1) and N(0, 1)."""
    at = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return np.r_[at + mu, at], np.arange(2 * n) < n


@pytest.mark.parametrize(
    ("mu", "expected", "over_all"),
    [
        (1.0, (1.13346, 2.16475, 4.33471, 1.78717), (4.20971, 1.65064)),
        (2.0, (2.31195, 4.72181, 10.24068, 3.82795), (10.06789, 3.60405)),
        (4.0, (4.39557, 9.13375, 24.69052, 6.41251), (24.18385, 5.94767)),
    ],
)
def test_published_figures_of_normal_scores(mu: float, expected: tuple[float, ...], over_all: tuple[float, float]) -> None:
    """The four bounds at the corners of the ROC curve, 95% and delta 1e-6; with a valid correction each is a little smaller."""
    scores, member = normal_quantiles(mu)
    for method, known in zip(METHODS, expected, strict=True):
        options: dict[str, Any] = {"method": method, "delta": 1e-6, "coin_flips": True}
        found = metrics.epsilon_bound(scores, member, threshold=metrics.AllThresholds(corners=True), **options)
        assert found.estimate.value == pytest.approx(known, rel=1e-4)
        assert found.estimate.ci_low == found.estimate.value
        valid = metrics.epsilon_bound(scores, member, threshold=metrics.AllThresholds(), **options)
        assert valid.n_thresholds == 20_000 > found.n_thresholds
        if method == "one_run":  # so many thresholds leave nothing of the error to pay for delta
            assert valid.estimate.value == 0.0
            valid = metrics.epsilon_bound(scores, member, threshold=metrics.GuessShares(), **options)
            assert valid.n_thresholds == 8
            assert known < valid.estimate.value < metrics.gaussian_epsilon(mu, 1e-6), "and few show more than the corners"
        else:
            assert 0.75 * known < valid.estimate.value < found.estimate.value
        if method in ("gaussian_dp", "clopper_pearson"):  # beta.ppf at .05 / 20,000, at every one of the thresholds
            assert valid.estimate.value == pytest.approx(over_all[method == "clopper_pearson"], rel=1e-5)
        if mu == 1 and "one_run" in method:  # as the documentation says
            two = metrics.epsilon_bound(scores, member, threshold=metrics.GuessShares(), sides="both", **options)
            assert two.estimate.value == pytest.approx(2.31 if method == "one_run" else 3.00, abs=0.005)
        assert ASSUMPTIONS[method] in found.estimate.reason or method == "one_run"


@pytest.mark.parametrize(
    ("m", "guesses", "correct", "delta", "fdp", "steinke"),
    [
        (1000, 1000, 750, 1e-5, 1.81890, 0.97637),
        (1000, 200, 190, 1e-5, 3.91610, 2.39362),
        (400, 400, 300, 1e-3, 1.21113, 0.86999),
    ],
)
def test_published_figures_of_counts(m: int, guesses: int, correct: int, delta: float, fdp: float, steinke: float) -> None:
    found = epsilon_module.fdp_one_run_epsilon(m, guesses, correct, delta=delta, confidence=0.95)
    assert found == pytest.approx(fdp, rel=1e-4)
    assert metrics.one_run_epsilon(m, guesses, correct, delta=delta, confidence=0.95) == pytest.approx(steinke, rel=1e-4)


def naive_rejected(m: int, guesses: int, correct: int, mu: float, miss: float) -> bool:
    """Algorithm 3 of Mahloujifar et al. 2024 without any early end."""
    r, h = [0.0] * (correct + 1), [0.0] * (correct + 1)
    r[correct], h[correct] = miss * correct / m, miss * (guesses - correct) / m
    for i in reversed(range(correct)):
        h[i] = max(h[i + 1], stats.norm.cdf(stats.norm.ppf(r[i + 1]) - mu))
        r[i] = min(1.0, r[i + 1] + i / (guesses - i) * (h[i] - h[i + 1]))
    return bool(r[0] + h[0] > guesses / m)


@pytest.mark.parametrize(("m", "guesses", "correct"), [(1, 1, 1), (40, 40, 33), (200, 60, 50), (200, 60, 60), (100, 100, 55)])
@pytest.mark.parametrize("miss", [0.05, 1e-4])
def test_the_f_dp_test_against_a_naive_one(m: int, guesses: int, correct: int, miss: float) -> None:
    """Rejected or not at many mu alike, and the bound is where rejection ends."""
    mus = np.linspace(0.0, 4.0, 21)
    expected = [naive_rejected(m, guesses, correct, mu, miss) for mu in mus]
    assert [is_rejected(m, guesses, correct, mu=float(mu), miss=miss) for mu in mus] == expected
    assert expected == sorted(expected, reverse=True)
    bound = metrics.fdp_one_run_mu(m, guesses, correct, confidence=1 - miss)
    if not expected[0]:
        assert bound == 0.0
    else:
        assert naive_rejected(m, guesses, correct, bound * (1 - 1e-6), miss)
        assert not naive_rejected(m, guesses, correct, bound * (1 + 1e-6), miss)


def test_f_dp_bounds_rise_with_right_guesses_and_fall_with_confidence_and_delta() -> None:
    bounds = [metrics.fdp_one_run_mu(300, 100, correct, confidence=0.95) for correct in range(101)]
    assert bounds == sorted(bounds)
    assert bounds[55] == 0.0
    assert bounds[60] > 0.0
    assert metrics.fdp_one_run_mu(300, 100, 80, confidence=0.99) < bounds[80]
    by_delta = [metrics.fdp_one_run_epsilon(300, 100, 80, delta=delta, confidence=0.95) for delta in (1e-9, 1e-5, 1e-2, 0.9)]
    assert by_delta == sorted(by_delta, reverse=True)
    assert by_delta[-1] == 0.0


@pytest.mark.parametrize("mu", [1e-3, 0.3, 1.0, 5.0, 60.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 4.0])
def test_gaussian_dp_by_integration_and_back(mu: float, epsilon: float) -> None:
    """Corollary 2.13 is the largest of P(A) - e^epsilon Q(A), of P = N(mu, 1) and Q = N(0, 1): A is where the ratio is above e^epsilon."""
    cut = epsilon / mu + mu / 2
    expected = stats.norm.sf(cut - mu) - math.exp(epsilon) * stats.norm.sf(cut)
    delta = metrics.gaussian_delta(mu, epsilon)
    assert delta == pytest.approx(expected, rel=1e-9, abs=1e-15)
    if 1e-12 < delta < 1 - 1e-6:
        assert metrics.gaussian_epsilon(mu, delta) == pytest.approx(epsilon, abs=1e-6)
        assert metrics.gaussian_mu(epsilon, delta) == pytest.approx(mu, rel=1e-6)


def test_gaussian_dp_at_its_edges() -> None:
    assert metrics.gaussian_epsilon(0.0, 1e-5) == metrics.gaussian_delta(0.0, 0.0) == 0.0
    assert metrics.gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.3772, abs=1e-4)
    assert metrics.gaussian_epsilon(1.0, 0.9) == 0.0
    for name, call in (
        ("mu=-1", lambda: metrics.gaussian_epsilon(-1.0, 1e-5)),
        ("mu=nan", lambda: metrics.gaussian_delta(math.nan, 1.0)),
        ("epsilon=inf", lambda: metrics.gaussian_delta(1.0, math.inf)),
        ("delta=0", lambda: metrics.gaussian_epsilon(1.0, 0)),
        ("epsilon=-1", lambda: metrics.gaussian_mu(-1.0, 1e-5)),
    ):
        with pytest.raises(ValueError, match=name):
            call()


def test_bounds_of_error_counts_in_closed_form() -> None:
    """No error among 200 and 300: both rates end at 1 - .025^(1/n); nothing is shown by an attack that errs, or by its mirror."""
    fpr, fnr = 1 - 0.025 ** (1 / 300), 1 - 0.025 ** (1 / 200)
    counts = (0, 300, 0, 200)
    found = metrics.gaussian_dp_epsilon(*counts, delta=1e-5, confidence=0.95)
    mu = -stats.norm.ppf(fpr) - stats.norm.ppf(fnr)
    assert found == pytest.approx(metrics.gaussian_epsilon(mu, 1e-5))
    one = metrics.clopper_pearson_epsilon(*counts, delta=1e-5, confidence=0.95)
    assert one == pytest.approx(math.log((1 - fnr - 1e-5) / fpr))
    both = metrics.clopper_pearson_epsilon(0, 200, 0, 300, delta=1e-5, confidence=0.95, sides="both")
    assert both == pytest.approx(one)
    assert metrics.clopper_pearson_epsilon(0, 200, 0, 300, delta=1e-5, confidence=0.95) < one
    for errors in ((150, 300, 100, 200), (160, 300, 110, 200), (300, 300, 0, 200), (0, 300, 200, 200), (300, 300, 200, 200)):
        assert metrics.gaussian_dp_epsilon(*errors, delta=1e-5, confidence=0.95) == 0.0
        assert metrics.clopper_pearson_epsilon(*errors, delta=1e-5, confidence=0.95, sides="both") == 0.0
    bounds = gaussian_mu_bounds(np.array([0, 150, 300]), 300, np.array([0, 100, 0]), 200, miss=0.05)
    assert bounds[0] == pytest.approx(mu)
    assert bounds[1] < 0
    assert bounds[2] == -np.inf


@pytest.mark.parametrize("decimals", [None, 1])
def test_cuts_against_counting(decimals: int | None, gaussian) -> None:  # type: ignore[no-untyped-def]
    scores, member = gaussian(1.0, 40, 41, np.random.default_rng(0), decimals=decimals)
    one, two = all_cuts(scores, member, "members"), all_cuts(scores, member, "both")
    assert one.high.size == np.unique(scores).size + 1
    assert np.all(two.low < two.high)
    for cuts in (one, two):
        for at in range(cuts.high.size):
            above, below = scores >= cuts.high[at], scores <= cuts.low[at]
            assert cuts.right[at] == (above & member).sum() + (below & ~member).sum()
            assert cuts.wrong[at] == (above & ~member).sum() + (below & member).sum()
            assert (cuts.true_pos[at], cuts.false_pos[at]) == ((above & member).sum(), (above & ~member).sum())
    if decimals is None:
        assert two.high.size == 41, "no guess, and 1 to 40 on either side"
        assert (two.right + two.wrong).tolist() == list(range(0, 82, 2))
    corners = one.corners()
    slopes = np.diff(corners.right) / np.maximum(np.diff(corners.wrong), 1e-9)
    assert np.all(np.diff(slopes) < 0), "a concave curve"
    level = np.interp(one.wrong, corners.wrong, corners.right)
    first = np.r_[True, np.diff(one.wrong) > 0][1:]
    assert np.all(one.right[:-1][first] <= level[:-1][first] + 1e-9), "nothing lies above it"


def test_cuts_of_shares_guess_these_shares_and_nothing_twice(gaussian) -> None:  # type: ignore[no-untyped-def]
    scores, member = gaussian(1.0, 200, 201, np.random.default_rng(0))
    shares = (1e-4, 0.1, 0.5, 1.0)
    one, two = cuts_of_shares(scores, member, shares, "members"), cuts_of_shares(scores, member, shares, "both")
    assert (one.right + one.wrong).tolist() == [1, 40, 200, 401]
    assert (two.right + two.wrong).tolist() == [2, 40, 200, 400]
    assert (two.true_pos + two.false_pos).tolist() == [1, 20, 100, 200]
    tied = cuts_of_shares(np.zeros(401), member, shares, "both")
    assert (tied.right + tied.wrong).tolist() == [401] * 4
    assert tied.right.tolist() == [200] * 4


@pytest.mark.parametrize("method", METHODS)
def test_a_split_chooses_on_one_part_and_bounds_on_the_other(method: BoundMethod) -> None:
    """Against every threshold of the first part in turn, and the bound of the rest at the best of them, fixed."""
    rng = np.random.default_rng(6)
    member = rng.random(300) < 0.5
    scores = rng.normal(size=300) + 1.5 * member
    options: dict[str, Any] = {"method": method, "delta": 1e-6, "coin_flips": True}
    found = metrics.epsilon_bound(
        scores, member, threshold=metrics.SplitThreshold(share=0.4), rng=np.random.default_rng(3), **options
    )
    first, rest = split(scores, member, 0.4, np.random.default_rng(3))

    def at(part: np.ndarray, high: float) -> metrics.EpsilonBound:
        return metrics.epsilon_bound(scores[part], member[part], threshold=metrics.FixedThreshold(high=high), **options)

    best = max((float(score) for score in np.sort(scores[first])), key=lambda high: at(first, high).estimate.value)
    assert found.estimate.value == at(rest, best).estimate.value > 0
    assert found.n_thresholds == 1


def test_all_thresholds_share_the_error_among_as_many_as_there_can_be(gaussian) -> None:  # type: ignore[no-untyped-def]
    """The bound of f-DP at the best of all numbers of guesses, each at .05 / n, or of all pairs, each at .05 / (n / 2)."""
    scores, member = gaussian(2.0, 30, 30, np.random.default_rng(1))
    ordered = member[np.argsort(-scores)]
    singles = [(k, int(ordered[:k].sum())) for k in range(1, 61)]
    pairs = [(2 * k, int(ordered[:k].sum() + (~ordered[60 - k :]).sum())) for k in range(1, 31)]
    for sides, cuts in (("members", singles), ("both", pairs)):
        found = metrics.epsilon_bound(
            scores,
            member,
            method="fdp_one_run",
            threshold=metrics.AllThresholds(),
            delta=1e-5,
            coin_flips=True,
            sides=sides,  # type: ignore[arg-type]
        )
        best = max(metrics.fdp_one_run_mu(60, guesses, right, confidence=1 - 0.05 / len(cuts)) for guesses, right in cuts)
        assert found.mu == pytest.approx(best, rel=1e-6)
        assert found.mu > 0  # type: ignore[operator]
        assert found.n_thresholds == len(cuts)


CHOICES: dict[str, metrics.ThresholdChoice] = {
    "fixed": metrics.FixedThreshold(high=1.5),
    "split": metrics.SplitThreshold(),
    "splits": metrics.SplitThreshold(n_splits=5),
    "all": metrics.AllThresholds(),
    "shares": metrics.GuessShares(),
}


@pytest.mark.parametrize(
    ("method", "choice"),
    [(method, choice) for method in METHODS for choice in CHOICES if "one_run" in method or choice != "shares"],
)
def test_false_alarms_of_the_gaussian_mechanism(method: BoundMethod, choice: str, within) -> None:  # type: ignore[no-untyped-def]
    """Above the truth in at most 5% of data sets of mu 0 and mu 1, whose means are above 0 where there is signal to find."""
    rng = np.random.default_rng(11)
    for mu in (0.0, 1.0):
        truth = metrics.gaussian_epsilon(mu, 1e-5)
        bounds = []
        for _ in range(50):
            member = rng.random(400) < 0.5
            scores = rng.normal(size=400) + mu * member
            found = metrics.epsilon_bound(
                scores, member, method=method, threshold=CHOICES[choice], delta=1e-5, coin_flips=True, rng=rng
            )
            bounds.append(found.estimate.value)
        within(int((np.array(bounds) > truth).sum()), 50, at_most=0.05)
        if mu and (method, choice) != ("one_run", "all"):
            assert 0.1 < np.mean(bounds) < truth


@pytest.mark.parametrize("choice", ["fixed", "split", "shares"])
def test_false_alarms_where_the_one_run_bound_is_attained(choice: str, within) -> None:  # type: ignore[no-untyped-def]
    """Randomized response of epsilon 1 attains Steinke's bound; both sides are guessed, or members only."""
    rng = np.random.default_rng(5)
    for sides, low in (("members", None), ("both", 0.0)):
        threshold = metrics.FixedThreshold(high=1.0, low=low) if choice == "fixed" else CHOICES[choice]
        bounds = []
        for _ in range(150):
            member = rng.random(600) < 0.5
            told = (member ^ (rng.random(600) > 1 / (1 + math.exp(-1)))).astype(float)
            found = metrics.epsilon_bound(
                told,
                member,
                method="one_run",
                threshold=threshold,
                delta=0.0,
                coin_flips=True,
                sides=sides,  # type: ignore[arg-type]
                rng=rng,
            )
            bounds.append(found.estimate.value)
        within(int((np.array(bounds) > 1).sum()), 150, at_least=0.02 if choice == "fixed" else 0.0, at_most=0.05)
        assert 0.4 < np.mean(bounds) < 1


def test_both_sides_show_more_than_one_and_a_gaussian_curve_more_than_none() -> None:
    scores, member = normal_quantiles(1.0, 1000)
    values = {
        (method, sides): metrics.epsilon_bound(
            scores,
            member,
            method=method,
            threshold=CHOICES["shares" if "one_run" in method else "all"],
            delta=1e-5,
            coin_flips=True,
            sides=sides,
        )
        for method in METHODS
        for sides in ("members", "both")
    }
    bound = {key: found.estimate.value for key, found in values.items()}
    assert bound["one_run", "both"] > 1.1 * bound["one_run", "members"] > 0
    assert bound["fdp_one_run", "both"] > 1.1 * bound["fdp_one_run", "members"] > bound["one_run", "members"]
    assert bound["gaussian_dp", "both"] == bound["gaussian_dp", "members"] > bound["fdp_one_run", "both"]
    assert bound["clopper_pearson", "both"] == pytest.approx(bound["clopper_pearson", "members"]), "normal scores mirror"
    mirrored = metrics.epsilon_bound(
        -np.exp(-scores), member, method="gaussian_dp", threshold=metrics.AllThresholds(), delta=1e-5, coin_flips=True
    )
    assert mirrored.mu == values["gaussian_dp", "both"].mu, "only the order of scores counts"
    assert 0.5 < values["gaussian_dp", "both"].mu < 1  # type: ignore[operator]
    assert values["one_run", "both"].mu is None


def test_a_split_does_not_depend_on_order_or_membership_and_several_give_the_median() -> None:
    rng = np.random.default_rng(2)
    member = rng.random(501) < 0.5
    scores = rng.normal(size=501) + 2 * member
    first, rest = split(scores, member, 0.3, np.random.default_rng(0))
    assert first.size == 150
    assert sorted(np.r_[first, rest]) == list(range(501))
    again = split(scores, ~member, 0.3, np.random.default_rng(0))[0]
    assert np.array_equal(first, again)
    options: dict[str, Any] = {"method": "fdp_one_run", "delta": 1e-5, "coin_flips": True}
    shuffled = rng.permutation(501)
    for n_splits in (1, 9):  # the loop's last bound is that of nine splits
        threshold = metrics.SplitThreshold(n_splits=n_splits)
        one = metrics.epsilon_bound(scores, member, threshold=threshold, rng=np.random.default_rng(1), **options)
        other = metrics.epsilon_bound(
            scores[shuffled], member[shuffled], threshold=threshold, rng=np.random.default_rng(1), **options
        )
        assert one == other
    # Nine splits: each at 97.5%, so the median is that of nine single ones drawn from the same generator.
    generator = np.random.default_rng(1)
    singles = [
        metrics.epsilon_bound(scores, member, threshold=metrics.SplitThreshold(), confidence=0.975, rng=generator, **options)
        for _ in range(9)
    ]
    assert one.estimate.value == pytest.approx(float(np.median([found.estimate.value for found in singles])))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"delta": None}, r"delta=None; a lower bound on epsilon holds at a stated delta, such as 1e-5"),
        ({"delta": 0.0}, r"delta=0.0; it must be above 0 and below 1"),
        ({"delta": 1.0, "method": "one_run"}, r"delta=1.0; it must be at least 0 and below 1"),
        (
            {"coin_flips": False},
            r"coin_flips=False; the bound 'fdp_one_run' needs memberships that were drawn by fair coin flips",
        ),
        ({"method": "best"}, r"method='best'; allowed: one_run, fdp_one_run, gaussian_dp, clopper_pearson"),
        ({"sides": "low"}, r"sides='low'; allowed: members, both"),
        ({"confidence": 1.0}, r"confidence=1.0; it must lie between 0 and 1"),
        ({"threshold": "best"}, r"threshold='best'; allowed: FixedThreshold, SplitThreshold, AllThresholds, GuessShares"),
        ({"threshold": metrics.GuessShares(), "method": "gaussian_dp"}, r"error rates need another"),
        ({"threshold": metrics.SplitThreshold()}, r"rng=None; a threshold from a split needs a random generator"),
        ({"threshold": metrics.FixedThreshold(high=0.0), "sides": "both"}, r"low=None; a fixed threshold has one if"),
        ({"threshold": metrics.FixedThreshold(high=0.0, low=-1.0)}, r"low=-1.0; a fixed threshold has one if"),
    ],
)
def test_bad_requests_get_one_line(changes: dict[str, Any], line: str) -> None:
    given: dict[str, Any] = {"method": "fdp_one_run", "threshold": metrics.AllThresholds(), "delta": 1e-5, "coin_flips": True}
    with pytest.raises(ValueError, match=line) as caught:
        metrics.epsilon_bound(np.arange(10.0), np.arange(10) < 5, **{**given, **changes})
    assert "\n" not in str(caught.value)


def test_bad_counts_get_one_line_and_membership_without_coins_no_bound() -> None:
    for line, call in (
        ("correct=5, guesses=4, m=10", lambda: metrics.fdp_one_run_epsilon(10, 4, 5, delta=1e-5, confidence=0.95)),
        ("delta=None", lambda: metrics.fdp_one_run_epsilon(10, 4, 3, delta=None, confidence=0.95)),  # type: ignore[arg-type]
        ("delta=None", lambda: metrics.one_run_epsilon(10, 4, 3, delta=None, confidence=0.95)),  # type: ignore[arg-type]
        ("delta=1.0", lambda: metrics.one_run_epsilon(10, 4, 3, delta=1.0, confidence=0.95)),
        ("confidence=95", lambda: metrics.one_run_epsilon(10, 4, 3, delta=1e-5, confidence=95)),
        ("confidence=95", lambda: metrics.fdp_one_run_mu(10, 4, 3, confidence=95)),
        ("false_pos=4 of n_nonmember=3", lambda: metrics.gaussian_dp_epsilon(4, 3, 0, 3, delta=1e-5, confidence=0.95)),
        ("false_neg=-1 of n_member=3", lambda: metrics.clopper_pearson_epsilon(0, 3, -1, 3, delta=1e-5, confidence=0.95)),
        ("low=1.0; it must be below high=0.0", lambda: metrics.FixedThreshold(high=0.0, low=1.0)),
        ("high=nan", lambda: metrics.FixedThreshold(high=math.nan)),
        ("share=1", lambda: metrics.SplitThreshold(share=1.0)),
        (r"shares=\(\)", lambda: metrics.GuessShares(shares=())),
        ("shares=1.5", lambda: metrics.GuessShares(shares=(0.1, 1.5))),
        ("n_splits=0", lambda: metrics.SplitThreshold(n_splits=0)),
    ):
        with pytest.raises(ValueError, match=line):
            call()
    options: dict[str, Any] = {"method": "gaussian_dp", "delta": 1e-5, "coin_flips": True}
    found = metrics.epsilon_bound(np.arange(1000.0), np.arange(1000) < 600, threshold=metrics.AllThresholds(), **options)
    assert found.estimate.status == "skipped"
    assert "600 members of 1000 did not come from fair coin flips" in found.estimate.reason
    assert found.mu is None
    tiny = metrics.epsilon_bound(
        np.arange(3.0), np.arange(3) < 1, threshold=metrics.SplitThreshold(), rng=np.random.default_rng(0), **options
    )
    assert tiny.estimate.status == "skipped"
    assert "without members or non-members" in tiny.estimate.reason
