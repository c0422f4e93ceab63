"""The AUC that would result if membership meant nothing: membership is permuted on fixed scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from memberscope.metrics.estimate import Floats, check_scores

_FLOYD = 10_000  # records, up to which numpy draws by Floyd's algorithm
_SIDE_BY_SIDE = 4_000_000  # records in all draws that are made side by side; more need much memory and gain little
_AT_ONCE = 100_000  # drawn records whose ranks are summed together: of few records, a sum takes as long as drawing them


@dataclass(frozen=True, kw_only=True)
class NullControl:
    """The AUCs of permuted membership.

    `mean_auc` is their mean: 0.5 where the suite and the data are sound (away from it where classes differ both in their
    share of members and in their scores: the labels alone then reveal membership). `draws` (n_draws,) float64 are the
    AUCs, `auc` is that of the true membership, `p_value` the one-sided (1 + draws at least as high) / (1 + draws).
    """

    auc: float
    mean_auc: float
    draws: Floats
    p_value: float


def null_control(
    scores: ArrayLike,
    member: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    draws: int = 200,
) -> NullControl:
    """Permute membership `draws` times within each class of `labels` (n,), or among all records without labels.

    `scores` (n,) stay as they are and are ranked once. Cross-fitted scores are needed: the scores of an attack that saw the membership
    which it scores exceed the null by memorization alone. ValueError on bad input.
    """
    values, truth = check_scores(scores, member)
    if draws < 1:
        raise ValueError(f"draws={draws}; it must be at least 1")
    groups = np.zeros(values.size, dtype=np.int64) if labels is None else np.asarray(labels)
    if groups.shape != values.shape:
        raise ValueError(f"labels {groups.shape} and scores {values.shape} must have the same length")
    ranks = _midranks(values)
    # Sorted by (class, rank), so that the draws do not depend on the order of the records.
    order = np.lexsort((ranks, groups))
    ranks, truth, groups = ranks[order], truth[order], groups[order]
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    sums = np.zeros(draws)
    for start, stop in zip(starts, np.r_[starts[1:], values.size], strict=True):
        sums += _member_rank_sums(ranks[start:stop], int(truth[start:stop].sum()), draws, rng)
    n_member = int(truth.sum())
    pairs = n_member * (values.size - n_member)
    lowest = n_member * (n_member + 1) / 2
    aucs = (sums - lowest) / pairs
    observed = float((ranks[truth].sum() - lowest) / pairs)
    # Sums of multiples of one half are exact in floating point, so a draw that equals the observed sum is a tie.
    p_value = float((1 + np.count_nonzero(aucs >= observed)) / (1 + draws))
    return NullControl(auc=observed, mean_auc=float(aucs.mean()), draws=aucs, p_value=p_value)


def _member_rank_sums(ranks: Floats, n_member: int, draws: int, rng: np.random.Generator) -> Floats:
    """Sums (draws,) of `n_member` of `ranks` drawn without replacement; the smaller side is drawn."""
    n, total = ranks.size, float(ranks.sum())
    fewer = min(n_member, n - n_member)
    if fewer == 0:
        return np.full(draws, total if n_member else 0.0)
    if n <= _FLOYD and fewer <= draws and draws * n <= _SIDE_BY_SIDE:
        sums = _drawn_side_by_side(ranks, fewer, draws, rng)
        return sums if fewer == n_member else total - sums
    sums, at_once = np.empty(draws), max(1, _AT_ONCE // fewer)
    for start in range(0, draws, at_once):
        part = sums[start : start + at_once]
        drawn = np.concatenate([rng.choice(n, size=fewer, replace=False, shuffle=False) for _ in part])
        np.add.reduce(ranks[drawn].reshape(len(part), fewer), axis=1, out=part)
    return sums if fewer == n_member else total - sums


def _drawn_side_by_side(ranks: Floats, fewer: int, draws: int, rng: np.random.Generator) -> Floats:
    """Sums (draws,) of `fewer` of `ranks`, drawn without replacement by Floyd's algorithm, one record of all draws at a time.

    The k-th record is one of the first n - fewer + k; if it was drawn before, the last of these is taken in its place. Up to `_FLOYD`
    records, `Generator.choice` does the same, so that the sums are those of one call for each draw. Where the records are few, most of the
    time of such a call is not spent on drawing.
    """
    n = ranks.size
    found = rng.integers(0, np.arange(n - fewer, n), size=(draws, fewer), endpoint=True)
    left, sums = np.ones(draws * n, dtype=bool), np.zeros(draws)  # which records were not drawn, of all draws in a row
    begin = np.arange(draws) * n
    for k in range(fewer):
        drawn = np.where(left[begin + found[:, k]], found[:, k], n - fewer + k)
        left[begin + drawn] = False
        sums += ranks[drawn]
    return sums


def _midranks(values: Floats) -> Floats:
    """Ranks (n,) from 1 for the lowest score, tied ones sharing their mean."""
    order = np.argsort(values)
    ordered = values[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # where each block of equal scores begins
    del ordered
    sizes = np.diff(np.r_[first, values.size])
    ranks = np.empty(values.size)
    ranks[order] = np.repeat(first + (sizes + 1) / 2, sizes)
    return ranks
