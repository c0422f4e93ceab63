"""How far a classifier's confidence is from its accuracy, which a mitigation may worsen even where accuracy is unchanged."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from memberscope.metrics.estimate import Estimate, Floats, Ints, check_fraction, spanning

BINS = 15
DRAWS = 1_000


def expected_calibration_error(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    rng: np.random.Generator,
    bins: int = BINS,
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> Estimate:
    """The expected calibration error of Guo et al. 2017, Eq. 3: the sum over bins of
    ``|B| / n * |accuracy(B) - mean confidence(B)|``.

    A record's confidence is its largest probability; bins are equally wide, (0, 1/M], ..., ((M - 1)/M, 1]. Among tied largest
    probabilities the first class is the prediction.

    Each bin's sampling error counts as miscalibration, so the metric is biased upward, and more so with fewer records. A
    bootstrap sample adds the same bias once more, so that a percentile interval would always miss a calibrated model. Lower end: the
    value minus a quantile of the bootstrap's sum over bins of ``|change|``, which bounds what sampling can have added (triangle
    inequality). Upper end: the value plus how far the bootstrap falls below its own mean, since the expected value is no smaller
    than the truth.

    In simulations with true errors of 0 to 0.15 and 200 or 2,000 records, the lower end of a 95% interval held in 95 to 100% of data
    sets, the upper end in 94 to 100%.

    Args:
        probs: (n, classes), rows that sum to one.
        labels: (n,) int, less than `classes`.
        rng: draws the bootstrap samples.
        bins: the number of bins M.
        draws: the number of bootstrap samples.
        confidence: the confidence level of the interval.

    Raises:
        ValueError: shapes that do not match, no records, values that are not probabilities, or labels that are not classes.
    """
    values, truth = np.asarray(probs, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or truth.shape != values.shape[:1] or not truth.size:
        raise ValueError(f"probs {values.shape} and labels {truth.shape} must be (n, classes) and (n,), n at least 1")
    if not (np.isfinite(values).all() and (values >= 0).all() and (np.abs(values.sum(axis=1) - 1) < 1e-3).all()):
        raise ValueError("probs: rows must be probabilities that sum to one")
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= values.shape[1]:
        raise ValueError(f"labels: must be integers from 0 to {values.shape[1] - 1}")
    if bins < 1 or draws < 1:
        raise ValueError(f"bins={bins}, draws={draws}; both are at least 1")
    miss = (1 - check_fraction("confidence", confidence)) / 2
    sure = values.max(axis=1)
    excess = sure - (values.argmax(axis=1) == truth)
    bin_of = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)

    def gaps(excess: Floats, bin_of: Ints) -> Floats:
        """(bins,) ``|B| / n * (confidence - accuracy)``, signed."""
        sums: Floats = np.bincount(bin_of, weights=excess, minlength=bins) / truth.size
        return sums

    found = gaps(excess, bin_of)
    value = float(np.abs(found).sum())
    drawn = np.stack([gaps(excess[at], bin_of[at]) for at in (rng.integers(0, truth.size, truth.size) for _ in range(draws))])
    added = float(np.quantile(np.abs(drawn - found).sum(axis=1), 1 - miss))
    resampled = np.abs(drawn).sum(axis=1)
    fallen = float(resampled.mean() - np.quantile(resampled, miss))
    return spanning(value, max(0.0, value - added), min(1.0, value + fallen))
