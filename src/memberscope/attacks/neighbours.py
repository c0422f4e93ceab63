"""Exact votes among the nearest neighbours of many queries.

A k-d tree answers each query separately, and most of its time goes into keeping k neighbours in order, though a vote needs no order. Here
neighbouring queries share one search. Points and queries are put into k-d trees; for the queries of a branch (128 at most), and then for
those of each of its leaves (32 at most), the points are kept that may be among the k nearest of any of them, and the rest is arithmetic on
arrays.

The arithmetic is in float32, about the queries' common centre. Where the distances of the k-th and the next neighbour are closer than its
rounding errors, the query is answered again in float64, so that the neighbours are those of float64 everywhere.
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
_COARSE, _FINE = 128, 32
_WIDE = 1.2
"""The radius that is searched for a branch of queries, as a multiple of the distance within which the leaves of points hold k of them; if
it is too small for a query, the search is repeated with a larger one."""
_MOST = 8
"""How many times k points may be kept for several queries; with more, they are divided at their widest gap."""
_TINY = 1e-12
_EXPONENT = 500  # of two, at most, of a scale, whose square must be a number
_EPSILON = float(np.finfo(np.float32).eps)

Float32 = NDArray[np.float32]


def _box(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The centre (d, 1) and the half widths (d, 1) of the smallest box around (m, d) points."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    return ((low + high) / 2)[:, None], ((high - low) / 2)[:, None]


def _squares(offsets: NDArray[Any]) -> NDArray[Any]:
    """Squared lengths (m,) of (d, m) offsets, which are overwritten."""
    offsets *= offsets
    total = offsets[0]
    for more in offsets[1:]:
        total += more
    found: NDArray[Any] = total
    return found


def _outside(offsets: NDArray[Any], half: NDArray[Any]) -> NDArray[Any]:
    """Squared distances (m,) from a box of the given half widths to points at (d, m) offsets from its centre; offsets are overwritten."""
    np.abs(offsets, out=offsets)
    offsets -= half
    np.maximum(offsets, 0, out=offsets)
    return _squares(offsets)


def _pairs(queries: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Squared distances (r, m) of (r, d) queries and (d, m) points."""
    total = np.subtract.outer(queries[:, 0], points[0])
    total *= total
    for axis in range(1, len(points)):
        more = np.subtract.outer(queries[:, axis], points[axis])
        more *= more
        total += more
    found: NDArray[Any] = total
    return found


def _ordered(squares: Float32) -> Float32:
    """Numbers that are not negative, sorted along the last axis: their bits are in the order of their values, and integers sort faster."""
    found: Float32 = np.sort(squares.view(np.int32)).view(np.float32)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Leaves:
    """Points in leaves of 16; the last one is filled with points at infinity that have no records.

    Attributes:
        points: (d, leaves, 16).
        weights: (leaves, 16, 2) records at each point, and members among them.
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
    """The points around neighbouring queries.

    Attributes:
        points: (d, m) float64.
        weights: (m, 2), see `_Leaves`.
        origin: (d, 1) the centre of the queries' box.
        scale: a power of two that brings offsets from the origin to the size of one, so that their squares are in float32's range.
        offsets: (d, m) float32, from the origin, times `scale`.
        size: the largest coordinate of a point or query, from the origin, times `scale`.
    """

    points: FloatArray
    weights: Float32
    origin: FloatArray
    scale: float
    offsets: Float32
    size: float

    def error(self, square: float) -> float:
        """A bound on the error of a squared distance of `offsets` that was computed in float32, and of all smaller ones."""
        d, each = len(self.offsets), 2 * _EPSILON * self.size
        return 2 * each * math.sqrt(d * square) + d * each**2 + (d + 2) * _EPSILON * square


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
        """Put the points into leaves."""
        self._leaves = _leaves(points, np.column_stack([records, members]))
        self._single = bool((records == 1).all())
        self._k, self._last = k, min(k, len(points)) - 1

    def __call__(self, queries: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Records (r,) in the neighbourhoods of (r, d) queries, and the members among them (r,)."""
        from scipy.spatial import cKDTree

        out = np.empty((len(queries), 2))
        tree = cKDTree(queries, leafsize=_FINE)
        for branch in _branches(tree.tree, _COARSE):
            together = queries[tree.indices[branch.start_idx : branch.end_idx]]
            radius = self._radius(together)
            area = self._area(together, radius)
            for leaf in _branches(branch, _FINE):
                rows = tree.indices[leaf.start_idx : leaf.end_idx]
                out[rows] = self._answers(area, queries[rows], radius)
        return out[:, 0], out[:, 1]

    def _radius(self, queries: FloatArray) -> float:
        """The squared radius that is searched around queries, infinite where there are no more than k points."""
        centres, need = self._leaves.centre, self._k // _LEAF
        if need >= centres.shape[1]:
            return np.inf
        return float(np.partition(_squares(centres - _box(queries)[0]), need)[need]) * _WIDE**2

    def _area(self, queries: FloatArray, radius: float) -> _Area:
        """All points within a squared radius of the queries' box, and others."""
        leaves = self._leaves
        centre, half = _box(queries)
        near = np.flatnonzero(_outside(leaves.centre - centre, leaves.half + half) <= radius)
        points, weights = leaves.of(near)
        offsets = points - centre
        size = max(float(half.max()), float(offsets.max(initial=0.0)), -float(offsets.min(initial=0.0)))
        scale = 2.0 ** -int(np.clip(math.frexp(size)[1], -_EXPONENT, _EXPONENT))
        offsets *= scale
        return _Area(
            points=points, weights=weights, origin=centre, scale=scale, offsets=offsets.astype(np.float32), size=size * scale
        )  # fmt: skip

    def _answers(self, area: _Area, queries: FloatArray, reach: float) -> NDArray[Any]:
        """Records and members (r, 2) in the neighbourhoods of the queries, which part where they are far apart."""
        found = self._votes(area, queries, reach)
        if isinstance(found, float):
            return self._answers(self._area(queries, found), queries, found)
        if found is not None:
            return found
        axis = int(np.ptp(queries, axis=0).argmax())
        order = np.argsort(queries[:, axis])
        first = 1 + int(np.diff(queries[order, axis]).argmax())
        votes = np.empty((len(queries), 2))
        for part in (order[:first], order[first:]):
            votes[part] = self._answers(area, queries[part], reach)
        return votes

    def _votes(self, area: _Area, queries: FloatArray, reach: float) -> NDArray[Any] | float | None:
        """Records and members (r, 2) in the neighbourhoods of the queries, a larger squared radius if they need one, or None if they had
        better be answered apart.
        """
        places = ((queries - area.origin.T) * area.scale).astype(np.float32)
        middle, half = _box(places)
        last, unit = self._last, area.scale**2  # of squares
        reach *= unit
        if area.offsets.shape[1] > last:  # no query needs more than the middle of their box does, and the way from there
            way = math.sqrt(_ordered(_squares(area.offsets - middle))[last]) + float(np.linalg.norm(half))
            reach = min(reach, way**2 + 4 * area.error(way**2))
        keep = np.flatnonzero(_outside(area.offsets - middle, half) <= reach)
        if len(keep) <= last:
            return 4 * reach / unit if reach > _TINY else np.inf
        if len(keep) > _MOST * (last + 1) and len(queries) > 1:
            return None
        squares = _pairs(places, area.offsets.take(keep, axis=1))
        ordered = _ordered(squares)
        kth = ordered[:, last]
        farthest = float(kth.max())
        needed = farthest + 3 * area.error(farthest)
        if needed > reach:
            return needed * (1 + 4 * _EPSILON) / unit
        gap = (ordered[:, last + 1] if len(keep) > last + 1 else np.full(len(queries), np.inf, dtype=np.float32)) - kth
        if not self._single:
            inside = np.flatnonzero(squares.min(axis=0) <= needed)
            keep, squares = keep[inside], squares.take(inside, axis=1)
        weights = area.weights.take(keep, axis=0)
        if not self._single and weights[:, 0].max() > 1:
            kth, gap = self._kth_records(squares, weights)
        votes: NDArray[Any] = (squares <= kth[:, None]).astype(np.float32) @ weights
        error = area.error(needed)
        for row in np.flatnonzero(gap <= 2 * error):
            sure = squares[row] < kth[row] - 2 * error
            unclear = np.flatnonzero((squares[row] <= kth[row] + 2 * error) & ~sure)
            inner = sure.astype(np.float32) @ weights
            votes[row] = inner + self._exactly(area.points[:, keep[unclear]], weights[unclear], queries[row], float(inner[0]))
        return votes

    def _kth_records(self, squares: Float32, weights: Float32) -> tuple[Float32, Float32]:
        """The squared distances (r,) of the points with the k-th record, and those (r,) to the next nearer or farther point, if less.

        Distances (r, m) and records are sorted together, as the two halves of one number: the bits of a float that is not negative are in
        the order of its value. Where a point is as near to another as the rounding errors, either may be the one with the k-th record.
        """
        pairs = squares.view(np.int32).astype(np.int64) << 32
        pairs |= weights[:, 0].astype(np.int64)
        pairs.sort(axis=1)
        reached = (np.cumsum(pairs & 0xFFFFFFFF, axis=1) < self._k).sum(axis=1)
        ends = np.full((len(squares), 1), np.inf, dtype=np.float32)
        ordered = np.concatenate([-ends, (pairs >> 32).astype(np.int32).view(np.float32), ends], axis=1)
        before, kth, after = (
            ordered[np.arange(len(squares)), np.minimum(reached, squares.shape[1] - 1) + step] for step in range(3)
        )
        return kth, np.minimum(kth - before, after - kth)

    def _exactly(self, points: FloatArray, weights: Float32, query: FloatArray, nearer: float) -> NDArray[Any]:
        """Records and members (2,) among points in a neighbourhood to which so many nearer records belong, in float64."""
        squares = _squares(points - query[:, None])
        order = np.argsort(squares)
        reached = int(np.searchsorted(nearer + np.cumsum(weights[order, 0], dtype=np.float64), self._k))
        votes: NDArray[Any] = weights[squares <= squares[order[min(reached, len(order) - 1)]]].sum(axis=0)
        return votes
