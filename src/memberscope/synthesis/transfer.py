"""The usefulness of shadow data for the attack: decisions on the target by a threshold fixed on shadows, on a scale from junk to real data.

AUC does not measure it. Shadows do not rank the target's records, but only give the threshold: on Location-30 the AUC was 0.915 with
shadows trained on junk and 0.916 with shadows trained on real data. The metrics here are therefore of decisions: the balanced accuracy on
the target at the shadows' threshold, and the false positive rate there compared with the one that was promised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from memberscope.metrics.curve import rank
from memberscope.metrics.decision import balanced_accuracy_of, decide
from memberscope.metrics.estimate import Estimate, check_fraction

LEAST_FLEETS = 5
PROMISES = (0.1, 0.01)


@dataclass(frozen=True, kw_only=True)
class TransferredRate:
    """A false positive rate that was promised on the shadows, and the rates that were realized on the target.

    Attributes:
        promised: the largest rate that the threshold may have on the shadows.
        threshold: records with at least this score are classified as members; infinite if every finite threshold breaks the promise.
        on_shadows: the rate on the shadows.
        fpr, tpr: the rates on the target.
    """

    promised: float
    threshold: float
    on_shadows: float
    fpr: float
    tpr: float


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The metrics of one fleet.

    Attributes:
        threshold: the threshold with the largest balanced accuracy on the shadows (the highest one if there are ties).
        on_shadows: the balanced accuracy on the shadows; biased upward, as the threshold is chosen on the same records.
        balanced_accuracy: on the target at that threshold, with its interval over the target's records, for this fleet alone.
        fpr: false positive rate on the target at that threshold.
        promises: thresholds for promised false positive rates, and the rates that they realize.
    """

    threshold: float
    on_shadows: float
    balanced_accuracy: Estimate
    fpr: float
    promises: tuple[TransferredRate, ...]

    def to_dict(self) -> dict[str, float]:
        """Plain names and numbers: ``balanced_accuracy``, ``fpr``, ``fpr_at_promise_0_1``, ``tpr_at_promise_0_1`` ..."""
        row = {"balanced_accuracy": self.balanced_accuracy.value, "fpr": self.fpr, "threshold": self.threshold}
        for one in self.promises:
            name = f"promise_{one.promised:g}".replace(".", "_")
            row |= {f"fpr_at_{name}": one.fpr, f"tpr_at_{name}": one.tpr}
        return row


def decide_by_shadows(
    shadow_scores: ArrayLike,
    shadow_member: ArrayLike,
    target_scores: ArrayLike,
    target_member: ArrayLike,
    *,
    promises: Sequence[float] = PROMISES,
    confidence: float = 0.95,
) -> Decided:
    """Fix thresholds on shadow records, pooled over the fleet, and apply them to the target's records.

    Args:
        shadow_scores, shadow_member: (m,) scores, higher = more likely a member, and membership in the shadow that gave the score.
        target_scores, target_member: (n,) scores and membership of the target's records, on the same scale.
        promises: false positive rates to promise; the threshold has the largest rate on the shadows that does not exceed the promise.
        confidence: confidence level of the interval.

    Raises:
        ValueError: scores that are not finite, a side without records, a promise outside (0, 1).
    """
    shadows, target = rank(shadow_scores, shadow_member), rank(target_scores, target_member)
    gain = (
        shadows.true_pos * shadows.n_nonmember - shadows.false_pos * shadows.n_member
    )  # in whole numbers, so that ties are exact
    thresholds = np.r_[math.inf, shadows.thresholds]
    best = int(np.argmax(gain))
    at_best = decide(target, float(thresholds[best]))
    kept = []
    for promised in promises:
        check_fraction("promises", promised)
        # A whole number of false positives: 0.1 * 30 is above 3 in floating point, and 3 of 30 keep the promise.
        at = int(np.searchsorted(shadows.false_pos, math.floor(promised * shadows.n_nonmember + 1e-9), side="right")) - 1
        used = decide(target, float(thresholds[at]))
        kept.append(
            TransferredRate(
                promised=float(promised),
                threshold=float(thresholds[at]),
                on_shadows=int(shadows.false_pos[at]) / shadows.n_nonmember,
                fpr=used.false_pos / used.n_nonmember,
                tpr=used.true_pos / used.n_member,
            )
        )
    return Decided(
        threshold=float(thresholds[best]),
        on_shadows=0.5 + float(gain[best]) / (2 * shadows.n_member * shadows.n_nonmember),
        balanced_accuracy=balanced_accuracy_of(at_best, confidence=confidence),
        fpr=at_best.false_pos / at_best.n_nonmember,
        promises=tuple(kept),
    )


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """(synthetic - junk) / (real - junk) of means over fleets: at 0 a set is worth no more than junk, at 1 as much as real data.

    Attributes:
        value: the ratio of the means; None unless `status` is ``ok``.
        ci_low, ci_high: its interval over fleets; None unless `status` is ``ok``.
        status: ``ok``; ``undefined`` if real data is not shown to be better than junk, so that there is no scale; ``not assessed`` with
            fewer than five fleets.
        reason: why `status` is not ``ok``.
        n_fleets: number of fleets.
        gain: the mean of synthetic - junk with its interval; above 0, the synthetic set is better than junk, whatever the ratio.
        scale: the mean of real - junk with its interval.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    status: str
    reason: str
    n_fleets: int
    gain: Estimate
    scale: Estimate

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)


def transfer(synthetic: ArrayLike, junk: ArrayLike, real: ArrayLike, *, confidence: float = 0.95) -> Transfer:
    """The position of a synthetic set's metric, such as balanced accuracy, on the scale from junk (0) to real data (1).

    The three are paired by fleet: they share target, split and seeds, and differ in the shadow data. The interval is that of Fieller 1954
    for the ratio of two correlated means, with Student's t over fleets. It inverts the t test of
    ``mean(synthetic - junk - r (real - junk)) = 0``, so it is exact for normal differences; five fleets are too few for a bootstrap. If the
    interval of the denominator includes 0, Fieller's set is unbounded, and the transfer is undefined. In simulations, 20,000 for each of 24
    settings (5 or 10 fleets; real - junk 1.5 to 20 standard deviations of one fleet's value; ratio 0, 0.5 or 1), the coverage where the
    transfer was defined (always from 6 deviations on; in 44% of cases at 1.5 with five fleets) was 0.944 to 0.954 with normal values and
    0.948 to 0.968 with exponential ones.

    Args:
        synthetic, junk, real: (fleets,) values of the metric with each kind of shadow data.
        confidence: confidence level of all intervals.

    Raises:
        ValueError: shapes that differ, no fleet, values that are not finite.
    """
    check_fraction("confidence", confidence)
    s, j, r = (np.asarray(values, dtype=np.float64) for values in (synthetic, junk, real))
    if s.ndim != 1 or not len(s) or s.shape != j.shape or s.shape != r.shape or not np.isfinite(np.r_[s, j, r]).all():
        raise ValueError(f"synthetic {s.shape}, junk {j.shape}, real {r.shape}: must be (fleets,), equal and finite")
    n = len(s)
    a, b = s - j, r - j
    if n == 1:
        gain, scale = Estimate(value=float(a[0])), Estimate(value=float(b[0]))
    else:
        t = float(stdtrit(n - 1, 0.5 + confidence / 2))
        gain, scale = _mean(a, t), _mean(b, t)

    def without(status: str, reason: str) -> Transfer:
        return Transfer(value=None, ci_low=None, ci_high=None, status=status, reason=reason, n_fleets=n, gain=gain, scale=scale)

    if n < LEAST_FLEETS:
        return without("not assessed", f"{n} fleets; at least {LEAST_FLEETS} are needed")
    if scale.ci_low is None or scale.ci_high is None or scale.ci_low <= 0.0:
        return without(
            "undefined",
            f"real data is not shown to be better than junk: real - junk {scale.value:.4f}, {scale.ci_low:.4f} to {scale.ci_high:.4f}",
        )
    # Fieller's set: all r with (mean a - r mean b)^2 <= t^2 (var a - 2 r cov + r^2 var b) / n, a quadratic that opens upward here
    covariance = np.cov(a, b) * t**2 / n
    mean_a, mean_b = float(a.mean()), float(b.mean())
    lead = mean_b**2 - covariance[1, 1]
    middle = mean_a * mean_b - covariance[0, 1]
    root = math.sqrt(max(middle**2 - lead * (mean_a**2 - covariance[0, 0]), 0.0))
    return Transfer(
        value=mean_a / mean_b, ci_low=float((middle - root) / lead), ci_high=float((middle + root) / lead), status="ok", reason="",
        n_fleets=n, gain=gain, scale=scale,
    )  # fmt: skip


def _mean(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], t: float) -> Estimate:
    mean, half = float(values.mean()), t * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(value=mean, ci_low=mean - half, ci_high=mean + half)
