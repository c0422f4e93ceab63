"""Student-t predictive distributions of a record's scaled logit, from normal-inverse-gamma priors that are fitted on all records.

**Model.** The scaled logits of a record's IN models, and likewise of its OUT models, are normal with a mean and a variance of their
own. The variance has an inverse-gamma prior and the mean, given the variance, a normal one:

    variance ~ InvGamma(f / 2, f s / 2),    mean | variance ~ N(m, variance / w).

With n values of average y and sum of squared deviations S, the target's value as a further one of that side is distributed as (the
conjugate update, for instance Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution", section 3)

    Student-t with f' = f + n degrees of freedom about m' = (w m + n y) / w',    w' = w + n,
    with squared scale v (w' + 1) / w',    v = [f s + S + (w n / w') (y - m)^2] / f'.

A prior of great weight `f` gives every record the same variance s, and many models give each record its own, S / n. There is no number
of models at which one must replace the other. This is the idea of BaVarIA (Brännvall 2026, arXiv 2603.11799).

**Empirical Bayes.** All parameters come from the shadows; the target is not read.

- f and s maximize the marginal likelihood of the S of all records with two models or more on that side.
- The prior mean m of a side uses what the *other* side says about the record, which matters most where there are few models. Over the
  records, the true means of the two sides are taken as jointly normal. m is the regression of this side's mean on the average of the
  other side's models, with their noise allowed for, and w is the average variance within records over the variance that the
  regression leaves. A record without a model on the other side, or any record of the offline test, gets the average over all records.
- Where no record has two models on a side, the variances within and between records cannot be told apart by that side alone. The
  covariance of the two sides then tells them apart, if the true means of the sides have the correlation `USUAL_CORRELATION`; and f is
  `USUAL_FREEDOM`. Both were set once, on five fleets: see docs/results/attacks.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from memberscope.attacks.moments import Side, column_means, total_of
from memberscope.checks import FloatArray

USUAL_FREEDOM = 30.0
USUAL_CORRELATION = 0.9
_FREEDOMS = (0.5, 1e4)
_SCALES = (1e-4, 1e2)  # of s, as a share of the median of the variances that are not 0
_MOST = 128  # records from which f and s are fitted, spread over the range of variances
_GRID, _STEPS = 13, 8  # of f, and of Newton's method for s
_LEAST_RESIDUAL = 1e-6  # of the prior's variance of means, as a share of the variance within records
_LEAST_WITHIN = 0.05  # of the variance within records, as a share of all, if only the other side separates the two variances
_UNKNOWN_SHARE = 0.5  # of the variance between records, where no record has models on both sides
_TINY = float(np.finfo(np.float64).tiny)
_TERMS = 24  # of the series for the far tail
_TAIL = 30.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """A normal-inverse-gamma prior for one side of every record.

    Attributes:
        center: (n, queries) or (queries,) prior mean m of a record's mean.
        weight: (n, 1) or a number w, how many models the prior mean counts for; 0 or more.
        scale: s, the prior's variance within a record, above 0.
        freedom: f, how many models the prior variance counts for, above 0.
    """

    center: FloatArray
    weight: FloatArray | float
    scale: float
    freedom: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictive:
    """A Student-t distribution for each record and query.

    Attributes:
        center: (n, queries).
        squared_scale: (n, queries), above 0.
        freedom: (n, 1) degrees of freedom.
    """

    center: FloatArray
    squared_scale: FloatArray
    freedom: FloatArray

    def log_density(self, x: FloatArray) -> FloatArray:
        """(n, queries) in nats."""
        f = self.freedom
        norm = 0.5 * np.log(f * self.squared_scale) + special.betaln(0.5 * f, 0.5)
        found: FloatArray = -norm - 0.5 * (f + 1.0) * np.log1p(np.square(x - self.center) / (f * self.squared_scale))
        return found

    def z(self, x: FloatArray) -> FloatArray:
        """(n, queries) the normal deviates with the same upper tail: Phi(z) is the distribution function at `x`."""
        return normal_deviate((x - self.center) / np.sqrt(self.squared_scale), np.broadcast_to(self.freedom, self.center.shape))


def normal_deviate(t: FloatArray, freedom: FloatArray) -> FloatArray:
    """z with the upper tail of N(0, 1) that Student's t has at `t`, for degrees of freedom of the same shape; it does not saturate.

    Where the tail probability underflows, its logarithm is that of a hypergeometric series: with a = f / 2 and x = f / (f + t^2), the
    tail x^a (1 - x)^(-1/2) / (2 a B(a, 1/2)) times the sum of (1/2)_k / (a + 1)_k (-f / t^2)^k.
    """
    size, half = np.abs(t), 0.5 * freedom
    with np.errstate(divide="ignore"):
        log_tail = np.log(special.stdtr(freedom, -size))
    far = (size > _TAIL) & ~(log_tail > -600.0)
    if far.any():
        square, a = np.square(size[far]), half[far]
        ratio = -freedom[far] / square
        term, series = np.ones(len(a)), np.ones(len(a))
        for k in range(_TERMS):
            term = term * ratio * (k + 0.5) / (a + 1.0 + k)
            series += term
        log_tail[far] = (
            -a * np.log1p(square / freedom[far]) + 0.5 * np.log1p(-ratio) - math.log(2.0) - np.log(a) - special.betaln(a, 0.5)
        ) + np.log(series)
    z: FloatArray = np.copysign(special.ndtri_exp(np.minimum(log_tail, -math.log(2.0))), t)
    return z


def predictive(side: Side, prior: Prior) -> Predictive:
    """The predictive distribution of one side's next value, by the conjugate update of the module's docstring."""
    weight = prior.weight + side.count
    share = side.count / np.maximum(weight, _TINY)
    away = side.mean - prior.center
    freedom = prior.freedom + side.count
    pulled = np.where(side.count > 0, prior.weight * share * np.square(away), 0.0)
    variance = (prior.freedom * prior.scale + side.squares + pulled) / freedom
    return Predictive(
        center=np.where(side.count > 0, prior.center + share * away, prior.center),
        squared_scale=variance * (1.0 + 1.0 / weight),
        freedom=freedom,
    )


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The prior of one side's variances, as fitted.

    Attributes:
        scale: s, in squared nats.
        freedom: f.
        within: the mean of the variances within records.
    """

    scale: float
    freedom: float
    within: float


def fit_variances(side: Side) -> Fit | None:
    """s and f, from the records with two models or more; None if there are none, or none vary.

    The marginal likelihood of S with d = n - 1 is, up to factors that depend on neither s nor f,
    Gamma((f + d) / 2) / Gamma(f / 2) (f s)^(f / 2) (f s + S)^(-(f + d) / 2).
    """
    use = side.count[:, 0] > 1
    if not use.any():
        return None
    squares, spare = side.squares[use], side.count[use] - 1.0
    mean = total_of(squares) / (float(spare.sum()) * squares.shape[1])
    if mean <= 0.0:
        return None
    variances = squares / spare
    unit = float(np.median(variances[variances > 0.0]))
    order = np.lexsort((spare[:, 0], variances.sum(axis=1)))  # the same records, in the same order, whatever their order was
    if len(order) > _MOST:
        order = order[((np.arange(_MOST) + 0.5) * (len(order) / _MOST)).astype(np.intp)]
    squares, spare = squares[order], spare[order]
    scale, freedom = _most_likely((squares / unit).ravel(), np.broadcast_to(spare, squares.shape).ravel())
    return Fit(scale=scale * unit, freedom=freedom, within=mean)


def fit_squares(squares: FloatArray) -> Fit:
    """The Student-t about 0 of values with these squares (m,): s is its squared scale and f its degrees of freedom."""
    ordered = np.sort(squares)
    if len(ordered) > _MOST:
        ordered = ordered[((np.arange(_MOST) + 0.5) * (len(ordered) / _MOST)).astype(np.intp)]
    mean = total_of(squares) / len(squares)
    if mean <= 0.0:
        return Fit(scale=1.0, freedom=USUAL_FREEDOM, within=1.0)
    unit = float(np.median(squares[squares > 0.0]))
    scale, freedom = _most_likely(ordered / unit, np.ones(len(ordered)))
    return Fit(scale=scale * unit, freedom=freedom, within=mean)


def _most_likely(squares: FloatArray, d: FloatArray) -> tuple[float, float]:
    """s and f of the greatest marginal likelihood for sums of squares (m,) with `d` (m,) degrees of freedom: on a grid of f, and from its
    best point by Newton's method. For each f on the grid, the same method finds log(s), in which the likelihood has a single maximum.
    """
    f, log_s = np.geomspace(*_FREEDOMS, _GRID)[:, None], np.zeros((_GRID, 1))
    for _ in range(_STEPS):
        grown = f + squares * np.exp(-log_s)
        part = (f + d) / grown
        slope = (part - part * f / grown).mean(axis=1)
        step = (part.mean(axis=1) - 1.0) / np.maximum(slope, _TINY)
        log_s = np.clip(log_s - np.clip(step, -2.0, 2.0)[:, None], *np.log(_SCALES))
    total = f * np.exp(log_s)
    value = (0.5 * f * np.log(total) - 0.5 * (f + d) * np.log(total + squares)).mean(axis=1)
    different, which = np.unique(d, return_inverse=True)
    # Gamma((f + d) / 2) / Gamma(f / 2) is Gamma(d / 2) / B(f / 2, d / 2), which loses no digits where f is large
    place = int(np.argmax(value - (special.betaln(0.5 * f, 0.5 * different) * np.bincount(which)).sum(axis=1) / len(d)))
    start = float(np.log(f[place, 0])), float(log_s[place, 0])
    if 0 < place < _GRID - 1:
        start = _climb(squares, d, *start, reach=float(np.log(f[1, 0] / f[0, 0])))
    return float(np.exp(start[1])), float(np.exp(start[0]))


def _climb(squares: FloatArray, d: FloatArray, log_f: float, log_s: float, *, reach: float) -> tuple[float, float]:
    """log f and log s at the maximum near the given point, by Newton's method in log f and log (f s); that point itself if the method leads
    further than `reach` away from its log f.
    """
    at = np.array([log_f, log_f + log_s])
    for _ in range(_STEPS):
        f, total = np.exp(at)
        half, share = 0.5 * (f + d), total / (total + squares)
        by_f = 0.5 * (special.digamma(half) - special.digamma(0.5 * f) + at[1] - np.log(total + squares)).mean()
        by_ff = (
            0.25 * (special.zeta(2, half) - special.zeta(2, 0.5 * f)).mean()
        )  # the trigamma function, without polygamma's checks
        gradient = np.array([f * by_f, 0.5 * f - (half * share).mean()])
        mixed, second = 0.5 * f * (1.0 - share).mean(), -(half * share * (1.0 - share)).mean()
        first = f * f * by_ff + f * by_f
        determinant = first * second - mixed * mixed
        if not (first < 0.0 < determinant):
            return log_f, log_s
        step = np.array([second * gradient[0] - mixed * gradient[1], first * gradient[1] - mixed * gradient[0]]) / determinant
        at = at - np.clip(step, -1.0, 1.0)
        if abs(at[0] - log_f) > reach:
            return log_f, log_s
    return float(at[0]), float(at[1] - at[0])


def _between(side: Side, within: float) -> float:
    """Variance of the records' true means: that of their averages, less the part of it that is the noise of few models; 0 or more."""
    models, records = np.unique(side.count[side.known], return_counts=True)
    noise = within * float((records / models).sum()) / int(records.sum())
    return max(_among(side) - noise, 0.0)


def _among(side: Side) -> float:
    """Variance of the records' averages, over those that have a model on this side."""
    away = side.mean[side.known] - column_means(side.mean[side.known])
    return total_of(np.square(away)) / away.size


def _product(first: FloatArray, second: FloatArray) -> float:
    """Covariance of two arrays (m, queries) over the records, averaged over the queries."""
    return total_of((first - column_means(first)) * (second - column_means(second))) / first.size


def _parts(side: Side, other: Side, own: Fit | None, others: Fit | None, common: float | None) -> tuple[float, float]:
    """The variance of one side's values within records and that between their true means.

    Where no record has two models on this side, the true means of both sides are taken to have the correlation `USUAL_CORRELATION`. Their
    covariance `common` then gives the variance between records: with that of the other side's means, or else in equal shares of both sides'
    variances.
    """
    if own is not None:
        return own.within, _between(side, own.within)
    whole = _among(side)
    if common is None:
        share = _UNKNOWN_SHARE
    else:
        explained = common / USUAL_CORRELATION
        if others:
            share = explained**2 / max(whole * _between(other, others.within), _TINY)
        else:
            share = explained / max(math.sqrt(whole * _among(other)), _TINY)
        share = min(share, 1.0 - _LEAST_WITHIN)
    return (1.0 - share) * whole, share * whole


def priors(ins: Side, outs: Side) -> tuple[Prior, Prior]:
    """The priors of the IN and of the OUT side; some record has a model on each of them."""
    both = ins.known & outs.known
    common = max(_product(ins.mean[both], outs.mean[both]), 0.0) if both.any() else None
    fit_in, fit_out = fit_variances(ins), fit_variances(outs)
    within_in, between_in = _parts(ins, outs, fit_in, fit_out, common)
    within_out, between_out = _parts(outs, ins, fit_out, fit_in, common)
    within_in, within_out = within_in or within_out or 1.0, within_out or within_in or 1.0
    most = math.sqrt(between_in * between_out)
    common = USUAL_CORRELATION * most if common is None else min(common, most)

    def prior(side: Side, fit: Fit | None, other: Side, within: float, between: float, noise: float, among: float) -> Prior:
        """`noise` and `among` are the variances of the other side's values within and between records."""
        known = other.count > 0
        slope = np.where(known, common / np.maximum(among + noise / np.maximum(other.count, 1), _TINY), 0.0)
        away = np.where(known, other.mean - column_means(other.mean[other.known]), 0.0)
        left = np.maximum(between - slope * common, _LEAST_RESIDUAL * within)
        fit = fit or Fit(scale=within, freedom=USUAL_FREEDOM, within=within)
        return Prior(
            center=column_means(side.mean[side.known]) + slope * away,
            weight=within / left,
            scale=fit.scale,
            freedom=fit.freedom,
        )

    return (
        prior(ins, fit_in, outs, within_in, between_in, within_out, between_out),
        prior(outs, fit_out, ins, within_out, between_out, within_in, between_in),
    )


def prior_alone(side: Side) -> Prior:
    """The prior of a side from that side only, for the offline test; some record has a model on it."""
    fallback = (1.0 - _UNKNOWN_SHARE) * _among(side) or 1.0
    fit = fit_variances(side) or Fit(scale=fallback, freedom=USUAL_FREEDOM, within=fallback)
    left = max(_between(side, fit.within), _LEAST_RESIDUAL * fit.within)
    return Prior(center=column_means(side.mean[side.known]), weight=fit.within / left, scale=fit.scale, freedom=fit.freedom)
