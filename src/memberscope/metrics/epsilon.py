"""Lower bounds on the epsilon of differential privacy that an attack's success gives away."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaincinv, expit, gammaln, logit

from memberscope.metrics.curve import Ranking, rank
from memberscope.metrics.estimate import Estimate, Floats, Ints, check_fraction, check_scores, skipped
from memberscope.metrics.intervals import clopper_pearson_high, clopper_pearson_low, two_sided_z

Adjacency = Literal["add_remove", "replace"]

# Guesses of the one-run test where the caller names none: this share of the records, but no fewer than this many (or all).
GUESS_SHARE = 0.1
LEAST_GUESSES = 100

# Coin flips this unlikely (both tails together) are not coin flips.
_NOT_COINS = 1e-6


def epsilon_heuristic(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    rng: np.random.Generator,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> Estimate:
    """The epsilon that one threshold's error rates speak for, as a lower confidence bound; 0 where they speak for none.

    By Kairouz et al. 2015, Theorem 2.1, (epsilon, delta)-privacy allows TPR <= e^epsilon FPR + delta and TNR <= e^epsilon FNR +
    delta. Half of the records (of each side, at random) choose the threshold and which of the two inequalities to use, by the
    greatest bound with Wilson's ends; on the other half, log((TPR - delta) / FPR) takes Clopper-Pearson's lower end of the
    numerator's rate and upper end of the denominator's, half of the error to each. So it is above 0 in at most 1 - `confidence`
    of data sets without signal.

    A heuristic, because records of one training run are not independent trials of it, and because non-members that were not
    drawn by coin flips may differ from members by more than membership. `value` is the bound, and so is `ci_low`; nothing
    bounds epsilon from above. Skipped with fewer than two records a side; ValueError on bad input.
    """
    ranking = rank(scores, member)
    return epsilon_heuristic_of(ranking, ranking.halves(rng), delta=delta, confidence=confidence)


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
    above, below = _wilson_bounds(tp, fp, delta, z), _wilson_bounds(fp[-1] - fp, tp[-1] - tp, delta, z)
    calls_members = bool(np.max(above) >= np.max(below))
    at = int(np.argmax(above if calls_members else below))
    tp, fp = ranking.true_pos - tp, ranking.false_pos - fp
    n_member, n_nonmember, hits, alarms = int(tp[-1]), int(fp[-1]), int(tp[at]), int(fp[at])
    if calls_members:
        high_rate = clopper_pearson_low(hits, n_member, miss)
        low_rate = clopper_pearson_high(alarms, n_nonmember, miss)
    else:
        high_rate = clopper_pearson_low(n_nonmember - alarms, n_nonmember, miss)
        low_rate = clopper_pearson_high(n_member - hits, n_member, miss)
    value = max(0.0, math.log((high_rate - delta) / low_rate)) if high_rate > delta else 0.0
    used = "TPR over FPR" if calls_members else "TNR over FNR"
    return Estimate(value=value, ci_low=value, reason=f"a {confidence:.0%} lower bound at delta {delta:g} from {used}")


def _wilson_bounds(hits: Ints, alarms: Ints, delta: float, z: float) -> Floats:
    """Log ratio of Wilson's lower end of hits and upper end of alarms at every threshold, (b + 1,): to choose by only."""
    low = _wilson_end(hits, int(max(hits[0], hits[-1])), -z)
    high = _wilson_end(alarms, int(max(alarms[0], alarms[-1])), z)
    bounds: Floats = np.log(np.maximum(low - delta, 1e-300)) - np.log(high)
    return bounds


def _wilson_end(counts: Ints, total: int, z: float) -> Floats:
    share, shrink = counts / total, 1 + z * z / total
    half = z / shrink * np.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    end: Floats = np.clip((share + z * z / (2 * total)) / shrink + half, 0.0, 1.0)
    return end


def epsilon_lower_bound(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    rng: np.random.Generator,
    n_guesses: int | None = None,
    n_flips: int | None = None,
    delta: float = 1e-5,
    confidence: float = 0.95,
    adjacency: Adjacency = "add_remove",
) -> Estimate:
    """The one-run audit of Steinke, Nasr & Jagielski 2023: an epsilon that the training cannot be below, at `confidence`.

    What the caller vouches for: each record's membership was drawn by its own fair coin, and `scores` (n,) were computed
    from the trained model without these records' membership (a loss threshold or a shadow attack is; an attack fitted on
    the membership of other audited records, cross-fitted or not, is not). Then, under (epsilon, delta)-privacy, the number
    of right guesses among r is at most as large as Binomial(r, e^epsilon / (1 + e^epsilon)) but for a term in delta (their
    Theorem 5.2; `one_run_p_value`), and the bound is the largest epsilon up to which every epsilon is rejected.

    The `n_guesses` // 2 highest scores are guessed to be members and as many lowest to be non-members, the rest abstained
    from. Without `n_guesses` it is a tenth of the records, at least 100 (or all): fixed beforehand, never the best of
    several. Ties at the edge are broken by `rng`, blind to the truth. `n_flips` is the number of coins, where more were
    flipped than are scored here; `delta` at 1e-5 by default.

    `adjacency` says whose epsilon it is and changes no number. "add_remove": a coin decided whether the record was in the
    training set. "replace": a coin decided which of two records of a pair was, `scores` compare the two and `member` says
    whether it was the first. `value` is the bound, and so is `ci_low`; nothing bounds epsilon from above. Skipped where
    membership is so unbalanced that it cannot have come from fair coins (probability under 1e-6). ValueError on bad input.
    """
    values, truth = check_scores(scores, member)
    if adjacency not in ("add_remove", "replace"):
        raise ValueError(f"adjacency={adjacency!r}; allowed: add_remove, replace")
    miss = 1 - check_fraction("confidence", confidence)
    n, n_member = values.size, int(truth.sum())
    flips = n if n_flips is None else n_flips
    if flips < n:
        raise ValueError(f"n_flips={flips}; at least the {n} records that are scored")
    guesses = default_guesses(n) if n_guesses is None else n_guesses
    if not 2 <= guesses <= n:
        raise ValueError(f"n_guesses={guesses}; allowed: 2 to {n}, the records")
    smaller = min(n_member, n - n_member)
    if flips == n and 2 * betainc(n - smaller, smaller + 1, 0.5) < _NOT_COINS:
        return skipped(f"{n_member} members of {n} did not come from fair coin flips")
    order = np.lexsort((rng.random(n), values))
    each = guesses // 2
    right = int(np.count_nonzero(~truth[order[:each]]) + np.count_nonzero(truth[order[n - each :]]))
    value = one_run_epsilon(flips, 2 * each, right, delta=delta, confidence=1 - miss)
    return Estimate(
        value=value,
        ci_low=value,
        reason=f"a {confidence:.0%} lower bound at delta {delta:g}, {adjacency.replace('_', '/')} adjacency; "
        f"{right} of {2 * each} guesses right, of {flips} coin flips",
    )


def default_guesses(n: int) -> int:
    """Guesses of the one-run test on `n` records: a tenth, at least 100, or all (of an odd number, one less is used)."""
    return min(n, max(LEAST_GUESSES, round(GUESS_SHARE * n)))


def one_run_p_value(n_flips: int, n_guesses: int, n_right: int, *, epsilon: float, delta: float) -> float:
    """The most probability that (epsilon, delta)-privacy allows `n_right` or more right guesses (Steinke et al. 2023, Thm 5.2).

    With W ~ Binomial(n_guesses, e^epsilon / (1 + e^epsilon)) and v = n_right:
    P[W >= v] + 2 n_flips delta max over i in 1..v of P[v - i <= W < v] / i, at most 1.
    """
    if not 0 <= n_right <= n_guesses <= n_flips:
        raise ValueError(f"n_right={n_right}, n_guesses={n_guesses}, n_flips={n_flips} must not decrease from 0")
    if epsilon < 0 or not 0 <= delta <= 1:
        raise ValueError(f"epsilon={epsilon}, delta={delta}; epsilon is at least 0 and delta between 0 and 1")
    accuracy = float(expit(epsilon))
    tail = 1.0 if n_right == 0 else float(betainc(n_right, n_guesses - n_right + 1, accuracy))
    if delta == 0 or n_right == 0:
        return tail
    fewer = np.arange(n_right - 1, -1, -1, dtype=np.float64)  # v - 1, v - 2, ..., 0
    log_mass = (
        gammaln(n_guesses + 1)
        - gammaln(fewer + 1)
        - gammaln(n_guesses - fewer + 1)
        + fewer * math.log(accuracy)
        - (n_guesses - fewer) * float(np.logaddexp(0.0, epsilon))
    )
    worst = float(np.max(np.cumsum(np.exp(log_mass)) / np.arange(1, n_right + 1)))
    return min(1.0, tail + 2 * n_flips * delta * worst)


def one_run_epsilon(n_flips: int, n_guesses: int, n_right: int, *, delta: float, confidence: float) -> float:
    """The supremum of epsilons below which all are rejected at level 1 - `confidence`; 0 where epsilon = 0 is not.

    The p-value need not increase in epsilon throughout once delta > 0, so the first crossing is sought, not any: a bound
    above the true epsilon then means that the true epsilon was rejected, whatever the p-value does beyond.
    """
    miss = 1 - confidence

    def accepted(epsilon: float) -> bool:
        return one_run_p_value(n_flips, n_guesses, n_right, epsilon=epsilon, delta=delta) >= miss

    if n_right == 0 or accepted(0.0):
        return 0.0
    # At delta = 0 the crossing is in closed form, and no delta moves it up.
    ceiling = float(logit(betaincinv(n_right, n_guesses - n_right + 1, miss)))
    if delta == 0:
        return max(0.0, ceiling)
    grid = np.linspace(0.0, ceiling, 65)[1:]
    high = next((float(epsilon) for epsilon in grid if accepted(float(epsilon))), ceiling)
    low = high - ceiling / 64
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (low, middle) if accepted(middle) else (middle, high)
    return max(0.0, low)
