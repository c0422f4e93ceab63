"""Exact votes among the nearest neighbours of many queries.

A k-d tree answers each query separately, and most of its time goes into keeping k neighbours in order, though a vote needs no order. Here
neighbouring queries share one search. Points and queries are put into k-d trees; for the queries of a branch (128 at most), and then for
those of each of its leaves (48 at most), the points are kept that may be among the k nearest of any of them, and the rest is arithmetic on
arrays. A point with several records is kept once for each of them: a sort of the distances then has the k-th record at the k-th place.

The arithmetic is in float32, about the middle of the queries. Squared distances are one matrix product, ``p.p + q.q - 2 p.q``, and the last
bit of each says whether the record is a member. Where the distances of the k-th and the next neighbour are closer than the rounding errors,
the query is answered again in float64, so that the neighbours are those of float64 everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array, FloatArray

_LEAF = 16
_COARSE, _FINE = 128, 48
_WIDE = 1.2
"""The radius that is searched for a branch of queries, as a multiple of the largest distance within which the leaves of points hold k of
them around the middle of a leaf of queries; if it is too small for a query, the search is repeated with a larger one."""
_MOST = 8
"""How many times k points may be kept for several queries; with more, they are divided at their widest gap."""
_AT_ONCE = 1_000_000
"""How many records at the borders of queries wait at most for float64."""
_TINY = 1e-12
_EXPONENT = 500  # of two, at most, of a scale, whose square must be a number
_EPSILON = float(np.finfo(np.float32).eps)
_SMALLEST = float(np.finfo(np.float32).tiny)

Float32 = NDArray[np.float32]


def _box(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The centre (d, 1) and the half widths (d, 1) of the smallest box around (m, d) points."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    return ((low + high) / 2)[:, None], ((high - low) / 2)[:, None]


def _squares(offsets: NDArray[Any]) -> NDArray[Any]:
    """Squared lengths (m,) of (d, m) offsets."""
    offsets = offsets * offsets
    total = offsets[0]
    for more in offsets[1:]:
        total += more
    found: NDArray[Any] = total
    return found


def _outside(offsets: NDArray[Any], half: NDArray[Any]) -> NDArray[Any]:
    """Squared distances (m,) from a box of the given half widths to points at (d, m) offsets from its centre."""
    offsets = np.abs(offsets)
    offsets -= half
    np.maximum(offsets, 0, out=offsets)
    return _squares(offsets)


def _pairs(queries: Float32, points: Float32, lengths: Float32) -> Float32:
    """Squared distances (r, m) of (r, d) queries and (d, m) points, whose squared lengths (m,) are given."""
    d, m = points.shape
    left, right = np.ones((len(queries), d + 2), dtype=np.float32), np.ones((d + 2, m), dtype=np.float32)
    left[:, :d] = queries
    left[:, d + 1] = _squares(queries.T)
    np.multiply(points, -2, out=right[:d])
    right[d] = lengths
    found: Float32 = left @ right
    return np.maximum(found, 0, out=found)


def _ordered(squares: Float32) -> Float32:
    """Numbers that are not negative, sorted along the last axis: their bits are in the order of their values, and integers sort faster."""
    found: Float32 = np.sort(squares.view(np.int32)).view(np.float32)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Leaves:
    """Records in leaves of 16; the last one is filled with points at infinity that have no records.

    Attributes:
        points: (d, leaves, 16).
        weights: (leaves, 16, 2) records that each stands for, and members among them.
        centre: (d, leaves) of the leaves' boxes.
        half: (d, leaves) half widths of these boxes.
    """

    points: FloatArray
    weights: Float32
    centre: FloatArray
    half: FloatArray

    def __len__(self) -> int:
        """Number of leaves."""
        return len(self.weights)

    def of(self, which: Array) -> tuple[FloatArray, Float32]:
        """The points (d, m) and weights (m, 2) of some leaves, in ascending order, without what fills the last one."""
        points, weights = self.points[:, which].reshape(len(self.points), -1), self.weights[which].reshape(-1, 2)
        real = int(np.count_nonzero(weights[-_LEAF:, 0]))
        last = len(weights) - _LEAF + real
        return points[:, :last], weights[:last]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Area:
    """The records around neighbouring queries.

    Attributes:
        points: (d, m) float64.
        weights: (m, 2), see `_Leaves`.
        members: (m,) int32, 1 for a member and 0 for another record.
        origin: (d, 1) the centre of the queries' box.
        scale: a power of two that brings offsets from the origin to the size of one, so that their squares are in float32's range.
        offsets: (d, m) float32, from the origin, times `scale`.
        size: the largest coordinate of a point or query, from the origin, times `scale`.
    """

    points: FloatArray
    weights: Float32
    members: NDArray[np.int32]
    origin: FloatArray
    scale: float
    offsets: Float32
    size: float

    def around(self, queries: FloatArray) -> tuple[Float32, Float32, Float32]:
        """Queries (r, d), half the widths (d, 1) of their box, and all points (d, m), from the middle of this box, times `scale`."""
        places = ((queries - self.origin.T) * self.scale).astype(np.float32)
        middle, half = _box(places)
        places -= middle.T
        return places, half, self.offsets - middle

    def error(self, square: float, spread: float) -> float:
        """A bound on the error of a squared distance that was computed in float32 and lost its last bit, and of all smaller ones.

        With e = 2**-23, twice the unit roundoff, each coordinate of query and point is rounded to float32 (e/2 times `size`) and moved to
        the queries' middle (e times `size`), so the difference of two is off by at most 3 e `size`. The rest is relative to the terms that
        are added up, which sum to at most ``(|p| + |q|)^2``.

        Args:
            square: the squared distance.
            spread: the largest distance of a query from the middle.
        """
        d, each = len(self.offsets), 3 * _EPSILON * self.size
        moved = 2 * each * math.sqrt(d * square) + d * each**2
        return moved + (d + 4) * (_EPSILON * (math.sqrt(square) + 2 * spread) ** 2 + 4 * _SMALLEST)


class _Answers:
    """Records and members in the neighbourhoods of all queries. Where float32 cannot tell the records at a border apart, queries wait,
    and are answered in float64, many at a time.

    Args:
        k: how many records a neighbourhood has.
        queries: how many there are.

    Attributes:
        votes: (queries, 2).
    """

    def __init__(self, k: int, queries: int) -> None:
        """Begin with no query that waits."""
        self._k, self.votes = k, np.empty((queries, 2))
        self._waiting: list[tuple[Array, NDArray[Any], Array, Float32, FloatArray]] = []
        self._size = 0

    def wait(self, rows: Array, inner: NDArray[Any], counts: Array, weights: Float32, offsets: FloatArray) -> None:
        """Let queries wait, to which nearer records belong for certain.

        Args:
            rows: (u,) positions of the queries.
            inner: (u, 2) nearer records, and members among them.
            counts: (u,) how many others may be the k-th nearest; at least one.
            weights: (sum of the counts, 2) of these, query by query.
            offsets: (d, sum of the counts) from the query to each of them.
        """
        self._waiting.append((rows, inner, counts, weights, offsets))
        self._size += len(weights)

    def __len__(self) -> int:
        """How many records may be the k-th nearest of queries that wait."""
        return self._size

    def finish(self) -> None:
        """Answer all queries that wait, in place of what was written for them."""
        if not self._waiting:
            return
        *others, offsets = zip(*self._waiting, strict=True)
        rows, inner, counts, weights = (np.concatenate(parts) for parts in others)
        squares = _squares(np.concatenate(offsets, axis=1))
        self._waiting, self._size = [], 0
        query = np.repeat(np.arange(len(rows)), counts)
        order = np.lexsort((squares, query))
        squares, weights = squares[order], weights[order].astype(np.float64)
        starts = np.cumsum(counts) - counts
        total = np.cumsum(weights[:, 0])
        nearer = total - np.repeat(total[starts] - weights[starts, 0] - inner[:, 0], counts)
        before = np.add.reduceat(nearer < self._k, starts, dtype=np.intp)
        kth = squares[starts + np.minimum(before, counts - 1)]
        weights[squares > np.repeat(kth, counts)] = 0.0
        self.votes[rows] = inner + np.add.reduceat(weights, starts, axis=0)


def _leaves(points: FloatArray, weights: NDArray[Any]) -> _Leaves:
    from scipy.spatial import cKDTree

    order = cKDTree(points, leafsize=_LEAF).indices
    (m, d), count = points.shape, -(-len(points) // _LEAF)
    filled = np.full((count * _LEAF, d), np.inf)
    filled[:m] = points[order]
    weighed = np.zeros((count * _LEAF, 2), dtype=np.float32)
    weighed[:m] = weights[order]
    blocks = filled.reshape(count, _LEAF, d)
    low, high = blocks.min(axis=1), np.where(np.isinf(blocks), -np.inf, blocks).max(axis=1)
    return _Leaves(
        points=np.ascontiguousarray(blocks.transpose(2, 0, 1)),
        weights=weighed.reshape(count, _LEAF, 2),
        centre=np.ascontiguousarray(((low + high) / 2).T),
        half=np.ascontiguousarray(((high - low) / 2).T),
    )


def _copies(points: FloatArray, records: Array, members: Array, most: int) -> tuple[FloatArray, NDArray[Any]]:
    """Each point once for each of its records, up to `most` times: points (m, d) and, for each, the records and members (m, 2).

    Each copy stands for one record, members first; where a point has more than `most`, its first copy stands for the rest as well.
    """
    counts = np.minimum(records, most)
    place = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    weights = np.ones((len(place), 2))
    weights[:, 1] = place < np.repeat(members, counts)
    first = np.flatnonzero(place == 0)
    weights[first, 0] += records - counts
    weights[first, 1] += members - np.add.reduceat(weights[:, 1], first)
    return np.repeat(points, counts, axis=0), weights


def _branches(node: Any, most: int) -> Iterator[Any]:
    """The nodes of a `cKDTree` below a node, or itself, that hold at most so many points and whose parent holds more; or are leaves."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if here.split_dim == -1 or here.end_idx - here.start_idx <= most:
            yield here
        else:
            waiting += [here.greater, here.lesser]


class NeighbourVotes:
    """Counts the records, and the members among them, within the distance of a query's k-th nearest record.

    Args:
        points: (m, d) distinct points, with coordinates of at most 1e150.
        records: (m,) how many records are at each point: at least 1, and fewer than 2**24 in all.
        members: (m,) how many of these are members.
        k: how many records a neighbourhood has, or all if there are fewer. All points at the distance of the k-th record belong to it.
    """

    def __init__(self, points: FloatArray, records: Array, members: Array, k: int) -> None:
        """Put the records into leaves.

        Of a point with more than k records there are k + 1 copies. If one of them is among the k nearest, another is not, and the query is
        answered by weights: what a copy's last bit says of the others that it stands for is never counted.
        """
        copies, weights = _copies(points, records, members, k + 1)
        self._leaves = _leaves(copies, weights)
        self._k, self._last = k, min(k, len(copies)) - 1

    def __call__(self, queries: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Records (r,) in the neighbourhoods of (r, d) queries, and the members among them (r,)."""
        from scipy.spatial import cKDTree

        answers = _Answers(self._k, len(queries))
        tree = cKDTree(queries, leafsize=_FINE, balanced_tree=False)
        rows = tree.indices
        branches = [list(_branches(branch, _FINE)) for branch in _branches(tree.tree, _COARSE)]
        starts = np.array([leaf.start_idx for branch in branches for leaf in branch])
        radii = self._radii(queries[rows], starts)
        first = np.cumsum([0] + [len(branch) for branch in branches[:-1]])
        for branch, radius in zip(branches, np.maximum.reduceat(radii, first).tolist(), strict=True):
            area = self._area(queries[rows[branch[0].start_idx : branch[-1].end_idx]], radius)
            for leaf in branch:
                self._answer(area, queries, rows[leaf.start_idx : leaf.end_idx], radius, answers)
                if len(answers) > _AT_ONCE:
                    answers.finish()
        answers.finish()
        return answers.votes[:, 0], answers.votes[:, 1]

    def _radii(self, queries: FloatArray, starts: Array) -> FloatArray:
        """The squared radii that are searched around leaves of queries, which begin at `starts`; infinite where there are no more than k
        records.
        """
        from scipy.spatial import cKDTree

        centres, need = self._leaves.centre.T, self._k // _LEAF
        if need >= len(centres):
            return np.full(len(starts), np.inf)
        middle = (np.minimum.reduceat(queries, starts) + np.maximum.reduceat(queries, starts)) / 2
        found: FloatArray = cKDTree(centres).query(middle, k=[need + 1])[0][:, 0]
        return (_WIDE * found) ** 2

    def _area(self, queries: FloatArray, radius: float) -> _Area:
        """All records within a squared radius of the queries' box, and others."""
        leaves = self._leaves
        centre, half = _box(queries)
        near = np.flatnonzero(_outside(leaves.centre - centre, leaves.half + half) <= radius)
        points, weights = leaves.of(near)
        offsets = points - centre
        size = max(float(half.max()), float(offsets.max(initial=0.0)), -float(offsets.min(initial=0.0)))
        scale = 2.0 ** -max(-_EXPONENT, min(math.frexp(size)[1], _EXPONENT))
        offsets *= scale
        return _Area(
            points=points, weights=weights, members=(weights[:, 1] > 0).astype(np.int32), origin=centre, scale=scale,
            offsets=offsets.astype(np.float32), size=size * scale,
        )  # fmt: skip

    def _answer(self, area: _Area, queries: FloatArray, rows: Array, reach: float, answers: _Answers) -> None:
        """Answer the queries at `rows`, which part where they are far apart."""
        here = queries[rows]
        found = self._votes(area, here, rows, reach, answers)
        if isinstance(found, float):
            wider = found if found > reach else np.inf  # tiny radii have squares of 0, which never grow
            self._answer(self._area(here, wider), queries, rows, wider, answers)
        elif found is not None:
            answers.votes[rows] = found
        else:
            axis = int(np.ptp(here, axis=0).argmax())
            order = np.argsort(here[:, axis])
            first = 1 + int(np.diff(here[order, axis]).argmax())
            for part in (order[:first], order[first:]):
                self._answer(area, queries, rows[part], reach, answers)

    def _votes(
        self, area: _Area, queries: FloatArray, rows: Array, reach: float, answers: _Answers
    ) -> NDArray[Any] | float | None:
        """Records and members (r, 2) in the neighbourhoods of these queries, but for those that are left to wait; a larger squared radius
        if they need one, or None if they had better be answered apart.
        """
        places, half, offsets = area.around(queries)
        last, unit = self._last, area.scale**2  # of squares
        reach *= unit
        spread = float(np.linalg.norm(half))
        lengths = _squares(offsets)
        if lengths.size > last:  # no query needs more than the middle of their box does, and the way from there
            way = math.sqrt(_ordered(lengths)[last]) + spread
            reach = min(reach, way**2 + 4 * area.error(way**2, spread))
        keep = np.flatnonzero(_outside(offsets, half) <= reach)
        if len(keep) <= last:
            return 4 * reach / unit if reach > _TINY else np.inf
        if len(keep) > _MOST * (last + 1) and len(queries) > 1:
            return None
        near = offsets.take(keep, axis=1), lengths.take(keep)
        squares = _pairs(places, *near)
        keys = squares.view(np.int32)
        keys &= ~1
        keys |= area.members.take(keep)
        keys.sort(axis=1)
        kth = (keys[:, last] & ~1).view(np.float32)
        farthest = float(kth.max())
        needed = farthest + 3 * area.error(farthest, spread)
        if needed > reach:
            return needed * (1 + 4 * _EPSILON) / unit
        votes = np.empty((len(queries), 2))
        votes[:, 0] = last + 1
        votes[:, 1] = (keys[:, : last + 1] & 1).sum(axis=1, dtype=np.int32)
        if len(keep) > last + 1:
            error = area.error(needed, spread)
            close = np.flatnonzero((keys[:, last + 1] & ~1).view(np.float32) - kth <= 2 * error)
            if len(close):
                border, squares = kth[close, None], _pairs(places[close], *near)  # the keys have taken the place of the first
                sure = squares < border - 2 * error
                which, column = np.nonzero((squares <= border + 2 * error) & ~sure)
                column = keep[column]
                answers.wait(
                    rows[close], sure.astype(np.float32) @ area.weights.take(keep, axis=0), np.bincount(which, minlength=len(close)),
                    area.weights.take(column, axis=0), area.points.take(column, axis=1) - queries[close[which]].T,
                )  # fmt: skip
        return votes
