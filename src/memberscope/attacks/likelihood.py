"""Moments of the scaled logits that a record gets from the shadow models trained on it (IN) and from the others (OUT), and Gaussian tests
on them.

This is the arithmetic of `memberscope.attacks.lira`, which explains it, for given settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memberscope.checks import Array, BoolArray, FloatArray

_FLOOR = 1e-12  # of a record's variance, as a share of the pooled one: prevents a division by zero, and smooths nothing


def _total(values: Array) -> float:
    """The exact sum, rounded once: permuting the records must not change a bit."""
    return math.fsum(values.ravel().tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """Moments of each record over its IN models, or over its OUT models.

    Attributes:
        count: (n, 1) how many models there are.
        mean: (n, queries); 0 where there is no model.
        squares: (n, queries) sum of squared deviations from `mean`.
    """

    count: Array
    mean: FloatArray
    squares: FloatArray

    @property
    def known(self) -> BoolArray:
        """(n,) bool, whether the record has a model on this side."""
        return self.count[:, 0] > 0

    def around_levels(self) -> tuple[float, int]:
        """Sum of squared deviations of all values from the mean of each query, and how many values there are."""
        models = int(self.count.sum())
        level = np.array([_total(column) for column in (self.mean * self.count).T]) / max(models, 1)
        between = _total(self.count * np.square(self.mean - level))
        return _total(self.squares) + between, models * self.squares.shape[1]

    def pooled(self) -> float:
        """Mean squared deviation over the queries of all records with two or more models; 0.0 if there are none."""
        models = int(self.count[self.count > 1].sum())  # one model, or none, adds nothing to the squares
        return _total(self.squares) / (models * self.squares.shape[1]) if models else 0.0

    def variance(self, pooled: float, *, per_record: bool) -> FloatArray | float:
        """`pooled`, or (n, queries), with `pooled` for records that have fewer than two models."""
        if not per_record:
            return pooled
        own = np.maximum(self.squares / np.maximum(self.count, 1), _FLOOR * pooled)
        return np.where(self.count > 1, own, pooled)


def _side(phi: FloatArray, used: BoolArray) -> _Side:
    """The moments of `phi` (n_models, n, queries) over the models that `used` (n_models, n) selects for each record, in two passes, model
    by model.
    """
    count = used.sum(axis=0)[:, None]
    weights = used[:, :, None].astype(np.float64)
    total, squares, part = (np.zeros(phi.shape[1:]) for _ in range(3))
    for values, weight in zip(phi, weights, strict=True):
        total += np.multiply(values, weight, out=part)
    mean = total / np.maximum(count, 1)
    for values, weight in zip(phi, weights, strict=True):
        np.subtract(values, mean, out=part)
        part *= weight
        squares += np.square(part, out=part)
    return _Side(count=count, mean=mean, squares=squares)


def _column_means(values: FloatArray) -> FloatArray:
    return np.array([_total(column) / len(column) for column in values.T])


def _spread(values: FloatArray) -> float:
    """Mean squared deviation of (m, queries) from the mean of each query."""
    return _total(np.square(values - _column_means(values))) / values.size


def _shift(ins: _Side, outs: _Side) -> FloatArray:
    """(queries,) how much training on a record raises its scaled logit: the mean over records that have both sides, else IN less OUT
    values.
    """
    both = ins.known & outs.known
    if both.any():
        return _column_means(ins.mean[both] - outs.mean[both])
    means = [
        np.array([_total(column) for column in (side.mean * side.count).T]) / int(side.count.sum()) for side in (ins, outs)
    ]
    shift: FloatArray = means[0] - means[1]
    return shift


def smooth(phi: FloatArray, smoothing: float) -> FloatArray:
    """The scaled logit of (1 - s) p + s / 2, given that of p: bounded by log((2 - s) / s) in size; `phi` itself for s = 0."""
    if smoothing == 0.0:
        return phi
    kept, added = math.log1p(-smoothing), math.log(smoothing / 2)
    log_p, log_rest = -np.logaddexp(0.0, -phi), -np.logaddexp(0.0, phi)
    moved: FloatArray = np.logaddexp(log_p + kept, added) - np.logaddexp(log_rest + kept, added)
    return moved


def two_sided(target: FloatArray, shadows: FloatArray, member: BoolArray, *, variance: str) -> FloatArray:
    """(n,) log-likelihood ratio of IN to OUT of the target's (n, queries) values, averaged over the queries."""
    ins, outs = _side(shadows, member), _side(shadows, ~member)
    mean_in, mean_out = ins.mean, outs.mean
    if not (ins.known.all() and outs.known.all()):
        shift = _shift(ins, outs)
        mean_in = np.where(ins.count > 0, ins.mean, outs.mean + shift)
        mean_out = np.where(outs.count > 0, outs.mean, ins.mean - shift)
    var_in, var_out = _variances(ins, outs, variance)
    ratio = np.square(target - mean_out) / var_out - np.square(target - mean_in) / var_in + np.log(var_out / var_in)
    scores: FloatArray = 0.5 * ratio.mean(axis=1)
    return scores


def _variances(ins: _Side, outs: _Side, variance: str) -> tuple[FloatArray | float, FloatArray | float]:
    if variance == "levels":
        found = [squares / max(values, 1) for squares, values in (ins.around_levels(), outs.around_levels())]
        return found[0] or found[1] or 1.0, found[1] or found[0] or 1.0
    # With one model on a side there is no variance to estimate; any value shared by all records gives the same ranking, so 1.
    pooled_in, pooled_out = ins.pooled(), outs.pooled()
    pooled_in, pooled_out = pooled_in or pooled_out or 1.0, pooled_out or pooled_in or 1.0
    if variance == "shared":
        shared = 0.5 * (pooled_in + pooled_out)
        return shared, shared
    per_record = variance == "per_record"
    return ins.variance(pooled_in, per_record=per_record), outs.variance(pooled_out, per_record=per_record)


def one_sided(target: FloatArray, shadows: FloatArray, member: BoolArray, *, variance: str) -> FloatArray:
    """(n,) z of the target's (n, queries) values among the OUT models', averaged over the queries."""
    outs = _side(shadows, ~member)
    per_record = variance == "per_record"
    mean: FloatArray = outs.mean
    pooled = outs.pooled() or 0.5 * _spread((target - mean)[outs.known]) or 1.0
    spread = np.broadcast_to(outs.variance(pooled, per_record=per_record), mean.shape)
    if not outs.known.all():
        known = outs.mean[outs.known]
        center = _column_means(known)
        noise = pooled * _total(1.0 / outs.count[outs.known]) / len(known)  # of the means themselves
        between = np.maximum(_column_means(np.square(known - center)) - noise, 0.0)
        mean = np.where(outs.count > 0, mean, center)
        spread = np.where(outs.count > 0, spread, pooled + between)
    scores: FloatArray = ((target - mean) / np.sqrt(spread)).mean(axis=1)
    return scores
