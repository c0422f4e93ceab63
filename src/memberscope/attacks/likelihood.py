"""Gaussian tests of the target's scaled logits, given the moments of those of its shadows.

This is the arithmetic of `memberscope.attacks.lira`, which explains it, for given settings.
"""

from __future__ import annotations

import math

import numpy as np

from memberscope.attacks import student
from memberscope.attacks.moments import Side, column_means, mean_square, shift_of, total_of
from memberscope.checks import FloatArray


def smooth(phi: FloatArray, smoothing: float) -> FloatArray:
    """The scaled logit of (1 - s) p + s / 2, given that of p: bounded by log((2 - s) / s) in size; `phi` itself for s = 0."""
    if smoothing == 0.0:
        return phi
    kept, added = math.log1p(-smoothing), math.log(smoothing / 2)
    log_p, log_rest = -np.logaddexp(0.0, -phi), -np.logaddexp(0.0, phi)
    moved: FloatArray = np.logaddexp(log_p + kept, added) - np.logaddexp(log_rest + kept, added)
    return moved


def two_sided_of(target: FloatArray, ins: Side, outs: Side, *, variance: str) -> FloatArray:
    """(n,) log-likelihood ratio of IN to OUT of the target's (n, queries) values, averaged over the queries, from both sides' moments."""
    if variance == "bayes":
        given_in, given_out = (student.predictive(*one) for one in zip((ins, outs), student.priors(ins, outs), strict=True))
        ratios: FloatArray = (given_in.log_density(target) - given_out.log_density(target)).mean(axis=1)
        return ratios
    mean_in, mean_out = ins.mean, outs.mean
    if not (ins.known.all() and outs.known.all()):
        shift = shift_of(ins, outs)
        mean_in = np.where(ins.count > 0, ins.mean, outs.mean + shift)
        mean_out = np.where(outs.count > 0, outs.mean, ins.mean - shift)
    var_in, var_out = _variances(ins, outs, variance)
    ratio = np.square(target - mean_out) / var_out - np.square(target - mean_in) / var_in + np.log(var_out / var_in)
    scores: FloatArray = 0.5 * ratio.mean(axis=1)
    return scores


def _variances(ins: Side, outs: Side, variance: str) -> tuple[FloatArray | float, FloatArray | float]:
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


def one_sided_of(target: FloatArray, outs: Side, *, variance: str) -> FloatArray:
    """(n,) z of the target's (n, queries) values among the OUT models', averaged over the queries, from the moments of these."""
    if variance == "bayes" and (outs.count > 1).any():
        deviates: FloatArray = student.predictive(outs, student.prior_alone(outs)).z(target).mean(axis=1)
        return deviates
    per_record = variance == "per_record"
    mean: FloatArray = outs.mean
    pooled = outs.pooled() or 0.5 * mean_square((target - mean)[outs.known]) or 1.0
    spread = np.broadcast_to(outs.variance(pooled, per_record=per_record), mean.shape)
    if not outs.known.all():
        known = outs.mean[outs.known]
        center = column_means(known)
        noise = pooled * total_of(1.0 / outs.count[outs.known]) / len(known)  # of the means themselves
        between = np.maximum(column_means(np.square(known - center)) - noise, 0.0)
        mean = np.where(outs.count > 0, mean, center)
        spread = np.where(outs.count > 0, spread, pooled + between)
    scores: FloatArray = ((target - mean) / np.sqrt(spread)).mean(axis=1)
    return scores
