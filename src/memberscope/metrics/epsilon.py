"""Lower bounds on the epsilon of differential privacy that follow from an attack's success."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaincinv, expit, gammaln, logit

from memberscope.metrics.curve import Ranking, rank
from memberscope.metrics.estimate import Estimate, Floats, Ints, check_fraction, check_scores, skipped
from memberscope.metrics.fdp import fdp_one_run_epsilon as fdp_one_run_epsilon
from memberscope.metrics.intervals import clopper_pearson_high, clopper_pearson_low, two_sided_z, wilson_end
from memberscope.pieces import row_chunks

Adjacency = Literal["add_remove", "replace"]

# The default number of guesses of the one-run test: this share of the records, but no fewer than this many (or all).
GUESS_SHARE = 0.1
LEAST_GUESSES = 100

# Where an epsilon is promised, enough guesses are made for the bound to lie this far above it if all are right. At a small delta, the
# promise can then be refuted with about three wrong guesses; with a ceiling just at the promise, a single wrong guess would rescue it.
HEADROOM = 1.0

# Below this probability (both tails together), memberships are taken not to come from fair coin flips.
_NOT_COINS = 1e-6


def epsilon_heuristic(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    rng: np.random.Generator,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> Estimate:
    """A lower confidence bound on epsilon from the error rates of one threshold; 0 where they give no evidence of any.

    By Kairouz et al. 2015, Theorem 2.1, (epsilon, delta)-privacy allows TPR <= e^epsilon FPR + delta and TNR <= e^epsilon FNR +
    delta. Half of the records (of each side, at random) choose the threshold and which of the two inequalities to use, by the
    greatest bound with Wilson's ends; on the other half, log((TPR - delta) / FPR) takes Clopper-Pearson's lower end of the
    numerator's rate and upper end of the denominator's, half of the error to each. It is therefore above 0 in at most 1 - `confidence` of
    data sets without signal.

    It is a heuristic, because the records of one training run are not independent trials, and because non-members that were not
    drawn by coin flips may differ from members by more than membership. `value` is the bound, and so is `ci_low`; nothing bounds epsilon
    from above. `epsilon_heuristic_ceiling` says how large the bound can be. Skipped with fewer than two records per side; ValueError on bad
    input.
    """
    ranking = rank(scores, member)
    return epsilon_heuristic_of(ranking, ranking.halves(rng), delta=delta, confidence=confidence)


def epsilon_heuristic_ceiling(n_member: int, n_nonmember: int, *, delta: float = 0.0, confidence: float = 0.95) -> float:
    """The largest possible `epsilon_heuristic`, given the number of records in the half that does not choose the threshold.

    This value is reached when the threshold separates the two sides perfectly, by the better of the two inequalities.
    """
    miss = (1 - check_fraction("confidence", confidence)) / 2
    sides = ((n_member, n_nonmember), (n_nonmember, n_member))
    return max(_log_ratio(hits, hits, 0, others, delta, miss) for hits, others in sides)


def _log_ratio(hits: int, of_hits: int, alarms: int, of_alarms: int, delta: float, miss: float) -> float:
    """log((high - delta) / low), at least 0, of Clopper-Pearson's lower end of `hits` and upper end of `alarms`."""
    high = clopper_pearson_low(hits, of_hits, miss)
    low = clopper_pearson_high(alarms, of_alarms, miss)
    return max(0.0, math.log((high - delta) / low)) if high > delta else 0.0


def epsilon_heuristic_of(
    ranking: Ranking, halves: tuple[Ints, Ints] | None, *, delta: float = 0.0, confidence: float = 0.95
) -> Estimate:
    """`epsilon_heuristic` of a Ranking: threshold from the first half, bound from the second."""
    if not 0.0 <= delta < 1.0:
        raise ValueError(f"delta={delta}; it must be in [0, 1)")
    miss = (1 - check_fraction("confidence", confidence)) / 2
    if halves is None:
        return skipped("a held-out threshold needs two members and two non-members")
    tp, fp = halves
    z = two_sided_z(1 - 2 * miss)
    above, at_above = _largest(_wilson_bounds(tp, fp, delta, z))
    below, at_below = _largest(_wilson_bounds(fp[-1] - fp, tp[-1] - tp, delta, z))
    calls_members = above >= below
    at = at_above if calls_members else at_below
    tp, fp = ranking.true_pos - tp, ranking.false_pos - fp
    n_member, n_nonmember, hits, alarms = int(tp[-1]), int(fp[-1]), int(tp[at]), int(fp[at])
    if calls_members:
        value = _log_ratio(hits, n_member, alarms, n_nonmember, delta, miss)
    else:
        value = _log_ratio(n_nonmember - alarms, n_nonmember, n_member - hits, n_member, delta, miss)
    used = "TPR over FPR" if calls_members else "TNR over FNR"
    ceiling = epsilon_heuristic_ceiling(n_member, n_nonmember, delta=delta, confidence=confidence)
    reason = f"a {confidence:.0%} lower bound at delta {delta:g} from {used}; it could be at most {ceiling:.3g} with this number of records"
    return Estimate(value=value, ci_low=value, reason=reason)


def _largest(values: Floats) -> tuple[float, int]:
    """The largest value and its first place."""
    at = int(np.argmax(values))
    return float(values[at]), at


def _wilson_bounds(hits: Ints, alarms: Ints, delta: float, z: float) -> Floats:
    """Log ratio of Wilson's lower end of hits and upper end of alarms at every threshold, (b + 1,); used only to choose a threshold."""
    bounds: Floats = np.empty(hits.size)
    for part in row_chunks(
        hits.size
    ):  # of many scores, a piece at a time: some ten arrays of all of them would be held at once
        low = wilson_end(hits[part], int(max(hits[0], hits[-1])), -z)
        high = wilson_end(alarms[part], int(max(alarms[0], alarms[-1])), z)
        bounds[part] = np.log(np.maximum(low - delta, 1e-300)) - np.log(high)
    return bounds


def epsilon_lower_bound(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    rng: np.random.Generator,
    n_guesses: int | None = None,
    n_flips: int | None = None,
    delta: float = 1e-5,
    promise: float | None = None,
    confidence: float = 0.95,
    adjacency: Adjacency = "add_remove",
) -> Estimate:
    """The one-run audit of Steinke, Nasr & Jagielski 2023: a lower bound on the epsilon of the training, at `confidence`.

    The caller must ensure that each record's membership was drawn by its own fair coin, and `scores` (n,) were computed
    from the trained model without these records' membership (a loss threshold or a shadow attack is; an attack fitted on
    the membership of other audited records, cross-fitted or not, is not). Then, under (epsilon, delta)-privacy, the number
    of right guesses among r is stochastically at most Binomial(r, e^epsilon / (1 + e^epsilon)), up to a term in delta (their Theorem 5.2;
    `one_run_p_value`), and the bound is the largest epsilon up to which every epsilon is rejected.

    The `n_guesses` // 2 highest scores are guessed to be members and as many lowest to be non-members; no guess is made on the rest.
    Without `n_guesses`, `plan_one_run` fixes the number beforehand, from nothing but the number of records and the promised epsilon; it is
    never the best of several. Ties at the edge are broken by `rng`, without regard to the truth. `n_flips` is the number of coins, where
    more were flipped than are scored here; `delta` at 1e-5 by default.

    The bound has a ceiling, its value if all guesses are right (`OneRun.ceiling`). If that is not above the `promise`, the audit cannot
    refute it: the status is "low_power", and the reason says so.

    `adjacency` states for which adjacency relation the epsilon holds, and changes no number. "add_remove": a coin decided whether the
    record was in the training set. "replace": a coin decided which of two records of a pair was, `scores` compare the two and `member` says
    whether it was the first. `value` is the bound, and so is `ci_low`; nothing bounds epsilon from above. Skipped where
    membership is so unbalanced that it cannot have come from fair coins (probability under 1e-6). ValueError on bad input.
    """
    values, truth = check_scores(scores, member)
    if adjacency not in ("add_remove", "replace"):
        raise ValueError(f"adjacency={adjacency!r}; allowed: add_remove, replace")
    miss = 1 - check_fraction("confidence", confidence)
    n, n_member = values.size, int(truth.sum())
    plan = plan_one_run(n, n_flips=n_flips, n_guesses=n_guesses, delta=delta, promise=promise, confidence=confidence)
    flips = plan.n_flips
    if unfair := not_from_coins(n_member, n - n_member, flips):
        return skipped(unfair)
    order = np.lexsort((rng.random(n), values))
    each = plan.n_guesses // 2
    right = int(np.count_nonzero(~truth[order[:each]]) + np.count_nonzero(truth[order[n - each :]]))
    value = one_run_epsilon(flips, plan.n_guesses, right, delta=delta, confidence=1 - miss)
    ceiling = plan.ceiling(confidence)
    reason = (
        f"a {confidence:.0%} lower bound at delta {delta:g}, {adjacency.replace('_', '/')} adjacency; "
        f"{right} of {plan.n_guesses} guesses right, of {flips} coin flips; at most {ceiling:.3g} if all were right"
    )
    blunt = plan.cannot_refute(confidence)
    if blunt:
        reason += f", so that it cannot refute {'anything' if promise is None else f'the promised epsilon {promise:g}'}"
    return Estimate(value=value, ci_low=value, status="low_power" if blunt else "ok", reason=reason)


def not_from_coins(n_member: int, n_nonmember: int, n_flips: int) -> str:
    """Why the memberships cannot come from `n_flips` fair coins, where all of them are scored here; ``""`` if they can."""
    n, smaller = n_member + n_nonmember, min(n_member, n_nonmember)
    if n_flips == n and 2 * betainc(n - smaller, smaller + 1, 0.5) < _NOT_COINS:
        return f"{n_member} members of {n} did not come from fair coin flips"
    return ""


@dataclass(frozen=True, kw_only=True)
class OneRun:
    """The settings of a one-run test, fixed before any outcome is seen.

    Attributes:
        n_flips: number of coin flips.
        n_guesses: number of guesses, even and at most `n_flips`.
        delta: the delta of (epsilon, delta)-privacy.
        promise: the epsilon that was promised; None if none was.
    """

    n_flips: int
    n_guesses: int
    delta: float
    promise: float | None = None

    def ceiling(self, confidence: float) -> float:
        """The largest possible bound, which is reached if all guesses are right."""
        return one_run_epsilon(self.n_flips, self.n_guesses, self.n_guesses, delta=self.delta, confidence=confidence)

    def cannot_refute(self, confidence: float) -> bool:
        """Whether no outcome can give a bound above the promise (above 0 if there is no promise)."""
        return self.ceiling(confidence) <= (self.promise or 0.0)


def plan_one_run(
    n: int,
    *,
    n_flips: int | None = None,
    n_guesses: int | None = None,
    delta: float,
    promise: float | None = None,
    confidence: float = 0.95,
) -> OneRun:
    """Plan the one-run test of `n` scored records; nothing in it depends on which guesses are right.

    Without `n_guesses` the test makes `default_guesses`; with a `promise` it makes as many more as it takes for a ceiling `HEADROOM` above
    the promise, or all that are possible if that is not enough. ValueError for numbers that contradict each other.
    """
    flips = n if n_flips is None else n_flips
    if flips < n:
        raise ValueError(f"n_flips={flips}; allowed: at least {n}, the number of scored records")
    if promise is not None and not promise >= 0:
        raise ValueError(f"promise={promise}; a promised epsilon is at least 0")
    guesses = default_guesses(n) if n_guesses is None else n_guesses
    if not 2 <= guesses <= n:
        raise ValueError(f"n_guesses={guesses}; allowed: 2 to {n}, the number of records")
    fewest, most = guesses // 2, n // 2  # on either side
    if n_guesses is None and promise is not None and math.isfinite(promise):
        aim = promise + HEADROOM

        def reached(each: int) -> bool:
            return one_run_p_value(flips, 2 * each, 2 * each, epsilon=aim, delta=delta) < 1 - confidence

        if not reached(fewest):  # the more guesses, the higher the ceiling; as many as possible if that is not enough
            fewest = bisect_left(range(most), True, lo=min(fewest + 1, most), key=reached)
    return OneRun(n_flips=flips, n_guesses=2 * fewest, delta=delta, promise=promise)


def default_guesses(n: int) -> int:
    """The default number of guesses of the one-run test on `n` records: a tenth, at least 100, or all (an odd number is lowered by one)."""
    return min(n, max(LEAST_GUESSES, round(GUESS_SHARE * n)))


def one_run_p_value(n_flips: int, n_guesses: int, n_right: int, *, epsilon: float, delta: float) -> float:
    """The largest probability of `n_right` or more right guesses under (epsilon, delta)-privacy (Steinke et al. 2023, Thm 5.2).

    With W ~ Binomial(n_guesses, e^epsilon / (1 + e^epsilon)) and v = n_right:
    P[W >= v] + 2 n_flips delta max over i in 1..v of P[v - i <= W < v] / i, at most 1.
    """
    _check_counts(n_flips, n_guesses, n_right)
    if epsilon < 0 or not 0 <= delta <= 1:
        raise ValueError(f"epsilon={epsilon}, delta={delta}; epsilon is at least 0 and delta between 0 and 1")
    log_ways = _log_ways(n_guesses, n_right) if delta else None
    return _one_run_p(n_flips, n_guesses, n_right, epsilon=epsilon, delta=delta, log_ways=log_ways)


def _check_counts(n_flips: int, n_guesses: int, n_right: int) -> None:
    if not 0 <= n_right <= n_guesses <= n_flips:
        raise ValueError(f"n_right={n_right}, n_guesses={n_guesses}, n_flips={n_flips} must not decrease from 0")


def _log_ways(n_guesses: int, n_right: int) -> Floats:
    """Logarithms (n_right,) of the number of ways to be right in n_right - 1, n_right - 2, ..., 0 of `n_guesses`."""
    fewer = np.arange(n_right - 1, -1, -1, dtype=np.float64)
    ways: Floats = gammaln(n_guesses + 1) - gammaln(fewer + 1) - gammaln(n_guesses - fewer + 1)
    return ways


def _one_run_p(n_flips: int, n_guesses: int, n_right: int, *, epsilon: float, delta: float, log_ways: Floats | None) -> float:
    accuracy = float(expit(epsilon))
    tail = 1.0 if n_right == 0 else float(betainc(n_right, n_guesses - n_right + 1, accuracy))
    if log_ways is None or n_right == 0:
        return tail
    fewer = np.arange(n_right - 1, -1, -1, dtype=np.float64)
    log_mass = log_ways + fewer * math.log(accuracy) - (n_guesses - fewer) * float(np.logaddexp(0.0, epsilon))
    worst = float(np.max(np.cumsum(np.exp(log_mass)) / np.arange(1, n_right + 1)))
    return min(1.0, tail + 2 * n_flips * delta * worst)


def one_run_epsilon(n_flips: int, n_guesses: int, n_right: int, *, delta: float, confidence: float) -> float:
    """The largest value below which every epsilon is rejected at level 1 - `confidence`; 0 where epsilon = 0 is not rejected.

    If delta > 0, the p-value need not increase in epsilon everywhere, so the first crossing is sought, not any: a bound
    above the true epsilon then means that the true epsilon was rejected, whatever the p-value does beyond the crossing.

    It increases in `n_right` (for a confidence of at least one half), so it is largest when all guesses are right.

    Raises:
        ValueError: counts that do not fit each other, a `delta` that is not stated or not in [0, 1), or a `confidence` outside (0, 1).
    """
    if delta is None or not 0 <= delta < 1:
        raise ValueError(f"delta={delta}; a lower bound on epsilon holds at a stated delta, from 0 to below 1, such as 1e-5")
    miss = 1 - check_fraction("confidence", confidence)

    _check_counts(n_flips, n_guesses, n_right)
    return _first_accepted(n_flips, n_guesses, n_right, delta, miss)


@lru_cache(maxsize=4096)  # a few ms each, and the same for all attacks with as many guesses, as where all are right
def _first_accepted(n_flips: int, n_guesses: int, n_right: int, delta: float, miss: float) -> float:
    log_ways = _log_ways(n_guesses, n_right) if delta else None

    def accepted(epsilon: float) -> bool:
        return _one_run_p(n_flips, n_guesses, n_right, epsilon=epsilon, delta=delta, log_ways=log_ways) >= miss

    if n_right == 0 or accepted(0.0):
        return 0.0
    # At delta = 0 the crossing has a closed form, and a positive delta never moves it up.
    highest = float(logit(betaincinv(n_right, n_guesses - n_right + 1, miss)))
    if delta == 0:
        return max(0.0, highest)
    grid = np.linspace(0.0, highest, 65)[1:]
    high = next((float(epsilon) for epsilon in grid if accepted(float(epsilon))), highest)
    low = high - highest / 64
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (low, middle) if accepted(middle) else (middle, high)
    return max(0.0, low)
