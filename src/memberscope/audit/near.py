"""Finds members that have a near copy among the non-members, which hides a leak: the copy is scored as the member is.

Exact copies are found by `memberscope.audit.distinct`. Here two records are near copies if their numbers differ by little, column by
column, as two scans of a page do, or two rows of one person. Nothing is left out, but the run warns. If a column says whose each record
is, `--group` is the remedy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memberscope import seeds
from memberscope.checks import Array, BoolArray, FloatArray, is_number, row_chunks
from memberscope.copies import Index, first_copies
from memberscope.predictions import Predictions

TOLERANCE = 0.05
"""The largest root mean square difference of near copies, in standard deviations of each column."""
LEAST_COLUMNS = 4
"""With fewer columns that vary, unrelated records are this close by chance."""
_AXES, _PRINCIPAL = 12, 6
"""How many axes candidates are looked for on, and how many of them are principal; the others are random."""
_SAMPLE, _SAMPLED_NUMBERS = 512, 1 << 22
"""How many records tell the principal axes, and how many numbers these have; of wide records, fewer are taken."""
_CANDIDATES = 8
_STREAM = ("near_copies",)


@dataclass(frozen=True, kw_only=True)
class NearCopies:
    """Members with a near copy among the non-members.

    Attributes:
        members: how many there are; a record that is equal to another is not a near copy of it.
        among_members: how many members have a near copy among as many members. Where records lie densely, it is about as large as
            `members`, and neither says anything about copies.
        compared: the number of members.
    """

    members: int
    among_members: int
    compared: int

    @property
    def sentence(self) -> str:
        """A sentence for people; empty if there are no near copies."""
        if not self.members:
            return ""
        return (
            f"Near copies: {self.members:,} of {self.compared:,} members are within {TOLERANCE:g} standard deviations per column (root "
            f"mean square) of a non-member, and {self.among_members:,} are that close to another member. If these are records of one "
            "person, or variants of one record, they hide a leak: pass the column that says whose record each one is as --group."
        )

    @property
    def facts(self) -> dict[str, int]:
        """Counts to log as params."""
        return {"data.near_copies": self.members}


def near_copies(target: Predictions, *, tolerance: float = TOLERANCE) -> NearCopies | None:
    """Count the members that have a near copy among the non-members.

    The distance of two records is the root mean square over columns of their difference in standard deviations of the column; columns that
    are constant do not count, and missing numbers count as the column's mean. Each record is compared, on all columns, with the nearest
    eight distinct records on up to twelve orthonormal axes, on which distances are never larger than on all columns. Six are those along
    which a sample of the records varies most, which tell unrelated records apart where few axes hold most of the variance, as with images;
    six are random, and tell records apart where the principal ones show only to which of a few groups a record belongs.

    Args:
        target: n records with inputs (n, ...).
        tolerance: the largest distance of near copies.

    Returns:
        The counts; None where inputs are absent, not numbers, or have fewer than `LEAST_COLUMNS` columns that vary.
    """
    inputs = target.inputs
    if inputs is None or not is_number(inputs) or not inputs.size:
        return None
    flat = inputs.reshape(len(inputs), -1)
    mean, spread = _moments(flat)
    varies = spread > 0
    if int(varies.sum()) < LEAST_COLUMNS:
        return None
    scale = np.where(varies, spread, np.inf) * math.sqrt(int(varies.sum()))
    placed = _project(flat, mean, scale)
    head = first_copies(flat)  # equal records are one: they are exact copies
    inside, outside = head[target.member], head[~target.member]
    own = inside[: len(outside)]
    return NearCopies(
        members=_count(flat, placed, mean, scale, inside, outside, tolerance),
        among_members=_count(flat, placed, mean, scale, inside, own, tolerance), compared=len(inside),
    )  # fmt: skip


def _moments(flat: Array) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each column (w,), of its finite numbers."""
    width = flat.shape[1]
    total, squares, count = np.zeros(width), np.zeros(width), np.zeros(width)
    shift = np.nan_to_num(flat[0].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    for rows in row_chunks(len(flat), width):
        part = flat[rows].astype(np.float64) - shift
        known = np.isfinite(part)
        part = np.where(known, part, 0.0)
        total += part.sum(axis=0)
        squares += (part * part).sum(axis=0)
        count += known.sum(axis=0)
    count = np.maximum(count, 1)
    variance = np.maximum(squares / count - (total / count) ** 2, 0.0)
    spread = np.sqrt(variance)
    return total / count + shift, np.where(spread > 1e-9 * (np.abs(total / count) + 1e-300), spread, 0.0)


def _scaled(part: Array, mean: FloatArray, scale: FloatArray) -> FloatArray:
    values = (part.astype(np.float64) - mean) / scale
    return np.where(np.isfinite(values), values, 0.0)


def _project(flat: Array, mean: FloatArray, scale: FloatArray) -> FloatArray:
    """(n, axes) the scaled records on orthonormal axes, principal and random ones."""
    width, rng = flat.shape[1], seeds.stream(0, *_STREAM)
    sample = _scaled(_sample(flat, rng), mean, scale)
    principal = np.linalg.svd(sample, full_matrices=False)[2][:_PRINCIPAL].T
    drawn = rng.normal(size=(width, min(_AXES, width) - principal.shape[1]))
    basis = np.linalg.qr(np.hstack([principal, drawn]))[0]
    out = np.empty((len(flat), basis.shape[1]))
    for rows in row_chunks(len(flat), width):
        out[rows] = _scaled(flat[rows], mean, scale) @ basis
    return out


def _sample(flat: Array, rng: np.random.Generator) -> Array:
    """Some of the records, at random; all if they are few."""
    most = max(_PRINCIPAL, min(_SAMPLE, _SAMPLED_NUMBERS // flat.shape[1]))
    if len(flat) <= most:
        return flat
    chosen: Array = flat[np.sort(rng.choice(len(flat), most, replace=False))]
    return chosen


def _count(
    flat: Array, placed: FloatArray, mean: FloatArray, scale: FloatArray, ours: Index, theirs: Index, tolerance: float
) -> int:
    """How many of `ours` have one of `theirs`, other than themselves and not equal to them, within `tolerance`."""
    from scipy.spatial import cKDTree

    each, counts = np.unique(ours, return_counts=True)
    theirs = np.unique(theirs)
    tree = cKDTree(placed[theirs])
    total = 0
    for rows in row_chunks(len(each), 512):
        mine = each[rows]
        distance, place = tree.query(placed[mine], k=min(_CANDIDATES, len(theirs)), distance_upper_bound=tolerance * (1 + 1e-9))
        first, nth = np.nonzero(np.isfinite(distance.reshape(len(mine), -1)))
        second = theirs[place.reshape(len(mine), -1)[first, nth]]
        near: BoolArray = np.zeros(len(mine), dtype=bool)
        for pairs in row_chunks(len(first), flat.shape[1]):
            left, right = _scaled(flat[mine[first[pairs]]], mean, scale), _scaled(flat[second[pairs]], mean, scale)
            apart = np.sqrt(((left - right) ** 2).sum(axis=1))
            near[first[pairs][(apart > 0) & (apart <= tolerance)]] = True
        total += int(counts[rows][near].sum())
    return total
