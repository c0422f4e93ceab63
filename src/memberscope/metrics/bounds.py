"""Lower bounds on epsilon from coin-flip memberships, by several methods and ways of choosing the threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, logit

from memberscope.metrics.epsilon import not_from_coins, one_run_epsilon, one_run_p_value
from memberscope.metrics.estimate import Bools, Estimate, Floats, Ints, check_fraction, check_scores, skipped
from memberscope.metrics.fdp import largest_rejected_mu
from memberscope.metrics.gaussian_dp import (
    check_delta,
    check_errors,
    gaussian_epsilon,
    gaussian_mu_bounds,
    rate_ends,
)
from memberscope.metrics.thresholds import (
    AllThresholds,
    Cuts,
    FixedThreshold,
    GuessShares,
    Sides,
    SplitThreshold,
    ThresholdChoice,
    all_cuts,
    cuts_at,
    cuts_of_shares,
    split,
)

BoundMethod = Literal["one_run", "fdp_one_run", "gaussian_dp", "clopper_pearson"]

# What each method takes for granted beyond coin-flip membership.
ASSUMPTIONS: dict[str, str] = {
    "one_run": "nothing",
    "fdp_one_run": "a Gaussian trade-off curve",
    "gaussian_dp": "a Gaussian trade-off curve, and records that are independent trials",
    "clopper_pearson": "records that are independent trials",
}


@dataclass(frozen=True, kw_only=True)
class EpsilonBound:
    """A lower bound on epsilon, with what it holds for.

    Attributes:
        estimate: `value` and `ci_low` are the bound; skipped, with the reason, where none can be given.
        method: how it was derived.
        assumes: what it assumes beyond coin-flip membership.
        delta: the delta of (epsilon, delta)-privacy.
        confidence: the bound is at most the true epsilon with this probability.
        mu: the bound on the mu of Gaussian differential privacy, where the method has one.
        n_thresholds: the number of thresholds among which the error was divided; 1 for a fixed one or a split.
    """

    estimate: Estimate
    method: BoundMethod
    assumes: str
    delta: float
    confidence: float
    mu: float | None = None
    n_thresholds: int = 1


def epsilon_bound(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    method: BoundMethod,
    threshold: ThresholdChoice,
    delta: float,
    coin_flips: bool,
    confidence: float = 0.95,
    sides: Sides = "members",
    rng: np.random.Generator | None = None,
) -> EpsilonBound:
    """A lower bound on epsilon at `delta` from attack `scores` (n,), higher = more likely a member, and `member` (n,) bool.

    - "one_run": the bound of Steinke et al. 2023, Theorem 5.2 (`one_run_epsilon`).
    - "fdp_one_run": that of Mahloujifar et al. 2024, Algorithm 3 (`fdp_one_run_epsilon`).
    - "gaussian_dp": the mu of Clopper-Pearson ends of FPR and FNR (`gaussian_dp_epsilon`).
    - "clopper_pearson": the log ratio of these ends (`clopper_pearson_epsilon`).

    `coin_flips` states that each membership was drawn by its own fair coin and that `scores` were computed without them, as
    for `epsilon_lower_bound`; every method needs this. `ASSUMPTIONS` lists what each needs in addition. `threshold` says how the
    guesses are chosen; with `sides` "both", the one-run methods guess as many low scores to be non-members, and "clopper_pearson" uses the
    better of TPR over FPR and TNR over FNR ("gaussian_dp" is the same for both). `rng` draws the splits.

    Skipped where membership cannot have come from fair coins (probability under 1e-6), or where a split leaves a side empty. ValueError on
    bad input: no `delta`, no coin flips, an unknown name, a split without `rng`, both sides with a single fixed threshold.
    """
    values, truth = check_scores(scores, member)
    _check_request(method, threshold, coin_flips, sides, rng)
    check_delta(delta, zero=method in ("one_run", "clopper_pearson"))
    miss = 1 - check_fraction("confidence", confidence)
    test = _Test(method=method, delta=delta, sides=sides)
    n_member = int(truth.sum())
    if unfair := not_from_coins(n_member, values.size - n_member, values.size):
        return test.bound(None, confidence, unfair)
    if isinstance(threshold, FixedThreshold):
        low = -math.inf if threshold.low is None else threshold.low
        cuts = cuts_at(values, truth, np.array([threshold.high]), np.array([low]))
        return test.bound(test.best(cuts, miss)[0], confidence, f"at the fixed threshold {threshold.high:g}")
    if isinstance(threshold, AllThresholds):
        cuts = all_cuts(values, truth, test.cut_sides).corners()
        if threshold.corners:
            k, of = cuts.high.size, "corners of the ROC curve"
        else:
            k, of = test.n_possible(values.size), "thresholds"
        return test.bound(test.best(cuts, miss / k)[0], confidence, f"the best of {k} {of}, corrected for all", k)
    if isinstance(threshold, GuessShares):
        cuts, k = cuts_of_shares(values, truth, threshold.shares, test.cut_sides), len(threshold.shares)
        return test.bound(test.best(cuts, miss / k)[0], confidence, f"the best of {k} shares of guesses, corrected for all", k)
    assert rng is not None  # checked above
    n_splits = threshold.n_splits
    each = miss if n_splits == 1 else miss / 2
    found = [test.of_split(values, truth, *split(values, truth, threshold.share, rng), each) for _ in range(n_splits)]
    if any(one is None for one in found):
        return test.bound(None, confidence, "a split leaves a part without members or non-members")
    middle = float(np.median([one for one in found if one is not None]))
    return test.bound(
        middle,
        confidence,
        "threshold from a split" if n_splits == 1 else f"median of {n_splits} splits, each at half of the error",
    )


def clopper_pearson_epsilon(
    false_pos: int,
    n_nonmember: int,
    false_neg: int,
    n_member: int,
    *,
    delta: float,
    confidence: float,
    sides: Sides = "members",
) -> float:
    """The epsilon that the errors at one fixed threshold show, with probability `confidence` at most the true one.

    By Kairouz et al. 2015, Theorem 2.1, (epsilon, delta)-privacy allows TPR <= e^epsilon FPR + delta, so
    ``epsilon >= log((1 - FNR - delta) / FPR)``; FPR and FNR take the upper end of their Clopper-Pearson interval, half of the error each.
    `sides` "both" also uses ``log((1 - FPR - delta) / FNR)``, from the same two ends. Each of the `n_nonmember` and `n_member` trials must
    be independent of the others, as those of one record over many models are. 0 where the errors show nothing; ValueError for
    numbers that do not fit.
    """
    miss = 1 - check_fraction("confidence", confidence)
    check_delta(delta, zero=True)
    check_errors(false_pos, n_nonmember, false_neg, n_member)
    (found,) = _log_ratios(
        np.array([false_pos]), n_nonmember, np.array([false_neg]), n_member, delta=delta, miss=miss, sides=sides
    )
    return max(0.0, float(found))


@dataclass(frozen=True, kw_only=True)
class _Test:
    """A method at a delta: its bound at the best of several cuts. Bounds are of epsilon, or of mu where the method has one."""

    method: BoundMethod
    delta: float
    sides: Sides

    @property
    def cut_sides(self) -> Sides:
        """Only the one-run methods count guesses of non-members; error rates are of one threshold."""
        return self.sides if self.method in ("one_run", "fdp_one_run") else "members"

    def n_possible(self, n: int) -> int:
        """The number of thresholds, or of pairs of thresholds, that n records without ties have."""
        return n if self.cut_sides == "members" else max(1, n // 2)

    def best(self, cuts: Cuts, miss: float) -> tuple[float, int]:
        """The largest bound of all cuts, each at `miss`, and where it is; where none is above 0, where there is most evidence."""
        if self.method in ("one_run", "fdp_one_run"):
            return self._best_one_run(cuts, miss)
        args = (cuts.false_pos, cuts.n_nonmember, cuts.n_member - cuts.true_pos, cuts.n_member)
        if self.method == "gaussian_dp":
            found = gaussian_mu_bounds(*args, miss=miss)
        else:
            found = _log_ratios(*args, delta=self.delta, miss=miss, sides=self.sides)
        at = int(np.argmax(found))
        return max(0.0, float(found[at])), at

    def _best_one_run(self, cuts: Cuts, miss: float) -> tuple[float, int]:
        guesses, m = cuts.right + cuts.wrong, cuts.n_member + cuts.n_nonmember
        # No bound of `one_run` is above the log odds of Clopper and Pearson's lower end, which is its value at delta 0.
        share = np.where(cuts.right > 0, betaincinv(np.maximum(cuts.right, 1), cuts.wrong + 1, miss), 0.0)
        order = np.argsort(-share, kind="stable")
        best, at = 0.0, int(order[0])
        for cut in order.tolist():
            right, guessed = int(cuts.right[cut]), int(guesses[cut])
            if self.method == "one_run":
                if share[cut] <= 0.5 or logit(share[cut]) <= best:
                    break
                if one_run_p_value(m, guessed, right, epsilon=best, delta=self.delta) >= miss:
                    continue  # not above the best
                found = one_run_epsilon(m, guessed, right, delta=self.delta, confidence=1 - miss)
            else:
                if 2 * right <= guessed:
                    continue
                found = largest_rejected_mu(m, guessed, right, miss=miss, at_least=best)
            if found > best:
                best, at = found, cut
        return best, at

    def of_split(self, values: Floats, truth: Bools, first: Ints, rest: Ints, miss: float) -> float | None:
        """The bound of the `rest` at the best threshold of the `first`; None where a part has only members or only non-members."""
        if any(part.size == 0 or truth[part].all() or not truth[part].any() for part in (first, rest)):
            return None
        choosing = all_cuts(values[first], truth[first], self.cut_sides).corners()
        at = self.best(choosing, miss)[1]
        cuts = cuts_at(values[rest], truth[rest], choosing.high[at : at + 1], choosing.low[at : at + 1])
        return self.best(cuts, miss)[0]

    def bound(self, found: float | None, confidence: float, how: str, n_thresholds: int = 1) -> EpsilonBound:
        """The EpsilonBound of what was `found`; None is skipped for the reason `how`."""
        assumes = ASSUMPTIONS[self.method]
        mu = found if self.method in ("fdp_one_run", "gaussian_dp") else None
        if found is None:
            estimate = skipped(how)
        else:
            value = found if mu is None else gaussian_epsilon(mu, self.delta)
            reason = f"a {confidence:.0%} lower bound at delta {self.delta:g}, {how}; assumes coin flips and {assumes}"
            estimate = Estimate(value=value, ci_low=value, reason=reason.removesuffix(" and nothing"))
        return EpsilonBound(
            estimate=estimate,
            method=self.method,
            assumes=assumes,
            delta=self.delta,
            confidence=confidence,
            mu=mu,
            n_thresholds=n_thresholds,
        )


def _log_ratios(
    false_pos: Ints, n_nonmember: int, false_neg: Ints, n_member: int, *, delta: float, miss: float, sides: Sides
) -> Floats:
    """The bound of `clopper_pearson_epsilon` at each of k thresholds, (k,), -inf or below 0 where there is none."""
    fpr, fnr = rate_ends(false_pos, n_nonmember, false_neg, n_member, miss=miss)
    above: Floats = np.log(np.maximum(1 - fnr - delta, 1e-300)) - np.log(fpr)
    if sides == "members":
        return above
    below: Floats = np.log(np.maximum(1 - fpr - delta, 1e-300)) - np.log(fnr)
    better: Floats = np.maximum(above, below)
    return better


def _check_request(method: Any, threshold: Any, coin_flips: bool, sides: Any, rng: Any) -> None:
    for name, value, allowed in (("method", method, get_args(BoundMethod)), ("sides", sides, get_args(Sides))):
        if value not in allowed:
            raise ValueError(f"{name}={value!r}; allowed: {', '.join(allowed)}")
    if not coin_flips:
        raise ValueError(f"coin_flips={coin_flips}; the bound {method!r} needs memberships that were drawn by fair coin flips")
    if isinstance(threshold, SplitThreshold):
        if rng is None:
            raise ValueError("rng=None; a threshold from a split needs a random generator")
    elif isinstance(threshold, FixedThreshold):
        wanted = sides == "both" and method in ("one_run", "fdp_one_run")
        if wanted != (threshold.low is not None):
            raise ValueError(
                f"low={threshold.low}; a fixed threshold has one if, and only if, a one-run bound guesses both sides"
            )
    elif isinstance(threshold, GuessShares):
        if method not in ("one_run", "fdp_one_run"):
            raise ValueError(
                f"threshold={threshold!r}; error rates need another, as their threshold would depend on memberships"
            )
    elif not isinstance(threshold, AllThresholds):
        raise ValueError(f"threshold={threshold!r}; allowed: FixedThreshold, SplitThreshold, AllThresholds, GuessShares")
